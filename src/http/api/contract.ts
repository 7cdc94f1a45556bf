/**
 * The JSON of the management API: one schema per thing, from which come the checks of requests, the shape of answers, the OpenAPI
 * document, and the types that the console and the SDK will share.
 *
 * The rules, the same everywhere:
 * - ids of what is configured (accounts, products, subscriptions, channels, pools, templates, signatures, blocklists, caps) are JSON numbers;
 *   ids of what is recorded (batches, messages, events, replies, pushes) are strings of digits, since messages outgrow exact numbers;
 * - money is a string in the product's unit (yuan or messages) with two decimals, up to four where they are not zero: `"99999.95"`,
 *   `"0.0625"`, `"188888.00"`; requests may also write a number or fewer decimals;
 * - times are ISO 8601 with the offset of Asia/Shanghai, days are calendar days there;
 * - requests may hold only what is named here; null is written out in answers, never left out.
 */
import { type Static, type TProperties, type TSchema, Type } from 'typebox';
import { cardSchema } from '../../core/content/card.ts';
import { provinces } from '../../core/model/configuration.ts';

// ── bricks ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const strict = <Properties extends TProperties>(properties: Properties) => Type.Object(properties, { additionalProperties: false });
/** The same properties, none of them required. */
const optional = <Properties extends TProperties>(properties: Properties) => Type.Partial(Type.Object(properties)).properties;
const nullable = <Schema extends TSchema>(schema: Schema) => Type.Union([schema, Type.Null()]);
const named = <Properties extends TProperties>($id: string, properties: Properties) => Type.Object(properties, { $id });

/** A thing by its name, so that the OpenAPI document describes it once. */
export const ref = <Schema extends TSchema>(schema: Schema & { $id?: string }) => Type.Unsafe<Static<Schema>>(Type.Ref(`${schema.$id}#`));

/** One page of a list of these. */
export const listOf = <Schema extends TSchema>(schema: Schema) =>
  Type.Object({
    data: Type.Array(ref(schema)),
    next: nullable(Type.String({ description: 'The cursor of the next page; null on the last one.' })),
  });

const configId = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER });
const recordId = Type.String({ pattern: '^[0-9]{1,18}$' });
/** Shorter, since a message's id is its batch's times 32,768 and more. */
const batchId = Type.String({ pattern: '^[0-9]{1,14}$' });
const money = Type.String({
  description: 'In the unit of the product; two decimals, up to four where they are not zero.',
  examples: ['99999.95'],
});
const moneyWritten = Type.Union(
  [Type.String({ pattern: '^[0-9]{1,12}(\\.[0-9]{1,4})?$' }), Type.Number({ minimum: 0, maximum: 999_999_999_999 })],
  {
    description: 'In the unit of the product, with at most four decimals.',
  },
);
const time = Type.String({ format: 'date-time', examples: ['2026-07-16T09:30:05.000+08:00'] });
const day = Type.String({ pattern: '^2[0-9]{3}-[0-9]{2}-[0-9]{2}$', description: 'A calendar day in Asia/Shanghai, YYYY-MM-DD.' });
const name = Type.String({ minLength: 1, maxLength: 100 });
const phone = Type.String({ minLength: 1, maxLength: 32, description: 'In any form in which customers write numbers.' });
const digits = (maxLength: number) => Type.String({ pattern: `^[0-9]{1,${maxLength}}$` });
const pushUrl = nullable(Type.String({ maxLength: 2000, description: 'http or https; null or empty removes it.' }));

/** Times of day in Asia/Shanghai. */
const timeOfDay = Type.String({ pattern: '^([01][0-9]|2[0-3]):[0-5][0-9]$' });
const sendingWindow = nullable(
  Type.Object(
    { from: timeOfDay, to: timeOfDay, mode: Type.Enum(['intercept', 'review']) },
    {
      additionalProperties: false,
      description: 'When batches may be sent, in Asia/Shanghai, and what becomes of them outside it; null: always.',
    },
  ),
);

/** Where a number is, and with whom. */
const place = {
  carriers: Type.Array(Type.Enum(['mobile', 'unicom', 'telecom', 'broadcast', 'international']), {
    description: 'Whose it is: one; or those it may be with, of a number that was ported to nobody knows whom.',
  }),
  province: nullable(Type.String({ examples: ['广东'] })),
  city: nullable(Type.String({ examples: ['广州'] })),
};

