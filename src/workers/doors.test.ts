import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startManagement, type TestManagement } from '../../test/kit/management.ts';
import { channelKinds } from '../channels/kinds.ts';
import { createDoors } from './doors.ts';

let management: TestManagement;
beforeAll(async () => {
  management = await startManagement();
});
afterAll(() => management.stop());

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
