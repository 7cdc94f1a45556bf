/** Channels to carriers, with their settings and their state. */
import { Type } from 'typebox';
import { configId, digits, name, named, nullable, optional, strict, time } from './bricks.ts';
import { provinces } from './provinces.ts';

const protocol = Type.String({ maxLength: 20, description: 'A `name` from GET /v1/channel-kinds.' });
const carriers = Type.Array(Type.Enum(['mobile', 'unicom', 'telecom', 'broadcast', 'international']), { minItems: 1, maxItems: 5 });
const channelSettings = {
  name,
  carriers,
  accessNumber: digits(20),
  settings: Type.Record(Type.String(), Type.Unknown(), {
    description: 'The settings of its protocol; GET /v1/channel-kinds describes them.',
  }),
};
const channelSwitches = {
  enabled: Type.Boolean(),
  connections: Type.Integer({ minimum: 1, maximum: 64 }),
  provinces: nullable(
    Type.Array(Type.Enum([...provinces]), {
      minItems: 1,
      maxItems: provinces.length,
      description: 'For example 广东; null: all provinces.',
    }),
  ),
  forcedHealth: nullable(Type.Enum(['healthy', 'unhealthy'], { description: 'Overrides the health that is measured.' })),
};
const seconds = (most: number, description: string) => Type.Integer({ minimum: 1, maximum: most, description });
const percent = (description: string) => Type.Integer({ minimum: 0, maximum: 100, description });
const healthRules = {
  sessionSeconds: seconds(86_400, 'The channel is unhealthy after this time without a session on any node.'),
  outcomes: Type.Integer({ minimum: 1, maximum: 10_000, description: 'How many of the last outcomes are judged.' }),
  leastOutcomes: Type.Integer({ minimum: 1, maximum: 10_000, description: 'With fewer outcomes, nothing is concluded.' }),
  failurePercent: percent('The channel is unhealthy if more of them are its own failures; 100: never.'),
  deliveredPercent: percent('The channel is unhealthy if fewer of the last hour’s reports report delivery; 0: never.'),
  leastReports: Type.Integer({ minimum: 1, maximum: 1_000_000, description: 'With fewer reports, nothing is concluded.' }),
  steadySeconds: seconds(3600, 'How long a restored session must last.'),
  pauseSeconds: seconds(86_400, 'The pause before a probe; it doubles with each probe in a row that fails.'),
  longestPauseSeconds: seconds(86_400, 'The longest pause between probes.'),
  probeMessages: Type.Integer({ minimum: 1, maximum: 1000, description: 'How many messages a probe sends.' }),
};
const secret = Type.String({ minLength: 1, maxLength: 100, description: 'The password of the login; never shown.' });
export const channelSchema = named('Channel', {
  id: configId,
  protocol,
  ...channelSettings,
  ...channelSwitches,
  health: Type.Enum(['healthy', 'unhealthy', 'probing'], {
    description: 'probing: it was unhealthy and is being tried with a few messages.',
  }),
  healthReason: Type.String({ description: 'Why it is not healthy; empty if it is.' }),
  healthAt: time,
  healthBy: nullable(Type.String({ description: 'The node that set this health, or `operator`; null if it has always been healthy.' })),
  healthProbeAt: nullable(time),
  healthRules: Type.Object(healthRules),
  createdAt: time,
  states: Type.Array(
    Type.Object({
      connection: Type.Integer(),
      state: Type.String(),
      reason: Type.String(),
      since: time,
      node: nullable(Type.String({ description: 'The node that leases it; null if none does.' })),
    }),
  ),
  queue: Type.Object(
    { chunks: Type.Integer(), messages: Type.Integer() },
    { description: 'Messages that wait or are being sent; a chunk leaves the count as a whole, after its last message.' },
  ),
});
/** Replaced as a whole: a setting that is left out gets its default. */
const rulesToSet = { healthRules: Type.Optional(strict(optional(healthRules))) };
export const newChannel = strict({ protocol, ...channelSettings, secret, ...optional(channelSwitches), ...rulesToSet });
export const channelChange = strict({ ...optional({ ...channelSettings, secret, ...channelSwitches }), ...rulesToSet });
