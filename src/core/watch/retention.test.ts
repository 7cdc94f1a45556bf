import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { picture } from '../../../test/kit/media.ts';
import { demoAccount, type MmsPlatform, startMmsPlatform } from '../../../test/kit/mms-platform.ts';
import { until } from '../../../test/kit/platform.ts';
import { createDb } from '../../db/db.ts';
import { addDays, shanghaiDay } from '../../std/shanghai.ts';
import { audit } from './audit.ts';
import { freezeDay, forgettable, purgeable, purgeRequestIds } from '../queue/batches.ts';
import { purgeInboundParts, purgeReplies } from '../outcome/inbound.ts';
import { balanceOf } from '../money/ledger.ts';
import { expire, findOverdue } from '../outcome/messages.ts';
import { defaultSettings } from '../model/configuration.ts';
import { chunkIdOf, chunksOfBatch, messageIdOf } from '../model/ids.ts';
import { giveUpEvents } from '../events/owed.ts';
import { purgePushes } from '../events/pushed.ts';
import { dialects } from '../../http/dialects/registry.ts';
import { createReports } from '../outcome/reports.ts';
import { createRetention, type Retention } from './retention.ts';

const dayMs = 86_400_000;
const never = (): boolean => false;

let platform: MmsPlatform;
let retention: Retention;
let today: string;

beforeEach(async () => {
  // Noon, so that no test meets a midnight; tomorrow's, since no clock goes back.
  today = addDays(shanghaiDay(new Date()), 1);
  platform = await startMmsPlatform({ roles: ['api'], ahead: Date.parse(`${today}T12:00:00+08:00`) - Date.now() });
  retention = createRetention({ db: platform.app.management.db, dialects, clock: platform.clock });
});
afterEach(() => platform.stop());

const sql = () => platform.app.management.db.sql;
const books = () => audit(platform.app.management.db);
const pull = () => platform.aim('report');

/** As a janitor does at that time: partitions first, then what is old. */
async function at(days: number): Promise<void> {
  platform.advance(Date.parse(`${addDays(today, days)}T12:00:00+08:00`) - platform.clock().getTime());
  await retention.makePartitions();
}

async function submit(phones: readonly string[], template = '101'): Promise<bigint> {
  const { json } = await platform.aim('send-aim', {
    template_id: template,
    mobiles: JSON.stringify(phones),
    content: '【鸿雁】您有一张优惠券 $url$',
  });
  expect(json).toMatchObject({ code: 0 });
  return BigInt(String(json['msg_id']));
}

/** What carriers and dispatcher make of a batch: every message ends with this code, and the queue is empty. */
async function finish(batchId: bigint, code = 'DELIVRD'): Promise<void> {
  await platform.deliver(batchId, code);
  await unqueue(batchId);
}

const unqueue = (batchId: bigint) => sql()`delete from dispatch_queue where chunk_id ${chunksOfBatch(sql(), batchId)}`;

const batch = async (id: bigint) => (await platform.manage('GET', `batches/${id}`)).json;
const rowsOf = async (table: string): Promise<number> =>
  Number((await sql().unsafe<{ n: bigint }[]>(`select count(*) as n from ${table}`))[0]?.n);
const drop = () => retention.dropDays(defaultSettings, never);
const purge = () => retention.purge(defaultSettings, never);

it('a day past retention is dropped, and its batches keep their totals, status by status, and their cost', async () => {
  const delivered = await submit(['13811110001', '13811110002', '13800000021', '13800000023']);
  const failed = await submit(['13811110003']);
  await finish(delivered);
  await finish(failed, 'UNDELIV');
  await pull();
  await platform.reply('13811110001', '你好');
  await platform.aim('get-reply');
  const before = [await batch(delivered), await batch(failed)];
  expect(before).toMatchObject([
    { totals: { delivered: 2, intercepted: 2, queued: 0 }, cost: '0.10', purgedAt: null },
    { totals: { undelivered: 1 }, cost: '0.00' },
  ]);
  expect(await books()).toEqual([]);

  await at(180);
  expect(await drop()).toMatchObject({ dropped: [addDays(today, -1)] });
  expect(await rowsOf('messages')).toBe(5);
  await at(181);
  expect((await drop()).dropped).toContain(today);
  expect([await rowsOf('messages'), await rowsOf('handovers')]).toEqual([0, 0]);
  expect([await batch(delivered), await batch(failed)]).toEqual(before);
  expect(await books()).toEqual([]);
  const message = await platform.manage('GET', `messages/${messageIdOf(chunkIdOf(delivered, 0), 0)}`);
  expect(message.status).toBe(404);
  const listed = await platform.manage('GET', `messages?accountId=1&phone=13811110001&from=${today}&to=${today}`);
  expect(listed.json).toEqual({ data: [], next: null });
  const batches = await platform.manage('GET', `batches?accountId=1&from=${today}&to=${today}`);
  expect((batches.json['data'] as { id: string }[]).map(({ id }) => id)).toEqual([String(failed), String(delivered)]);
});

