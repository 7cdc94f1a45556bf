import { afterAll, beforeAll, expect, it } from 'vitest';
import { clientOf, numberOf, type Platform, startPlatform } from '../../../test/kit/platform.ts';
import { dispatchBodies } from '../queue/batches.ts';
import { balanceOf } from '../money/ledger.ts';
import { type Outcome, record } from './messages.ts';
import { chunkIdOf, messageIdOf } from '../model/ids.ts';
import { messageStatus } from '../model/statuses.ts';

let platform: Platform;

beforeAll(async () => {
  platform = await startPlatform();
});

afterAll(() => platform.stop());

it('outcomes recorded again after an unknown commit move no money twice, also when only some of them come again', async () => {
  const { db, directory } = platform.management;
  const customer = await platform.customer({ balanceE4: 10_000n, priceE4: 100n });
  const { accountId, subscriptionId } = customer;
  const app = await platform.startApp({ roles: ['api'] });
  const client = clientOf(app, customer);
  const { msgId } = await client.submit([0, 1, 2, 3].map((n) => numberOf('0007', n)));
  const chunkId = chunkIdOf(BigInt(msgId), 0);
  const [body] = await dispatchBodies(db.sql, accountId, [chunkId]);
  if (!body) throw new Error('no chunk');
  const outcomes = body.phones.map(
    (phone, index): Outcome => ({
      id: messageIdOf(chunkId, index),
      common: body,
      phone,
      form: null,
      channelId: platform.channelId,
      carrierId: null,
      status: messageStatus.rejected,
      code: 'ER:0013',
      paid: false,
      parts: [],
    }),
  );
  const at = new Date();
  const recordAgain = (some: readonly Outcome[], again: boolean) => db.transaction((sql) => record(sql, directory, some, at, again));
  await recordAgain(outcomes.slice(0, 3), false);
  expect(await balanceOf(db.sql, accountId, subscriptionId)).toBe(9900n);
  // The lease of the connection that heard the first of them is gone meanwhile; one more has been heard.
  await recordAgain(outcomes.slice(1), true);
  expect(await balanceOf(db.sql, accountId, subscriptionId)).toBe(10_000n);
  await recordAgain(outcomes, true);
  expect(await balanceOf(db.sql, accountId, subscriptionId)).toBe(10_000n);
  expect((await client.reports()).length).toBe(4);
  // The queue knows nothing of this test's outcomes.
  await db.sql`delete from dispatch_queue where chunk_id = ${chunkId}`;
  expect(await platform.audit()).toEqual([]);
});
