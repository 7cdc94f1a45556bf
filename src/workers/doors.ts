/**
 * Receives what carriers post (MM7), for every channel that speaks by HTTP and any node: unlike a connection, a post is not bound to a
 * lease. Makes a receiver for each channel when it is first posted to, and anew when the channel's settings change.
 */
import { createMm7Receiver, type Mm7Answer, type Mm7Received, type Mm7Receiver, type Mm7ReceiverSettings } from '../channels/mm7/door.ts';
import type { Directory } from '../core/config/directory.ts';
import type { Receiver } from './receiver.ts';

export interface CarrierPosts {
  /** Answers the carrier once what it posted is safe; null if there is no such channel or nobody may post to it. */
  receive(channelId: bigint, post: Mm7Received): Promise<Mm7Answer | null>;
}

export function createCarrierPosts({
  directory,
  receiver,
}: {
  directory: Directory;
  receiver: Pick<Receiver, 'onReport' | 'onReadReply' | 'onInbound'>;
}): CarrierPosts {
  const made = new Map<bigint, Mm7Receiver>();
  directory.onChange(() => made.clear());

  function make(channelId: bigint): Mm7Receiver | null {
    const channel = directory.channel(channelId);
    if (!channel?.enabled || channel.protocol !== 'mm7') return null;
    const { allowedAddresses, callbackUsername } = channel.settings as { allowedAddresses?: string[]; callbackUsername?: string };
    if (!allowedAddresses && !callbackUsername) return null;
    const settings: Mm7ReceiverSettings = {
      accessNumber: channel.accessNumber,
      ...(allowedAddresses && { allowedAddresses }),
      ...(callbackUsername && { username: callbackUsername, password: directory.channelSecret(channelId) ?? '' }),
    };
    return createMm7Receiver(settings, {
      onReport: (report, acknowledge) => receiver.onReport(channelId, report, acknowledge),
      onInbound: (inbound, acknowledge) => receiver.onInbound(channelId, inbound, acknowledge),
      onReadReply: (reply, acknowledge) => receiver.onReadReply(channelId, reply, acknowledge),
    });
  }

  return {
    async receive(channelId, post) {
      // Only what is there is kept: a stranger may post to any number of channels.
      const receiver = made.get(channelId) ?? make(channelId);
      if (!receiver) return null;
      made.set(channelId, receiver);
      return receiver.receive(post);
    },
  };
}
