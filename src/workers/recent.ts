/**
 * What was sent lately, by the carrier's id: so that most reports find their message without asking the database. Bounded; what has
 * fallen out, or was sent by another node, is found by a query.
 */
import type { Sent } from '../core/messages.ts';

export interface RecentEntry {
  readonly sent: Sent;
  /** False until the message's row is committed: a report that comes earlier waits for it. */
  recorded: boolean;
}

export interface Recent {
  remember(channelId: bigint, carrierId: string, sent: Sent): RecentEntry;
  find(channelId: bigint, carrierId: string): RecentEntry | undefined;
  forget(channelId: bigint, carrierId: string): void;
}

/** Twenty seconds of full speed; an entry is about 150 bytes. */
const mostPerChannel = 400_000;

export function createRecent(): Recent {
  const channels = new Map<bigint, Map<string, RecentEntry>>();
  return {
    remember(channelId, carrierId, sent) {
      let entries = channels.get(channelId);
      if (!entries) channels.set(channelId, (entries = new Map()));
      if (entries.size >= mostPerChannel) {
        const oldest = entries.keys().next();
        if (!oldest.done) entries.delete(oldest.value);
      }
      const entry = { sent, recorded: false };
      entries.set(carrierId, entry);
      return entry;
    },
    find: (channelId, carrierId) => channels.get(channelId)?.get(carrierId),
    forget: (channelId, carrierId) => void channels.get(channelId)?.delete(carrierId),
  };
}
