/**
 * Messages that gather, so that one upload serves many recipients.
 *
 * Messages with the same content object and source number gather in a group, which leaves as one SubmitReq when it is full, or when it
 * has waited a moment; while requests with the same content are under way it waits for their answers, because those make room for more
 * of the same. Nothing here is timed: `takeDue` says when the next group is due, and whoever holds the groups asks again then.
 */
import type { MessagePackage, OutboundMessage, SegmentOutcome } from '../channel.ts';

interface Recipient {
  readonly to: string;
  readonly settle: (outcomes: readonly SegmentOutcome[]) => void;
}

/** Recipients of one SubmitReq. */
export interface Group {
  readonly content: MessagePackage;
  readonly from: string;
  /** By number: one request names each once. */
  readonly recipients: Map<string, Recipient>;
  readonly openedAt: number;
  /** Whoever handed over its last recipient has another one. */
  more: boolean;
  /** Kept over repeats of a request that was not answered, so that the MMSC can tell a repeat. */
  transactionId: string;
  /** How often it was refused as "too busy". */
  tries: number;
  notBefore: number;
}

/** Times are of any steady clock, in milliseconds. */
export interface Groups {
  /** A message whose content is a package. */
  add(message: OutboundMessage & { readonly content: MessagePackage }, settle: Recipient['settle'], now: number): void;
  /** A group that may leave now, or when there will be one (Infinity: not before another message). A group that leaves is under way. */
  takeDue(now: number): Group | number;
  /** A request with this content is not under way any more. */
  arrived(content: MessagePackage, now: number): void;
  /** Puts a group that was not taken back in line, before all others. */
  putBack(group: Group, notBefore: number): void;
  /** The recipients of a group in groups of at most `size`, and of the limit. They are not in line. */
  split(group: Group, size: number, now: number): Group[];
  /** From now on no group has more recipients. */
  limitTo(recipients: number): void;
  /** Takes out everything that waits. */
  clear(): Group[];
  /** Recipients that wait. */
  readonly waiting: number;
}

/** The longest a group waits for answers that may bring more of the same: longer than a slow line takes for a large package. */
const maxGatherMs = 10_000;
/** After an answer more of the same is likely, once its owner has recorded it: worth this many times the usual wait. */
const gatherAfterAnswer = 10;

/** `limit`: recipients of a group, at most. `gatherMs`: how long one that is not full waits for more. */
export function createGroups({ limit, gatherMs, nextId }: { limit: number; gatherMs: number; nextId: () => string }): Groups {
  /** Groups that still take recipients, by content and source number; then those that only wait to leave. */
  const open = new Map<MessagePackage, Map<string, Group>>();
  const ready: Group[] = [];
  let waiting = 0;
  /** What is known of a content while anybody holds it. */
  const uploads = new WeakMap<MessagePackage, { underWay: number; answeredAt: number }>();

  const groupOf = (content: MessagePackage, from: string, recipients: readonly Recipient[], now: number): Group => ({
    content,
    from,
    recipients: new Map(recipients.map((recipient) => [recipient.to, recipient])),
    openedAt: now,
    more: false,
    transactionId: nextId(),
    tries: 0,
    notBefore: 0,
  });

  /** Takes the group out of those that gather. */
  function close(group: Group): void {
    const groups = open.get(group.content);
    if (groups?.get(group.from) === group) groups.delete(group.from);
    if (groups?.size === 0) open.delete(group.content);
  }

  /** When a group that is not full leaves all the same. */
  function dueAt(group: Group): number {
    const uploaded = uploads.get(group.content);
    const latest = group.openedAt + Math.max(maxGatherMs, gatherMs);
    if (group.more) return latest;
    const alone = group.openedAt + gatherMs;
    if (!uploaded) return alone;
    return uploaded.underWay > 0 ? latest : Math.min(latest, Math.max(alone, uploaded.answeredAt + gatherAfterAnswer * gatherMs));
  }

  function leave(group: Group): Group {
    const uploaded = uploads.get(group.content) ?? { underWay: 0, answeredAt: Number.NEGATIVE_INFINITY };
    uploaded.underWay += 1;
    uploads.set(group.content, uploaded);
    waiting -= group.recipients.size;
    return group;
  }

  return {
    add({ to, from, content, more = false }, settle, now) {
      waiting += 1;
      const groups = open.get(content) ?? new Map<string, Group>();
      open.set(content, groups);
      let group = groups.get(from);
      if (group?.recipients.has(to)) {
        ready.push(group);
        group = undefined;
      }
      group ??= groupOf(content, from, [], now);
      groups.set(from, group);
      group.recipients.set(to, { to, settle });
      group.more = more;
      if (group.recipients.size >= limit) {
        close(group);
        ready.push(group);
      }
    },

    takeDue(now) {
      let next = Number.POSITIVE_INFINITY;
      for (const [index, group] of ready.entries()) {
        if (group.notBefore <= now) {
          ready.splice(index, 1);
          return leave(group);
        }
        next = Math.min(next, group.notBefore);
      }
      for (const groups of open.values())
        for (const group of groups.values()) {
          const due = dueAt(group);
          if (due <= now) {
            close(group);
            return leave(group);
          }
          next = Math.min(next, due);
        }
      return next;
    },

    arrived(content, now) {
      const uploaded = uploads.get(content);
      if (!uploaded) return;
      uploaded.underWay -= 1;
      uploaded.answeredAt = now;
    },

    putBack(group, notBefore) {
      group.notBefore = notBefore;
      waiting += group.recipients.size;
      ready.unshift(group);
    },

    split({ content, from, recipients }, size, now) {
      const most = Math.min(size, limit);
      const all = [...recipients.values()];
      return Array.from({ length: Math.ceil(all.length / most) }, (_, index) =>
        groupOf(content, from, all.slice(index * most, (index + 1) * most), now),
      );
    },

    limitTo(recipients) {
      limit = Math.min(limit, recipients);
    },

    clear() {
      const groups = [...ready.splice(0), ...[...open.values()].flatMap((own) => [...own.values()])];
      open.clear();
      waiting = 0;
      return groups;
    },

    get waiting() {
      return waiting;
    },
  };
}
