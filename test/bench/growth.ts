/**
 * Measures the cost of stored data: the same figures on an empty platform, on one that holds millions of messages over 180 days, and on
 * one that also has a long blocklist. Past days are written into its database directly, because millions of submits would take too long.
 */
import fs from 'node:fs';
import path from 'node:path';
import { performance } from 'node:perf_hooks';
import { messageIdInBatch } from '../../src/core/model/ids.ts';
import { createDb, type Db } from '../../src/db/db.ts';
import { packageRoot } from '../../src/std/package-root.ts';

/** What the scenario needs of a platform and of a customer's program. */
export interface Grown {
  readonly databaseUrl: string;
  /** Whose messages are stored, and who else is there. */
  readonly accountId: number;
  readonly subscriptionId: number;
  readonly templateId: number;
  readonly otherAccountId: number;
  /** The management API as the operator. */
  manage(method: string, path: string, body?: unknown): Promise<Record<string, unknown>>;
  /** Submits so many numbers into a queue that nobody empties. */
  accept(count: number): Promise<unknown>;
  /** Submits so many, and pulls until every one is reported. */
  drain(count: number): Promise<void>;
  /** Pulls reports once. */
  pull(): Promise<unknown>;
}

export interface GrowthSize {
  readonly stored: number;
  readonly blocked: number;
  /** Of the end-to-end run. */
  readonly messages: number;
}

/** A column of the table: what was measured, by name. */
export type Measured = Readonly<Record<string, number>>;

export type Growth = Readonly<Record<'empty' | 'stored' | 'blocked', Measured>>;

const read = (name: string): string => fs.readFileSync(path.join(packageRoot(), 'test/bench', name), 'utf8');

/** Measures, fills, measures, blocks, measures. `say` is told what is going on. */
export async function measureGrowth(platform: Grown, size: GrowthSize, say: (line: string) => void): Promise<Growth> {
  const db = createDb(platform.databaseUrl, { max: 1, statementTimeoutMs: 0 });
  try {
    const { list, ...empty } = { list: await blocklist(platform), ...(await measure(platform, size)) };
    await runScript(db, say, 'growth.sql', {
      stored: size.stored,
      account: platform.accountId,
      subscription: platform.subscriptionId,
      template: platform.templateId,
    });
    const stored = await measure(platform, size);
    await runScript(db, say, 'growth-blocked.sql', { list, blocked: size.blocked });
    const blocked = await measure(platform, size);
    return { empty, stored, blocked };
  } finally {
    await db.end();
  }
}

/** One line a figure: its value in each state, and the last as a share of the first. */
export function table({ empty, stored, blocked }: Growth, { stored: rows, blocked: numbers }: GrowthSize): string {
  const figure = (value = Number.NaN): string => value.toFixed(value < 100 ? 1 : 0).padStart(12);
  const lines = Object.keys(empty).map((name) => {
    const [a, b, c] = [empty[name], stored[name], blocked[name]];
    return `${name.padEnd(44)}${figure(a)}${figure(b)}${figure(c)}${`${(((c ?? 0) / (a ?? 1)) * 100).toFixed(0)} %`.padStart(10)}`;
  });
  return [
    `${''.padEnd(44)}${'empty'.padStart(12)}${`${rows / 1e6} M`.padStart(12)}${`+${numbers / 1e6} M list`.padStart(12)}`,
    ...lines,
  ].join('\n');
}

/** Runs a script of this folder, which reads its settings as `bench.…`, and what autovacuum would have done in the days that it takes a minute for. */
export async function runScript(db: Db, say: (line: string) => void, script: string, settings: Record<string, number>): Promise<void> {
  const start = performance.now();
  for (const [name, value] of Object.entries(settings)) await db.sql`select set_config(${`bench.${name}`}, ${String(value)}, false)`;
  await db.sql.unsafe(read(script));
  await db.sql.unsafe('vacuum analyze');
  await db.sql.unsafe('checkpoint');
  say(`${script}: ${((performance.now() - start) / 1000).toFixed(0)} s`);
}

async function blocklist({ manage }: Grown): Promise<number> {
  return Number((await manage('POST', '/blocklists', { kind: 'system' })).id);
}

async function measure(platform: Grown, { messages, stored }: GrowthSize): Promise<Measured> {
  const { manage, accountId, otherAccountId } = platform;
  await platform.drain(20_000); // warm
  const start = performance.now();
  await platform.drain(messages);
  const endToEnd = messages / ((performance.now() - start) / 1000);

  for (let n = 0; n < 3; n++) await platform.accept(10_000);
  const accept = await median(30, () => platform.accept(10_000));
  const alone = await median(20, () => platform.drain(1));
  const pull = await median(100, () => platform.pull());

  const today = new Date(Date.now() + 8 * 3600_000);
  const day = (ago: number): string => new Date(today.getTime() - ago * 86_400_000).toISOString().slice(0, 10);
  const month = `from=${day(30)}&to=${day(0)}`;
  const batches = (await manage('GET', `/batches?accountId=${accountId}&${month}&limit=500`)).data as { id: string }[];
  const oldest = batches.at(-1)?.id ?? '';
  const phone = (n: number): string => String(13_600_000_000 + ((n * 977 * 7919) % 100_000_000));
  const list = await blocklist(platform);
  let n = 0;
  const searches: Record<string, () => string> = {
    'search a number, 31 days': () => `/messages?accountId=${accountId}&phone=${phone(n++ % Math.max(1, stored / 977))}&${month}`,
    'search a number of another account, 31 days': () => `/messages?accountId=${otherAccountId}&phone=${phone(n++)}&${month}`,
    'timeline of a message': () => `/messages/${messageIdInBatch(BigInt(oldest), n++ % 500)}`,
    'a batch with its totals': () => `/batches/${oldest}`,
    'batches of 31 days': () => `/batches?accountId=${accountId}&${month}`,
    'batches of one day, 9 days ago': () => `/batches?accountId=${accountId}&from=${day(9)}&to=${day(9)}`,
    'events of 31 days': () => `/events?accountId=${accountId}&${month}`,
    'events of 31 days that failed': () => `/events?accountId=${accountId}&state=failed&${month}`,
    'events of a number': () => `/events?accountId=${accountId}&phone=${phone(n++)}&${month}`,
    'events of a batch': () => `/events?accountId=${accountId}&batchId=${oldest}&${month}`,
    'events of another account, 31 days': () => `/events?accountId=${otherAccountId}&${month}`,
    'ledger of a subscription': () => `/ledger?subscriptionId=${platform.subscriptionId}`,
    'look up a blocked number': () => `/blocklists/${list}/numbers?phone=${13_500_000_000 + (n++ % 1000)}`,
  };
  const found: Record<string, number> = {};
  for (const [name, url] of Object.entries(searches)) found[`${name}, ms`] = await median(20, () => manage('GET', url()));
  return {
    'end to end, messages/s': endToEnd,
    'accept 10,000, ms': accept,
    'one message until its report is pulled, ms': alone,
    'pull with nothing there, ms': pull,
    ...found,
  };
}

async function median(times: number, work: () => Promise<unknown>): Promise<number> {
  const took: number[] = [];
  for (let n = 0; n < times; n++) {
    const start = performance.now();
    await work();
    took.push(performance.now() - start);
  }
  return took.sort((a, b) => a - b)[times >> 1] ?? Number.NaN;
}
