import { setImmediate } from 'node:timers/promises';

/**
 * Runs long work of many short steps without blocking the event loop: after each slice of time, other work has a turn. The generator
 * yields wherever it may be interrupted.
 */
export async function inSlices<Result>(steps: Iterator<void, Result>, sliceMs = 8): Promise<Result> {
  for (;;) {
    const end = performance.now() + sliceMs;
    do {
      const step = steps.next();
      if (step.done) return step.value;
    } while (performance.now() < end);
    await setImmediate();
  }
}
