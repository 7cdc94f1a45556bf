/**
 * The faults of simulated carriers: how they are read from JSON, and how each decides about the submits and reports in turn.
 * docs/sandbox.md says what each fault means for each protocol.
 *
 * A fault hits a share of the submits, with a random generator of its own: the same seed and the same order of submits give the same run,
 * and an additional fault does not shift the others. Assigning `faults` restarts them. All are off at first; a fault that is off costs one
 * comparison.
 */
import type { Fate } from './fates.ts';

/** A fault that is left out is off. */
export interface Faults {
  /** The seed of the random generators. Default 1. */
  readonly seed?: number;
  /** Answers to submits are delayed by this much. */
  readonly responseDelayMs?: number;
  /** Reports are delayed by this much. */
  readonly reportDelayMs?: number;
  readonly throttleShare?: number;
  /** Faster submits are throttled. */
  readonly throttleAbovePerSecond?: number;
  readonly rejectShare?: number;
  /** The code of a rejection: CMPP a Result; MM7 a StatusCode, or a status of HTTP, which comes without a body. */
  readonly rejectCode?: number;
  /** The words beside that code, where a protocol has any. */
  readonly rejectText?: string;
  /** The code comes in a SOAP fault, where a protocol has those. */
  readonly rejectAsFault?: boolean;
  /** After every so many submits, the connection of the last one breaks. That submit was taken and gets no answer. */
  readonly dropEvery?: number;
  readonly dropShare?: number;
  /** These submits are taken and never answered. */
  readonly unansweredShare?: number;
  readonly duplicateReportShare?: number;
  readonly earlyReportShare?: number;
  readonly reorderReportShare?: number;
  readonly lostReportShare?: number;
  /** The present connections stay open, but write and read nothing. */
  readonly halfOpen?: boolean;
  /** All connections, new ones too, are silent for this long; then they go on. */
  readonly halfOpenMs?: number;
  readonly refuseLoginsMs?: number;
  readonly refuseConnectionsMs?: number;
}

/** A condition on the value of a fault. */
export interface Check {
  /** Completes the message `rejectCode: …` for a value that does not fit. */
  readonly says: string;
  readonly fits: (value: unknown) => boolean;
}

const longestMs = 600_000;
/** A report out of order is held back by at most this much. */
const reorderMs = 500;

const isFrom = (value: unknown, least: number, most: number): boolean => typeof value === 'number' && value >= least && value <= most;
export const wholeFrom = (least: number, most: number): Check => ({
  says: `a whole number from ${least} to ${most}`,
  fits: (value) => isFrom(value, least, most) && Number.isInteger(value),
});
export const flag: Check = { says: 'true or false', fits: (value) => typeof value === 'boolean' };
const share: Check = { says: 'a number from 0 to 1', fits: (value) => isFrom(value, 0, 1) };
const ms: Check = { says: `milliseconds from 0 to ${longestMs}`, fits: (value) => isFrom(value, 0, longestMs) };

type OwnFault = 'rejectCode' | 'rejectText' | 'rejectAsFault';
/** A protocol, with the faults whose values depend on the protocol. All other faults are the same for every protocol. */
export interface FaultyKind {
  readonly name: string;
  readonly faults: Readonly<Partial<Record<OwnFault, Check>>>;
}

/** Null: each protocol says whether it has this fault, and which values fit. */
const checks: Readonly<Record<Exclude<keyof Faults, OwnFault>, Check> & Record<OwnFault, null>> = {
  seed: wholeFrom(0, 0xffffffff),
  responseDelayMs: ms,
  reportDelayMs: ms,
  throttleShare: share,
  throttleAbovePerSecond: wholeFrom(0, 1_000_000),
  rejectShare: share,
  rejectCode: null,
  rejectText: null,
  rejectAsFault: null,
  dropEvery: wholeFrom(1, 1_000_000),
  dropShare: share,
  unansweredShare: share,
  duplicateReportShare: share,
  earlyReportShare: share,
  reorderReportShare: share,
  lostReportShare: share,
  halfOpen: flag,
  halfOpenMs: ms,
  refuseLoginsMs: ms,
  refuseConnectionsMs: ms,
};

