/**
 * Pushes events to customers' servers. A push claims its rows and commits, then posts, then records what came of it; a crash in
 * between makes the rows pullable, so that none is pushed twice.
 *
 * Each subscription and kind is an endpoint of its own with one push under way at a time: a slow or dead server holds up nobody else,
 * since endpoints do not share anything but a bound on how many run at once.
 */
import type { Directory } from '../core/directory.ts';
import type { Outbox, Push, ReplyEvent, ReportEvent } from '../core/outbox.ts';
import type { Medium } from '../core/model.ts';
import type { Signals } from '../core/signals.ts';
import type { Log } from '../log.ts';
import type { Post } from './post.ts';

/** How a dialect writes events; pure. */
export interface PushFormat {
  report(events: readonly ReportEvent[]): { contentType: string; body: string };
  reply(events: readonly ReplyEvent[]): { contentType: string; body: string };
}

export interface Pusher {
  start(): void;
  stop(): Promise<void>;
}

const pollMs = 1000;
/** Rows gather this long before a push, unless there are enough for a full one. */
const gatherMs = 200;
const mostEndpointsAtOnce = 64;

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
  let timer: NodeJS.Timeout | undefined;
  let soon: NodeJS.Timeout | undefined;
  let looking: Promise<void> | undefined;
  let stopping = false;

  /** Pushes to one endpoint until nothing waits for it. */
  async function work(subscriptionId: bigint, kind: 'report' | 'reply'): Promise<void> {
    while (!stopping) {
      const most = directory.settings().rowsPerPush;
      const push = await outbox.claimPush(subscriptionId, kind, most);
      if (!push) return;
      await deliver(push);
      if (push.reports.length + push.replies.length < most) return; // let the next rows gather
    }
  }

  async function deliver(push: Push): Promise<void> {
    const format = formats[push.tenancy.product.medium];
    if (!format) throw new Error(`no push format for ${push.tenancy.product.medium}`);
    const { contentType, body } = push.kind === 'report' ? format.report(push.reports) : format.reply(push.replies);
    const answer = await post(push.url, contentType, body);
    if (answer.status !== null && answer.status >= 200 && answer.status < 300) await outbox.pushSucceeded(push, answer.status, answer.text);
    else {
      log.warn(
        { subscription: String(push.tenancy.subscription.id), status: answer.status, kind: push.kind },
        'a push failed; its events can be pulled',
      );
      await outbox.pushFailed(push, answer.status, answer.text);
    }
  }

  async function look(): Promise<void> {
    await outbox.recoverPushes();
    for (const { subscriptionId, kind } of await outbox.awaitingPush()) {
      const key = `${subscriptionId}/${kind}`;
      if (stopping || busy.has(key) || busy.size >= mostEndpointsAtOnce) continue;
      const running = work(subscriptionId, kind)
        .catch((error: unknown) => log.error({ err: error, subscription: String(subscriptionId) }, 'pushing failed'))
        .finally(() => busy.delete(key));
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
