/** Groups items by key, keeping their order and the order in which the keys first appear. */
export function groupBy<T, K>(items: Iterable<T>, key: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>();
  for (const item of items) {
    const k = key(item);
    const group = groups.get(k);
    if (group) group.push(item);
    else groups.set(k, [item]);
  }
  return groups;
}

/** Groups items by an id, lowest id first. Rows of several accounts or channels are always locked in this order. */
export function groupInOrder<T>(items: Iterable<T>, idOf: (item: T) => bigint): [id: bigint, items: T[]][] {
  return [...groupBy(items, idOf)].sort(([a], [b]) => (a < b ? -1 : 1));
}
