/**
 * The magic numbers of the sandbox do what their table says: every row is sent through the HTTP API of a sandbox, in both dialects, and
 * ends as promised. The READMEs show the same table.
 */
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { callMms, type Client, clientOf } from '../test/kit/customers.ts';
import { codes } from '../src/core/watch/codes.ts';
import { packageRoot } from '../src/std/package-root.ts';
import { type PushServer, startPushServer } from '../test/kit/mms-platform.ts';
import { expireOverdue, until } from '../test/kit/platform.ts';
import { startTestSandbox, type TestSandbox } from '../test/kit/sandbox.ts';
import {
  type Dialect,
  type Language,
  magicRows,
  magicTable,
  mmsProductOf,
  outcomes,
  outcomeTable,
  plainNumber,
  spIdOf,
  templateText,
  type Trial,
} from './magic.ts';

let sandbox: TestSandbox;
let customer: PushServer;
const toClose: (() => void | Promise<void>)[] = [];

async function operate(method: string, route: string, body?: object): Promise<unknown> {
  const headers = { authorization: 'Bearer sandbox-operator-token', ...(body && { 'content-type': 'application/json' }) };
  const init = { method, headers, ...(body && { body: JSON.stringify(body) }) };
  const response = await fetch(`${sandbox.base}/v1/${route}`, init);
  const text = await response.text();
  expect([response.ok, text], route).toEqual([true, text]);
  return text === '' ? null : JSON.parse(text);
}

beforeAll(async () => {
  sandbox = await startTestSandbox({ pushAllow: ['127.0.0.0/8'] });
  toClose.push(sandbox.stop);
  customer = await startPushServer();
  toClose.push(customer.close);
  const pushUrls = { report: `${customer.url}/success`, reply: `${customer.url}/success` };
  for (const account of [1, 5]) await operate('PATCH', `accounts/${account}`, { pushUrls });
}, 60_000);

afterAll(async () => {
  for (const close of toClose.toReversed()) await close();
});

// ── a client of each dialect ─────────────────────────────────────────────────────────────────────────────────────────────────────

const pulled = new Map<string, string>();

const aimClient = (spId: bigint): Client => clientOf(sandbox, { spId: String(spId), password: 'demo-aim-password', templateId: 101 });

/** Sends the message of a trial to these numbers, and returns the batch. */
async function send(dialect: Dialect, numbers: readonly string[], { policy, signature = '鸿雁', word = '' }: Trial, sendTime = '') {
  if (dialect === 'aim') {
    const content = `${signature === null ? '' : `【${signature}】`}您好${word} $url$`;
    const { code, msg, msgId } = await aimClient(spIdOf(policy)).submit(numbers, { content });
    expect([code, msg]).toEqual([0, 'success']);
    return msgId;
  }
  const { task_id: batch } = await callMms(
    sandbox,
    { apiId: policy === undefined ? 'mms-demo' : 'mms-rules', apiKey: 'demo-mms-key' },
    'batchSend',
    {
      product_id: Number(mmsProductOf(policy)),
      phone: numbers,
      sign_name: signature,
      title: '沙箱',
      content: [[{ con_type: 'text', ext_type: 'txt', data: `您好${word}` }]],
      send_time: sendTime,
    },
  );
  return String(batch);
}

/** Waits for the status of a message that the customer gets. */
async function statusOf(dialect: Dialect, batch: string, number: string, { policy }: Trial): Promise<string> {
  let status: string | undefined;
  await until(`${number} of ${batch} is reported`, async () => {
    if (dialect === 'mms') {
      const found = customer.received.find(({ body }) => body['task_id'] === batch && body['phone'] === number && 'report_time' in body);
      status = found?.body['code'] as string | undefined;
      return found !== undefined;
    }
    for (const row of await aimClient(spIdOf(policy)).reports()) pulled.set(`${row.msgId} ${row.mobile}`, row.status);
    status = pulled.get(`${batch} ${number}`);
    return status !== undefined;
  });
  return status ?? '';
}

const tomorrow = (): string => new Date(Date.now() + (8 + 24) * 3600_000).toISOString().slice(0, 19).replace('T', ' ');

/** Does what a row of the table says; `decision` is the operator's decision about a batch in review. */
async function tryOut(dialect: Dialect, trial: Trial, decision: 'approve' | 'reject'): Promise<string> {
  const { to = plainNumber, second, ending, faults } = trial;
  if (faults !== undefined) await putFaults(faults);
  const numbers = second === 'number' ? ['13700000099', to] : [to];
  if (second === 'time') await send(dialect, numbers, trial);
  const batch = await send(dialect, numbers, trial, ending === 'cancelled' ? tomorrow() : '');
  if (ending === 'cancelled') await operate('POST', `batches/${batch}/cancel`);
  if (ending === 'rejected')
    await operate('POST', `reviews/${batch}/${decision}`, decision === 'reject' ? { reason: '试一试' } : undefined);
  const status = await statusOf(dialect, batch, to, trial);
  if (faults !== undefined) await putFaults('{}');
  return status;
}