export const problemSchema = named('Problem', { error: Type.Object({ code: Type.String(), message: Type.String() }) });

// ── what every list and many requests take ───────────────────────────────────────────────────────────────────────────────────────

const page = {
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 500, description: 'Rows a page; 50 if left out.' })),
  cursor: Type.Optional(Type.String({ maxLength: 500, description: 'The `next` of the page before.' })),
};
const whose = {
  accountId: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: Number.MAX_SAFE_INTEGER,
      description: 'For the operator; a token of an account sees its own only.',
    }),
  ),
};
const ofSubscription = { subscriptionId: Type.Optional(configId) };
const days = { from: Type.Optional(day), to: Type.Optional(day) };

export const idParams = Type.Object({ id: configId });
export const messageParams = Type.Object({ id: recordId });
export const batchParams = Type.Object({ id: batchId });
export const pageQuery = strict(page);
export const whosePageQuery = strict({ ...whose, ...page });

const medium = { medium: Type.Enum(['aim', 'mms', 'sms']), unit: Type.Enum(['yuan', 'messages']) };

// ── accounts and subscriptions ───────────────────────────────────────────────────────────────────────────────────────────────────

export const accountSchema = named('Account', {
  id: configId,
  name: Type.String(),
  apiId: Type.String(),
  ipAllowList: Type.Array(Type.String(), { description: 'Addresses or CIDR ranges; empty: open.' }),
  locked: Type.Boolean(),
  pushUrls: Type.Record(Type.String(), Type.String()),
  exemptNumbers: Type.Array(Type.String(), { description: 'Numbers that no list and no cap stops.' }),
  createdAt: time,
});
const accountSettings = {
  exemptNumbers: Type.Array(phone, { maxItems: 300 }),
  ipAllowList: Type.Array(Type.String({ maxLength: 50 }), { maxItems: 100 }),
  locked: Type.Boolean(),
  pushUrls: strict(optional({ report: pushUrl, reply: pushUrl, template: pushUrl })),
};
export const newAccount = strict({ name, ...optional(accountSettings) });
export const accountChange = strict(optional({ name, ...accountSettings }));
export const apiKeySchema = named('ApiKey', { apiKey: Type.String({ description: 'Shown only now.' }) });
export const createdAccountSchema = named('CreatedAccount', { ...accountSchema.properties, ...apiKeySchema.properties });

const rateLimit = strict({
  perSecond: Type.Integer({ minimum: 1, maximum: 100_000, description: 'Recipients, over time.' }),
  burst: Type.Integer({ minimum: 1, maximum: 1_000_000, description: 'Recipients at once, after a pause.' }),
});
const dialect = Type.String({
  maxLength: 50,
  description: 'The API by which the customer sends and in whose form events are told; the usual one of the medium if left out.',
});
export const subscriptionSchema = named('Subscription', {
  id: configId,
  accountId: configId,
  productId: configId,
  ...medium,
  dialect,
  spId: nullable(configId),
  price: money,
  balance: money,
  extension: Type.String(),
  class: Type.Integer({ description: 'Priority: 0 is served before 1.' }),
  pushUrls: Type.Record(Type.String(), Type.String()),
  enabled: Type.Boolean(),
  sendingWindow,
  unmatched: Type.Enum(['pass', 'intercept', 'review']),
  rateLimit: nullable(rateLimit),
  createdAt: time,
});
const subscriptionSettings = {
  dialect,
  sendingWindow,
  unmatched: Type.Enum(['pass', 'intercept', 'review'], {
    description: 'What becomes of a text that no content template and no word list matches.',
  }),
  class: Type.Enum([0, 1]),
  pushUrls: strict(optional({ report: pushUrl, reply: pushUrl })),
  enabled: Type.Boolean(),
  rateLimit: nullable(rateLimit),
};
export const newSubscription = strict({
  accountId: configId,
  productId: configId,
  price: moneyWritten,
  ...optional({ spId: configId, password: Type.String({ minLength: 8, maxLength: 100 }), extension: digits(12), ...subscriptionSettings }),
});
export const subscriptionChange = strict(optional({ price: moneyWritten, ...subscriptionSettings }));
export const createdSubscriptionSchema = named('CreatedSubscription', {
  ...subscriptionSchema.properties,
  password: nullable(Type.String({ description: 'Shown only now; null where the product has none.' })),
});
export const payment = strict({ amount: moneyWritten, note: Type.Optional(Type.String({ maxLength: 500 })) });
export const paymentHeaders = Type.Object({
  'idempotency-key': Type.Optional(Type.String({ pattern: '^[ -~]{1,128}$', description: 'The same key pays only once.' })),
});
export const balanceSchema = named('Balance', { balance: money });

