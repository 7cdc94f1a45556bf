/**
 * An example of every request of the management API, in the order of a story that begins on a fresh installation: an operator connects
 * a carrier, takes on a customer, and looks at the customer's messages. Later examples use the ids of earlier ones. The OpenAPI document
 * shows them; a test sends them all to the platform, in this order.
 *
 * All are sent with the operator's token.
 */

/** What else happens in the story, through the APIs of customers and carriers. */
export const happenings = {
  cardSent: 'The customer has sent the coupon to three numbers, and everybody has got it. One person has answered.',
  strangerWrote: 'A person has written to a number of the platform that belongs to no subscription.',
  reportLost: 'A carrier has reported on a message that it was never given.',
  loansOffered: 'The customer has sent two texts that hold a word of a list.',
  packageSubmitted: 'The customer has submitted two multimedia templates with the same picture.',
  decisionsPushed: 'The customer’s server has been told of both decisions.',
  packagePlanned: 'The customer has planned a multimedia message with that picture for tomorrow.',
} as const;

export interface Example {
  /** The `operationId`. */
  readonly operation: string;
  /** What has happened since the previous example. */
  readonly after?: keyof typeof happenings;
  readonly path?: Readonly<Record<string, string | number>>;
  readonly query?: Readonly<Record<string, string | number>>;
  readonly headers?: Readonly<Record<string, string>>;
  /** JSON, or the text of a file. */
  readonly body?: object | string;
  /** The `id` in the answer. */
  readonly id?: string | number;
}

/** The ids that a fresh installation gives, in the order of the story; lists that are made together with a thing count too. */
const ids = {
  cmppChannel: 600_001,
  mm7Channel: 600_002,
  pool: 600_003,
  cardProduct: 600_004,
  packageProduct: 600_005,
  account: 600_006,
  cardSubscription: 600_007,
  packageSubscription: 600_009,
  signature: 600_011,
  template: 600_012,
  withdrawnTemplate: 600_013,
  packageTemplate: 600_014,
  rejectedPackageTemplate: 600_015,
  productList: 600_016,
  cap: 600_017,
  wordList: 600_019,
  platformTemplate: 600_020,
  accountTemplate: 600_021,
  sentBatch: '100000001',
  approvedBatch: '100000002',
  rejectedBatch: '100000003',
  plannedBatch: '100000004',
  sentMessage: '3276800032768',
} as const;

/** The hash of a picture of one pixel. */
const pictureSha256 = '6b7fa434f92a8b80aab02d9bf1a12e49ffcae424e4013a1c4f68b67e3d2bbcd0';