it('what belonged to a dropped day is purged: recipients, content, replies, late reports; not before its links are over', async () => {
  const id = await submit(['13811110001', '13800000021']);
  await finish(id);
  await sql()`insert into late_reports (account_id, id, day, what, code, at)
    values (1, ${messageIdOf(chunkIdOf(id, 1), 0)}, ${today}, 'late_report', 'DELIVRD', ${platform.clock()})`;
  const templates = await sql()`update templates set link_days = 200, valid_until = null where id = 101 returning 1`;
  expect(templates.length).toBe(1);
  await pull();
  await platform.reply('13811110001', '你好');
  await platform.replyTo('13811110001', '无主', '99');
  await platform.aim('get-reply');
  const before = await batch(id);
  expect(before).toMatchObject({ content: expect.stringContaining('优惠券'), totals: { delivered: 1, intercepted: 1 } });

  await at(190);
  await drop();
  await purge();
  // The link of template 101 opens for 200 days.
  expect([await rowsOf('chunks'), await rowsOf('late_reports'), await rowsOf('replies')]).toEqual([2, 1, 0]);
  expect(await batch(id)).toEqual(before);
  expect(await books()).toEqual([]);
  await at(201);
  await purge();
  expect([await rowsOf('chunks'), await rowsOf('late_reports'), await rowsOf('inbound_parts')]).toEqual([0, 0, 0]);
  expect(await batch(id)).toEqual({ ...before, content: '', purgedAt: expect.any(String) as string });
  expect(await books()).toEqual([]);
});

it('a day with a message that has not ended, or is queued, stays until it has', async () => {
  const sent = await submit(['13811110001']);
  const queued = await submit(['13811110002']);
  await finish(queued);
  await unqueue(sent);
  await pull();
  await at(181);
  // Neither is the chunk that lies in no queue any more and has no message: only the audit can say what became of it.
  const enqueue = (day: string | null) => sql()`
    insert into dispatch_queue (channel_id, chunk_id, account_id, subscription_id, day, n, class, rank, ready_at, expires_at)
    values (1, ${chunkIdOf(sent, 0)}, 1, 500001, ${day}, 1, 1, 0, now(), now())`;
  // A node of an earlier version says no day: that may be any.
  for (const day of [today, null]) {
    await enqueue(day);
    expect((await drop()).kept.get(today)).toBe('unfinished');
    await unqueue(sent);
  }
  // Now it is sent, and waits for its report.
  const [row] = await sql()`
    insert into messages (id, account_id, day, subscription_id, phone, channel_id, carrier_id, segments, status, price_e4, paid, sent_at)
    values (${messageIdOf(chunkIdOf(sent, 0), 0)}, 1, ${today}, 500001, 8613811110001, 1, 'late', 1, 1, 500, false, now()) returning 1`;
  expect(row).toBeDefined();
  expect((await drop()).kept.get(today)).toBe('unfinished');
  expect(await batch(queued)).toMatchObject({ totals: { delivered: 1 } });
  expect(await books()).toEqual([]);
  const { db, directory } = platform.app.management;
  const overdue = await findOverdue(db.sql, today, platform.clock(), 10);
  expect(await db.transaction((tx) => expire(tx, directory, today, overdue, platform.clock()))).toBe(1);
  expect((await drop()).kept.get(today)).toBe('awaited');
  await pull();
  expect((await drop()).dropped).toContain(today);
  expect(await batch(sent)).toMatchObject({ totals: { expired: 1, queued: 0 } });
  expect(await books()).toEqual([]);
});