// ── products, pools, channels ────────────────────────────────────────────────────────────────────────────────────────────────────

const productSettings = {
  poolId: nullable(configId),
  signatureRequired: Type.Boolean(),
  strictSignatures: Type.Boolean({ description: 'A signature must also be registered with the carrier of the number.' }),
  templatesOnly: Type.Boolean({ description: 'Only what a content template lets pass is sent.' }),
  sendingWindow,
  chargeOn: Type.Enum(['delivered', 'accepted'], { description: 'delivered: any other final state gives the money back.' }),
  inDoubt: Type.Enum(['resend', 'give_up'], { description: 'What to do with a message that may or may not have been sent.' }),
  ttlHours: Type.Integer({ minimum: 1, maximum: 72 }),
  limits: strict(
    optional({
      packageKiB: Type.Integer({ minimum: 1, maximum: 2048, description: 'Texts and media of an MMS; 1,900 if left out.' }),
      frames: Type.Integer({ minimum: 1, maximum: 60, description: '15 if left out.' }),
      textCharacters: Type.Integer({ minimum: 1, maximum: 10_000, description: 'Of the text of a frame; 2,000 if left out.' }),
    }),
  ),
};
export const productSchema = named('Product', { id: configId, name: Type.String(), ...medium, ...productSettings, createdAt: time });
export const newProduct = strict({ name, ...medium, ...optional(productSettings) });
export const productChange = strict(optional({ name, ...productSettings }));

const poolMembers = Type.Array(
  strict({
    channelId: configId,
    priority: Type.Integer({ minimum: 1, maximum: 1000, description: 'Lower goes first.' }),
    weight: Type.Integer({ minimum: 1, maximum: 1000 }),
  }),
  { maxItems: 100 },
);
export const poolSchema = named('Pool', { id: configId, name: Type.String(), channels: poolMembers });
export const newPool = strict({ name, channels: poolMembers });
export const poolChange = strict(optional({ name, channels: poolMembers }));

