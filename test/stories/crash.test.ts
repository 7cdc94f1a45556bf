/** A short crash run: every kind of fault once, even on a busy machine, and every promise kept (test/crash/README.md). */
import { expect, it } from 'vitest';
import { faults } from '../crash/schedule.ts';
import { runFile } from '../kit/processes.ts';

it('whatever is killed, paused or broken while customers work, every promise is kept', async ({ onTestFinished }) => {
  const { done, stop } = runFile('test/crash/crash.js', ['--seconds', '30', '--seed', '20261122', '--json']);
  onTestFinished(stop);
  const { exitCode, output } = await done;
  const result = JSON.parse(output.trim().split('\n').at(-1) ?? '') as Record<string, unknown>;
  expect(result, output).toMatchObject({ violations: [], folder: null, figures: { lost: 0 } });
  expect(exitCode).toBe(0);
  expect(Object.keys(result['faults'] as object).sort()).toEqual(Object.keys(faults).sort());
  // It was no walk-over: there was something to disturb.
  const figures = result['figures'] as Record<string, number>;
  expect(figures['messages accepted']).toBeGreaterThan(500);
  expect(figures['events pulled']).toBeGreaterThan(100);
  expect(figures['events pushed']).toBeGreaterThan(20);
}, 300_000);
