/** Channels to carriers, their settings, and how they fare. */
import { Type } from 'typebox';
import { configId, digits, name, named, nullable, optional, strict, time } from './bricks.ts';
import { provinces } from './provinces.ts';

const protocol = Type.String({ maxLength: 20, description: 'The name of one of GET /v1/channel-kinds.' });
const carriers = Type.Array(Type.Enum(['mobile', 'unicom', 'telecom', 'broadcast', 'international']), { minItems: 1, maxItems: 5 });
const channelSettings = {
  name,
  carriers,
  accessNumber: digits(20),
  settings: Type.Record(Type.String(), Type.Unknown(), { description: 'Of its protocol: what GET /v1/channel-kinds says of it.' }),
};
const channelSwitches = {
  enabled: Type.Boolean(),
  connections: Type.Integer({ minimum: 1, maximum: 64 }),
  provinces: nullable(
    Type.Array(Type.Enum([...provinces]), { minItems: 1, maxItems: provinces.length, description: 'As 广东; null: all of them.' }),
  ),
  forcedHealth: nullable(Type.Enum(['healthy', 'unhealthy'], { description: 'What it counts as, whatever it does.' })),
};
const seconds = (most: number, description: string) => Type.Integer({ minimum: 1, maximum: most, description });
const percent = (description: string) => Type.Integer({ minimum: 0, maximum: 100, description });
const healthRules = {
  sessionSeconds: seconds(86_400, 'Without a session, on any node, for so long it is unhealthy.'),
  outcomes: Type.Integer({ minimum: 1, maximum: 10_000, description: 'The last so many outcomes are judged.' }),
  leastOutcomes: Type.Integer({ minimum: 1, maximum: 10_000, description: 'Of fewer nothing is concluded.' }),
  failurePercent: percent('If more of them than this are the channel’s own failures, it is unhealthy; 100: never.'),
  deliveredPercent: percent('If fewer of the last hour’s reports than this tell of success, it is unhealthy; 0: never.'),
  leastReports: Type.Integer({ minimum: 1, maximum: 1_000_000, description: 'Of fewer nothing is concluded.' }),
  steadySeconds: seconds(3600, 'A session that came back must stand for so long.'),
  pauseSeconds: seconds(86_400, 'The pause before it is tried with messages, doubled as often as that fails in a row.'),
  longestPauseSeconds: seconds(86_400, 'What the pause is doubled up to.'),
  probeMessages: Type.Integer({ minimum: 1, maximum: 1000, description: 'With how many messages it is tried.' }),
};
const secret = Type.String({ minLength: 1, maxLength: 100, description: 'The password of the login; never shown.' });
export const channelSchema = named('Channel', {
  id: configId,
  protocol,
  ...channelSettings,
  ...channelSwitches,
  health: Type.Enum(['healthy', 'unhealthy', 'probing'], { description: 'Probing: it was unhealthy, and is tried with a few messages.' }),
  healthReason: Type.String({ description: 'Why it is not healthy; empty if it is.' }),
  healthAt: time,
  healthBy: nullable(Type.String({ description: 'The node that found it so, or `operator`; null if it has always been healthy.' })),
  healthProbeAt: nullable(time),
  healthRules: Type.Object(healthRules),
  createdAt: time,
  states: Type.Array(
    Type.Object({
      connection: Type.Integer(),
      state: Type.String(),
      reason: Type.String(),
      since: time,
      node: nullable(Type.String({ description: 'The node that works it; null while none does.' })),
    }),
  ),
  queue: Type.Object(
    { chunks: Type.Integer(), messages: Type.Integer() },
    { description: 'Waiting or being sent; messages leave the count with the last of their chunk.' },
  ),
});
/** Replaced as a whole: what is left out has its default. */
const rulesToSet = { healthRules: Type.Optional(strict(optional(healthRules))) };
export const newChannel = strict({ protocol, ...channelSettings, secret, ...optional(channelSwitches), ...rulesToSet });
export const channelChange = strict({ ...optional({ ...channelSettings, secret, ...channelSwitches }), ...rulesToSet });