const protocol = Type.Enum(['cmpp', 'mm7']);
const carriers = Type.Array(Type.Enum(['mobile', 'unicom', 'telecom', 'broadcast', 'international']), { minItems: 1, maxItems: 5 });
const ascii = (minLength: number, maxLength: number) => Type.String({ pattern: `^[!-~]{${minLength},${maxLength}}$` });
const cmppSettings = strict({
  host: Type.String({ pattern: '^[A-Za-z0-9._:-]{1,253}$' }),
  port: Type.Integer({ minimum: 1, maximum: 65_535 }),
  spId: ascii(6, 6),
  serviceId: ascii(1, 10),
  ratePerSecond: Type.Number({ exclusiveMinimum: 0, maximum: 100_000, description: 'Segments, for each connection.' }),
  ...optional({
    version: Type.Enum(['2.0', '3.0']),
    window: Type.Integer({ minimum: 1, maximum: 1024, description: 'Segments sent and not yet answered, for each connection.' }),
    feeUserType: Type.Integer({ minimum: 0, maximum: 3 }),
    feeType: digits(2),
    feeCode: digits(6),
    msgLevel: Type.Integer({ minimum: 0, maximum: 9 }),
    longReferenceBits: Type.Enum([8, 16]),
    stripCountryCode: Type.Boolean(),
    strictAuthenticator: Type.Boolean(),
  }),
});
const mm7Settings = strict({
  url: Type.String({ pattern: '^https?://[!-~]{1,500}$' }),
  vaspId: ascii(1, 100),
  vasId: ascii(1, 100),
  ratePerSecond: Type.Number({ exclusiveMinimum: 0, maximum: 100_000, description: 'Recipients, for each connection.' }),
  ...optional({
    serviceCode: ascii(0, 100),
    authentication: Type.Enum(['none', 'basic', 'digest']),
    username: ascii(0, 100),
    version: ascii(1, 20),
    namespace: ascii(1, 200),
    prefixes: Type.Enum(['default', 'prefixed']),
    senderStyle: Type.Enum(['shortCode', 'number', 'text', 'none']),
    numberStyle: Type.Enum(['plus', 'e164', 'national']),
    sourceStyle: Type.Enum(['location', 'cid']),
    soapAction: Type.String({ pattern: '^[ -~]{0,100}$' }),
    messageClass: Type.Enum(['Personal', 'Advertisement', 'Informational', 'Auto']),
    readReply: Type.Boolean(),
    validityHours: Type.Integer({ minimum: 0, maximum: 168 }),
    recipientsPerRequest: Type.Integer({ minimum: 1, maximum: 1000 }),
    concurrency: Type.Integer({ minimum: 1, maximum: 64, description: 'Requests under way at once, for each connection.' }),
    probe: Type.Enum(['post', 'connect']),
    allowedAddresses: Type.Array(ascii(2, 50), {
      minItems: 1,
      maxItems: 100,
      description: 'Who may post reports and replies to /mm7/{id}.',
    }),
    callbackUsername: Type.String({
      pattern: '^[!-~]{1,100}$',
      description: 'What the carrier posts with; its password is the channel’s.',
    }),
  }),
});
const channelSettings = {
  name,
  carriers,
  accessNumber: digits(20),
  settings: Type.Union([cmppSettings, mm7Settings], { description: 'Of its protocol.' }),
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

// ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

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

// ── templates and signatures ─────────────────────────────────────────────────────────────────────────────────────────────────────

const mediaReference = Type.Object({
  sha256: Type.String(),
  type: Type.String({ examples: ['image/jpeg'] }),
  extension: Type.String(),
  size: Type.Integer({ description: 'Bytes.' }),
});
const frames = Type.Array(
  Type.Object({
    text: nullable(Type.String()),
    media: nullable(mediaReference),
    mediaFirst: Type.Boolean({ description: 'The medium is shown above the text.' }),
  }),
);
export const mediaParams = Type.Object({ id: configId, sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }) });
export const batchMediaParams = Type.Object({ id: batchId, sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }) });

const templateState = Type.Enum(['pending', 'approved', 'rejected', 'withdrawn']);
export const templateSchema = named('Template', {
  id: configId,
  accountId: configId,
  medium: Type.Enum(['aim', 'mms']),
  name: Type.String({ description: 'Of mms: the title, for recognising it.' }),
  card: nullable(cardSchema),
  frames: nullable(frames),
  purpose: nullable(Type.String()),
  signature: nullable(Type.String()),
  parameters: Type.Array(Type.String(), { description: 'In the order in which a submission gives their values.' }),
  state: templateState,
  reason: nullable(Type.String({ description: 'Why it was rejected.' })),
  validUntil: nullable(time),
  linkDays: Type.Integer(),
  createdAt: time,
  decidedAt: nullable(time),
});
export const newTemplate = strict({
  name,
  card: cardSchema,
  ...optional({ ...whose, validUntil: time, linkDays: Type.Integer({ minimum: 1, maximum: 365, description: '30 if left out.' }) }),
});
export const templateQuery = strict({
  ...whose,
  ...page,
  state: Type.Optional(templateState),
  medium: Type.Optional(Type.Enum(['aim', 'mms'])),
});
export const rejection = strict({ reason: Type.String({ minLength: 1, maxLength: 500 }) });

const registration = Type.Enum(['pending', 'registered', 'rejected']);
const registrations = <Value extends TSchema>(value: Value) =>
  strict(optional({ mobile: value, unicom: value, telecom: value, broadcast: value, international: value }));
export const signatureSchema = named('Signature', {
  id: configId,
  accountId: configId,
  name: Type.String(),
  registrations: Type.Unsafe<Readonly<Partial<Record<string, Static<typeof registration>>>>>({
    ...registrations(registration),
    description: 'How far each carrier is with it; one that is not named has not been asked.',
  }),
  createdAt: time,
});
export const newSignature = strict({
  accountId: configId,
  name: Type.String({ minLength: 2, maxLength: 24 }),
  registrations: Type.Optional(registrations(registration)),
});
export const signatureChange = strict({ registrations: registrations(nullable(registration)) });

