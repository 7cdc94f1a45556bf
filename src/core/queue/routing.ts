/**
 * Which channel may carry a message: product → pool → channels that are on and serve the number's carrier and province; among the
 * healthy ones the lowest priority number, then weight. Also builds the source number on the wire.
 *
 * A channel that is being probed gets a tenth of its weight, next to the healthy ones of the best priority, whatever its own priority:
 * enough to show that it works, and few enough that not many messages wait for the answer. Alone it gets all.
 */
import type { Directory, PoolMember, Tenancy } from '../config/directory.ts';
import type { Channel, Product } from '../model/configuration.ts';
import type { Phone } from '../numbers/number-plan.ts';

interface Candidate {
  readonly channel: Channel;
  readonly weight: number;
}

export type Route =
  | {
      readonly kind: 'channels';
      readonly candidates: readonly Candidate[];
      /** Every channel that could carry it, whatever its priority and health: the alternatives if the planned channel fails. */
      readonly serving: readonly bigint[];
    }
  | { readonly kind: 'no_pool' } // the product has no channel pool
  | { readonly kind: 'no_carrier'; readonly poolId: bigint } // the pool has no channel for this carrier
  | { readonly kind: 'no_province'; readonly poolId: bigint } // none of the carrier's channels serves this province
  | {
      readonly kind: 'unhealthy'; // all channels that serve it are unhealthy
      readonly poolId: bigint;
      readonly candidates: readonly Candidate[];
      readonly serving: readonly bigint[];
    };

/** What a route depends on: the possible carriers and the province of a number. */
export type Destination = Pick<Phone, 'carriers' | 'province'>;

/** Numbers of one destination, and their indexes in the list. */
interface OfDestination {
  readonly destination: Destination;
  readonly indexes: number[];
}

/**
 * Groups numbers by destination, so that a decision that depends only on the destination is made once per group. For speed, with thousands
 * of numbers at a time, carriers are compared by object identity: numbers of a carrier share its object. A destination may come twice.
 */
export function byDestination(phones: readonly (Phone | null)[], indexes: Iterable<number> = phones.keys()): readonly OfDestination[] {
  const found: OfDestination[] = [];
  const known = new Map<Phone['carriers'], Map<string | null, OfDestination>>();
  for (const index of indexes) {
    const destination = phones[index];
    if (!destination) continue;
    let provinces = known.get(destination.carriers);
    if (!provinces) known.set(destination.carriers, (provinces = new Map()));
    let same = provinces.get(destination.province);
    if (!same) {
      same = { destination, indexes: [] };
      provinces.set(destination.province, same);
      found.push(same);
    }
    same.indexes.push(index);
  }
  return found;
}

type Member = Candidate & { readonly priority: number };

const probingShare = 0.1;

const servesCarrier = ({ carriers }: Channel, destination: Destination): boolean =>
  carriers.some((carrier) => destination.carriers.includes(carrier));

const servesProvince = ({ provinces }: Channel, { province }: Destination): boolean =>
  !provinces || (province !== null && provinces.includes(province));

export function route(directory: Directory, product: Product, destination: Destination): Route {
  const { poolId } = product;
  const pool = poolId === null ? undefined : directory.pool(poolId);
  if (poolId === null || !pool) return { kind: 'no_pool' };
  const ofCarrier = enabled(directory, pool).filter(({ channel }) => servesCarrier(channel, destination));
  if (ofCarrier.length === 0) return { kind: 'no_carrier', poolId };
  const serving = ofCarrier.filter(({ channel }) => servesProvince(channel, destination));
  if (serving.length === 0) return { kind: 'no_province', poolId };
  const ids = serving.map(({ channel }) => channel.id);
  const able = serving.filter(({ channel }) => channel.health !== 'unhealthy');
  if (able.length === 0) return { kind: 'unhealthy', poolId, candidates: best(serving), serving: ids };
  return { kind: 'channels', candidates: candidatesOf(able), serving: ids };
}

function candidatesOf(able: readonly Member[]): readonly Candidate[] {
  const healthy = best(able.filter(({ channel }) => channel.health === 'healthy'));
  const [first] = healthy;
  if (!first) return best(able);
  const probing = able.filter(({ channel, priority }) => channel.health === 'probing' && priority <= first.priority);
  return [...healthy, ...probing.map(({ channel, weight }) => ({ channel, weight: weight * probingShare }))];
}

const enabled = (directory: Directory, pool: readonly PoolMember[]): Member[] =>
  pool.flatMap(({ channelId, ...member }) => {
    const channel = directory.channel(channelId);
    return channel?.enabled ? [{ channel, ...member }] : [];
  });

function best(members: readonly Member[]): readonly Member[] {
  const priority = members.reduce((least, member) => Math.min(least, member.priority), Number.POSITIVE_INFINITY);
  return members.filter((member) => member.priority === priority);
}

/** Other healthy channels of a pool, to which messages that wait for this channel may go. */
export const alternatives = (directory: Directory, poolId: bigint, channelId: bigint): readonly Member[] =>
  enabled(directory, directory.pool(poolId) ?? []).filter(({ channel }) => channel.id !== channelId && channel.health === 'healthy');

/** Of the members that serve all of the destinations, those to pick from by weight; empty if there is none. */
export const servingAll = (members: readonly Member[], destinations: readonly Destination[]): readonly Candidate[] =>
  best(
    members.filter(({ channel }) =>
      destinations.every((destination) => servesCarrier(channel, destination) && servesProvince(channel, destination)),
    ),
  );

/** Picks one by weight; `dice` is in [0, 1). */
export function pick(candidates: readonly Candidate[], dice: number): Channel {
  let left = dice * candidates.reduce((sum, { weight }) => sum + weight, 0);
  for (const { channel, weight } of candidates) {
    left -= weight;
    if (left < 0) return channel;
  }
  const last = candidates.at(-1);
  if (!last) throw new Error('there is no channel to pick from');
  return last.channel;
}

/** The number that a phone shows as the sender: access number, extension, the customer's own digits. */
export const sourceNumber = (channel: Channel, extension: string, ext: string): string => channel.accessNumber + extension + ext;

/** The longest source number that a submission with this `ext` could get; more than 20 digits must be refused. */
export function sourceNumberLength(directory: Directory, { product, subscription }: Tenancy, ext: string): number {
  const members = (product.poolId === null ? undefined : directory.pool(product.poolId)) ?? [];
  const lengths = members.map(({ channelId }) => directory.channel(channelId)?.accessNumber.length ?? 0);
  return Math.max(0, ...lengths) + subscription.extension.length + ext.length;
}
