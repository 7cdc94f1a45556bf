/**
 * Replies, from a person's text to the customer's pull: opt-outs take effect before anything else is sent, long replies are joined, and no
 * reply goes to a guessed customer.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { App } from '../../src/app.ts';
import { createInbound } from '../../src/core/outcome/inbound.ts';
import { concatHeader, cutText, splitHeader } from '../../src/protocols/text.ts';
import {
  type Client,
  type Customer,
  clientOf,
  createPuller,
  type Platform,
  plainNumbers,
  type ReplyRow,
  startPlatform,
  until,
} from '../kit/platform.ts';

let platform: Platform;
let app: App;
let customer: Customer;
let client: Client;
let ahead = 0;
const clock = () => new Date(Date.now() + ahead);

beforeAll(async () => {
  platform = await startPlatform();
  customer = await platform.customer();
  app = await platform.startApp({ clock });
  client = clientOf(app, customer);
});

afterAll(async () => {
  expect(await platform.audit()).toEqual([]);
  await platform.stop();
});

const serviceNumber = (ext = '') => platform.accessNumber + customer.extension + ext;
const write = (from: string, content: string, to = serviceNumber()) => platform.carrier.reply({ from, to, content });

async function replies(count: number): Promise<ReplyRow[]> {
  const rows: ReplyRow[] = [];
  await until(`${count} replies are pulled`, async () => rows.push(...(await client.replies())) >= count);
  return rows;
}

async function delivered(mobiles: readonly string[], ext = ''): Promise<string> {
  const { msgId } = await client.submit(mobiles, { ext });
  const puller = createPuller(client);
  await puller.waitFor(mobiles.length);
  await puller.stop();
  return msgId;
}

it.each(['TD', 'ＴＤ', ' td ', '　退订　', '拒收', 'n'])('a person who writes "%s" gets nothing more of this customer', async (word) => {
  const [mobile = ''] = plainNumbers(1, 1 + ['TD', 'ＴＤ', ' td ', '　退订　', '拒收', 'n'].indexOf(word));
  expect((await client.submit([mobile])).failed).toEqual([]);
  write(mobile, word);
  expect(await replies(1)).toMatchObject([{ mobile, content: word }]);
  expect((await client.submit([mobile])).failed).toEqual({ [mobile]: 'WL:SHLJ' });
});

it('words in a sentence are no opt-out', async () => {
  const [mobile = ''] = plainNumbers(1, 10);
  write(mobile, '请不要退订');
  await replies(1);
  expect((await client.submit([mobile])).failed).toEqual([]);
});

it('an opt-out stops what is queued already, and gives its price back', async () => {
  const mobiles = plainNumbers(600, 11);
  const leaver = mobiles[555] ?? '';
  const before = await client.balanceE4();
  // While the carrier is away all of it waits; what it delivered just before is still being stored.
  await platform.carrier.stop();
  const { msgId, failed } = await client.submit(mobiles);
  expect(failed).toEqual([]);
  const { db, directory } = platform.management;
  await createInbound({ db, directory, clock }).receive({
    channelId: platform.channelId,
    carrierId: 'opt-out',
    from: leaver,
    to: serviceNumber(),
    concat: null,
    encoding: 'ascii',
    octets: Buffer.from('TD'),
  });
  await platform.carrier.start();
  const puller = createPuller(client);
  await puller.waitFor(600);
  await puller.stop();
  const rows = puller.rows.filter((row) => row.msgId === msgId);
  expect(rows.filter(({ mobile, status }) => status !== (mobile === leaver ? 'WL:SHLJ' : 'DELIVRD'))).toEqual([]);
  expect(platform.shown.some(({ to }) => to === leaver)).toBe(false);
  expect(await client.balanceE4()).toBe(before - 599n * 500n);
  await replies(1);
});

it('a reply names the ext and the batch that it answers, also when later batches came from another number', async () => {
  const [mobile = ''] = plainNumbers(1, 13);
  const first = await delivered([mobile], '88');
  const second = await delivered([mobile], '89');
  const third = await delivered([mobile]);
  write(mobile, 'a', serviceNumber('88'));
  write(mobile, 'b', serviceNumber('89'));
  write(mobile, 'c', serviceNumber());
  write(mobile, 'd', serviceNumber('77'));
  const rows = await replies(4);
  const { extension } = customer;
  expect(rows.sort((a, b) => (a.content < b.content ? -1 : 1))).toEqual([
    { content: 'a', mobile, msgId: first, ext: `${extension}88` },
    { content: 'b', mobile, msgId: second, ext: `${extension}89` },
    { content: 'c', mobile, msgId: third, ext: extension },
    { content: 'd', mobile, msgId: '', ext: `${extension}77` },
  ]);
});

it('a reply with a NUL in it, which the database cannot hold, arrives without it and only once', async () => {
  const customer = await platform.customer();
  const client = clientOf(app, customer);
  const refused = platform.carrier.counters.refused;
  platform.carrier.reply({ from: '13900000077', to: platform.accessNumber + customer.extension, content: '好\0的' });
  await until('the reply', async () => (await client.replies()).some(({ content }) => content === '好的'));
  expect(platform.carrier.counters.refused).toBe(refused);
});

it('a reply to an extension that nobody has goes to the unassigned list', async () => {
  const [mobile = ''] = plainNumbers(1, 14);
  write(mobile, '找谁', `${platform.accessNumber}999999`);
  const unassigned = () => platform.management.db.sql<{ content: string }[]>`select content from replies where account_id = 0`;
  await until('it is stored', async () => (await unassigned()).length === 1);
  expect(await unassigned()).toEqual([{ content: '找谁' }]);
  expect(await client.replies()).toEqual([]);
});

const longText = '这是一条很长的回复，'.repeat(20);

it('a long reply over the wire is joined once', async () => {
  const [mobile = ''] = plainNumbers(1, 15);
  write(mobile, longText);
  expect(await replies(1)).toMatchObject([{ mobile, content: longText }]);
  expect(await client.replies()).toEqual([]);
});

/** The segments of a long reply, as connections pass them on. */
function segments(name: string, reference: number) {
  const [from = ''] = plainNumbers(1, 16 + reference);
  const { encoding, parts } = cutText(longText, 8);
  return parts.map((part, index) => {
    const header = concatHeader(8, { reference, total: parts.length, number: index + 1 });
    const { concat, body } = splitHeader(Buffer.concat([header, part]));
    return {
      channelId: platform.channelId,
      carrierId: `${name} ${reference} ${index}`,
      from,
      to: serviceNumber(),
      concat,
      encoding,
      octets: body,
    };
  });
}