// ── frequency caps ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

const capScope = Type.Enum(['subscription', 'product', 'signature']);
const capSettings = {
  period: Type.Enum(['minute', 'hour', 'day', '24h'], {
    description: 'minute, hour and day of the calendar in Asia/Shanghai; 24h: any 24 hours, to the hour.',
  }),
  count: Type.Integer({ minimum: 1, maximum: 100, description: 'Messages that one number may get of the subject within the period.' }),
};
export const capSchema = named('Cap', { id: configId, scope: capScope, subjectId: configId, ...capSettings, createdAt: time });
export const newCap = strict({ scope: capScope, subjectId: configId, ...capSettings });
export const capChange = strict(optional(capSettings));
export const capQuery = strict({ ...optional({ scope: capScope, subjectId: configId }), ...page });

// ── blocklists ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const blocklistKind = Type.Enum(['empty', 'system', 'product', 'subscription', 'signature']);
export const blocklistSchema = named('Blocklist', {
  id: configId,
  kind: blocklistKind,
  subjectId: nullable(Type.Integer({ description: 'The product, subscription or signature.' })),
  accountId: nullable(configId),
});
export const newBlocklist = strict({ kind: blocklistKind, subjectId: Type.Optional(configId) });
export const blockedNumberSchema = named('BlockedNumber', { phone: Type.String(), source: Type.String(), addedAt: time });
export const blockedNumberQuery = strict({ ...page, phone: Type.Optional(phone) });
export const blockedNumbers = strict({ numbers: Type.Array(phone, { minItems: 1, maxItems: 10_000 }) });
export const addedSchema = named('Added', { added: Type.Integer({ description: 'How many were not on the list before.' }) });
export const removedSchema = named('Removed', { removed: Type.Integer({ description: 'How many were on the list.' }) });

/** Files are streamed and checked line by line. */
const file = (description: string) => Type.Unsafe<unknown>(Type.String({ description }));
export const numberLines = file('One number a line, in any form; a first line `number` and empty lines are passed over.');
export const numberImportQuery = strict(
  optional({ invalid: Type.Enum(['refuse', 'skip'], { description: 'refuse (the default): a line that is no number refuses the file.' }) }),
);
export const numberImportSchema = named('NumberImport', {
  rows: Type.Integer({ description: 'Lines that are numbers.' }),
  added: Type.Integer(),
  present: Type.Integer({ description: 'Lines whose number was on the list, or came before.' }),
  skipped: Type.Integer({ description: 'Lines that are no numbers, with invalid=skip.' }),
  problems: Type.Array(Type.String(), { description: 'What was wrong with the first of them.' }),
});

// ── numbers ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const mainlandCarrier = Type.Enum(['mobile', 'unicom', 'telecom', 'broadcast']);
export const numberParams = Type.Object({ number: phone });
const portedSource = Type.Enum(['import', 'learned']);
export const portedNumberSchema = named('PortedNumber', {
  phone: Type.String(),
  carrier: nullable(Type.Enum(['mobile', 'unicom', 'telecom', 'broadcast'], { description: 'As imported; null: nobody has said.' })),
  notCarriers: Type.Array(mainlandCarrier, { description: 'Who has said that it is not theirs.' }),
  source: portedSource,
  changedAt: time,
});
export const portedQuery = strict({ ...optional({ source: portedSource, phone }), ...page });
export const portedClearing = strict({ source: portedSource });
const mode = Type.Enum(['extend', 'replace'], { description: 'extend is the default.' });
export const portedImportQuery = strict(optional({ mode }));
export const portedLines = file('number,carrier; the carrier as mobile, unicom, telecom, broadcast, or 移动, 联通, 电信, 广电.');
export const portedImportSchema = named('PortedImport', {
  rows: Type.Integer(),
  added: Type.Integer({ description: 'Numbers of which nothing was known.' }),
  changed: Type.Integer({ description: 'Numbers of which something else was known.' }),
});
export const rangeImportQuery = strict(
  optional({ mode, origin: Type.String({ maxLength: 200, description: 'Where the file is from, to remember.' }) }),
);
export const rangeLines = file('prefix,carrier,province,city; the prefix of 3 to 7 digits; an empty field says nothing.');
export const numberTableSchema = named('NumberTable', {
  bundled: Type.Object({
    origin: Type.String(),
    beginnings: Type.Integer({ description: 'Beginnings of seven digits whose place it knows.' }),
  }),
  imported: nullable(
    Type.Object({
      origin: Type.String(),
      importedAt: time,
      rows: Type.Integer({ description: 'Of the last file.' }),
      replaces: Type.Boolean({ description: 'The bundled places are not used.' }),
    }),
  ),
});
export const numberSchema = named('Number', {
  number: Type.String(),
  ...place,
  ported: nullable(ref(portedNumberSchema)),
  lists: Type.Array(
    Type.Object({
      id: configId,
      kind: blocklistKind,
      subjectId: nullable(configId),
      accountId: nullable(configId),
      source: Type.String(),
      addedAt: time,
    }),
  ),
});

