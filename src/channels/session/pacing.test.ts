import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { createPacer } from './pacing.ts';

/** Takes all tokens there are at this time. */
function takeAll(pacer: ReturnType<typeof createPacer>, now: number): number {
  let taken = 0;
  while (pacer.take(now)) taken += 1;
  return taken;
}

test('a second never lets more through than the rate and its burst of a tenth of a second', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 5000 }),
      fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 300 }),
      (rate, steps) => {
        const pacer = createPacer(rate, 0);
        let now = 0;
        let taken = 0;
        for (const step of steps) {
          now += step;
          taken += takeAll(pacer, now);
          expect(taken).toBeLessThanOrEqual((rate * now) / 1000 + Math.max(1, rate / 10) + 1e-6);
        }
      },
    ),
  );
});

test('used steadily it gives the whole rate', () => {
  const pacer = createPacer(730, 0);
  let taken = 0;
  for (let now = 0; now <= 10_000; now += 7) taken += takeAll(pacer, now);
  expect(taken).toBeGreaterThan(7290);
});

test('a rate below one a second works', () => {
  const pacer = createPacer(0.5, 0);
  expect([0, 1000, 1999, 2000, 3000, 4000].map((now) => pacer.take(now))).toEqual([true, false, false, true, false, true]);
});

test('it says how long to wait, and is right', () => {
  const pacer = createPacer(100, 0);
  takeAll(pacer, 0);
  expect(pacer.available(0, 0)).toBe(0);
  expect(pacer.available(0, 50)).toBe(5);
  expect(pacer.waitMs(0, 1, 0)).toBeCloseTo(10);
  expect(pacer.take(9.9)).toBe(false);
  expect(pacer.take(10.1)).toBe(true);
});

function rateAt(pacer: ReturnType<typeof createPacer>, from: number): number {
  takeAll(pacer, from);
  let taken = 0;
  for (let now = from + 10; now <= from + 1000; now += 10) taken += takeAll(pacer, now);
  return taken;
}

test('complaints lower the rate, once a second at most and never to nothing; it comes back by itself', () => {
  const once = createPacer(1000, 0);
  for (let i = 0; i < 20; i += 1) once.slow(i);
  expect(rateAt(once, 20)).toBeGreaterThan(690);
  expect(rateAt(once, 20_000)).toBeGreaterThan(980);

  const often = createPacer(1000, 0);
  for (let now = 0; now < 60_000; now += 100) often.slow(now);
  expect(rateAt(often, 60_000)).toBeGreaterThan(90);
  expect(rateAt(often, 61_000)).toBeLessThan(600);
});
