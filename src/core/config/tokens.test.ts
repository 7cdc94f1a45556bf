import { afterAll, beforeAll, expect, test } from 'vitest';
import { startManagement, type TestManagement } from '../../../test/kit/management.ts';
import { createAccount } from '../catalogue/accounts.ts';
import { change } from './management.ts';
import { createToken, findToken } from './tokens.ts';

let office: TestManagement;
beforeAll(async () => {
  office = await startManagement();
});
afterAll(() => office.stop());

test('a token says who calls, and only its hash is stored', async () => {
  const { account } = await change(office, (sql) => createAccount(sql, office.box, { name: 'one' }));
  const operator = await createToken(office.db.sql, { name: 'console', caller: { role: 'operator' } });
  const customer = await createToken(office.db.sql, { name: 'theirs', caller: { role: 'account', accountId: account.id } });
  expect(await findToken(office.db.sql, operator)).toEqual({ role: 'operator', tokenName: 'console' });
  expect(await findToken(office.db.sql, customer)).toEqual({ role: 'account', accountId: account.id, tokenName: 'theirs' });
  for (const wrong of ['', 'x', `${operator}x`, operator.toUpperCase()]) expect(await findToken(office.db.sql, wrong)).toBeNull();
  const stored = JSON.stringify(await office.db.sql`select hash::text, name from tokens`);
  expect(stored).not.toContain(operator);
});

test('a token of an account that does not exist is not made', async () => {
  await expect(createToken(office.db.sql, { name: 'x', caller: { role: 'account', accountId: 999n } })).rejects.toThrow('no such account');
});