// ── review ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const reviewState = Type.Enum(['pending', 'approved', 'rejected', 'expired', 'cancelled']);
export const reviewSchema = named('ReviewItem', {
  id: Type.String({ pattern: '^[0-9]{1,14}$', description: 'The batch’s.' }),
  accountId: configId,
  subscriptionId: configId,
  templateId: nullable(configId),
  content: Type.String(),
  code: Type.String({ description: 'What the messages end with if it is rejected.' }),
  rule: Type.Integer(),
  entry: Type.Unknown({ description: 'Which entry of the rule fired.' }),
  recipients: Type.Integer({ description: 'Messages that wait.' }),
  held: money,
  state: reviewState,
  reason: nullable(Type.String()),
  decidedBy: nullable(Type.String()),
  createdAt: time,
  expiresAt: time,
  decidedAt: nullable(time),
});
export const wouldBe = strict({
  subscriptionId: configId,
  numbers: Type.Array(phone, { minItems: 1, maxItems: 10_000 }),
  content: Type.String({ maxLength: 40_000, description: 'As it would be sent, signature included; of a multimedia message its texts.' }),
  ...optional({ title: Type.String({ maxLength: 200 }), sendAt: time }),
});
const previewVerdict = { rule: Type.Integer(), code: Type.String(), verdict: Type.Enum(['intercept', 'review']) };
export const previewSchema = named('ScreeningPreview', {
  rules: Type.Array(Type.Object({ ...previewVerdict, entry: Type.Unknown(), recipients: Type.Integer() }), {
    description: 'What each rule says by itself, in their order; a rule with nothing to say is left out.',
  }),
  recipients: Type.Array(
    Type.Object({
      number: Type.String(),
      rule: nullable(Type.Integer()),
      code: nullable(Type.String()),
      verdict: Type.Enum(['pass', 'intercept', 'review']),
      ...place,
    }),
    { description: 'What the first rule that fires makes of each number, without repeats.' },
  ),
  segments: Type.Integer(),
  price: Type.String({ description: 'What would be held, in the unit of the product.' }),
});
export const reviewQuery = strict({ ...whose, ...page, state: Type.Optional(reviewState) });
// ── content templates and sensitive words ────────────────────────────────────────────────────────────────────────────────────────

const contentVerdict = Type.Enum(['intercept', 'review', 'pass']);
const wordVerdict = Type.Enum(['intercept', 'review']);
const templateText = Type.String({
  minLength: 1,
  maxLength: 2000,
  description: 'Of a whole text; wildcards {N}, {name:N}, ${name:N}, $name:N$ stand for 1…N characters, 35 without N.',
  examples: ['【鸿雁】您的验证码是{6}，{:10}内有效。'],
});
const note = Type.String({ maxLength: 500 });
export const contentTemplateSchema = named('ContentTemplate', {
  id: configId,
  accountId: nullable(Type.Integer({ description: 'Null: the platform’s, for every account.' })),
  text: Type.String(),
  verdict: nullable(
    Type.Enum(['intercept', 'review', 'pass'], { description: 'Null: an account’s, on which the operator has not decided.' }),
  ),
  enabled: Type.Boolean(),
  note: Type.String(),
  createdAt: time,
});
const contentTemplateSettings = { note, verdict: contentVerdict, enabled: Type.Boolean() };
export const newContentTemplate = strict({ text: templateText, ...optional({ ...contentTemplateSettings, accountId: configId }) });
export const contentTemplateChange = strict(optional({ text: templateText, ...contentTemplateSettings }));
export const contentTemplateQuery = strict({
  ...whose,
  ...page,
  ...optional({
    owner: Type.Enum(['platform', 'accounts']),
    state: Type.Enum(['pending', 'enabled', 'disabled'], { description: 'pending: the operator has not decided.' }),
    verdict: contentVerdict,
  }),
});

