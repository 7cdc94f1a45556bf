/** The scenarios, a function for each. test/bench/README.md says what each does and what its figures mean. */
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { performance } from 'node:perf_hooks';
import { drain, picture, pull, reported, submit, submitMms } from './customer.ts';
import { measureGrowth, table } from './growth.ts';
import { type Figures, percentiles, timed, watched } from './measure.ts';
import type { Platform } from './platform.ts';
import { switchRulesOn } from './rules.ts';

export interface Size {
  readonly seconds: number;
  readonly messages: number;
  readonly stored: number;
  readonly blocked: number;
  readonly templates: number;
  readonly words: number;
}

/** `say` is told what is going on. */
export type Scenario = (platform: Platform, size: Size, say: (line: string) => void) => Promise<Figures>;

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Fifty submits of 10,000 numbers, one after the other, into a queue nobody empties. */
async function acceptMany(platform: Platform): Promise<Figures> {
  for (let n = 0; n < 3; n++) await submit(platform, platform.queueing, 10_000);
  const times: number[] = [];
  const { seconds, costs } = await watched(platform, async () => {
    for (let n = 0; n < 50; n++) times.push(await timed(() => submit(platform, platform.queueing, 10_000)));
  });
  return { requestsPerSecond: 50 / seconds, messagesPerSecond: 500_000 / seconds, ...percentiles(times), ...costs };
}

/** So many messages accepted, sent over CMPP, reported and pulled, from the first submit to the last row pulled. */
async function endToEnd(platform: Platform, messages: number): Promise<Figures> {
  await drain(platform, platform.sending, 20_000); // warm: plans, statistics, compiled code
  const took = { submits: [], pulls: [] };
  const { seconds, costs } = await watched(platform, () => drain(platform, platform.sending, messages, took));
  return { messagesPerSecond: messages / seconds, ...percentiles(took.submits, 'submit'), ...percentiles(took.pulls, 'pull'), ...costs };
}

/** The scenarios of every run. */
export const scenarios: Readonly<Record<string, Scenario>> = {
  'accept-10000': acceptMany,

  /** Submits of one number each over 50 connections. */
  async 'accept-1'(platform, { seconds: wanted }) {
    const times: number[] = [];
    const { seconds, costs } = await watched(platform, async () => {
      const until = performance.now() + wanted * 1000;
      await Promise.all(
        Array.from({ length: 50 }, async () => {
          while (performance.now() < until) times.push(await timed(() => submit(platform, platform.queueing, 1)));
        }),
      );
    });
    return { requestsPerSecond: times.length / seconds, messagesPerSecond: times.length / seconds, ...percentiles(times), ...costs };
  },

  'end-to-end': (platform, { messages }) => endToEnd(platform, messages),

  /** Ten thousand numbers a request with a package of 100 KB: from the first submit until every report is taken in. */
  async mms(platform) {
    const customer = await platform.startMms();
    const image = picture();
    const wanted = 30_000;
    await submitMms(platform, customer, 10_000, image);
    await reported(platform, 10_000);
    let times: number[] = [];
    const { seconds, costs } = await watched(platform, async () => {
      times = await submitMms(platform, customer, wanted, image);
      await reported(platform, 10_000 + wanted);
    });
    return { messagesPerSecond: wanted / seconds, ...percentiles(times, 'submit'), ...costs };
  },

  /**
   * Reports, one a POST, to a receiver that answers at once. It keeps the first ones waiting until all reports are in the queue, so that
   * pushing is measured by itself; well below the time-out.
   */
  async push(platform) {
    const customer = await platform.startMms();
    let pushed = 0;
    let held: http.ServerResponse[] | null = [];
    const receiver = http.createServer((request, response) => {
      request.resume();
      request.on('end', () => {
        pushed++;
        if (held) held.push(response);
        else response.end('success');
      });
    });
    await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve));
    await customer.pushTo(`http://127.0.0.1:${String((receiver.address() as AddressInfo).port)}/`);
    const wanted = 20_000;
    await submitMms(platform, customer, wanted, null);
    await reported(platform, wanted);
    const before = pushed;
    const waiting = held;
    held = null;
    const { seconds, costs } = await watched(platform, async () => {
      for (const response of waiting) response.end('success');
      while (pushed < wanted) await sleep(10);
    });
    receiver.close();
    receiver.closeAllConnections();
    return { pushesPerSecond: (wanted - before) / seconds, ...costs };
  },
};

/** Scenarios that take minutes, and run only when they are asked for. */
export const longScenarios: Readonly<Record<string, Scenario>> = {
  /** Submits of 10,000 and the whole way, with every rule of screening asked and long lists to ask. */
  async rules(platform, size, say) {
    await switchRulesOn(platform, size, say);
    const accept = await acceptMany(platform);
    const whole = await endToEnd(platform, size.messages);
    return {
      acceptP50Ms: Number(accept['p50Ms']),
      acceptP95Ms: Number(accept['p95Ms']),
      acceptP99Ms: Number(accept['p99Ms']),
      ...whole,
    };
  },

  /** A million messages end to end in ten steps, with the platform's memory after each: what only time brings. */
  async soak(platform, { messages }) {
    const steps: Record<string, number>[] = [];
    await drain(platform, platform.sending, 20_000);
    for (let step = 1; step <= 10; step++) {
      // The least heap in use at any moment of a step is about what outlives a collection; the most resident memory is what it needs.
      const memory = { heapMiB: Number.POSITIVE_INFINITY, residentMiB: 0 };
      let isOver = false;
      const { seconds } = await watched(platform, async () => {
        const watching = (async () => {
          while (!isOver) {
            const { heapMiB, residentMiB } = await platform.memory();
            memory.heapMiB = Math.min(memory.heapMiB, heapMiB);
            memory.residentMiB = Math.max(memory.residentMiB, residentMiB);
            await sleep(100);
          }
        })();
        await drain(platform, platform.sending, messages / 10);
        isOver = true;
        await watching;
      });
      steps.push({ messages: (step * messages) / 10, messagesPerSecond: messages / 10 / seconds, ...memory });
    }
    return { steps };
  },

  /** The same things on an empty platform, with `--stored` messages, and with `--blocked` numbers on the blocklist. */
  async growth(platform, size, say) {
    const { sending, queueing, manage, databaseUrl } = platform;
    const grown = await measureGrowth(
      {
        ...sending,
        otherAccountId: queueing.accountId,
        databaseUrl,
        manage,
        accept: (count) => submit(platform, queueing, count),
        drain: (count) => drain(platform, sending, count),
        pull: () => pull(platform, sending),
      },
      size,
      say,
    );
    say(table(grown, size));
    return Object.fromEntries(
      Object.entries(grown).flatMap(([state, measured]) => Object.entries(measured).map(([name, value]) => [`${state}: ${name}`, value])),
    );
  },
};