it('a day with events that a customer may still pull stays until they are, or until nobody can be expected to come', async () => {
  const id = await submit(['13811110001', '13811110002']);
  await finish(id);
  await platform.reply('13811110001', '你好');
  await at(181);
  expect((await drop()).kept.get(today)).toBe('awaited');
  expect((await pull()).json['data']).toContain('DELIVRD');
  expect((await drop()).kept.get(today)).toBe('awaited'); // the reply
  expect(await batch(id)).toMatchObject({ totals: { delivered: 2 } });
  await purge();
  expect(await rowsOf('replies')).toBe(1);
  await at(366);
  expect((await drop()).dropped).toContain(today);
  await purge();
  expect((await platform.aim('get-reply')).json['data']).toBe('');
  expect([await rowsOf('parcels'), await rowsOf('replies'), await rowsOf('messages')]).toEqual([0, 0, 0]);
  expect(await batch(id)).toMatchObject({ totals: { delivered: 2 }, cost: '0.10' });
  expect(await books()).toEqual([]);
});

const now = () => Math.floor(platform.clock().getTime() / 1000);

async function sendPackage(image: Buffer | null, phone = '13811110001'): Promise<bigint> {
  const frame = [{ con_type: 'text', ext_type: 'txt', data: '周末开盘' }];
  if (image) frame.push({ con_type: 'image', ext_type: 'png', data: image.toString('base64') });
  const { json } = await platform.mms('batchSend', {
    timestamp: now(),
    product_id: 1018,
    phone: [phone],
    sign_name: '鸿雁',
    title: '开盘通知',
    content: [frame],
  });
  expect(json).toMatchObject({ code: 'OK' });
  return BigInt(String(json['task_id']));
}

it('events that failed or are kept do not hold their day, but a replay of them does', async () => {
  const id = await sendPackage(null);
  await finish(id);
  const events = () => platform.manage('GET', `events?accountId=${demoAccount}&from=${today}&to=${today}`);
  expect((await events()).json['data']).toMatchObject([{ state: 'kept' }]);
  await at(181);
  await platform.pushTo({ report: 'http://127.0.0.1:1/' });
  const replay = { accountId: Number(demoAccount), kind: 'report', from: today, to: today };
  expect((await platform.manage('POST', 'events/replay', replay)).json).toEqual({ replayed: 1 });
  expect((await drop()).kept.get(today)).toBe('awaited');
  await sql()`update parcels set route = 3`;
  expect((await drop()).dropped).toContain(today);
  expect(await rowsOf('parcels')).toBe(0);
  expect((await platform.manage('POST', 'events/replay', replay)).json).toEqual({ replayed: 0 });
  expect(await batch(id)).toMatchObject({ totals: { delivered: 1 }, cost: '1.00' });
  expect(await books()).toEqual([]);
});

it('a day stays when an event of it is replayed in the very moment in which it is to be dropped', async () => {
  const id = await submit(['13811110001']);
  await finish(id);
  await pull();
  await at(180);
  await drop(); // so that this day is the first of the next time
  await at(181);
  const other = createDb(platform.databaseUrl);
  try {
    // Holds the replay up in the middle: it meets a key that may yet become somebody's.
    let release = (): void => {};
    const released = new Promise<void>((resolve) => (release = resolve));
    let hold = (): void => {};
    const held = new Promise<void>((resolve) => (hold = resolve));
    const holding = other.transaction(async (tx) => {
      await tx`insert into parcels (account_id, kind, id, day, subscription_id, endpoint, route, at, due_at, indexes)
        values (1, 1, ${messageIdOf(chunkIdOf(id, 0), 0)}, ${today}, 500001, 500001, 0, now(), now(), '{0}')`;
      hold();
      await released;
      throw new Error('rolled back');
    });
    await held;
    const waiters = async (): Promise<number> =>
      (await sql()`select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`).length;
    const replaying = platform.manage('POST', 'events/replay', { accountId: 1, kind: 'report', from: today, to: today });
    await until('the replay is held up', async () => (await waiters()) === 1);
    const dropping = drop();
    await until('the dropping waits for the replay', async () => (await waiters()) === 2);
    release();
    await expect(holding).rejects.toThrow('rolled back');
    expect((await replaying).json).toEqual({ replayed: 1 });
    expect((await dropping).kept.get(today)).toBe('awaited');
  } finally {
    await other.end();
  }
  expect((await pull()).json).toMatchObject({ code: 0, data: expect.stringContaining(String(id)) as string });
  expect(await books()).toEqual([]);
  expect((await drop()).dropped).toContain(today);
});