export const wordListSchema = named('WordList', {
  id: configId,
  name: Type.String(),
  verdict: wordVerdict,
  enabled: Type.Boolean(),
  words: Type.Integer({ description: 'How many are on it.' }),
  createdAt: time,
});
export const newWordList = strict({ name, verdict: wordVerdict, ...optional({ enabled: Type.Boolean() }) });
export const wordListChange = strict(optional({ name, verdict: wordVerdict, enabled: Type.Boolean() }));
export const wordSchema = named('Word', {
  word: Type.String({ description: 'As it was written.' }),
  folded: Type.String({ description: 'As it is looked for: without width, case, spaces, punctuation.' }),
});
export const wordQuery = strict({
  ...page,
  search: Type.Optional(Type.String({ minLength: 1, maxLength: 100, description: 'A part of the word.' })),
});
export const newWords = strict({ words: Type.Array(Type.String({ minLength: 1, maxLength: 100 }), { minItems: 1, maxItems: 10_000 }) });
export const wordLines = Type.String({ description: 'One word a line; empty lines are passed over.' });

// ── what happened ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const eventKind = Type.Enum(['report', 'reply', 'audit']);
const optionalPhone = { phone: Type.Optional(phone) };

export const batchSchema = named('Batch', {
  id: batchId,
  accountId: configId,
  subscriptionId: configId,
  templateId: nullable(configId),
  content: Type.String(),
  ext: Type.String(),
  package: nullable(Type.Object({ subject: Type.String(), frames })),
  recipients: Type.Integer({ description: 'Distinct numbers, intercepted ones included.' }),
  createdAt: time,
  sendAt: nullable(Type.String({ format: 'date-time', description: 'When it was planned to be sent; null: at once.' })),
  cancelledAt: nullable(time),
  purgedAt: nullable(
    Type.String({ format: 'date-time', description: 'When its content and recipients went, past retention; its totals stay.' }),
  ),
});
const statusNames = [
  'queued',
  'in_review',
  'sent',
  'delivered',
  'undelivered',
  'rejected',
  'expired',
  'unknown',
  'intercepted',
  'cancelled',
] as const;
const count = Type.Integer();
export const batchDetailSchema = named('BatchDetail', {
  ...batchSchema.properties,
  totals: Type.Object({
    queued: count,
    in_review: count,
    sent: count,
    delivered: count,
    undelivered: count,
    rejected: count,
    expired: count,
    unknown: count,
    intercepted: count,
    cancelled: count,
  }),
  cost: money,
});
export const batchQuery = strict({ ...whose, ...ofSubscription, ...days, ...page });

const messageProperties = {
  id: recordId,
  batchId,
  accountId: configId,
  subscriptionId: configId,
  day,
  phone: Type.String({ description: 'As the customer wrote it.' }),
  status: Type.Enum([...statusNames]),
  code: nullable(Type.String({ description: 'The final code, as reports have it.' })),
  channelId: nullable(configId),
  segments: Type.Integer(),
  price: money,
  cost: nullable(money),
  sentAt: nullable(time),
  finalAt: nullable(time),
};
export const messageSchema = named('Message', messageProperties);
export const messageDetailSchema = named('MessageDetail', {
  ...messageProperties,
  carrierId: nullable(Type.String()),
  parts: Type.Array(
    Type.Object({ number: Type.Integer(), channelId: configId, carrierId: nullable(Type.String()), code: nullable(Type.String()) }),
    { description: 'The segments of a message of several.' },
  ),
  verdict: Type.Unknown({
    description: 'Which rule of screening fired, and which entry of it; null unless intercepted or held for review.',
  }),
  timeline: Type.Array(Type.Object({ at: time, what: Type.String(), detail: Type.String() })),
});
export const messageQuery = strict({ ...whose, phone, ...days, ...page });

