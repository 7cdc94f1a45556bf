/**
 * The state of one claimed chunk on one connection: which messages may be sent next, what is known about each, and how far the reservation
 * goes. It uses no clock, no database and no connection.
 *
 * An index moves: to be sent → in flight → outcome (or back to be sent, if its fate allows) → recorded. Only indexes below the reservation
 * are ever handed out, so after a crash every message above it was certainly not sent.
 */
import type { OutboundMessage, SegmentOutcome } from '../../channels/channel.ts';
import type { DispatchBody } from '../../core/queue/batches.ts';
import type { Outcome } from '../../core/outcome/messages.ts';
import { messageIdOf } from '../../core/model/ids.ts';
import { messageStatus } from '../../core/model/statuses.ts';
import type { Claim } from '../../core/queue/queue.ts';

/** What the chunk's messages have in common. */
export interface RunPolicy {
  readonly channelId: bigint;
  readonly inDoubt: 'resend' | 'give_up';
  readonly chargeOn: 'delivered' | 'accepted';
  readonly from: string;
  /** What the message at an index says. */
  content(index: number): OutboundMessage['content'];
}

/** What to do with a message after the connection has reported its fate. */
export type Next =
  | { readonly kind: 'outcome'; readonly outcome: Outcome }
  | { readonly kind: 'retry'; readonly later: boolean } // certainly not sent, or to be sent again by policy
  | { readonly kind: 'leave' }; // in doubt and the connection is gone: the next claimant decides

/** How often a message with an unknown fate is sent before it is given up. */
const mostTries = 3;

export interface ChunkRun {
  readonly claim: Claim;
  readonly body: DispatchBody;
  /** Messages not yet handed out, within the reservation or not. */
  unsent(): number;
  /** Messages that were handed out and have no outcome: under way, or to be tried again. */
  begun(): number;
  /** The next message within the reservation, or null; of `begun` ones only, if nothing new is to be begun. */
  next(onlyBegun?: boolean): number | null;
  message(index: number): OutboundMessage;
  /** Judges what the connection said. `gone`: the connection was lost, so nothing can be tried on it. */
  judge(index: number, outcomes: readonly SegmentOutcome[], gone: boolean): Next;
  /** Hands an index out again. */
  again(index: number): void;
  /** Counts sent messages whose outcomes are now committed. */
  recorded(count: number): void;
  /** Reserved messages without a committed outcome. */
  open(): number;
  /** Moves the reservation; only once it is committed. */
  reserveTo(upto: number): void;
  reservedUpto(): number;
  /** Every message has an outcome (committed or about to be). */
  complete(): boolean;
  /** Indexes below this may have been sent: the next node that claims the chunk must look for their rows. */
  doubtUpto(): number;
}

/** A message's outcome, with what it has from its chunk. */
function outcomeOf(
  body: DispatchBody,
  index: number,
  rest: Pick<Outcome, 'channelId' | 'status' | 'code'> & Partial<Pick<Outcome, 'carrierId' | 'paid' | 'parts'>>,
): Outcome {
  return {
    id: messageIdOf(body.id, index),
    common: body,
    phone: body.phones[index] ?? 0n,
    form: body.forms?.[index] ?? null,
    channelId: rest.channelId,
    carrierId: rest.carrierId ?? null,
    status: rest.status,
    code: rest.code,
    paid: rest.paid ?? false,
    parts: rest.parts ?? none,
  };
}

/**
 * Outcomes that need no sending, of a chunk as it is claimed: given up because an earlier claimant may have sent them and the product
 * says so, expired, or opted out since. `recordedBefore` are the indexes that have an outcome already.
 */
export function decideWithoutSending(
  claim: Claim,
  body: DispatchBody,
  given: {
    readonly channelId: bigint;
    readonly recordedBefore: ReadonlySet<number>;
    readonly givesUp: boolean;
    readonly isExpired: boolean;
    readonly optedOut: ReadonlySet<bigint>;
  },
): { readonly outcomes: Outcome[]; readonly inDoubt: number } {
  const outcomes: Outcome[] = [];
  let inDoubt = 0;
  body.phones.forEach((phone, index) => {
    if (given.recordedBefore.has(index)) return;
    const isInDoubt = index < claim.doubtUpto;
    if (isInDoubt) inDoubt++;
    if (isInDoubt && given.givesUp)
      outcomes.push(outcomeOf(body, index, { channelId: given.channelId, status: messageStatus.unknown, code: 'UNKNOWN' }));
    else if (given.isExpired) outcomes.push(outcomeOf(body, index, { channelId: null, status: messageStatus.expired, code: 'EXPIRED' }));
    else if (given.optedOut.has(phone))
      outcomes.push(outcomeOf(body, index, { channelId: null, status: messageStatus.intercepted, code: 'WL:SHLJ' }));
  });
  return { outcomes, inDoubt };
}

