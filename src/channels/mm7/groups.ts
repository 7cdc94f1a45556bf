/**
 * Messages that gather, so that one upload serves many recipients.
 *
 * Messages with the same content object and source number gather in a group. The group leaves as one SubmitReq when it is full, or when it
 * has waited a moment. While requests with the same content are under way, it waits for their answers, because those make room for more
 * messages with that content. This module has no timers: `takeDue` says when the next group is due, and its caller asks again then.
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
  /** By number, since one request names each number once. */
  readonly recipients: Map<string, Recipient>;
  readonly openedAt: number;
  /** The `more` of the message added last. */
  more: boolean;
  /** The same when an unanswered request is repeated, so that the MMSC can recognise the repeat. */
  transactionId: string;
  /** How often the MMSC answered "too busy". */
  tries: number;
  notBefore: number;
}

/** Times are milliseconds of any steady clock. */
export interface Groups {
  /** Adds a message whose content is a package. */
  add(message: OutboundMessage & { readonly content: MessagePackage }, settle: Recipient['settle'], now: number): void;
  /**
   * A group that may leave now, or the time when there will be one (Infinity: not before another message). A returned group counts as under
   * way.
   */
  takeDue(now: number): Group | number;
  /** A request with this content is no longer under way. */
  arrived(content: MessagePackage, now: number): void;
  /** Queues a group that was not taken again, before all others. */
  putBack(group: Group, notBefore: number): void;
  /** Splits a group's recipients into groups of at most `size`, and of at most the limit. The new groups are not queued. */
  split(group: Group, size: number, now: number): Group[];
  /** From now on no group has more recipients. */
  limitTo(recipients: number): void;
  /** Removes and returns all waiting groups. */
  clear(): Group[];
  /** Recipients in waiting groups. */
  readonly waiting: number;
}

/** The longest time a group waits for answers that may bring more messages: longer than a slow line takes for a large package. */
const maxGatherMs = 10_000;
/** After an answer, more messages are likely once the owner has recorded it; so the group waits this many times the usual time. */
const gatherAfterAnswer = 10;

/** `limit`: the most recipients of a group. `gatherMs`: how long a group that is not full waits for more. */
export function createGroups({ limit, gatherMs, nextId }: { limit: number; gatherMs: number; nextId: () => string }): Groups {
  /** Groups that still take recipients, by content and source number; then groups that only wait to leave. */
  const open = new Map<MessagePackage, Map<string, Group>>();
  const ready: Group[] = [];
  let waiting = 0;
  /** Kept for a content as long as that content is in memory. */
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

  /** When a group leaves even if it is not full. */
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
