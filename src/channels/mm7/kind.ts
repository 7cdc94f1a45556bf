/** MM7 as a channel kind: its settings, its connection, and the door that the MMSC posts to. */
import type { ChannelKind } from '../channel.ts';
import { createMm7Connection } from './connection.ts';
import { createMm7Receiver, maxOctets } from './door.ts';
import { mm7Settings } from './settings.ts';

export const mm7Kind: ChannelKind<typeof mm7Settings> = {
  name: 'mm7',
  title: { zh: '彩信 MM7', en: 'Multimedia messages, MM7' },
  settings: mm7Settings,
  secret: { zh: '接口密码', en: 'Password' },
  connect: (settings, secret, deps) => createMm7Connection({ ...settings, secret }, deps),
  door: {
    prefix: '/mm7',
    maxOctets,
    open({ settings, secret, accessNumber }, events) {
      const { allowedAddresses, callbackUsername } = settings;
      if (!allowedAddresses && callbackUsername === undefined) return null;
      return createMm7Receiver({ ...settings, password: secret, accessNumber }, events);
    },
  },
  simulator: async () => (await import('../../../simulators/mm7.ts')).simulatorKind,
};
