/** Queues, timers and bounded memories of a simulated carrier, cheap for very many messages. */

/** A first-in, first-out queue: taking the head is cheap even when it is long. */
export interface Line<T> {
  push(item: T): void;
  shift(): T | undefined;
  readonly size: number;
}

export function createLine<T>(): Line<T> {
  let items: T[] = [];
  let head = 0;
  return {
    push(item) {
      items.push(item);
    },
    shift() {
      const item = items[head];
      if (head < items.length) head += 1;
      if (head >= 1024 && 2 * head >= items.length) {
        items = items.slice(head);
        head = 0;
      }
      return item;
    },
    get size() {
      return items.length - head;
    },
  };
}

/** Items that are due at a time, without a timer each: an item lies in the bucket of its tick, and buckets are emptied in order. */
export interface Timers<T> {
  add(item: T, delayMs: number): void;
  /** Hands over what has become due. */
  fire(): void;
  readonly size: number;
}

export function createTimers<T>(tickMs: number, hand: (item: T) => void): Timers<T> {
  const buckets = new Map<number, T[]>();
  let fired = Math.floor(performance.now() / tickMs);
  let size = 0;
  let lastTick = -1;
  let lastBucket: T[] = [];
  return {
    add(item, delayMs) {
      const tick = Math.max(Math.ceil((performance.now() + delayMs) / tickMs), fired + 1);
      if (tick !== lastTick) {
        lastTick = tick;
        const found = buckets.get(tick);
        lastBucket = found ?? [];
        if (!found) buckets.set(tick, lastBucket);
      }
      lastBucket.push(item);
      size += 1;
    },
    fire() {
      const now = Math.floor(performance.now() / tickMs);
      while (fired < now && size > 0) {
        fired += 1;
        const due = buckets.get(fired);
        if (!due) continue;
        buckets.delete(fired);
        if (lastTick === fired) lastTick = -1;
        size -= due.length;
        for (const item of due) hand(item);
      }
      fired = now;
    },
    get size() {
      return size;
    },
  };
}

/** The most entries in a memory: throttled messages not yet seen again, or parts of messages. */
const mostRemembered = 10_000;

/** Keeps a memory bounded. */
export function forgetOldest<K>(
  memory: { readonly size: number; keys(): Iterator<K>; delete(key: K): boolean },
  most = mostRemembered,
): void {
  if (memory.size <= most) return;
  const oldest = memory.keys().next();
  if (!oldest.done) memory.delete(oldest.value);
}

/** Says whether something is seen for the first time; every other time it is. */
export function createFirstTimes(): (key: string) => boolean {
  const seen = new Set<string>();
  return (key) => {
    if (seen.delete(key)) return false;
    seen.add(key);
    forgetOldest(seen);
    return true;
  };
}