export const examples: readonly Example[] = [
  { operation: 'getOpenApiDocument' },

  // An operator connects two carriers.
  {
    operation: 'createChannel',
    body: {
      protocol: 'cmpp',
      name: '移动一号',
      carriers: ['mobile', 'unicom', 'telecom'],
      accessNumber: '10690000',
      settings: { host: '192.0.2.10', port: 7890, spId: '901234', serviceId: 'HY', version: '2.0', ratePerSecond: 200 },
      secret: 'cmpp-secret',
      connections: 2,
      provinces: null,
    },
    id: ids.cmppChannel,
  },
  {
    operation: 'createChannel',
    body: {
      protocol: 'mm7',
      name: '彩信一号',
      carriers: ['mobile', 'unicom', 'telecom', 'broadcast'],
      accessNumber: '10690001',
      settings: {
        url: 'http://192.0.2.20/mms/',
        vaspId: '805678',
        vasId: '10690001',
        serviceCode: 'HY',
        authentication: 'digest',
        username: '805678',
        ratePerSecond: 50,
        allowedAddresses: ['192.0.2.20'],
      },
      secret: 'mm7-secret',
    },
    id: ids.mm7Channel,
  },
  { operation: 'changeChannel', path: { id: ids.cmppChannel }, body: { connections: 4, healthRules: { failurePercent: 30 } } },
  { operation: 'getChannel', path: { id: ids.cmppChannel }, id: ids.cmppChannel },
  { operation: 'listChannelKinds' },
  { operation: 'listChannels', query: { limit: 50 } },
  { operation: 'createPool', body: { name: '全国', channels: [{ channelId: ids.cmppChannel, priority: 1, weight: 1 }] }, id: ids.pool },
  {
    operation: 'changePool',
    path: { id: ids.pool },
    body: {
      channels: [
        { channelId: ids.cmppChannel, priority: 1, weight: 3 },
        { channelId: ids.mm7Channel, priority: 2, weight: 1 },
      ],
    },
    id: ids.pool,
  },
  { operation: 'listPools' },

  // It offers two products.
  {
    operation: 'createProduct',
    body: { name: '智能短信', medium: 'aim', unit: 'yuan', poolId: ids.pool, signatureRequired: true, chargeOn: 'delivered', ttlHours: 24 },
    id: ids.cardProduct,
  },
  {
    operation: 'createProduct',
    body: {
      name: '营销彩信',
      medium: 'mms',
      unit: 'messages',
      poolId: ids.pool,
      limits: { packageKiB: 300, frames: 10 },
      sendingWindow: { from: '08:00', to: '21:00', mode: 'review' },
    },
    id: ids.packageProduct,
  },
  {
    operation: 'changeProduct',
    path: { id: ids.cardProduct },
    body: { inDoubt: 'give_up' },
    id: ids.cardProduct,
  },
  { operation: 'getProduct', path: { id: ids.cardProduct }, id: ids.cardProduct },
  { operation: 'listProducts' },

  // It takes on a customer, who pays.
  { operation: 'createAccount', body: { name: '鸿雁商城', ipAllowList: ['127.0.0.0/8', '203.0.113.7'] }, id: ids.account },
  {
    operation: 'changeAccount',
    path: { id: ids.account },
    body: { pushUrls: { report: 'https://customer.example/reports', template: 'https://customer.example/templates' } },
    id: ids.account,
  },
  { operation: 'getAccount', path: { id: ids.account }, id: ids.account },
  { operation: 'listAccounts' },
  { operation: 'rotateApiKey', path: { id: ids.account } },
  {
    operation: 'createSubscription',
    body: { accountId: ids.account, productId: ids.cardProduct, price: '0.05', password: 'a-long-password', extension: '01' },
    id: ids.cardSubscription,
  },
  {
    operation: 'createSubscription',
    body: { accountId: ids.account, productId: ids.packageProduct, price: '1', extension: '02' },
    id: ids.packageSubscription,
  },
  {
    operation: 'changeSubscription',
    path: { id: ids.cardSubscription },
    body: { price: '0.0475', rateLimit: { perSecond: 500, burst: 10_000 } },
    id: ids.cardSubscription,
  },
  { operation: 'getSubscription', path: { id: ids.cardSubscription }, id: ids.cardSubscription },
  { operation: 'listSubscriptions', query: { accountId: ids.account } },
  {
    operation: 'topUpSubscription',
    path: { id: ids.cardSubscription },
    headers: { 'idempotency-key': 'invoice-2026-0716' },
    body: { amount: '1000', note: '2026-07-16 汇款' },
  },
  { operation: 'topUpSubscription', path: { id: ids.packageSubscription }, body: { amount: 500 } },
  {
    operation: 'createSignature',
    body: { accountId: ids.account, name: '鸿雁', registrations: { mobile: 'registered', unicom: 'pending' } },
    id: ids.signature,
  },
  { operation: 'changeSignature', path: { id: ids.signature }, body: { registrations: { unicom: 'registered' } }, id: ids.signature },
  { operation: 'listSignatures', query: { accountId: ids.account } },

  // It decides on the customer’s templates.
  {
    operation: 'createTemplate',
    body: {
      accountId: ids.account,
      name: '优惠券',
      card: {
        layout: 'image_text',
        title: '您有一张优惠券',
        text: '满 100 减 20，月底前有效。',
        media: [{ type: 'image', url: 'https://customer.example/coupon.png' }],
        buttons: [{ label: '去使用', action: 'url', value: 'https://customer.example/coupons' }],
      },
      linkDays: 30,
    },
    id: ids.template,
  },
  {
    operation: 'createTemplate',
    body: {
      accountId: ids.account,
      name: '账单',
      card: {
        layout: 'notice',
        title: '七月账单',
        rows: [{ label: '金额', value: '${amount}' }],
        buttons: [{ label: '致电', action: 'tel', value: '400-123-4567' }],
      },
      validUntil: '2099-12-31T23:59:59+08:00',
    },
    id: ids.withdrawnTemplate,
  },
  { operation: 'approveTemplate', path: { id: ids.template }, id: ids.template },
  { operation: 'withdrawTemplate', path: { id: ids.withdrawnTemplate }, id: ids.withdrawnTemplate },
  { operation: 'getTemplate', path: { id: ids.template }, id: ids.template },
  { operation: 'listTemplates', after: 'packageSubmitted', query: { accountId: ids.account, medium: 'mms', state: 'pending' } },
  { operation: 'getTemplateMedium', path: { id: ids.packageTemplate, sha256: pictureSha256 } },
  { operation: 'approveTemplate', path: { id: ids.packageTemplate }, id: ids.packageTemplate },
  {
    operation: 'rejectTemplate',
    path: { id: ids.rejectedPackageTemplate },
    body: { reason: '图片看不清楚' },
    id: ids.rejectedPackageTemplate,
  },
  { operation: 'listPushes', after: 'decisionsPushed', query: { accountId: ids.account, kind: 'audit' } },

  // It says which numbers must not get messages, and how many the others may get.
  { operation: 'ensureBlocklist', body: { kind: 'product', subjectId: ids.cardProduct }, id: ids.productList },
  { operation: 'addBlockedNumbers', path: { id: ids.productList }, body: { numbers: ['13800000021', '+86 138 0000 0022'] } },
  { operation: 'removeBlockedNumbers', path: { id: ids.productList }, body: { numbers: ['13800000022'] } },
  {
    operation: 'importBlockedNumbers',
    path: { id: ids.productList },
    query: { invalid: 'skip' },
    body: 'number\n13800000023\n13800000024\nnobody\n',
  },
  { operation: 'listBlockedNumbers', path: { id: ids.productList }, query: { phone: '13800000021' } },
  { operation: 'listBlocklists', query: { accountId: ids.account } },
  { operation: 'createCap', body: { scope: 'subscription', subjectId: ids.cardSubscription, period: 'day', count: 3 }, id: ids.cap },
  { operation: 'changeCap', path: { id: ids.cap }, body: { count: 5 }, id: ids.cap },
  { operation: 'getCap', path: { id: ids.cap }, id: ids.cap },
  { operation: 'listCaps', query: { scope: 'subscription', subjectId: ids.cardSubscription } },
  { operation: 'deleteCap', path: { id: ids.cap }, id: ids.cap },

  // It says which carriers numbers belong to.
  {
    operation: 'importNumberTable',
    query: { mode: 'extend', origin: '工信部 2026-07' },
    body: 'prefix,carrier,province,city\n1700000,unicom,广东,广州\n',
  },
  { operation: 'getNumberTable' },
  { operation: 'resetNumberTable' },
  { operation: 'importPortedNumbers', query: { mode: 'extend' }, body: 'number,carrier\n13800000031,unicom\n13800000032,telecom\n' },
  { operation: 'listPortedNumbers', query: { source: 'import', phone: '13800000031' } },
  { operation: 'getNumber', path: { number: '13800000031' } },
  { operation: 'removePortedNumbers', body: { numbers: ['13800000031'] } },
  { operation: 'clearPortedNumbers', body: { source: 'import' } },

  // It says which texts may be sent.
  { operation: 'createWordList', body: { name: '金融', verdict: 'intercept' }, id: ids.wordList },
  { operation: 'changeWordList', path: { id: ids.wordList }, body: { verdict: 'review', enabled: true }, id: ids.wordList },
  { operation: 'addWords', path: { id: ids.wordList }, body: { words: ['贷款', '赌博'] } },
  { operation: 'removeWords', path: { id: ids.wordList }, body: { words: ['赌博'] } },
  { operation: 'importWords', path: { id: ids.wordList }, body: '高利\n套现\n' },
  { operation: 'listWords', path: { id: ids.wordList }, query: { search: '贷' } },
  { operation: 'getWordList', path: { id: ids.wordList }, id: ids.wordList },
  { operation: 'listWordLists' },
  {
    operation: 'createContentTemplate',
    body: { text: '【鸿雁】您的验证码是{6}，{:10}内有效。', verdict: 'pass', note: '所有客户', enabled: true },
    id: ids.platformTemplate,
  },
  {
    operation: 'createContentTemplate',
    body: { accountId: ids.account, text: '【鸿雁】您有一张优惠券 {:60}', verdict: 'pass' },
    id: ids.accountTemplate,
  },
  {
    operation: 'changeContentTemplate',
    path: { id: ids.accountTemplate },
    body: { note: '2026 年暑期活动', enabled: true },
    id: ids.accountTemplate,
  },
  { operation: 'getContentTemplate', path: { id: ids.accountTemplate }, id: ids.accountTemplate },
  { operation: 'listContentTemplates', query: { owner: 'platform', state: 'enabled', verdict: 'pass' } },
  { operation: 'deleteContentTemplate', path: { id: ids.accountTemplate }, id: ids.accountTemplate },
  {
    operation: 'previewScreening',
    body: { subscriptionId: ids.cardSubscription, numbers: ['13800000001', '13800000021'], content: '【鸿雁】低息贷款 $url$' },
  },

  // The customer sends, people answer, and an operator looks at the result.
  { operation: 'listBatches', after: 'cardSent', query: { accountId: ids.account, subscriptionId: ids.cardSubscription } },
  { operation: 'getBatch', path: { id: ids.sentBatch }, id: ids.sentBatch },
  { operation: 'listMessages', query: { accountId: ids.account, phone: '13800000001' } },
  { operation: 'getMessage', path: { id: ids.sentMessage }, id: ids.sentMessage },
  { operation: 'listReplies', query: { accountId: ids.account, phone: '13800000001' } },
  { operation: 'listUnassignedReplies', after: 'strangerWrote', query: { limit: 10 } },
  { operation: 'listOrphanReports', after: 'reportLost' },
  { operation: 'listEvents', query: { accountId: ids.account, kind: 'report', batchId: ids.sentBatch } },
  { operation: 'replayEvents', body: { accountId: ids.account, kind: 'report', state: 'any', batchId: ids.sentBatch } },
  { operation: 'listLedgerEntries', query: { subscriptionId: ids.cardSubscription } },

  // A person decides on the batches in review.
  { operation: 'listReviews', after: 'loansOffered', query: { accountId: ids.account, state: 'pending' } },
  { operation: 'getReview', path: { id: ids.approvedBatch }, id: ids.approvedBatch },
  { operation: 'approveReview', path: { id: ids.approvedBatch }, id: ids.approvedBatch },
  { operation: 'rejectReview', path: { id: ids.rejectedBatch }, body: { reason: '不得宣传贷款' }, id: ids.rejectedBatch },
  { operation: 'deleteWordList', path: { id: ids.wordList }, id: ids.wordList },

  // The customer cancels a planned batch.
  { operation: 'getBatchMedium', after: 'packagePlanned', path: { id: ids.plannedBatch, sha256: pictureSha256 } },
  { operation: 'cancelBatch', path: { id: ids.plannedBatch }, id: ids.plannedBatch },

  // The operator changes the platform’s settings.
  { operation: 'changeSettings', body: { optOutWords: ['TD', '退订'], retentionDays: 90, reviewWithinHours: null } },
  { operation: 'getSettings' },
];
