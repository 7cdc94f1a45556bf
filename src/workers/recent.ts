/**
 * Remembers recently sent messages by the carrier's id, so that most reports find their message without a query. Bounded: two generations
 * for each channel; when the younger is full, the older is forgotten. Messages that were forgotten, or sent by another node, are found by
 * a query.
 */
import type { Sent } from '../core/outcome/messages.ts';

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

/** Ten seconds of full speed in each; an entry is about 150 bytes. */
const mostPerGeneration = 200_000;

export function createRecent(): Recent {
  const channels = new Map<bigint, { young: Map<string, RecentEntry>; old: Map<string, RecentEntry> }>();
  return {
    remember(channelId, carrierId, sent) {
      let generations = channels.get(channelId);
      if (!generations) channels.set(channelId, (generations = { young: new Map(), old: new Map() }));
      if (generations.young.size >= mostPerGeneration) {
        generations.old = generations.young;
        generations.young = new Map();
      }
      const entry = { sent, recorded: false };
      generations.young.set(carrierId, entry);
      return entry;
    },
    find(channelId, carrierId) {
      const generations = channels.get(channelId);
      return generations?.young.get(carrierId) ?? generations?.old.get(carrierId);
    },
    forget(channelId, carrierId) {
      const generations = channels.get(channelId);
      if (!generations?.young.delete(carrierId)) generations?.old.delete(carrierId);
    },
  };
}
