import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Platform, startAimPlatform } from '../../../test/kit/aim-platform.ts';
import { shanghaiDay } from '../../std/shanghai.ts';
import { record } from '../outcome/messages.ts';
import { chunkIdOf, messageIdOf } from '../model/ids.ts';
import { messageStatus } from '../model/statuses.ts';
import { createReports } from '../outcome/reports.ts';
import { channelActivity, getBatch, getMessage, listOrphans, searchMessages } from './reporting.ts';

let platform: Platform;
const clock = () => new Date();
const today = shanghaiDay(clock());
const days = { fromDay: today, toDay: today };
const page = { limit: 100, cursor: null };

beforeAll(async () => {
  platform = await startAimPlatform();
});
afterAll(() => platform.stop());

/** Sends to numbers of demo's, and returns the batch's id. */
async function submit(mobiles: readonly string[]): Promise<bigint> {
  const { json } = await platform.aim('send-aim', {
    template_id: '101',
    mobiles: JSON.stringify(mobiles),
    content: '【鸿雁】您有一张优惠券 $url$',
  });
  return BigInt(String(json['msg_id']));
}

/** The first message of a batch's first chunk, sent in two segments. */
async function sendInParts(batchId: bigint, phone: bigint): Promise<bigint> {
  const { db, directory } = platform.app.management;
  const id = messageIdOf(chunkIdOf(batchId, 0), 0);
  const parts = [1, 2].map((seg) => ({ seg, carrierId: `${id}-${seg}`, code: null }));
  const outcome = {
    id,
    common: { accountId: 1n, subscriptionId: 500001n, day: today, segments: 2, priceE4: 1000n },
    phone,
    form: null,
    channelId: 1n,
    carrierId: null,
    status: messageStatus.sent,
    code: null,
    paid: false,
    parts,
  };
  await db.transaction((sql) => record(sql, directory, [outcome], clock(), false));
  return id;
}

const report = (carrierId: string, code: string) =>
  createReports({ ...platform.app.management, clock }).receive([
    { channelId: 1n, carrierId, code, delivered: code === 'DELIVRD', phone: '13811110001', sent: null },
  ]);

test('a message of several segments shows each of them, and a report that came too late', async () => {
  const { sql } = platform.app.management.db;
  const id = await sendInParts(await submit(['13811110001']), 8613811110001n);
  await report(`${id}-1`, 'UNDELIV');
  await report(`${id}-2`, 'DELIVRD');
  const message = await getMessage(sql, 1n, id);
  expect(message).toMatchObject({ status: 'undelivered', code: 'UNDELIV', costE4: 0n, channelId: 1n, carrierId: null });
  expect(message.parts).toMatchObject([
    { number: 1, carrierId: `${id}-1`, code: 'UNDELIV' },
    { number: 2, carrierId: `${id}-2` },
  ]);
  const [accepted, ...rest] = message.timeline.map(({ what, detail }) => `${what} ${detail}`);
  expect(accepted).toBe('accepted ');
  expect(rest.sort()).toEqual(['final UNDELIV', 'late_report DELIVRD', 'report_waiting since the message ended', 'sent ']);
});

test('a message is found once whether it waits, is being sent or is over', async () => {
  const { sql } = platform.app.management.db;
  const batchId = await submit(['13811110002', '13811110003']);
  const statuses = async (phone: string) => (await searchMessages(sql, 1n, { phone, ...days }, page)).data.map(({ status }) => status);
  expect(await statuses('13811110002')).toEqual(['queued']);
  // Sent, while its chunk is still in the queue for the sake of the other.
  const id = await sendInParts(batchId, 8613811110002n);
  expect(await statuses('13811110002')).toEqual(['sent']);
  expect(await statuses('13811110003')).toEqual(['queued']);
  expect((await getBatch(sql, 1n, batchId)).totals).toMatchObject({ queued: 1, sent: 1 });
  expect((await getMessage(sql, 1n, id)).status).toBe('sent');
  expect((await getMessage(sql, 1n, id + 1n)).status).toBe('queued');
});

test('several messages to one number come newest first and page by page', async () => {
  const { sql } = platform.app.management.db;
  for (let round = 0; round < 3; round++) await submit(['13811110004']);
  const wanted = { phone: '13811110004', ...days };
  const ids = (await searchMessages(sql, 1n, wanted, page)).data.map(({ id }) => id);
  expect(ids).toEqual([...ids].sort((a, b) => (a < b ? 1 : -1)));
  const first = await searchMessages(sql, 1n, wanted, { limit: 2, cursor: null });
  const second = await searchMessages(sql, 1n, wanted, { limit: 2, cursor: first.next });
  expect([...first.data, ...second.data].map(({ id }) => id)).toEqual(ids);
  expect(second.next).toBeNull();
});

test('another account finds nothing of it', async () => {
  const { sql } = platform.app.management.db;
  const batchId = await submit(['13811110005']);
  expect((await searchMessages(sql, 4n, { phone: '13811110005', ...days }, page)).data).toEqual([]);
  await expect(getBatch(sql, 4n, batchId)).rejects.toThrow('no such batch');
  await expect(getMessage(sql, 4n, messageIdOf(chunkIdOf(batchId, 0), 0))).rejects.toThrow('no such message');
});

test('a channel shows how much waits for it, and a report without a message is an orphan', async () => {
  const { sql } = platform.app.management.db;
  const before = (await channelActivity(sql, [1n])).get(1n);
  await submit(['13811110006', '13811110007']);
  const after = (await channelActivity(sql, [1n, 2n])).get(1n);
  expect(Number(after?.queuedMessages) - Number(before?.queuedMessages)).toBe(2);
  await report('nobody-knows', 'DELIVRD');
  await report('nobody-either', 'DELIVRD');
  const first = await listOrphans(sql, { limit: 1, cursor: null });
  const second = await listOrphans(sql, { limit: 1, cursor: first.next });
  expect([...first.data, ...second.data].map(({ carrierId }) => carrierId)).toEqual(['nobody-either', 'nobody-knows']);
  expect(second.next).toBeNull();
});