export const faultNames = Object.keys(checks) as readonly (keyof Faults)[];

/**
 * Reads faults from a JSON value, or says what is wrong with it. `scope`: the name of a kind, or `all`, which allows only faults that are the
 * same for every protocol. `at`: the path of the value, for the message.
 */
export function readFaults(
  kinds: readonly FaultyKind[],
  scope: string,
  value: unknown,
  at = '',
): { readonly faults: Faults } | { readonly problem: string } {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return { problem: `${at === '' ? '' : `${at}: `}a JSON object is expected` };
  for (const [name, given] of Object.entries(value)) {
    const bad = problemOf(kinds, scope, name, given);
    if (bad !== null) return { problem: `${at === '' ? '' : `${at}.`}${name}: ${bad}` };
  }
  return { faults: value };
}

function problemOf(kinds: readonly FaultyKind[], scope: string, name: string, given: unknown): string | null {
  const check = Object.hasOwn(checks, name) ? checks[name as keyof Faults] : undefined;
  if (check === undefined) return `no fault; there are ${faultNames.join(', ')}`;
  if (check) return check.fits(given) ? null : check.says;
  const having = kinds.filter(({ faults }) => Object.hasOwn(faults, name));
  const own = having.find((kind) => kind.name === scope)?.faults[name as OwnFault];
  if (own) return own.fits(given) ? null : own.says;
  if (having.length === 0) return `does not exist for ${scope}`;
  const names = having.map((kind) => kind.name).join(' and ');
  return scope === 'all' && having.length > 1 ? `differs between ${names} and must be set there` : `exists for ${names} alone`;
}

/** Numbers from 0 to 1 that look random and are the same for the same seed (mulberry32). */
function createGenerator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000;
  };
}

/** Hits in a share of its throws, which can be changed. */
function createDie(number: number) {
  let share = 0;
  let next = createGenerator(number);
  return {
    set(wanted: number, seed: number) {
      share = wanted;
      next = createGenerator(Math.imul(seed, 0x9e3779b1) + number);
    },
    hits: () => share > 0 && next() < share,
    next: () => next(),
  };
}

/** How the report of one message leaves. */
export interface ReportPlan {
  /** Before the answer to the submit. */
  readonly isEarly: boolean;
  readonly copies: 0 | 1 | 2;
  readonly delayMs: number;
}

export interface FaultSwitch {
  /** The faults that are on. Assigning replaces all of them, and ends those under way. */
  get faults(): Faults;
  set faults(faults: Faults);
  /** Whether a submit is refused; decided before anything else. */
  refusal(): 'throttled' | 'rejected' | null;
  /** How an accepted submit is answered: never, by breaking the connection, or with this delay. */
  answering(): 'never' | 'drop' | number;
  plan(fate: Fate): ReportPlan;
  /** Whether the carrier writes and reads nothing; refuses logins; refuses connections. */
  isSilent(): boolean;
  refusesLogins(): boolean;
  refusesConnections(): boolean;
}

export interface FaultOptions {
  readonly reportDelayMs: number;
  /** For numbers that end in 0008. */
  readonly slowReportDelayMs: number;
  /** The faults have changed, or silence has ended. `hush`: the present connections are silent from now on. */
  readonly onChange: (hush: boolean) => void;
}