async function putFaults(body: string): Promise<void> {
  const headers = { 'content-type': 'application/json' };
  const { ok } = await fetch(`${sandbox.base}/sandbox/v1/faults`, { method: 'PUT', headers, body });
  expect(ok).toBe(true);
}

// ── the rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const dialects: readonly Dialect[] = ['aim', 'mms'];
const trials = magicRows.flatMap((row) => dialects.flatMap((dialect) => (row[dialect] ? [{ ...row, dialect, trial: row[dialect] }] : [])));
const deliveredAs = { aim: 'DELIVRD', mms: 'DELIVERED' };

it.each(trials)('$status in $dialect', async ({ status, dialect, trial }) => {
  expect(await tryOut(dialect, trial, 'reject')).toBe(status);
});

it.each(trials.filter(({ trial }) => trial.ending === 'rejected'))(
  'what $status holds in $dialect is delivered if approved',
  async (row) => {
    expect(await tryOut(row.dialect, row.trial, 'approve')).toBe(deliveredAs[row.dialect]);
  },
);

it.each(trials.filter(({ status }) => ['WL:ZJLJ', 'WL:NMLJ', 'WL:NMSH'].includes(status)))(
  'a text of the template is delivered where $status stops others in $dialect',
  async ({ dialect, trial: { policy } }) => {
    const trial: Trial = { word: templateText, ...(policy !== undefined && { policy }) };
    expect(await tryOut(dialect, trial, 'reject')).toBe(deliveredAs[dialect]);
  },
);

it.each(dialects)(
  'by the end of a number, in %s',
  async (dialect) => {
    const numberOf = (digits: string): string => `1350001${digits === 'other' ? '9999' : digits}`;
    const batch = await send(
      dialect,
      outcomes.map(({ digits }) => numberOf(digits)),
      {},
    );
    const reported = outcomes.filter(({ digits }) => digits !== '0007');
    const told = reported.map(({ digits }) => statusOf(dialect, batch, numberOf(digits), {}));
    expect(await Promise.all(told)).toEqual(reported.map((outcome) => outcome[dialect]));
    await expireOverdue(sandbox.app.management, new Date(Date.now() + 73 * 3600_000));
    // Its report is due in 73 hours.
    const { data } = (await operate('GET', `messages?accountId=1&phone=${numberOf('0007')}`)) as {
      data: { batchId: string; code: string }[];
    };
    const expected = outcomes.find(({ digits }) => digits === '0007')?.[dialect];
    expect(data.find(({ batchId }) => batchId === batch)?.code).toBe(expected);

    const answers = outcomes.flatMap(({ digits, reply }) => (reply === null ? [] : [[numberOf(digits), reply] as const]));
    const replies = new Map<unknown, unknown>();
    await until('every reply has come', async () => {
      if (dialect === 'aim') for (const { mobile, content } of await aimClient(500_001n).replies()) replies.set(mobile, content);
      else for (const { body } of customer.received) if ('receive_time' in body) replies.set(body['phone'], body['content']);
      return replies.size >= answers.length;
    });
    expect(replies).toEqual(new Map(answers));
    const next = await send(dialect, [numberOf('0011')], {});
    expect(await statusOf(dialect, next, numberOf('0011'), {}), 'after TD').toBe('WL:SHLJ');
  },
  60_000,
);

it('the table has every status of screening', () => {
  const screened = codes.flatMap(({ code, rule }) => (rule === null ? [] : [code]));
  expect(screened.filter((code) => !magicRows.some(({ status }) => status === code))).toEqual([]);
});

describe('the READMEs show the tables (vitest -u writes them)', () => {
  it.each<[string, Language]>([
    ['README.md', 'en'],
    ['README.zh-CN.md', 'zh'],
  ])('%s', async (file, language) => {
    let text = fs.readFileSync(path.join(packageRoot(), file), 'utf8');
    for (const [name, table] of Object.entries({ outcomes: outcomeTable(language), statuses: magicTable(language) })) {
      const place = new RegExp(`(<!-- ${name}: made from sandbox/magic\\.ts -->\n)[^]*?(<!-- end -->)`);
      expect(place.test(text), name).toBe(true);
      text = text.replace(place, (_, before: string, after: string) => `${before}\n${table}\n\n${after}`);
    }
    await expect(text).toMatchFileSnapshot(path.join(packageRoot(), file));
  });
});
