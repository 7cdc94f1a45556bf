import { pino } from 'pino';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Platform, startAimPlatform } from '../../../test/kit/aim-platform.ts';
import { until } from '../../../test/kit/platform.ts';
import { audit } from '../../core/watch/audit.ts';
import { chunkIdOf, messageIdOf } from '../../core/model/ids.ts';
import { createRetention } from '../../core/watch/retention.ts';
import { createSignals } from '../../core/config/signals.ts';
import { dialects } from '../../http/dialects/registry.ts';
import { shanghaiDay } from '../../std/shanghai.ts';
import { createJanitor } from './janitor.ts';

let platform: Platform;

beforeAll(async () => {
  platform = await startAimPlatform();
});
afterAll(() => platform.stop());

const hour = 3600_000;

it('a message is expired when its time has come, though its day was looked at before and was sent from for days', async () => {
  const { db, directory } = platform.app.management;
  const start = platform.clock();
  const day = shanghaiDay(start);
  const at = (hours: number): Date => new Date(start.getTime() + hours * hour);
  let now = start;
  const clock = (): Date => now;
  const janitor = createJanitor({
    db,
    directory,
    retention: createRetention({ db, dialects, clock }),
    signals: createSignals({ db }),
    log: pino({ level: 'silent' }),
    clock,
  });
  const { json } = await platform.aim('send-aim', {
    template_id: '101',
    mobiles: '["13811110001","13811110002","13811110003"]',
    content: '【鸿雁】您有一张优惠券 $url$',
  });
  const chunkId = chunkIdOf(BigInt(String(json['msg_id'])), 0);
  const send = (index: number, sentAt: Date) => db.sql`
    insert into messages (id, account_id, day, subscription_id, phone, channel_id, carrier_id, segments, status, price_e4, paid, sent_at)
    values (${messageIdOf(chunkId, index)}, 1, ${day}, 500001, ${8613811110001n + BigInt(index)}, 1, ${String(index)}, 1, 1, 500, false, ${sentAt})`;
  const expired = async (hours: number): Promise<number> => {
    now = at(hours);
    return janitor.expireOverdue();
  };

  expect(await expired(0)).toBe(0);
  await send(0, at(1));
  await send(1, at(20));
  expect(await expired(72)).toBe(0);
  expect(await expired(73.1)).toBe(1);
  // Its carrier was away for three days.
  await send(2, at(72.9));
  await db.sql`delete from dispatch_queue`;
  expect(await expired(91)).toBe(0);
  expect(await expired(92.1)).toBe(1);
  expect(await expired(144)).toBe(0);
  expect(await expired(145)).toBe(1);
  expect(await expired(300)).toBe(0);
  expect(await audit(db)).toEqual([]);
});

it('a janitor looks for what is overdue soon after its start, so that nodes that never live long get it done', async () => {
  const { db, directory } = platform.app.management;
  const { json } = await platform.aim('send-aim', {
    template_id: '101',
    mobiles: '["13811110009"]',
    content: '【鸿雁】您有一张优惠券 $url$',
  });
  const id = messageIdOf(chunkIdOf(BigInt(String(json['msg_id'])), 0), 0);
  await db.sql`delete from dispatch_queue`;
  await db.sql`
    insert into messages (id, account_id, day, subscription_id, phone, channel_id, carrier_id, segments, status, price_e4, paid, sent_at)
    values (${id}, 1, ${shanghaiDay(platform.clock())}, 500001, 8613811110009, 1, '9', 1, 1, 500, false, ${platform.clock()})`;
  const clock = (): Date => new Date(platform.clock().getTime() + 100 * hour);
  const retention = createRetention({ db, dialects, clock });
  const janitor = createJanitor({ db, directory, retention, signals: createSignals({ db }), log: pino({ level: 'silent' }), clock });
  janitor.start();
  await until(
    'it has expired',
    async () => (await db.sql`select 1 from messages where id = ${id} and code = 'EXPIRED'`).length === 1,
    20_000,
  );
  await janitor.stop();
});

it('a janitor that stops leaves a task after the portion it is at, and another one does the rest', async () => {
  const { db, directory } = platform.app.management;
  const { json } = await platform.aim('send-aim', {
    template_id: '101',
    mobiles: '["13811110010"]',
    content: '【鸿雁】您有一张优惠券 $url$',
  });
  await db.sql`delete from dispatch_queue`;
  await db.sql`
    insert into messages (id, account_id, day, subscription_id, phone, channel_id, carrier_id, segments, status, price_e4, paid, sent_at)
    values (${messageIdOf(chunkIdOf(BigInt(String(json['msg_id'])), 0), 0)}, 1, ${shanghaiDay(platform.clock())}, 500001, 8613811110010, 1,
            '10', 1, 1, 500, false, ${platform.clock()})`;
  const clock = (): Date => new Date(platform.clock().getTime() + 100 * hour);
  const another = () =>
    createJanitor({
      db,
      directory,
      retention: createRetention({ db, dialects, clock }),
      signals: createSignals({ db }),
      log: pino({ level: 'silent' }),
      clock,
    });
  const janitor = another();
  const ended = janitor.expireOverdue();
  await janitor.stop();
  expect(await ended).toBe(0); // it has looked at the first of several days only
  expect(await another().expireOverdue()).toBe(1);
});
