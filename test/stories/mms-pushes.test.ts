/** The schedule of MMS pushes when the process that pushes is killed: in the middle of a try, and between tries. */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { change } from '../../src/core/config/management.ts';
import { changeSettings } from '../../src/core/config/settings.ts';
import { startMmsPlatform, startPushServer } from '../kit/mms-platform.ts';
import { startNode, until } from '../kit/platform.ts';

it('killed in the middle of a try and between tries, an event is pushed three times, on schedule, and no more; others arrive once', async () => {
  const platform = await startMmsPlatform({ roles: ['api'] });
  const server = await startPushServer();
  const pusher = () =>
    startNode({
      HONGYAN_DATABASE_URL: platform.databaseUrl,
      HONGYAN_SECRET_KEY: platform.secretKeys,
      HONGYAN_ROLES: 'push',
      HONGYAN_PUSH_ALLOW: '127.0.0.0/8',
    });
  const { db } = platform.app.management;
  await change(platform.app.management, (sql) => changeSettings(sql, { pushDelaysSeconds: [2, 2] }));
  /** To numbers that are intercepted, so that their reports are due at once; one that is not makes the batch acceptable. */
  const send = async (intercepted: readonly string[]) => {
    const { json } = await platform.mms('batchSend', {
      product_id: 1018,
      phone: ['13800000005', ...intercepted],
      sign_name: '鸿雁',
      title: '标题',
      content: [[{ con_type: 'text', ext_type: 'txt', data: '你好' }]],
    });
    expect(json).toMatchObject({ code: 'OK' });
  };
  const at = (path: string) => server.received.filter((one) => one.path === path);

  await platform.pushTo({ report: `${server.url}/hang` });
  await send(['13800000021']);
  let node = await pusher();
  await until('the first try is under way', () => at('/hang').length === 1);
  await node.kill();
  // Its claim runs out; the try counts.
  await db.sql`update parcels set lease_until = now() - interval '1 second' where route = 2`;
  await platform.pushTo({ report: `${server.url}/no` });
  node = await pusher();
  await until('the second try', () => at('/no').length === 1);
  await until('it is recorded', async () => (await db.sql`select 1 from pushes where answer = 'no'`).length === 1);
  await node.kill();
  node = await pusher();
  await until('the third try', () => at('/no').length === 2);
  const [second, third] = at('/no').map(({ at }) => at);
  expect((third ?? 0) - (second ?? 0)).toBeGreaterThanOrEqual(2000);
  await until('it has failed', async () => (await db.sql`select 1 from parcels where route = 3`).length === 1);
  await sleep(3000);
  expect(at('/hang').length + at('/no').length).toBe(3);

  // What is pushed while nodes are killed arrives; a second time only what was under way.
  await platform.pushTo({ report: `${server.url}/success` });
  await send(Array.from({ length: 2000 }, (_, n) => `1${n}`));
  await until('some have arrived', () => at('/success').length > 300);
  await node.kill();
  await db.sql`update parcels set lease_until = now() - interval '1 second' where route = 2`;
  node = await pusher();
  await until('all have arrived', async () => (await db.sql`select 1 from parcels where route <> 3`).length === 0, 30_000);
  const phones = at('/success').map(({ body }) => String(body['phone']));
  expect(new Set(phones).size).toBe(2000);
  expect(phones.length - 2000).toBeLessThanOrEqual(256);
  await node.stop();
  await platform.stop();
  server.close();
}, 120_000);
