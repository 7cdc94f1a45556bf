/** The settings of the whole platform. */
import { Type } from 'typebox';
import { named, nullable, strict } from './bricks.ts';

const keptDays = (description: string) => Type.Integer({ minimum: 1, maximum: 3650, description });
const platformSettings = {
  optOutWords: Type.Array(Type.String({ minLength: 1, maxLength: 20 }), {
    maxItems: 100,
    description: 'Replies that opt a person out. The whole text must match; outer spaces, case and full-width letters do not matter.',
  }),
  reportWithinHours: Type.Integer({ minimum: 1, maximum: 72, description: 'A message expires if no report comes within this time.' }),
  replyWithinDays: Type.Integer({ minimum: 1, maximum: 30, description: 'How old a message may be to count as the one a reply answers.' }),
  rowsPerPull: Type.Integer({ minimum: 1, maximum: 10_000 }),
  rowsPerPush: Type.Integer({ minimum: 1, maximum: 5000 }),
  failuresPerMinute: Type.Integer({
    minimum: 1,
    maximum: 10_000,
    description: 'Wrong credentials for each pair of address and sp_id or api_id.',
  }),
  addressFailuresPerMinute: Type.Integer({
    minimum: 1,
    maximum: 1_000_000,
    description: 'Wrong credentials of one address for all accounts together; after that, it is refused for the rest of the minute.',
  }),
  pushDelaysSeconds: Type.Array(Type.Number({ minimum: 0.01, maximum: 86_400 }), {
    maxItems: 10,
    description: 'Pauses before each retry of an MMS push that was not accepted; after the last retry, the event has failed.',
  }),
  pushConcurrency: Type.Integer({ minimum: 1, maximum: 256, description: 'MMS pushes to one URL at the same time.' }),
  reviewWithinHours: Type.Integer({ minimum: 1, maximum: 720, description: 'A batch that is in review for longer is rejected.' }),
  foreignNumberCodes: Type.Array(Type.String({ minLength: 1, maxLength: 20 }), {
    maxItems: 100,
    description: 'Codes by which a carrier says that a number is not its own; the number then counts as ported.',
  }),
  retentionDays: keptDays(
    'Messages, events, replies and pushes are deleted after this many days; a day with unfinished messages or waiting events stays.',
  ),
  waitingDays: keptDays('An event that is not handed over within this many days is given up. If retentionDays is more, that counts.'),
  batchDays: keptDays(
    'How many days the totals and the ledger entries of a batch are kept; after that, the entries of each day become one. If retentionDays is more, that counts.',
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
