/**
 * Which channel may carry a message: product → pool → channels that are on and serve the number's carrier and province; among those
 * that are healthy the lowest priority number, then weight. Also what a source number on the wire is made of.
 */
import type { Directory, Tenancy } from './directory.ts';
import type { Channel, Product } from './model.ts';
import type { Phone } from './number-plan.ts';

interface Candidate {
  readonly channel: Channel;
  readonly weight: number;
}

export type Route =
  | { readonly kind: 'channels'; readonly candidates: readonly Candidate[] }
  | { readonly kind: 'no_pool' } // the product has no channel pool
  | { readonly kind: 'no_carrier'; readonly poolId: bigint } // the pool has no channel for this carrier
  | { readonly kind: 'no_province'; readonly poolId: bigint } // none of those serves this province
  | { readonly kind: 'unhealthy'; readonly poolId: bigint }; // those that do are all unhealthy

/** Where a number is. */
export type Place = Pick<Phone, 'carriers' | 'province'>;

export function route(directory: Directory, product: Product, { carriers, province }: Place): Route {
  const { poolId } = product;
  const members = poolId === null ? undefined : directory.pool(poolId);
  if (poolId === null || !members) return { kind: 'no_pool' };
  let missing: 'no_carrier' | 'no_province' | 'unhealthy' = 'no_carrier';
  let best = Number.POSITIVE_INFINITY;
  let candidates: Candidate[] = [];
  for (const { channelId, priority, weight } of members) {
    const channel = directory.channel(channelId);
    if (!channel?.enabled || !channel.carriers.some((carrier) => carriers.includes(carrier))) continue;
    if (missing === 'no_carrier') missing = 'no_province';
    if (channel.provinces && (province === null || !channel.provinces.includes(province))) continue;
    missing = 'unhealthy';
    if (channel.health === 'unhealthy' || priority > best) continue;
    if (priority < best) candidates = [];
    best = priority;
    candidates.push({ channel, weight });
  }
  return candidates.length > 0 ? { kind: 'channels', candidates } : { kind: missing, poolId };
}

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

/** The number a phone sees: access number, extension, the customer's own digits. */
export const sourceNumber = (channel: Channel, extension: string, ext: string): string => channel.accessNumber + extension + ext;

/** The longest source number that a submission with this `ext` could get; over 20 digits it must be refused. */
export function sourceNumberLength(directory: Directory, { product, subscription }: Tenancy, ext: string): number {
  const members = (product.poolId === null ? undefined : directory.pool(product.poolId)) ?? [];
  const lengths = members.map(({ channelId }) => directory.channel(channelId)?.accessNumber.length ?? 0);
  return Math.max(0, ...lengths) + subscription.extension.length + ext.length;
}
