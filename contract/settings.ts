/** The settings of the whole platform. */
import { Type } from 'typebox';
import { named, nullable, strict } from './bricks.ts';

const keptDays = (description: string) => Type.Integer({ minimum: 1, maximum: 3650, description });
const platformSettings = {
  optOutWords: Type.Array(Type.String({ minLength: 1, maxLength: 20 }), {
    maxItems: 100,
    description: 'Whole texts by which a person wants no more; compared trimmed, without case, full-width letters folded.',
  }),
  reportWithinHours: Type.Integer({ minimum: 1, maximum: 72, description: 'A message without a report for so long has expired.' }),
  replyWithinDays: Type.Integer({ minimum: 1, maximum: 30, description: 'How far back the message that a reply answers is looked for.' }),
  rowsPerPull: Type.Integer({ minimum: 1, maximum: 10_000 }),
  rowsPerPush: Type.Integer({ minimum: 1, maximum: 5000 }),
  failuresPerMinute: Type.Integer({
    minimum: 1,
    maximum: 10_000,
    description: 'Failed credentials, for each address and sp_id or api_id.',
  }),
  addressFailuresPerMinute: Type.Integer({
    minimum: 1,
    maximum: 1_000_000,
    description: 'Failed credentials of an address, whatever it tries; then nothing of it is listened to for the rest of the minute.',
  }),
  pushDelaysSeconds: Type.Array(Type.Number({ minimum: 0.01, maximum: 86_400 }), {
    maxItems: 10,
    description: 'Pauses before an MMS push that was not taken comes again; when they are used up it has failed.',
  }),
  pushConcurrency: Type.Integer({ minimum: 1, maximum: 256, description: 'MMS pushes to one URL at the same time.' }),
  reviewWithinHours: Type.Integer({ minimum: 1, maximum: 720, description: 'What waits for a person that long is rejected.' }),
  foreignNumberCodes: Type.Array(Type.String({ minLength: 1, maxLength: 20 }), {
    maxItems: 100,
    description: 'Codes by which a carrier says that a number is not its own: it is then taken for ported.',
  }),
  retentionDays: keptDays(
    'Messages, events, replies and pushes older than so many days are dropped; a day with unfinished messages or waiting events stays.',
  ),
  waitingDays: keptDays('An event that nobody has taken for so many days is given up; counts as retentionDays if that is more.'),
  batchDays: keptDays(
    'The totals of a batch, and its entries in the ledger, are kept so many days; the entries then become one a day. Counts as retentionDays if that is more.',
  ),
};
export const settingsSchema = named('Settings', platformSettings);
export const settingsChange = strict({
  optOutWords: Type.Optional(nullable(platformSettings.optOutWords)),
  reportWithinHours: Type.Optional(nullable(platformSettings.reportWithinHours)),
  replyWithinDays: Type.Optional(nullable(platformSettings.replyWithinDays)),
  rowsPerPull: Type.Optional(nullable(platformSettings.rowsPerPull)),
  rowsPerPush: Type.Optional(nullable(platformSettings.rowsPerPush)),
  failuresPerMinute: Type.Optional(nullable(platformSettings.failuresPerMinute)),
  addressFailuresPerMinute: Type.Optional(nullable(platformSettings.addressFailuresPerMinute)),
  pushDelaysSeconds: Type.Optional(nullable(platformSettings.pushDelaysSeconds)),
  pushConcurrency: Type.Optional(nullable(platformSettings.pushConcurrency)),
  reviewWithinHours: Type.Optional(nullable(platformSettings.reviewWithinHours)),
  foreignNumberCodes: Type.Optional(nullable(platformSettings.foreignNumberCodes)),
  retentionDays: Type.Optional(nullable(platformSettings.retentionDays)),
  waitingDays: Type.Optional(nullable(platformSettings.waitingDays)),
  batchDays: Type.Optional(nullable(platformSettings.batchDays)),
});
