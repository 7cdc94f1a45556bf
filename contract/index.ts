/**
 * The JSON of the management API. Each thing has one schema. The checks of requests, the shape of answers, the OpenAPI document, and the
 * types that the console and the SDK will share all come from it.
 *
 * The same rules hold everywhere:
 * - ids of configuration (accounts, products, subscriptions, channels, pools, templates, signatures, blocklists, caps) are JSON numbers;
 *   ids of records (batches, messages, events, replies, pushes) are strings of digits, because message ids outgrow exact JSON numbers;
 * - money is a string in the product's unit (yuan or messages) with two decimals, up to four where they are not zero: `"99999.95"`,
 *   `"0.0625"`, `"188888.00"`; requests may also write a number or fewer decimals;
 * - times are ISO 8601 with the offset of Asia/Shanghai, days are calendar days there;
 * - requests may hold only the properties named here; answers write null out and never leave a property out.
 */
import type { TSchema } from 'typebox';
import { accountSchema, apiKeySchema, createdAccountSchema } from './accounts.ts';
import { batchDetailSchema, batchSchema } from './batches.ts';
import { addedSchema, blockedNumberSchema, blocklistSchema, numberImportSchema, removedSchema } from './blocklists.ts';
import { capSchema } from './caps.ts';
import { channelKindSchema } from './channel-kinds.ts';
import { channelSchema } from './channels.ts';
import { contentTemplateSchema } from './content-templates.ts';
import { eventSchema, replayedSchema } from './events.ts';
import { ledgerEntrySchema } from './ledger.ts';
import { messageDetailSchema, messageSchema } from './messages.ts';
import { numberSchema, numberTableSchema, portedImportSchema, portedNumberSchema } from './numbers.ts';
import { orphanSchema } from './orphans.ts';
import { poolSchema } from './pools.ts';
import { previewSchema } from './previews.ts';
import { problemSchema } from './problems.ts';
import { productSchema } from './products.ts';
import { pushSchema } from './pushes.ts';
import { replySchema } from './replies.ts';
import { reviewSchema } from './reviews.ts';
import { settingsSchema } from './settings.ts';
import { signatureSchema } from './signatures.ts';
import { balanceSchema, createdSubscriptionSchema, subscriptionSchema } from './subscriptions.ts';
import { templateSchema } from './templates.ts';
import { wordListSchema, wordSchema } from './word-lists.ts';

export { batchParams, idParams, listOf, messageParams, pageQuery, ref, whosePageQuery } from './bricks.ts';
export * from './accounts.ts';
export * from './batches.ts';
export * from './blocklists.ts';
export * from './caps.ts';
export * from './cards.ts';
export * from './channel-kinds.ts';
export * from './channels.ts';
export * from './content-templates.ts';
export * from './events.ts';
export { type Example, examples, happenings } from './examples.ts';
export * from './ledger.ts';
export * from './messages.ts';
export * from './numbers.ts';
export * from './orphans.ts';
export * from './pools.ts';
export * from './previews.ts';
export * from './problems.ts';
export * from './products.ts';
export * from './pushes.ts';
export * from './replies.ts';
export * from './reviews.ts';
export * from './settings.ts';
export * from './signatures.ts';
export * from './subscriptions.ts';
export * from './templates.ts';
export * from './word-lists.ts';
export { provinces } from './provinces.ts';

/** The schemas that have a name in the OpenAPI document. */
export const namedSchemas: readonly TSchema[] = [
  problemSchema,
  settingsSchema,
  accountSchema,
  createdAccountSchema,
  apiKeySchema,
  subscriptionSchema,
  createdSubscriptionSchema,
  balanceSchema,
  ledgerEntrySchema,
  productSchema,
  poolSchema,
  channelKindSchema,
  channelSchema,
  orphanSchema,
  templateSchema,
  signatureSchema,
  capSchema,
  blocklistSchema,
  blockedNumberSchema,
  addedSchema,
  removedSchema,
  numberImportSchema,
  portedNumberSchema,
  portedImportSchema,
  numberTableSchema,
  numberSchema,
  reviewSchema,
  previewSchema,
  contentTemplateSchema,
  wordListSchema,
  wordSchema,
  batchSchema,
  batchDetailSchema,
  messageSchema,
  messageDetailSchema,
  eventSchema,
  replayedSchema,
  replySchema,
  pushSchema,
];
