/** The arithmetic of `--against`, and its output for a reader. */
import { describe, expect, it } from 'vitest';
import { compare, figuresOf, median, orderOf, table } from './comparison.ts';

describe('a comparison', () => {
  it('lets each side be first in turns', () => {
    expect([0, 1, 2].map(orderOf)).toEqual([
      ['old', 'new'],
      ['new', 'old'],
      ['old', 'new'],
    ]);
  });

  it('takes the middle value, or the mean of the two in the middle', () => {
    expect([median([9, 1, 2]), median([4, 1, 2, 9]), median([7]), median([])]).toEqual([2, 3, 7, Number.NaN]);
  });

  it('reads every number of a line of JSON, those of steps by the number of the step', () => {
    const line = { scenario: 'soak', at: 'now', rate: 1.5, missing: null, steps: [{ heapMiB: 1 }, { heapMiB: 2 }] };
    expect(figuresOf(line)).toEqual({ rate: 1.5, 'steps 1: heapMiB': 1, 'steps 2: heapMiB': 2 });
  });

  it('divides the medians, and the two figures of each pair', () => {
    const { figures } = compare('push', [
      { old: { pushesPerSecond: 100, p50Ms: 4 }, new: { pushesPerSecond: 90, p50Ms: 5 } },
      { old: { pushesPerSecond: 200, p50Ms: 2 }, new: { pushesPerSecond: 220, p50Ms: 1 } },
      { old: { pushesPerSecond: 400, p50Ms: 3 }, new: { pushesPerSecond: 300, p50Ms: 3 } },
    ]);
    expect(figures).toEqual([
      { name: 'pushesPerSecond', old: 200, new: 220, ratio: 1.1, ratios: [0.9, 1.1, 0.75], better: 'more' },
      { name: 'p50Ms', old: 3, new: 3, ratio: 1, ratios: [1.25, 0.5, 1], better: 'less' },
    ]);
  });

  it.each([
    ['messagesPerSecond', 'more'],
    ['empty: end to end, messages/s', 'more'],
    ['submitP95Ms', 'less'],
    ['platformCpu', 'less'],
    ['steps 3: residentMiB', 'less'],
    ['blocked: accept 10,000, ms', 'less'],
    ['steps 3: messages', null],
  ])('knows by its name whether more of a figure is better: %s', (name, better) => {
    expect(compare('x', [{ old: { [name]: 1 }, new: { [name]: 1 } }]).figures[0]?.better).toBe(better);
  });

  it('compares with nothing what only one side has measured, or what was 0', () => {
    const { figures } = compare('x', [{ old: { carrierCpu: 0 }, new: { carrierCpu: 1, extra: 2 } }]);
    expect(figures).toMatchObject([
      { name: 'carrierCpu', ratio: Number.NaN, ratios: [] },
      { name: 'extra', old: Number.NaN, new: 2, ratio: Number.NaN },
    ]);
  });

  it.each([
    [[110, 120], 'push: pushesPerSecond is 1.150 of before: faster in every pair (1.100, 1.200)'],
    [[90, 80], 'push: pushesPerSecond is 0.850 of before: slower in every pair (0.900, 0.800)'],
    [[90, 120], 'push: pushesPerSecond is 1.050 of before: no clear difference (0.900, 1.200)'],
    [[90], 'push: pushesPerSecond is 0.900 of before: one pair cannot tell this from chance (0.900)'],
  ])('gives a verdict on the main figure: %j', (rates, verdict) => {
    const pairs = rates.map((rate) => ({ old: { pushesPerSecond: 100 }, new: { pushesPerSecond: rate } }));
    expect(compare('push', pairs).verdict).toBe(verdict);
  });

  it('gives no verdict where no figure stands for the scenario', () => {
    expect(compare('soak', [{ old: { 'steps 1: messagesPerSecond': 1 }, new: { 'steps 1: messagesPerSecond': 1 } }]).verdict).toBeNull();
  });

  it('is shown as a table that lines up', () => {
    const pairs = [
      { old: { messagesPerSecond: 20_000, p50Ms: 80 }, new: { messagesPerSecond: 21_000, p50Ms: 84, extra: 1 } },
      { old: { messagesPerSecond: 20_200, p50Ms: 80 }, new: { messagesPerSecond: 19_190, p50Ms: 76, extra: 1 } },
    ];
    expect(`\n${table(compare('end-to-end', pairs))}`).toBe(`
end-to-end, 2 pairs     old     new   new/old    of each pair
messagesPerSecond     20100   20095     1.000   0.950 – 1.050   more is better
p50Ms                 80.00   80.00     1.000   0.950 – 1.050   less is better
extra                     –    1.00         –
end-to-end: messagesPerSecond is 1.000 of before: no clear difference (1.050, 0.950)`);
  });
});