it('a batch of two days loses them one by one, and counts right all the while', async () => {
  const { json } = await platform.mms('batchSend', {
    timestamp: now(),
    product_id: 1018,
    phone: ['13811110001', '13811110002', '13800000021'],
    sign_name: '鸿雁',
    title: '开盘通知',
    content: [[{ con_type: 'text', ext_type: 'txt', data: '周末开盘' }]],
    send_time: new Date(platform.clock().getTime() + 10 * dayMs + 8 * 3600_000).toISOString().slice(0, 19).replace('T', ' '),
  });
  const id = BigInt(String(json['task_id']));
  await at(10);
  await finish(id);
  const whole = await batch(id);
  expect(whole).toMatchObject({ totals: { delivered: 2, intercepted: 1 }, cost: '2.00' });
  await at(185);
  expect((await drop()).dropped).toContain(today);
  await purge();
  expect(await batch(id)).toEqual(whole);
  expect(await books()).toEqual([]);
  expect(await rowsOf('messages')).toBe(2);
  await at(191);
  expect((await drop()).dropped).toContain(addDays(today, 10));
  expect(await batch(id)).toEqual(whole);
  expect(await books()).toEqual([]);
  await purge();
  expect(await batch(id)).toMatchObject({ totals: whole['totals'], cost: '2.00', content: '', package: null });
  expect(await books()).toEqual([]);
});

it('a day whose tables are in use is kept for now, holds nobody up, and tells the same meanwhile', async () => {
  const id = await submit(['13811110001']);
  await finish(id);
  await pull();
  const before = await batch(id);
  await at(181);
  const reader = createDb(platform.databaseUrl);
  let worst = 0;
  let release = (): void => {};
  const released = new Promise<void>((resolve) => (release = resolve));
  const holding = reader.transaction(async (tx) => {
    await tx`set local idle_in_transaction_session_timeout = 0`;
    await tx`lock table messages in access share mode`;
    await released;
  });
  try {
    const dropping = drop();
    let over = false;
    void dropping.finally(() => (over = true));
    while (!over) {
      const start = performance.now();
      await reader.sql`select count(*) from messages where day = ${today} and id = 1`;
      worst = Math.max(worst, performance.now() - start);
      await sleep(5);
    }
    // The day before is the oldest; what keeps it in use keeps all.
    expect([...(await dropping).kept]).toEqual([[addDays(today, -1), 'in use']]);
    expect(await batch(id)).toEqual(before);
    expect(await books()).toEqual([]);
  } finally {
    // Also after a failure: a transaction that its pool cuts off would fail when nobody listens any more, and so end the whole run.
    release();
    await holding;
    await reader.end();
  }
  // A tenth of a second, and room for a busy machine; whoever waited for the reader would have waited for all of it.
  expect(worst).toBeLessThan(3000);
  expect((await drop()).dropped).toContain(today);
  expect(await batch(id)).toEqual(before);
  expect(await books()).toEqual([]);
}, 60_000);

it('tables that a killed process has detached and not dropped are dropped by the next', async () => {
  const id = await submit(['13811110001']);
  await finish(id);
  await pull();
  await at(181);
  const name = today.replaceAll('-', '');
  await freezeDay(sql(), today, 0n, 1000, platform.clock());
  for (const table of ['messages', 'segments', 'handovers']) await sql().unsafe(`alter table ${table} detach partition ${table}_${name}`);
  expect(await batch(id)).toMatchObject({ totals: { delivered: 1 }, cost: '0.05' });
  expect(await books()).toEqual([]);
  await drop();
  const [left] = await sql()`select to_regclass(${`messages_${name}`}) as name`;
  expect(left).toEqual({ name: null });
  expect(await books()).toEqual([]);
});