const eventState = Type.Enum(['waiting', 'failed', 'kept', 'handed_over'], {
  description:
    'failed: pushed in vain as often as the dialect allows. kept: there was no URL to push it to, and nobody can pull it. Both wait for a replay.',
});
export const eventSchema = named('Event', {
  id: recordId,
  kind: eventKind,
  batchId: nullable(batchId),
  subscriptionId: nullable(configId),
  state: eventState,
  route: Type.Enum(['pull', 'push'], { description: 'How it is, or was, handed over.' }),
  pushId: nullable(recordId),
  tries: Type.Integer({ description: 'How often a push of it was begun, since it last began to wait.' }),
  dueAt: nullable(Type.String({ format: 'date-time', description: 'When it is pushed next.' })),
  phone: Type.String(),
  code: nullable(Type.String()),
  cost: nullable(money),
  at: time,
  handedAt: nullable(time),
  replays: Type.Integer(),
});
export const eventQuery = strict({
  ...whose,
  ...ofSubscription,
  ...days,
  ...page,
  ...optionalPhone,
  kind: Type.Optional(Type.Enum(['report', 'reply', 'audit'], { description: 'report if left out.' })),
  state: Type.Optional(eventState),
  batchId: Type.Optional(batchId),
});
export const replayFilter = strict({
  ...whose,
  subscriptionId: Type.Optional(
    Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, description: 'All of the account’s if left out.' }),
  ),
  kind: eventKind,
  state: Type.Optional(Type.Enum(['any', 'failed'], { description: 'failed: only what has failed or was kept. any if left out.' })),
  ...days,
  ...optionalPhone,
  batchId: Type.Optional(batchId),
  ids: Type.Optional(Type.Array(recordId, { minItems: 1, maxItems: 10_000 })),
});
export const replayedSchema = named('Replayed', { replayed: Type.Integer({ description: 'How many wait to be handed over again.' }) });

export const replySchema = named('Reply', {
  id: recordId,
  subscriptionId: nullable(configId),
  channelId: configId,
  phone: Type.String(),
  dest: Type.String({ description: 'The number the person wrote to.' }),
  ext: Type.String({ description: 'The same less the channel’s access number.' }),
  content: Type.String(),
  batchId: nullable(batchId),
  optOut: Type.Boolean(),
  receivedAt: time,
});
export const replyQuery = strict({ ...whose, ...ofSubscription, ...optionalPhone, ...page });

const pushState = Type.Enum(['done', 'failed']);
export const pushSchema = named('Push', {
  id: recordId,
  subscriptionId: nullable(Type.Integer({ description: 'Null: it went to a URL of the account.' })),
  kind: eventKind,
  url: Type.String(),
  events: Type.Integer({ description: 'How many it carried.' }),
  eventId: nullable(Type.String({ description: 'Of one that carried one.' })),
  state: pushState,
  startedAt: time,
  finishedAt: nullable(time),
  httpStatus: nullable(Type.Integer()),
  answer: nullable(Type.String()),
});
export const pushQuery = strict({
  ...whose,
  ...ofSubscription,
  ...page,
  kind: Type.Optional(eventKind),
  state: Type.Optional(pushState),
  eventId: Type.Optional(recordId),
});

export const ledgerEntrySchema = named('LedgerEntry', {
  kind: Type.Enum(['top_up', 'hold', 'release', 'settle', 'opening'], {
    description: 'opening: the sum of what a day’s batches moved that are not kept any more.',
  }),
  batchId: nullable(batchId),
  amount: Type.String({ description: 'How it moved the balance, as money.' }),
  held: Type.String({ description: 'How it moved what is held, as money.' }),
  note: nullable(Type.String()),
  at: time,
});
export const ledgerQuery = strict({ subscriptionId: configId, ...page });

export const orphanSchema = named('OrphanReport', {
  channelId: configId,
  carrierId: Type.String(),
  code: Type.String(),
  phone: Type.String(),
  receivedAt: time,
  nextTryAt: time,
});

/** Everything that has a name of its own in the OpenAPI document. */
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
