import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { inSlices } from './slices.ts';

function* busy(steps: number): Generator<void, string> {
  for (let step = 0; step < steps; step++) {
    for (const end = performance.now() + 1; performance.now() < end; );
    yield;
  }
  return 'done';
}

test('others have a turn between the slices of long work', async () => {
  let isDone = false;
  let turns = 0;
  const others = (async () => {
    for (; !isDone; turns++) await turn();
  })();
  expect(await inSlices(busy(60), 5)).toBe('done');
  isDone = true;
  await others;
  expect(turns).toBeGreaterThan(8);
});

test('what work throws comes out', async () => {
  const broken = (function* (): Generator<void, string> {
    yield;
    throw new Error('broken');
  })();
  await expect(inSlices(broken)).rejects.toThrow('broken');
});