it('two janitors at once drop and purge what one would', async () => {
  const ids = [await submit(['13811110001', '13800000021']), await submit(['13811110002'])];
  for (const id of ids) await finish(id);
  await pull();
  await at(181);
  const other = createDb(platform.databaseUrl);
  try {
    const both = [retention, createRetention({ db: other, dialects, clock: platform.clock })];
    await Promise.all(both.map((one) => one.dropDays(defaultSettings, never)));
    await Promise.all(both.map((one) => one.purge(defaultSettings, never)));
  } finally {
    await other.end();
  }
  expect([await rowsOf('messages'), await rowsOf('chunks')]).toEqual([0, 0]);
  expect(await batch(ids[0] ?? 0n)).toMatchObject({ totals: { delivered: 1, intercepted: 1 }, cost: '0.05' });
  expect(await books()).toEqual([]);
});

it('a janitor that is killed at any instant leaves totals, balances and books as they were, and the next one goes on', async () => {
  const total = 12;
  // Days with something on them, made to look like days of the past.
  for (let n = 0; n < total; n++) {
    const id = await submit([`1381112${String(n).padStart(4, '0')}`, '13800000021']);
    await finish(id, n % 2 === 0 ? 'UNDELIV' : 'DELIVRD');
    if (n % 3 === 2) {
      await pull();
      platform.advance(dayMs);
    }
  }
  await pull();
  const ids = await sql()<{ id: bigint }[]>`select id from batches order by id`;
  const totals = async () => {
    const all = await Promise.all(ids.map(({ id }) => batch(id)));
    return all.map((one) => ({ id: one['id'], totals: one['totals'], cost: one['cost'] }));
  };
  const before = await totals();
  const balance = await balanceOf(sql(), 1n, 500001n);
  await at(300);
  const ahead = (platform.clock().getTime() - Date.now()) / dayMs;

  const program = fileURLToPath(new URL('../../../test/kit/retention-process.ts', import.meta.url));
  const loader = new URL('../../../test/kit/typescript-loader.mjs', import.meta.url).href;
  const args = ['--import', loader, program, platform.databaseUrl, String(ahead), JSON.stringify(defaultSettings)];
  const start = (): ChildProcess => spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const days = () => sql()<{ name: string }[]>`
    select relname as name from pg_class where relname ~ '^(messages|segments|handovers)_[0-9]{8}$' and relkind = 'r'`;
  const left = async (): Promise<number> => (await days()).length + (await rowsOf('chunks'));
  const most = await left();
  let kills = 0;
  for (let pause = 1; (await rowsOf('chunks')) > 0; pause *= 2) {
    const child = start();
    const ended = once(child, 'exit');
    // Not before it has begun, which takes a busy machine a while; then each time further.
    for (let n = await left(); n === (await left()) && child.exitCode === null; ) await sleep(1);
    await sleep(pause);
    child.kill('SIGKILL');
    await ended;
    kills++;
    expect(await books(), `after kill ${kills}`).toEqual([]);
    expect(await totals()).toEqual(before);
  }
  expect(kills).toBeGreaterThan(1);
  expect(most).toBeGreaterThan(await left());
  expect(await balanceOf(sql(), 1n, 500001n)).toBe(balance);
  await retention.dropDays(defaultSettings, never);
  await purge();
  expect(await rowsOf('messages')).toBe(0);
  expect(await totals()).toEqual(before);
  expect(await books()).toEqual([]);
}, 120_000);

it('media that no batch and no template names any more are forgotten, the others stay', async () => {
  const [once, again, kept] = [await picture('png', 60, 40, 1), await picture('png', 60, 40, 2), await picture('png', 60, 40, 3)];
  for (const image of [once, again, kept]) await finish(await sendPackage(image));
  await sql()`update parcels set route = 3`;
  const frames = [{ text: null, media: { sha256: await sha256Of(kept) }, mediaFirst: true }];
  await sql()`insert into templates (account_id, id, medium, name, frames, purpose, signature, parameters)
    values (${demoAccount}, 999, 'mms', 'x', ${sql().json(frames)}, 'x', '鸿雁', '{}')`;
  await at(100);
  const second = await sendPackage(again);
  await finish(second);
  await at(181);
  await drop();
  await purge();
  const left = async () => (await sql()<{ sha: string }[]>`select encode(sha256, 'hex') as sha from media`).map(({ sha }) => sha).sort();
  expect(await left()).toEqual([await sha256Of(again), await sha256Of(kept)].sort());
  // What was forgotten is stored again when it comes again.
  await sendPackage(once);
  expect(await left()).toEqual([await sha256Of(once), await sha256Of(again), await sha256Of(kept)].sort());
  expect(await books()).toEqual([]);
});

