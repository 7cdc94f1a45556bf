import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startManagement, type TestManagement } from '../../test/kit/management.ts';
import { channelKinds } from '../channels/kinds.ts';
import { createChannel } from '../core/catalogue/channels.ts';
import { change } from '../core/config/management.ts';
import { basicAuthorization } from '../protocols/mm7/digest.ts';
import { createDoors } from './doors.ts';

let management: TestManagement;
beforeAll(async () => {
  management = await startManagement();
});
afterAll(() => management.stop());

it('a door is of one protocol, shut while nobody may post, and speaks the release that its channel is set to', async () => {
  const nobody = () => {
    throw new Error('nothing may come through');
  };
  const receiver = { onReport: nobody, onInbound: nobody, onReadReply: nobody };
  const doors = createDoors({ kinds: Object.values(channelKinds), directory: management.directory, receiver });
  expect(doors.map(({ prefix }) => prefix)).toEqual(['/mm7']);
  const common = { name: 'a channel', carriers: ['mobile'], accessNumber: '10690001', secret: 'mmsc-secret' } as const;
  const mm7 = { url: 'http://127.0.0.1:1/mm7', vaspId: '1', vasId: '1', ratePerSecond: 1, version: '5.3.0' };
  const cmpp = { host: '127.0.0.1', port: 1, spId: '901234', serviceId: 'HY', ratePerSecond: 1 };
  const [shut, opened, other] = await change(management, async (sql) => [
    await createChannel(sql, management, { ...common, protocol: 'mm7', settings: mm7 }),
    await createChannel(sql, management, { ...common, protocol: 'mm7', settings: { ...mm7, callbackUsername: 'mmsc' } }),
    await createChannel(sql, management, { ...common, protocol: 'cmpp', settings: cmpp }),
  ]);
  const authorization = basicAuthorization('mmsc', 'mmsc-secret');
  const post = { contentType: 'text/xml', authorization, remoteAddress: '127.0.0.1', body: Buffer.from('<a/>') };
  const answers = await Promise.all([shut, opened, other].map(async (channel) => doors[0]?.receive(channel?.id ?? 0n, post)));
  expect(answers).toEqual([null, { status: 400, contentType: expect.any(String), headers: {}, body: expect.any(String) }, null]);
  expect(answers[1]?.body).toContain('MM7Version>5.3.0<');
});

it('channels that there are not are not remembered, however many are posted to', async () => {
  const nobody = () => {
    throw new Error('nothing may come through');
  };
  const receiver = { onReport: nobody, onInbound: nobody, onReadReply: nobody };
  const [door] = createDoors({ kinds: [channelKinds.mm7], directory: management.directory, receiver });
  if (!door) throw new Error('there is a door');
  const post = { contentType: 'text/xml', authorization: undefined, remoteAddress: '127.0.0.1', body: Buffer.alloc(0) };
  setFlagsFromString('--expose-gc');
  const collect: () => void = runInNewContext('gc');
  collect();
  const before = process.memoryUsage().heapUsed;
  for (let id = 0n; id < 200_000n; id++) if (await door.receive(id, post)) nobody();
  collect();
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(4 << 20);
});
