/**
 * Which channel may carry a message: product → pool → channels that are on and serve the number's carrier; among them the lowest
 * priority number, then weight. Also what a source number on the wire is made of.
 */
import type { Directory, Tenancy } from './directory.ts';
import type { Carrier, Channel, Product } from './model.ts';

interface Candidate {
  readonly channel: Channel;
  readonly weight: number;
}

export type Route =
  | { readonly kind: 'channels'; readonly candidates: readonly Candidate[] }
  | { readonly kind: 'no_pool' } // the product has no channel pool
  | { readonly kind: 'no_channel'; readonly poolId: bigint }; // the pool has none for this carrier

export function route(directory: Directory, product: Product, carrier: Carrier): Route {
  const members = product.poolId === null ? undefined : directory.pool(product.poolId);
  if (product.poolId === null || !members) return { kind: 'no_pool' };
  let best = Number.POSITIVE_INFINITY;
  let candidates: Candidate[] = [];
  for (const { channelId, priority, weight } of members) {
    const channel = directory.channel(channelId);
    if (!channel?.enabled || !channel.carriers.includes(carrier) || priority > best) continue;
    if (priority < best) candidates = [];
    best = priority;
    candidates.push({ channel, weight });
  }
  return candidates.length > 0 ? { kind: 'channels', candidates } : { kind: 'no_channel', poolId: product.poolId };
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
