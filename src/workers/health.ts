/**
 * Finds out which channels are healthy. Each node watches its own traffic, and the diagnosis of any node counts for all: it is written
 * into the configuration, which every node follows within a second. Whether a channel has a session is judged over all nodes, by the rows
 * in which the nodes that serve it say so; see `dueTurns` in `core/catalogue/channels.ts`.
 */
import { changeDueHealth, type HealthChange, settleHealth, someHealthIsDue } from '../core/catalogue/channels.ts';
import { createWatch, type Diagnosis, type Watch } from '../core/catalogue/health.ts';
import { change, type Management } from '../core/config/management.ts';
import type { Log } from '../log.ts';

export interface ChannelHealth {
  start(): void;
  stop(): Promise<void>;
  /** This node's view of a channel. The object stays the same as long as the channel exists. */
  watch(channelId: bigint): Watch;
  /** A channel's new health is in force on this node. */
  onTurn(listener: (channelId: bigint) => void): void;
}

const beatMs = 1000;

export function createChannelHealth(deps: { management: Management; node: string; log: Log }): ChannelHealth {
  const { management, node, log } = deps;
  const { db, directory } = management;
  const watches = new Map<bigint, Watch>();
  /** Diagnoses that are not in force yet, with the state they were reached in. */
  const pending = new Map<bigint, Diagnosis>();
  const listeners: ((channelId: bigint) => void)[] = [];
  let timer: NodeJS.Timeout | undefined;
  let working: Promise<void> | undefined;
  let isStopped = false;

  function watch(channelId: bigint): Watch {
    let found = watches.get(channelId);
    if (!found) {
      found = createWatch((diagnosis) => {
        pending.set(channelId, diagnosis);
        void beat();
      });
      const channel = directory.channel(channelId);
      if (channel) found.enter(channel);
      watches.set(channelId, found);
    }
    return found;
  }

  /** Brings every watch into the state in the configuration. */
  function follow(): void {
    for (const [channelId, own] of watches) {
      const channel = directory.channel(channelId);
      if (!channel) watches.delete(channelId);
      else if (own.enter(channel)) {
        pending.delete(channelId);
        for (const listener of listeners) listener(channelId);
      }
    }
  }

  function tell(changes: readonly HealthChange[]): void {
    for (const { channelId, health, reason } of changes)
      log[health === 'unhealthy' ? 'warn' : 'info']({ channel: String(channelId), health, reason }, 'channel health');
  }

  async function work(): Promise<void> {
    for (const own of watches.values()) own.tick();
    for (const [channelId, diagnosis] of pending) {
      const channel = directory.channel(channelId);
      if (channel) tell(await change(management, (sql) => settleHealth(sql, node, channel, diagnosis)));
      // In force, or too late for the state that the channel is in by now: `follow` has been told. Else it could not be said of it.
      if (pending.get(channelId) === diagnosis) {
        pending.delete(channelId);
        watches.get(channelId)?.restart();
      }
    }
    const channels = [...directory.channels()];
    if (await someHealthIsDue(db.sql, channels)) tell(await change(management, (sql) => changeDueHealth(sql, node, channels)));
  }

  function beat(): Promise<void> {
    if (isStopped) return Promise.resolve();
    working ??= work()
      .catch((error: unknown) => log.error({ err: error }, 'the health of channels could not be updated; trying again'))
      .finally(() => {
        working = undefined;
      });
    return working;
  }

  return {
    start() {
      directory.onChange(follow);
      follow();
      timer = setInterval(() => void beat(), beatMs);
    },
    async stop() {
      clearInterval(timer);
      isStopped = true;
      await working;
    },
    watch,
    onTurn: (listener) => void listeners.push(listener),
  };
}