export function createFaultSwitch({ reportDelayMs, slowReportDelayMs, onChange }: FaultOptions): FaultSwitch {
  const usual: ReportPlan = { isEarly: false, copies: 1, delayMs: reportDelayMs };
  const dice = {
    throttle: createDie(1),
    reject: createDie(2),
    drop: createDie(3),
    unanswered: createDie(4),
    duplicate: createDie(5),
    early: createDie(6),
    reorder: createDie(7),
    lost: createDie(8),
    /** How long a report is held back. */
    hold: createDie(9),
  };
  let given: Faults = Object.freeze({});
  let setAt = 0;
  /** Usually no fault is on; then none is checked. */
  let changesSubmits = false;
  let changesReports = false;
  let submits = 0;
  let second = 0;
  let inSecond = 0;
  let silence: NodeJS.Timeout | undefined;

  const isWithin = (duration: number | undefined): boolean => duration !== undefined && performance.now() - setAt < duration;

  function isTooFast(most: number): boolean {
    const now = Math.floor(performance.now() / 1000);
    if (now !== second) [second, inSecond] = [now, 0];
    inSecond += 1;
    return inSecond > most;
  }

  return {
    get faults() {
      return given;
    },

    set faults(faults) {
      given = Object.freeze({ ...faults });
      setAt = performance.now();
      const { seed = 1 } = given;
      dice.throttle.set(given.throttleShare ?? 0, seed);
      dice.reject.set(given.rejectShare ?? 0, seed);
      dice.drop.set(given.dropShare ?? 0, seed);
      dice.unanswered.set(given.unansweredShare ?? 0, seed);
      dice.duplicate.set(given.duplicateReportShare ?? 0, seed);
      dice.early.set(given.earlyReportShare ?? 0, seed);
      dice.reorder.set(given.reorderReportShare ?? 0, seed);
      dice.lost.set(given.lostReportShare ?? 0, seed);
      dice.hold.set(1, seed);
      const { throttleShare, throttleAbovePerSecond, rejectShare, dropEvery, dropShare, unansweredShare, responseDelayMs } = given;
      changesSubmits = [throttleShare, rejectShare, dropEvery, dropShare, unansweredShare, responseDelayMs].some(
        (value) => (value ?? 0) > 0,
      );
      changesSubmits ||= throttleAbovePerSecond !== undefined;
      const { reportDelayMs: later, duplicateReportShare, earlyReportShare, reorderReportShare, lostReportShare } = given;
      changesReports = [later, duplicateReportShare, earlyReportShare, reorderReportShare, lostReportShare].some(
        (value) => (value ?? 0) > 0,
      );
      submits = 0;
      clearTimeout(silence);
      if (given.halfOpenMs) silence = setTimeout(() => onChange(false), given.halfOpenMs + 1).unref();
      onChange(given.halfOpen ?? false);
    },

    refusal() {
      if (!changesSubmits) return null;
      if (dice.throttle.hits()) return 'throttled';
      if (given.throttleAbovePerSecond !== undefined && isTooFast(given.throttleAbovePerSecond)) return 'throttled';
      return dice.reject.hits() ? 'rejected' : null;
    },

    answering() {
      if (!changesSubmits) return 0;
      submits += 1;
      if (given.dropEvery !== undefined && submits % given.dropEvery === 0) return 'drop';
      if (dice.drop.hits()) return 'drop';
      return dice.unanswered.hits() ? 'never' : (given.responseDelayMs ?? 0);
    },

    plan({ stat, special }) {
      if (stat !== null && special === undefined && !changesReports) return usual;
      const isEarly = dice.early.hits() || special === 'before-response';
      const isTwice = dice.duplicate.hits() || special === 'twice';
      const heldMs = dice.reorder.hits() ? Math.ceil(dice.hold.next() * reorderMs) : 0;
      if (dice.lost.hits() || stat === null) return { isEarly: false, copies: 0, delayMs: 0 };
      const usualMs = special === 'slow' ? slowReportDelayMs : reportDelayMs;
      return { isEarly, copies: isTwice ? 2 : 1, delayMs: usualMs + (given.reportDelayMs ?? 0) + heldMs };
    },

    isSilent: () => isWithin(given.halfOpenMs),
    refusesLogins: () => isWithin(given.refuseLoginsMs),
    refusesConnections: () => isWithin(given.refuseConnectionsMs),
  };
}
