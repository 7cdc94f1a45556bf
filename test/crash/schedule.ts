/** The faults of a run and their times, all derived from the seed. */
import type { Random } from './random.ts';

/** Everything that can befall: what happens, for how long (ms, from–to), and how often compared with the others. */
export const faults = {
  'kill a node': { lasting: [100, 6000], weight: 4 },
  'kill both nodes': { lasting: [100, 4000], weight: 1 },
  'stop a node': { lasting: [100, 3000], weight: 2 },
  'pause a node past its leases': { lasting: [11_500, 15_000], weight: 1 },
  'pause a node for a moment': { lasting: [300, 3000], weight: 1 },
  'kill the database': { lasting: [0, 3000], weight: 3 },
  'kill the database for longer than leases': { lasting: [11_000, 14_000], weight: 1 },
  'break the CMPP connections': { lasting: [0, 0], weight: 2 },
  'break the MM7 connections': { lasting: [0, 0], weight: 2 },
  'kill the CMPP carrier': { lasting: [1200, 6000], weight: 2 },
  'kill the MM7 carrier': { lasting: [1200, 6000], weight: 2 },
  "kill the customers' server": { lasting: [200, 5000], weight: 2 },
} as const satisfies Readonly<Record<string, { lasting: readonly [number, number]; weight: number }>>;

export type FaultName = keyof typeof faults;

export interface Fault {
  readonly atMs: number;
  readonly name: FaultName;
  /** Of two nodes, which. */
  readonly node: 0 | 1;
  readonly forMs: number;
  /** A kill waits for the next request of a customer and then so long, so that it strikes during one; null: it does not wait. */
  readonly afterRequestMs: number | null;
}

/** Between two faults, once each has been there; they overlap as they last. */
const gapMs = [500, 6000] as const;
/** A run begins without faults, so that there is traffic to disturb. */
const quietStartMs = 1500;
const longMs = 10_000;
/** A request takes about so long from its first byte to its answer; most of that is the commit. */
const mostAimedMs = 12;
const aimedShare = 0.7;

/**
 * Every fault once, in a random order and evenly spread over the first half minute (what lasts long in its first half, so that a short run
 * is not the longer for it); then any, by weight, until the time is over.
 */
export function planFaults(random: Random, lastingMs: number): Fault[] {
  const names = Object.keys(faults) as FaultName[];
  const byWeight = names.flatMap((name) => Array.from({ length: faults[name].weight }, () => name));
  const fault = (name: FaultName, atMs: number): Fault => {
    const [from, to] = faults[name].lasting;
    const afterRequestMs = random.chance(aimedShare) ? random.between(0, mostAimedMs) : null;
    return { atMs: Math.round(atMs), name, node: random.between(0, 1) as 0 | 1, forMs: random.between(from, to), afterRequestMs };
  };
  const roundMs = Math.min(lastingMs, 40_000) - quietStartMs;
  const isLong = (name: FaultName): boolean => faults[name].lasting[1] > longMs;
  const short = random.shuffle(names.filter((name) => !isLong(name)));
  const half = Math.floor(names.length / 2);
  const early = random.shuffle([...names.filter(isLong), ...short.slice(half)]);
  const plan = [...early, ...short.slice(0, half)].map((name, i) => fault(name, quietStartMs + (roundMs * i) / names.length));
  for (let atMs = quietStartMs + roundMs; atMs < lastingMs; atMs += random.between(...gapMs)) plan.push(fault(random.pick(byWeight), atMs));
  return plan;
}