async function sha256Of(bytes: Buffer): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new Uint8Array(bytes));
  return Buffer.from(digest).toString('hex');
}

it('a medium that is named anew while it is purged is there in the end', async () => {
  const image = await picture('png', 60, 40, 4);
  for (let round = 0; round < 5; round++) {
    const old = await sendPackage(image);
    await finish(old);
    await sql()`update parcels set route = 3`;
    await at(200 * (round + 1));
    await drop();
    const [, fresh] = await Promise.all([purge(), sendPackage(image)]);
    const [named] = await sql()`select 1 from media where encode(sha256, 'hex') = ${await sha256Of(image)}`;
    expect(named, `round ${round}`).toBeDefined();
    await finish(fresh);
  }
}, 60_000);

it('long after, batches are forgotten and the ledger is one entry for each day, of the same balance', async () => {
  const first = await submit(['13811110001', '13811110002']);
  await finish(first);
  const failed = await submit(['13811110003']);
  await finish(failed, 'UNDELIV');
  await pull();
  await at(1);
  const second = await submit(['13811110004']);
  await finish(second);
  await pull();
  const balance = await balanceOf(sql(), 1n, 500001n);
  const ledger = async () => {
    const rows = (await platform.manage('GET', 'ledger?subscriptionId=500001')).json['data'] as Record<string, unknown>[];
    return rows.map(({ kind, amount, held }) => ({ kind, amount, held }));
  };
  const entries = await ledger();
  await at(400);
  await drop();
  await purge();
  expect(await ledger()).toEqual(entries);
  await at(731);
  await purge();
  expect(await books()).toEqual([]);
  expect((await platform.manage('GET', `batches/${first}`)).status).toBe(404);
  expect(await batch(second)).toMatchObject({ totals: { delivered: 1 }, cost: '0.05' });
  expect(await ledger()).toEqual([...entries.slice(0, 2), entries.at(-1), { kind: 'opening', amount: '-0.10', held: '0.00' }]);
  await at(732);
  await purge();
  expect(await ledger()).toEqual([
    { kind: 'opening', amount: '-0.05', held: '0.00' },
    { kind: 'top_up', amount: '100000.00', held: '0.00' },
    { kind: 'opening', amount: '-0.10', held: '0.00' },
  ]);
  expect(await balanceOf(sql(), 1n, 500001n)).toBe(balance);
  expect(await books()).toEqual([]);
  // Money still moves.
  await submit(['13811110005']);
  expect(await balanceOf(sql(), 1n, 500001n)).toBe(balance - 500n);
});

it('an orphaned report is kept as long as a message it could belong to', async () => {
  const { db, directory } = platform.app.management;
  const reports = createReports({ db, directory, clock: platform.clock });
  await reports.receive([{ channelId: 1n, carrierId: 'x', code: 'DELIVRD', delivered: true, phone: '1', sent: null }]);
  await at(180);
  // The platform tries orphans too, so whoever comes first.
  const tried = async (): Promise<boolean> => {
    await reports.retryOrphans(10);
    return (await sql()`select 1 from orphan_reports where next_try_at <= ${platform.clock()}`).length === 0;
  };
  await until('it is tried', tried);
  expect(await rowsOf('orphan_reports')).toBe(1);
  await at(181);
  await until('it is tried again', tried);
  expect(await rowsOf('orphan_reports')).toBe(0);
});

it('the audit finds a frozen total, or an opening entry, that is not what it stands for', async () => {
  const id = await submit(['13811110001']);
  await finish(id);
  await pull();
  await at(181);
  await freezeDay(sql(), today, 0n, 1000, platform.clock());
  const checks = async () => (await books()).map(({ check }) => check).sort();
  const falsify = (n: number, cost: number) =>
    sql()`update batches set frozen = ${sql().json({ [today]: { 10: [n, cost] } })} where id = ${id}`;
  await falsify(2, 500);
  expect(await checks()).toEqual(['what was frozen of a day that is there is what its messages come to']);
  await falsify(1, 500);
  expect(await checks()).toEqual([]);
  await drop();
  await falsify(2, 500);
  expect(await checks()).toEqual(['what was frozen of a batch of which no day is left is all its recipients']);
  await falsify(1, 0);
  expect(await checks()).toEqual(['what a batch has cost is what its messages cost']);
  await falsify(1, 500);
  await purge();
  await at(731);
  await purge();
  expect(await checks()).toEqual([]);
  await sql()`update ledger_entries set held_e4 = 1 where kind = 'opening'`;
  expect(await checks()).toEqual(['opening entries of the ledger hold nothing']);
});

