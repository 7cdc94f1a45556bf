import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startManagement, type TestManagement } from '../../../test/kit/management.ts';
import { createAccount } from '../catalogue/accounts.ts';
import { change } from '../config/management.ts';
import { createSignature, listSignatures } from './signatures.ts';
import { approveTemplate, createTemplate, getTemplate, listTemplates, rejectTemplate, withdrawTemplate } from './templates.ts';

let office: TestManagement;
let accountId: bigint;
let otherId: bigint;
const page = { limit: 100, cursor: null };
const at = new Date('2026-07-16T09:30:00Z');
const card = { layout: 'notice', title: '账单', rows: [{ label: '金额', value: '${amount}' }] };

beforeAll(async () => {
  office = await startManagement();
  const made = (name: string) => change(office, (sql) => createAccount(sql, office.box, { name }));
  accountId = (await made('one')).account.id;
  otherId = (await made('other')).account.id;
});
afterAll(() => office.stop());

const template = (more: object = {}) => change(office, (sql) => createTemplate(sql, { accountId, name: '账单', card, ...more }));
const approve = (id: bigint) => change(office, (sql) => approveTemplate(sql, office.directory.dialects, id, at));
const reject = (id: bigint, reason: string) => change(office, (sql) => rejectTemplate(sql, office.directory.dialects, id, reason, at));
const withdraw = (id: bigint, account: bigint | null = accountId) => change(office, (sql) => withdrawTemplate(sql, account, id, at));

const sign = (name: string, account = accountId) => change(office, (sql) => createSignature(sql, { accountId: account, name }));

describe('a template', () => {
  test('waits for a decision, with its parameters read from the card', async () => {
    const made = await template();
    expect(made).toMatchObject({ accountId, state: 'pending', parameters: ['amount'], card, linkDays: 30, reason: null, decidedAt: null });
    expect(await getTemplate(office.db.sql, accountId, made.id)).toEqual(made);
  });

  test('with a wrong card is refused, and the message says where', async () => {
    await expect(template({ card: { ...card, title: '' } })).rejects.toThrow(/^card\.title: /);
    await expect(template({ accountId: 999n })).rejects.toThrow('accountId');
  });

  test('once approved stays approved, however often it is said', async () => {
    const { id } = await template();
    const approved = await approve(id);
    expect(approved).toMatchObject({ state: 'approved', decidedAt: at });
    expect(await approve(id)).toEqual(approved);
    await expect(reject(id, '晚了')).rejects.toMatchObject({ code: 'conflict' });
  });

  test('once rejected keeps the first reason and can be neither approved nor withdrawn', async () => {
    const { id } = await template();
    const rejected = await reject(id, '内容不合规');
    expect(rejected).toMatchObject({ state: 'rejected', reason: '内容不合规' });
    expect(await reject(id, '另一个理由')).toEqual(rejected);
    await expect(approve(id)).rejects.toMatchObject({ code: 'conflict' });
    await expect(withdraw(id)).rejects.toMatchObject({ code: 'conflict' });
  });

  test('can be withdrawn while it waits and after it was approved, by its owner or the operator', async () => {
    const [a, b] = [await template(), await template()];
    await approve(b.id);
    expect((await withdraw(a.id)).state).toBe('withdrawn');
    expect((await withdraw(b.id, null)).state).toBe('withdrawn');
    await expect(approve(a.id)).rejects.toMatchObject({ code: 'conflict' });
  });

  test('is decided once when two decide at the same time', async () => {
    const { id } = await template();
    const decisions = await Promise.allSettled([approve(id), reject(id, 'no'), withdraw(id)]);
    const { state } = await getTemplate(office.db.sql, accountId, id);
    const states = decisions.flatMap((decision) => (decision.status === 'fulfilled' ? [decision.value.state] : []));
    expect(states.at(-1) === state || states[0] === state).toBe(true);
    // The only way that two succeed is: approved, then withdrawn.
    expect(states.length === 1 || (states.length === 2 && state === 'withdrawn' && states.includes('approved'))).toBe(true);
  });

  test('of another account is not there', async () => {
    const { id } = await template();
    await expect(getTemplate(office.db.sql, otherId, id)).rejects.toThrow('no such template');
    await expect(withdraw(id, otherId)).rejects.toThrow('no such template');
    expect((await listTemplates(office.db.sql, otherId, { state: null, medium: null }, page)).data).toEqual([]);
  });

  test('is listed newest first, by state if wanted', async () => {
    const { id } = await template();
    const all = (await listTemplates(office.db.sql, accountId, { state: null, medium: null }, page)).data;
    expect(all[0]?.id).toBe(id);
    const pending = (await listTemplates(office.db.sql, null, { state: 'pending', medium: null }, page)).data;
    expect(pending.every(({ state }) => state === 'pending')).toBe(true);
    expect(pending.map((one) => one.id)).toContain(id);
  });
});

describe('a signature', () => {
  test('belongs to its account, once, written with or without brackets', async () => {
    const made = await sign('【鸿雁】');
    expect(made.name).toBe('鸿雁');
    expect(office.directory.signature(accountId, '鸿雁')).toEqual({ id: made.id, registrations: {} });
    expect(office.directory.signature(otherId, '鸿雁')).toBeUndefined();
    await expect(sign('鸿雁')).rejects.toMatchObject({ code: 'conflict' });
    expect((await sign('鸿雁', otherId)).name).toBe('鸿雁');
    expect((await listSignatures(office.db.sql, accountId, page)).data).toEqual([made]);
  });

  test('has 2 to 20 characters and no brackets within', async () => {
    for (const name of ['鸿', '长'.repeat(21), '鸿】【雁', ' 【】 '])
      await expect(sign(name), name).rejects.toMatchObject({ code: 'invalid' });
  });
});
