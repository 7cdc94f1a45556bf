/**
 * What carriers have in common, whatever they speak: what becomes of a message by the last four digits of its recipient (`fates`), the
 * faults that somebody switched on, and lines and timers for what waits. The wire, and the words for all this, are the simulators'.
 *
 * Faults decide by shares, with one generator for each of them: the same seed and the same order of submits give the same run, and one
 * fault more does not shift the others. Assigning `faults` starts them anew. All are off at first, and then cost a comparison each.
 */

// ── fates ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What is reported, in the words of CMPP (null: nothing ever), and what is special about it. */
export interface Fate {
  readonly stat: string | null;
  readonly special?: 'reject' | 'throttle-once' | 'slow' | 'twice' | 'before-response';
  readonly reply?: string;
}

const delivered: Fate = { stat: 'DELIVRD' };

/** By the last four digits of the recipient. */
const fatesByDigits = {
  '0001': { stat: 'UNDELIV' },
  '0002': { stat: 'EXPIRED' },
  '0003': { stat: 'REJECTD' },
  '0004': { stat: 'MK:0001' },
  '0005': { stat: null, special: 'reject' },
  '0006': { stat: 'DELIVRD', special: 'throttle-once' },
  '0007': { stat: null },
  '0008': { stat: 'DELIVRD', special: 'slow' },
  '0009': { stat: 'DELIVRD', special: 'twice' },
  '0010': { stat: 'DELIVRD', special: 'before-response' },
  '0011': { stat: 'DELIVRD', reply: 'TD' },
  '0012': { stat: 'DELIVRD', reply: '你好,|世界' },
} as const satisfies Readonly<Record<string, Fate>>;
/** Endings of numbers that have a fate of their own. */
export type FateDigits = keyof typeof fatesByDigits;
const fates = new Map<string, Fate>(Object.entries(fatesByDigits));

/** Numbers without a fate of their own all begin their last four digits with something else, which is cheap to see. */
export function fateOf(phone: string): Fate {
  return phone.charCodeAt(phone.length - 4) === 0x30 ? (fates.get(phone.slice(-4)) ?? delivered) : delivered;
}

/** Whether the phone gets the message. */
export const isShown = ({ stat }: Fate): boolean => stat === null || stat === 'DELIVRD';

// ── faults ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export type Protocol = 'cmpp' | 'mm7';

/** What is left out is off. docs/sandbox.md says what each means for which protocol. */
export interface Faults {
  /** Of the generators that decide about shares. Default 1. */
  readonly seed?: number;
  /** Answers to submits come so much later. */
  readonly responseDelayMs?: number;
  /** Reports come so much later than they would. */
  readonly reportDelayMs?: number;
  readonly throttleShare?: number;
  /** What comes faster is throttled. */
  readonly throttleAbovePerSecond?: number;
  readonly rejectShare?: number;
  /** CMPP: the Result; MM7: a StatusCode, or a status of HTTP, which comes without a body. */
  readonly rejectCode?: number;
  /** MM7 alone. */
  readonly rejectText?: string;
  /** MM7 alone: the StatusCode comes in a SOAP fault. */
  readonly rejectAsFault?: boolean;
  /** Every so many submits the connection breaks that the last one came by, which was taken and gets no answer. */
  readonly dropEvery?: number;
  readonly dropShare?: number;
  /** Taken, and never answered. */
  readonly unansweredShare?: number;
  readonly duplicateReportShare?: number;
  readonly earlyReportShare?: number;
  readonly reorderReportShare?: number;
  readonly lostReportShare?: number;
  /** The connections that are there now stay, silent and deaf. */
  readonly halfOpen?: boolean;
  /** For so long all connections do, new ones too; then they go on. */
  readonly halfOpenMs?: number;
  readonly refuseLoginsMs?: number;
  readonly refuseConnectionsMs?: number;
}

interface Check {
  readonly says: string;
  readonly fits: (value: unknown) => boolean;
  readonly only?: Protocol;
}

const longestMs = 600_000;
/** A report out of its place is held back by at most so much. */
const reorderMs = 500;

const numberFrom = (least: number, most: number, what = 'a number'): Check => ({
  says: `${what} from ${least} to ${most}`,
  fits: (value) => typeof value === 'number' && value >= least && value <= most && (what !== whole || Number.isInteger(value)),
});
const whole = 'a whole number';
const share = numberFrom(0, 1);
const ms = numberFrom(0, longestMs, 'milliseconds');
const flag: Check = { says: 'true or false', fits: (value) => typeof value === 'boolean' };

