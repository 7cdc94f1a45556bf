/** Compares the runs of two revisions: medians, ratios, a table and a verdict. Pure; `against.ts` makes the runs. */
import { shown } from './measure.ts';

/** The revision to compare with, and this tree. */
export type Side = 'old' | 'new';

/** The figures of one run of one scenario, by name. */
export type Run = Readonly<Record<string, number>>;

/** One run of each side, made one right after the other. */
export type Pair = Readonly<Record<Side, Run>>;

export interface ComparedFigure {
  readonly name: string;
  /** Medians of all runs of a side. */
  readonly old: number;
  readonly new: number;
  /** The median of the new side divided by that of the old one; NaN if that is 0 or missing. */
  readonly ratio: number;
  /** New divided by old within each pair. */
  readonly ratios: readonly number[];
  /** Null: the name does not tell. */
  readonly better: 'more' | 'less' | null;
}

export interface Comparison {
  readonly scenario: string;
  readonly figures: readonly ComparedFigure[];
  /** One sentence about the main figure; null if the scenario has none. */
  readonly verdict: string | null;
}

/** Who runs first in a pair, counted from 0: it alternates, so that neither side always has the machine that the other one has warmed. */
export const orderOf = (pair: number): readonly [Side, Side] => (pair % 2 === 0 ? ['old', 'new'] : ['new', 'old']);

/** The figures in a line of `--json`. Those of a step of a long scenario are named by its number; whatever is no number is left out. */
export function figuresOf(line: Readonly<Record<string, unknown>>): Run {
  const rows = Object.entries(line).flatMap(([name, value]) =>
    Array.isArray(value)
      ? value.flatMap((step: Record<string, unknown>, n) => Object.entries(step).map(([key, inner]) => [`${name} ${n + 1}: ${key}`, inner]))
      : [[name, value]],
  );
  return Object.fromEntries(rows.filter(([, value]) => typeof value === 'number'));
}

/** The middle value, or the mean of the two in the middle. NaN if there is none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const upper = sorted.length >> 1;
  return ((sorted[(sorted.length - 1) >> 1] ?? Number.NaN) + (sorted[upper] ?? Number.NaN)) / 2;
}

/** Puts the runs of one scenario side by side. A figure that only one side knows is compared with nothing: its ratio is NaN. */
export function compare(scenario: string, pairs: readonly Pair[]): Comparison {
  const names = new Set(pairs.flatMap((pair) => [...Object.keys(pair.old), ...Object.keys(pair.new)]));
  const valuesOf = (name: string, side: Side): number[] => pairs.map((pair) => pair[side][name]).filter((value) => value !== undefined);
  const figures = [...names].map((name) => {
    const [before, after] = [median(valuesOf(name, 'old')), median(valuesOf(name, 'new'))];
    const ratios = pairs.map((pair) => quotient(pair.new[name], pair.old[name])).filter((ratio) => !Number.isNaN(ratio));
    return { name, old: before, new: after, ratio: quotient(after, before), ratios, better: betterOf(name) };
  });
  const main = figures.find(({ name }) => /^\w+PerSecond$/.test(name));
  return { scenario, figures, verdict: main === undefined ? null : verdictOf(scenario, main) };
}

const quotient = (above = Number.NaN, below = Number.NaN): number => (below === 0 ? Number.NaN : above / below);

/** Rates are better if they are higher; durations, processor time and memory if they are lower. Figures of `growth` end with their unit. */
function betterOf(name: string): ComparedFigure['better'] {
  if (/PerSecond$|\/s$/.test(name)) return 'more';
  return /(Ms|Cpu|MiB|, ms)$/.test(name) ? 'less' : null;
}

/** Chance alone makes pairs disagree; what each of several pairs says is worth more than the ratio itself. */
function verdictOf(scenario: string, { name, ratio, ratios }: ComparedFigure): string {
  const ratiosSay =
    ratios.length < 2
      ? 'one pair cannot tell this from chance'
      : ratios.every((each) => each > 1)
        ? 'faster in every pair'
        : ratios.every((each) => each < 1)
          ? 'slower in every pair'
          : 'no clear difference';
  return `${scenario}: ${name} is ${share(ratio)} of before: ${ratiosSay} (${ratios.map(share).join(', ')})`;
}

const share = (ratio: number): string => (Number.isNaN(ratio) ? '–' : ratio.toFixed(3));

/** For people: one line a figure, then the verdict. */
export function table({ scenario, figures, verdict }: Comparison): string {
  const pairs = Math.max(0, ...figures.map(({ ratios }) => ratios.length));
  const rows = figures.map((figure) => [
    figure.name,
    Number.isNaN(figure.old) ? '–' : shown(figure.old),
    Number.isNaN(figure.new) ? '–' : shown(figure.new),
    share(figure.ratio),
    figure.ratios.length < 2 ? '' : `${share(Math.min(...figure.ratios))} – ${share(Math.max(...figure.ratios))}`,
    figure.better === null ? '' : `${figure.better} is better`,
  ]);
  const cells = [
    [`${scenario}, ${pairs} ${pairs === 1 ? 'pair' : 'pairs'}`, 'old', 'new', 'new/old', pairs < 2 ? '' : 'of each pair', ''],
    ...rows,
  ];
  const widths = cells[0]?.map((_, n) => Math.max(...cells.map((row) => row[n]?.length ?? 0))) ?? [];
  const lines = cells.map((row) =>
    row.map((cell, n) => (n === 0 || n === row.length - 1 ? cell.padEnd(widths[n] ?? 0) : cell.padStart(widths[n] ?? 0))),
  );
  return [...lines.map((line) => line.join('   ').trimEnd()), ...(verdict === null ? [] : [verdict])].join('\n');
}
