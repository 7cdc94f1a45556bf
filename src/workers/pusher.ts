/**
 * Pushes events to customers' servers. A push claims its rows and commits, then posts, then records what came of it; a crash in
 * between makes the rows pullable, so that none is pushed twice.
 *
 * Each subscription and kind is an endpoint of its own with one push under way at a time. They share a bound on how many run at once, and
 * take turns within it push by push, so a slow or dead server costs the others a place for one time-out and no more.
 */
import type { Directory } from '../core/directory.ts';
import type { Outbox, Push, PushFormat } from '../core/outbox.ts';
import type { Medium } from '../core/model.ts';
import type { Signals } from '../core/signals.ts';
import type { Log } from '../log.ts';
import type { Post } from './post.ts';

export interface Pusher {
  start(): void;
  stop(): Promise<void>;
}

const pollMs = 1000;
/** Rows gather this long before a push, unless there are enough for a full one. */
const gatherMs = 200;
const mostEndpointsAtOnce = 64;
/** For most of the time that a push is leased for. */
const recordTries = 80;
const recordRetryMs = 500;

export function createPusher(deps: {
  outbox: Outbox;
  directory: Directory;
  signals: Signals;
  post: Post;
  formats: Partial<Record<Medium, PushFormat>>;
  log: Log;
}): Pusher {
  const { outbox, directory, signals, post, formats, log } = deps;
  const busy = new Map<string, Promise<void>>();
  const servedAt = new Map<string, number>();
  let turn = 0;
  let timer: NodeJS.Timeout | undefined;
  let soon: NodeJS.Timeout | undefined;
  let looking: Promise<void> | undefined;
  let stopping = false;

  /** One push to one endpoint, if anything waits for it; after a full one there may be more at once, for which it queues anew. */
  async function work(subscriptionId: bigint, kind: 'report' | 'reply'): Promise<boolean> {
    const most = directory.settings().rowsPerPush;
    const push = await outbox.claimPush(subscriptionId, kind, most);
    if (!push) return false;
    await deliver(push);
    return push.reports.length + push.replies.length >= most;
  }

  async function deliver(push: Push): Promise<void> {
    const format = formats[push.tenancy.product.medium];
    if (!format) throw new Error(`no push format for ${push.tenancy.product.medium}`);
    const { contentType, body } = push.kind === 'report' ? format.report(push.reports) : format.reply(push.replies);
    const { status, text } = await post(push.url, contentType, body);
    const isDone = status !== null && status >= 200 && status < 300;
    if (!isDone) {
      const subscription = String(push.tenancy.subscription.id);
      log.warn({ subscription, status, kind: push.kind }, 'a push failed; its events can be pulled');
    }
    // We know the answer, so it must be recorded: left to its lease, what was pushed could be pulled too.
    for (let tries = 1; ; tries++) {
      try {
        return await (isDone ? outbox.pushSucceeded(push, status, text) : outbox.pushFailed(push, status, text));
      } catch (error) {
        if (tries === recordTries) throw error;
        await new Promise((resolve) => setTimeout(resolve, recordRetryMs));
      }
    }
  }

  async function look(): Promise<void> {
    await outbox.recoverPushes();
    const endpoints = (await outbox.awaitingPush()).map((endpoint) => ({
      ...endpoint,
      key: `${endpoint.subscriptionId}/${endpoint.kind}`,
    }));
    // Who was served longest ago goes first, so that more endpoints than places take turns.
    endpoints.sort((a, b) => (servedAt.get(a.key) ?? 0) - (servedAt.get(b.key) ?? 0));
    for (const { subscriptionId, kind, key } of endpoints) {
      if (stopping || busy.has(key) || busy.size >= mostEndpointsAtOnce) continue;
      servedAt.set(key, ++turn);
      const running = work(subscriptionId, kind)
        .catch((error: unknown) => {
          log.error({ err: error, subscription: String(subscriptionId) }, 'pushing failed');
          return false;
        })
        .then((more) => {
          busy.delete(key);
          if (more) lookOnce();
        });
      busy.set(key, running);
    }
  }

  const lookOnce = (): void => {
    looking ??= look()
      .catch((error: unknown) => log.error({ err: error }, 'looking for events to push failed'))
      .finally(() => {
        looking = undefined;
      });
  };

  return {
    start() {
      timer = setInterval(lookOnce, pollMs);
      signals.on('push', () => {
        soon ??= setTimeout(() => {
          soon = undefined;
          lookOnce();
        }, gatherMs);
      });
    },
    async stop() {
      stopping = true;
      clearInterval(timer);
      clearTimeout(soon);
      await looking;
      await Promise.all(busy.values());
    },
  };
}