const inbound = () => createInbound({ db: platform.management.db, directory: platform.management.directory, clock });

it('a reply that the carrier delivers again is there once', async () => {
  const [from = ''] = plainNumbers(1, 90);
  const part = { channelId: platform.channelId, from, to: serviceNumber(), concat: null, encoding: 'ascii' } as const;
  const once = { ...part, carrierId: 'again', octets: Buffer.from('once') };
  await Promise.all([inbound().receive(once), inbound().receive(once)]);
  await inbound().receive(once);
  expect(await replies(1)).toMatchObject([{ mobile: from, content: 'once' }]);
  expect(await client.replies()).toEqual([]);
});

it('many long replies at once, their segments on several connections, are all joined', async () => {
  const many = Array.from({ length: 30 }, (_, n) => segments('at once', 20 + n));
  await Promise.all(many.flat().map((part) => inbound().receive(part)));
  const rows = await replies(many.length);
  expect(rows.map(({ mobile }) => mobile).sort()).toEqual(many.map(([part]) => part?.from ?? '').sort());
  expect(rows.filter(({ content }) => content !== longText)).toEqual([]);
});

it('segments of a long reply in any order, on several connections at once, and delivered again, make one reply', async () => {
  const [first, second, third, ...rest] = segments('joined', 1);
  if (!first || !second || !third) throw new Error('not long enough');
  expect(rest).toEqual([]);
  await Promise.all([third, first, second].map((part) => inbound().receive(part)));
  await Promise.all([first, third].map((part) => inbound().receive(part)));
  expect(await replies(1)).toMatchObject([{ mobile: first.from, content: longText }]);
  expect(await client.replies()).toEqual([]);
});

it('an incomplete long reply is handed over after its wait, as far as it came', async () => {
  const [first, , third] = segments('incomplete', 2);
  if (!first || !third) throw new Error('not long enough');
  await inbound().receive(third);
  await inbound().receive(first);
  expect(await inbound().giveUpWaiting()).toBe(0);
  expect(await client.replies()).toEqual([]);
  ahead = 11 * 60_000;
  const [row] = await replies(1);
  expect(row?.content.startsWith('这是一条')).toBe(true);
  expect(row?.content.length).toBeLessThan(longText.length);
  ahead = 0;
});