const none: Outcome['parts'] = [];

/** `skip`: indexes that have an outcome already and are not sent. */
export function createChunkRun(claim: Claim, body: DispatchBody, policy: RunPolicy, skip: ReadonlySet<number>): ChunkRun {
  const { channelId } = policy;
  const n = body.phones.length;
  let cursor = 0;
  let outcomes = skip.size;
  let begun = 0;
  let committed = 0;
  let reserved = claim.reservedUpto;
  /** One more than the highest index that may have been sent: it has an outcome, or was left in doubt. */
  let doubtUpto = Math.max(0, claim.doubtUpto);
  const retries: number[] = [];
  const tries = new Map<number, number>();
  /** What is known of the segments of messages that needed more than one try or more than one segment. */
  const parts = new Map<number, SegmentOutcome[]>();

  const ended = (index: number, status: Outcome['status'], code: string | null, rest: Partial<Outcome>): Next => {
    outcomes++;
    begun--;
    parts.delete(index);
    return { kind: 'outcome', outcome: outcomeOf(body, index, { channelId, status, code, ...rest }) };
  };

  /** Merges this try into what earlier tries have told. */
  function merge(index: number, heard: readonly SegmentOutcome[]): readonly SegmentOutcome[] {
    const before = parts.get(index);
    if (!before) {
      if (heard.length > 1) parts.set(index, [...heard]);
      return heard;
    }
    const open = openParts(before);
    heard.forEach((outcome, i) => {
      const seg = open[i];
      if (seg !== undefined) before[seg] = outcome;
    });
    return before;
  }

  return {
    claim,
    body,
    unsent: () => retries.length + (n - cursor),
    begun: () => begun,
    next(onlyBegun = false) {
      const again = retries.shift();
      if (again !== undefined || onlyBegun) return again ?? null;
      while (cursor < n && skip.has(cursor)) cursor++;
      if (cursor >= n || cursor >= reserved) return null;
      begun++;
      return cursor++;
    },
    message(index) {
      const before = parts.get(index);
      return {
        to: String(body.phones[index]),
        from: policy.from,
        content: policy.content(index),
        reference: Number(messageIdOf(body.id, index) % 65536n),
        more: outcomes + begun < n,
        ...(before ? { only: openParts(before) } : {}),
      };
    },
    judge(index, heard, gone) {
      const all = merge(index, heard);
      if (all.some(({ kind }) => kind !== 'unsent' && kind !== 'throttled')) doubtUpto = Math.max(doubtUpto, index + 1);
      const rejected = all.find((outcome) => outcome.kind === 'rejected');
      const list = all.length > 1 ? all.map((outcome, seg) => ({ seg, ...told(outcome) })) : none;
      if (rejected) return ended(index, messageStatus.rejected, rejected.code, { parts: list });
      if (all.every((outcome) => outcome.kind === 'accepted')) {
        const carrierId = all.length === 1 && all[0]?.kind === 'accepted' ? all[0].carrierId : null;
        return ended(index, messageStatus.sent, null, { carrierId, parts: list, paid: policy.chargeOn === 'accepted' });
      }
      const inDoubt = all.some((outcome) => outcome.kind === 'unknown');
      const giveUp = () => ended(index, messageStatus.unknown, 'UNKNOWN', { parts: list });
      if (inDoubt && policy.inDoubt === 'give_up') return giveUp();
      if (gone) return { kind: 'leave' };
      const count = (tries.get(index) ?? 0) + (inDoubt ? 1 : 0);
      tries.set(index, count);
      if (count >= mostTries) return giveUp();
      return { kind: 'retry', later: all.some((outcome) => outcome.kind === 'throttled') };
    },
    again: (index) => void retries.push(index),
    recorded(count) {
      committed += count;
    },
    open() {
      let skipped = 0;
      for (const index of skip) if (index < reserved) skipped++;
      return reserved - skipped - committed;
    },
    reserveTo(upto) {
      reserved = upto;
    },
    reservedUpto: () => reserved,
    complete: () => outcomes >= n,
    doubtUpto: () => doubtUpto,
  };
}

const openParts = (outcomes: readonly SegmentOutcome[]): number[] =>
  outcomes.flatMap((outcome, seg) => (outcome.kind === 'accepted' || outcome.kind === 'rejected' ? [] : [seg]));

function told(outcome: SegmentOutcome): { carrierId: string | null; code: string | null } {
  if (outcome.kind === 'accepted') return { carrierId: outcome.carrierId, code: null };
  return { carrierId: null, code: outcome.kind === 'rejected' ? outcome.code : 'UNKNOWN' };
}