it('every purge takes no more at once than it is told, and goes on where it stopped', async () => {
  const { db } = platform.app.management;
  const old = new Date(platform.clock().getTime() - 400 * dayMs);
  const n = 5;
  const ids: bigint[] = [];
  for (let i = 0; i < n; i++) ids.push(await submit([`1381111000${i}`]));
  for (const id of ids) await finish(id);
  const spread = Array.from({ length: n }, (_, i) => BigInt(i + 1));
  await sql()`insert into replies (account_id, id, channel_id, phone, dest, ext, content, opt_out, received_at)
    select 0, id, 1, 1, '1', '1', 'x', false, ${old} from unnest(${spread}::bigint[]) as id`;
  await sql()`insert into inbound_parts (channel_id, carrier_id, phone, dest, total, number, encoding, octets, received_at, joined)
    select 1, id::text, '1', '1', 1, 1, 'ucs2', '', ${old}, true from unnest(${spread}::bigint[]) as id`;
  await sql()`insert into pushes (account_id, id, subscription_id, kind, url, events, state, started_at)
    select 1, id, 0, 1, 'x', 1, 'done', ${old} from unnest(${spread}::bigint[]) as id`;
  await sql()`insert into request_ids (account_id, key, digest, batch_id, at)
    select 1, id::text, '', 1, ${old} from unnest(${spread}::bigint[]) as id`;
  const before = platform.clock();
  const counts: Record<string, (limit: number) => Promise<number>> = {
    replies: (limit) => db.transaction((tx) => purgeReplies(tx, before, [], limit)),
    inbound_parts: (limit) => db.transaction((tx) => purgeInboundParts(tx, before, limit)),
    pushes: (limit) => db.transaction((tx) => purgePushes(tx, 1n, before, limit)),
    request_ids: (limit) => db.transaction((tx) => purgeRequestIds(tx, before, limit)),
    parcels: (limit) => db.transaction((tx) => giveUpEvents(tx, dialects, today, true, limit)),
  };
  for (const [table, purgeSome] of Object.entries(counts)) {
    expect(await rowsOf(table), table).toBe(n);
    expect(await purgeSome(2), table).toBe(2);
    expect(await rowsOf(table), table).toBe(n - 2);
    expect([await purgeSome(2), await purgeSome(2), await purgeSome(2)], table).toEqual([2, 1, 0]);
  }
  // A portion ends behind the batch of the message that is one too many.
  const frozen: bigint[] = [];
  for (let from: bigint | null = 0n; from !== null; frozen.push(from ?? 0n)) from = await freezeDay(sql(), today, from, 1, before);
  expect(frozen).toEqual([(ids[1] ?? 0n) + 1n, (ids[3] ?? 0n) + 1n, 0n]);
  expect((await purgeable(sql(), [], before, 2)).length).toBe(0); // their links are open
  expect((await purgeable(sql(), [], new Date(before.getTime() + 400 * dayMs), 2)).length).toBe(2);
  expect((await purgeable(sql(), [today], new Date(before.getTime() + 400 * dayMs), 2)).length).toBe(0);
  await sql()`update batches set purged_at = now()`;
  expect((await forgettable(sql(), addDays(today, 1), 2)).length).toBe(2);
  expect(await forgettable(sql(), today, 2)).toEqual([]);
});

it('a janitor that is to stop does so between two portions', async () => {
  const id = await submit(['13811110001']);
  await finish(id);
  await pull();
  await at(181);
  expect(await retention.dropDays(defaultSettings, () => true)).toEqual({ dropped: [], kept: new Map() });
  expect(await retention.purge(defaultSettings, () => true)).toBe(0);
  expect(await rowsOf('messages')).toBe(1);
});
