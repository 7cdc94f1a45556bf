/**
 * Ported numbers. With a file, messages go to the carrier that it names. Without one, a carrier that says a number is not its own gets no
 * more messages to it, from any node.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createIsmg, type Ismg } from '../../simulators/cmpp.ts';
import type { App } from '../../src/app.ts';
import { changeChannel, createChannel } from '../../src/core/catalogue/channels.ts';
import { changePool } from '../../src/core/catalogue/pools.ts';
import { change } from '../../src/core/config/management.ts';
import { importPorted } from '../../src/core/numbers/portability.ts';
import { clientOf, type Platform, plainNumbers, startPlatform, until } from '../kit/platform.ts';

let platform: Platform;
let unicom: Ismg;
const atUnicom: string[] = [];
let apps: App[];

beforeAll(async () => {
  platform = await startPlatform();
  const { management, channelId } = platform;
  unicom = createIsmg({ accounts: [{ spId: '905678', secret: 'unicom', accessNumbers: ['10690002'] }], reportDelayMs: 50, window: 500 });
  unicom.onMessage(({ to }) => atUnicom.push(to));
  await unicom.start();
  await change(management, async (sql) => {
    await changeChannel(sql, management, channelId, { carriers: ['mobile'] });
    const { id } = await createChannel(sql, management, {
      name: 'unicom',
      protocol: 'cmpp',
      carriers: ['unicom'],
      accessNumber: '10690002',
      secret: 'unicom',
      settings: { host: '127.0.0.1', port: unicom.port, spId: '905678', serviceId: 'STORY', ratePerSecond: 1000 },
    });
    const channels = [channelId, id].map((one) => ({ channelId: one, priority: 1, weight: 1 }));
    await changePool(sql, 1n, { channels });
  });
  apps = [await platform.startApp(), await platform.startApp({ roles: ['api'] })];
});

afterAll(async () => {
  expect(await platform.audit()).toEqual([]);
  await platform.stop();
  await unicom.stop();
});

it('a ported number is sent to through the carrier that has it now', async () => {
  const [app] = apps;
  if (!app) throw new Error('no node');
  const client = clientOf(app, await platform.customer());
  const [stayed = '', ported = ''] = plainNumbers(2, 1);
  async function* file() {
    yield Buffer.from(`${ported},unicom\n`);
  }
  await importPorted(platform.management.db, file(), { replace: false, at: new Date() });
  await until('the nodes know', async () => apps.every(({ management }) => management.directory.hasPortedNumbers()));
  expect((await client.submit([stayed, ported])).code).toBe(0);
  await until(
    'both have arrived',
    async () => platform.shown.some(({ to }) => to.endsWith(stayed)) && atUnicom.some((to) => to.endsWith(ported)),
  );
  expect(platform.shown.some(({ to }) => to.endsWith(ported))).toBe(false);
});

it('what a gateway does not serve goes to another carrier the next time, whichever node takes it', async () => {
  const customer = await platform.customer();
  const [one, two] = apps.map((app) => clientOf(app, customer));
  const [number = ''] = plainNumbers(1, 2);
  platform.carrier.faults = { rejectShare: 1, rejectCode: 9 };
  expect((await one?.submit([number]))?.code).toBe(0);
  const statuses: string[] = [];
  await until('it was refused', async () => {
    statuses.push(...((await one?.reports()) ?? []).map(({ status }) => status));
    return statuses.length > 0;
  });
  expect(statuses).toEqual(['ER:0009']);
  await until('the nodes know', async () => apps.every(({ management }) => management.directory.hasPortedNumbers()));
  expect((await two?.submit([number]))?.code).toBe(0);
  await until('it has arrived', async () => atUnicom.some((to) => to.endsWith(number)));
});
