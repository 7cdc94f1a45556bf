/**
 * Early wake-ups between the parts of a node and between nodes: "there is something in the queue", "there is something to push". A signal
 * is a hint, never the data; its listeners also poll. To other nodes, at most one notification per topic is sent in a tenth of a second,
 * since NOTIFY takes a server-wide lock.
 */
import { randomUUID } from 'node:crypto';
import type { Db } from '../../db/db.ts';

export type Topic = 'queue' | 'push';

export interface Signals {
  start(): Promise<void>;
  stop(): Promise<void>;
  on(topic: Topic, listener: () => void): void;
  emit(topic: Topic): void;
}

const channel = 'hongyan_signals';
const quietMs = 100;

export function createSignals({ db }: { db: Db }): Signals {
  const self = randomUUID();
  const listeners: Record<Topic, (() => void)[]> = { queue: [], push: [] };
  const pending = new Map<Topic, NodeJS.Timeout>();
  let unlisten: (() => Promise<void>) | undefined;

  const wake = (topic: Topic): void => {
    for (const listener of listeners[topic]) listener();
  };

  return {
    async start() {
      unlisten = await db.listen(channel, (payload) => {
        const [from, topic] = payload.split(' ');
        if (from !== self && (topic === 'queue' || topic === 'push')) wake(topic);
      });
    },
    async stop() {
      for (const timer of pending.values()) clearTimeout(timer);
      pending.clear();
      await unlisten?.();
    },
    on: (topic, listener) => void listeners[topic].push(listener),
    emit(topic) {
      wake(topic);
      if (pending.has(topic)) return;
      const timer = setTimeout(() => {
        pending.delete(topic);
        void db.notify(channel, `${self} ${topic}`).catch(() => {}); // a lost hint costs a poll interval
      }, quietMs);
      pending.set(topic, timer);
    },
  };
}