const checks: Readonly<Record<keyof Faults, Check | Readonly<Record<Protocol, Check>>>> = {
  seed: numberFrom(0, 0xffffffff, whole),
  responseDelayMs: ms,
  reportDelayMs: ms,
  throttleShare: share,
  throttleAbovePerSecond: numberFrom(0, 1_000_000, whole),
  rejectShare: share,
  rejectCode: {
    cmpp: numberFrom(1, 255, whole),
    mm7: {
      says: 'a StatusCode of MM7 from 2000 to 9999, or a status of HTTP from 200 to 599',
      fits: (value) =>
        Number.isInteger(value) && ((Number(value) >= 200 && Number(value) <= 599) || (Number(value) >= 2000 && Number(value) <= 9999)),
    },
  },
  rejectText: { says: 'up to 200 characters', fits: (value) => typeof value === 'string' && value.length <= 200, only: 'mm7' },
  rejectAsFault: { ...flag, only: 'mm7' },
  dropEvery: numberFrom(1, 1_000_000, whole),
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

/** Faults from JSON somebody wrote, or what is wrong with it. `all`: what every protocol understands. `at`: where the JSON stood. */
export function readFaults(scope: Protocol | 'all', value: unknown, at = ''): { readonly faults: Faults } | { readonly problem: string } {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return { problem: `${at === '' ? '' : `${at}: `}a JSON object is expected` };
  for (const [name, given] of Object.entries(value)) {
    const bad = problemOf(scope, name, given);
    if (bad !== null) return { problem: `${at === '' ? '' : `${at}.`}${name}: ${bad}` };
  }
  return { faults: value };
}

function problemOf(scope: Protocol | 'all', name: string, given: unknown): string | null {
  const found = Object.hasOwn(checks, name) ? checks[name as keyof Faults] : undefined;
  if (!found) return `no fault; there are ${faultNames.join(', ')}`;
  const check = 'says' in found ? found : scope === 'all' ? undefined : found[scope];
  if (!check) return 'differs between cmpp and mm7 and must be set there';
  if (check.only !== undefined && check.only !== scope) return `exists for ${check.only} alone`;
  return check.fits(given) ? null : check.says;
}

/** Sets a simulator's faults from a line of JSON; says in one what is on, or what is wrong. */
export function setFaults(simulator: { faults: Faults }, protocol: Protocol, json: string): string {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    return '{"problem":"no JSON"}';
  }
  const read = readFaults(protocol, value);
  if ('faults' in read) simulator.faults = read.faults;
  return JSON.stringify(read);
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
  /** What is on. Assigning replaces everything, and ends what is under way. */
  get faults(): Faults;
  set faults(faults: Faults);
  /** Whether a submit is refused, before anything else becomes of it. */
  refusal(): 'throttled' | 'rejected' | null;
  /** How the answer to a submit that was taken leaves: never, or with the connection broken, or so much later. */
  answering(): 'never' | 'drop' | number;
  plan(fate: Fate): ReportPlan;
  /** Whether it says and reads nothing; refuses who logs in, or connects. */
  isSilent(): boolean;
  refusesLogins(): boolean;
  refusesConnections(): boolean;
}

export interface FaultOptions {
  readonly reportDelayMs: number;
  /** Of numbers that end in 0008. */
  readonly slowReportDelayMs: number;
  /** The faults have changed, or silence has ended. `hush`: the connections that are there shall be silent from now on. */
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
  /** Most of the time nothing is on, and then nothing is asked. */
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

// ── what waits ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** First in, first out, for long lines: taking the head is cheap. */
export interface Line<T> {
  push(item: T): void;
  shift(): T | undefined;
  readonly size: number;
}

export function createLine<T>(): Line<T> {
  let items: T[] = [];
  let head = 0;
  return {
    push(item) {
      items.push(item);
    },
    shift() {
      const item = items[head];
      if (head < items.length) head += 1;
      if (head >= 1024 && 2 * head >= items.length) {
        items = items.slice(head);
        head = 0;
      }
      return item;
    },
    get size() {
      return items.length - head;
    },
  };
}

/** What is due at a time, without a timer each: it lies in a bucket of its tick, and buckets are emptied in their order. */
export interface Timers<T> {
  add(item: T, delayMs: number): void;
  /** Hands over what has become due. */
  fire(): void;
  readonly size: number;
}

export function createTimers<T>(tickMs: number, hand: (item: T) => void): Timers<T> {
  const buckets = new Map<number, T[]>();
  let fired = Math.floor(performance.now() / tickMs);
  let size = 0;
  let lastTick = -1;
  let lastBucket: T[] = [];
  return {
    add(item, delayMs) {
      const tick = Math.max(Math.ceil((performance.now() + delayMs) / tickMs), fired + 1);
      if (tick !== lastTick) {
        lastTick = tick;
        const found = buckets.get(tick);
        lastBucket = found ?? [];
        if (!found) buckets.set(tick, lastBucket);
      }
      lastBucket.push(item);
      size += 1;
    },
    fire() {
      const now = Math.floor(performance.now() / tickMs);
      while (fired < now && size > 0) {
        fired += 1;
        const due = buckets.get(fired);
        if (!due) continue;
        buckets.delete(fired);
        if (lastTick === fired) lastTick = -1;
        size -= due.length;
        for (const item of due) hand(item);
      }
      fired = now;
    },
    get size() {
      return size;
    },
  };
}

/** Throttled messages not yet seen again, parts of messages, at most. */
const mostRemembered = 10_000;

/** Keeps a memory bounded. */
export function forgetOldest<K>(
  memory: { readonly size: number; keys(): Iterator<K>; delete(key: K): boolean },
  most = mostRemembered,
): void {
  if (memory.size <= most) return;
  const oldest = memory.keys().next();
  if (!oldest.done) memory.delete(oldest.value);
}

/** Says whether something is seen for the first time; every other time it is. */
export function createFirstTimes(): (key: string) => boolean {
  const seen = new Set<string>();
  return (key) => {
    if (seen.delete(key)) return false;
    seen.add(key);
    forgetOldest(seen);
    return true;
  };
}

// ── people ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What a person writes to a service number. */
export interface PersonalMessage {
  readonly from: string;
  readonly to: string;
  readonly content: string;
}

const phoneNumber = /^\+?\d{1,20}$/;
const maxReplyLength = 5000;

export function isSendable({ from, to, content }: PersonalMessage): boolean {
  return phoneNumber.test(from) && phoneNumber.test(to) && content.length <= maxReplyLength;
}
