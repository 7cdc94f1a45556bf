/**
 * The doors where carriers call us. Each channel kind that is called has one, for all its channels, on any node: unlike a connection, a
 * post is not bound to a lease. A channel's door is opened at its first post, and again when the configuration changes.
 */
import type { CarrierAnswer, CarrierPost, ChannelKind, HttpDoor, OpenDoor } from '../channels/channel.ts';
import type { Directory } from '../core/config/directory.ts';
import type { Receiver } from './receiver.ts';

export interface Door extends Pick<HttpDoor, 'prefix' | 'maxOctets'> {
  /** Answers the carrier once its post is stored; null if the channel does not exist or nobody may post to it. */
  receive(channelId: bigint, post: CarrierPost): Promise<CarrierAnswer | null>;
}

export interface DoorDeps {
  readonly kinds: readonly Pick<ChannelKind, 'name' | 'door'>[];
  readonly directory: Directory;
  readonly receiver: Pick<Receiver, 'onReport' | 'onReadReply' | 'onInbound'>;
}

export function createDoors(deps: DoorDeps): readonly Door[] {
  return deps.kinds.flatMap(({ name, door }) => (door ? [createDoor(deps, name, door)] : []));
}

function createDoor({ directory, receiver }: DoorDeps, protocol: string, { prefix, maxOctets, open }: HttpDoor): Door {
  const opened = new Map<bigint, OpenDoor>();
  directory.onChange(() => opened.clear());

  function openFor(channelId: bigint): OpenDoor | null {
    const channel = directory.channel(channelId);
    if (!channel?.enabled || channel.protocol !== protocol) return null;
    const { settings, accessNumber } = channel;
    return open(
      { settings, accessNumber, secret: directory.channelSecret(channelId) ?? '' },
      {
        onReport: (report, acknowledge) => receiver.onReport(channelId, report, acknowledge),
        onReadReply: (reply, acknowledge) => receiver.onReadReply(channelId, reply, acknowledge),
        onInbound: (inbound, acknowledge) => receiver.onInbound(channelId, inbound, acknowledge),
      },
    );
  }

  return {
    prefix,
    maxOctets,
    async receive(channelId, post) {
      // Only existing channels are kept: a stranger may post to any number of channels.
      const door = opened.get(channelId) ?? openFor(channelId);
      if (!door) return null;
      opened.set(channelId, door);
      return door.receive(post);
    },
  };
}
