// Every table: how its rows would be spread over the nodes of a distributed PostgreSQL, which module writes it, and who else reads it.
//
// This is the one list of them. Today only tools/tidy uses it, and compares it with the schema and with all SQL in the program. The scripts
// that distribute the tables will be made from it.

/**
 * `account`, `channel`: by the value of that column, all that is one account's or one channel's on one node. `reference`: a copy on every
 * node. `local`: on one node.
 */
export type Distribution = 'account' | 'channel' | 'reference' | 'local';

export interface Table {
  readonly distribution: Distribution;
  /** The only file that inserts, updates and deletes rows, under src/. */
  readonly writer: string;
  /** Folders whose files read it too, beside the writer's own. Tests may read anything. */
  readonly readers: readonly string[];
}

/** The column by which rows are spread; a table that is not spread has none. */
export const distributionColumn: Readonly<Record<Distribution, string | undefined>> = {
  account: 'account_id',
  channel: 'channel_id',
  reference: undefined,
  local: undefined,
};

const table = (distribution: Distribution, writer: string, readers: readonly string[] = []): Table => ({ distribution, writer, readers });

export const tables: Readonly<Record<string, Table>> = {
  // Configuration and what is learned of numbers: small, read everywhere, a copy on every node.
  accounts: table('reference', 'src/core/catalogue/accounts.ts', ['sandbox', 'src/core/config', 'src/core/events', 'src/core/watch']),
  subscriptions: table('reference', 'src/core/catalogue/accounts.ts', [
    'src/core/config',
    'src/core/events',
    'src/core/queue',
    'src/core/screening',
  ]),
  products: table('reference', 'src/core/catalogue/products.ts', [
    'src/core/config',
    'src/core/events',
    'src/core/queue',
    'src/core/screening',
  ]),
  pools: table('reference', 'src/core/catalogue/pools.ts', ['src/core/config']),
  pool_channels: table('reference', 'src/core/catalogue/pools.ts', ['src/core/config']),
  channels: table('reference', 'src/core/catalogue/channels.ts', ['src/core/config', 'src/core/watch']),
  blocklists: table('reference', 'src/core/catalogue/blocklists.ts', ['src/core/config']),
  blocked_numbers: table('reference', 'src/core/catalogue/blocklists.ts'),
  ported_numbers: table('reference', 'src/core/numbers/portability.ts', ['src/core/config']),
  caps: table('reference', 'src/core/screening/caps.ts', ['src/core/config']),
  content_templates: table('reference', 'src/core/screening/content-rules.ts'),
  word_lists: table('reference', 'src/core/screening/content-rules.ts'),
  words: table('reference', 'src/core/screening/content-rules.ts'),

  // What is one account’s, together on one node.
  cap_counters: table('account', 'src/core/screening/caps.ts'),
  templates: table('account', 'src/core/content/templates.ts', ['src/core/events', 'src/core/queue', 'src/core/watch']),
  signatures: table('account', 'src/core/content/signatures.ts', [
    'sandbox',
    'src/core/catalogue',
    'src/core/config',
    'src/core/screening',
  ]),
  balances: table('account', 'src/core/money/ledger.ts', ['src/core/catalogue', 'src/core/watch']),
  ledger_entries: table('account', 'src/core/money/ledger.ts', ['src/core/catalogue', 'src/core/watch']),
  media: table('account', 'src/core/content/media.ts'),
  request_ids: table('account', 'src/core/queue/batches.ts'),
  batches: table('account', 'src/core/queue/batches.ts', [
    'src/core/content',
    'src/core/events',
    'src/core/intake',
    'src/core/outcome',
    'src/core/watch',
  ]),
  chunks: table('account', 'src/core/queue/batches.ts', ['src/core/content', 'src/core/intake', 'src/core/watch']),
  messages: table('account', 'src/core/outcome/messages.ts', ['src/core/events', 'src/core/queue', 'src/core/watch']),
  segments: table('account', 'src/core/outcome/messages.ts', ['src/core/watch']),
  late_reports: table('account', 'src/core/outcome/messages.ts', ['src/core/watch']),
  review_items: table('account', 'src/core/intake/review.ts', ['src/core/watch']),
  replies: table('account', 'src/core/outcome/inbound.ts', ['src/core/events', 'src/core/watch']),
  parcels: table('account', 'src/core/events/owed.ts', ['src/core/watch']),
  handovers: table('account', 'src/core/events/owed.ts', ['src/core/watch']),
  pushes: table('account', 'src/core/events/pushed.ts', ['src/core/watch']),

  // What is one channel’s, together on one node.
  dispatch_queue: table('channel', 'src/core/queue/queue.ts', ['src/core/watch']),
  channel_turns: table('channel', 'src/core/queue/queue.ts'),
  channel_leases: table('channel', 'src/core/queue/queue.ts', ['src/core/watch']),
  channel_nodes: table('channel', 'src/core/queue/queue.ts', ['src/core/catalogue', 'src/core/watch']),
  orphan_reports: table('channel', 'src/core/outcome/reports.ts', ['src/core/watch']),
  inbound_parts: table('channel', 'src/core/outcome/inbound.ts'),

  // Read and written seldom, by no statement that joins the others: on one node.
  config_version: table('local', 'src/core/config/directory.ts', ['src/core/screening']),
  settings: table('local', 'src/core/config/settings.ts'),
  tokens: table('local', 'src/core/config/tokens.ts'),
  number_tables: table('local', 'src/core/numbers/number-plan.ts', ['src/core/config']),
  figures: table('local', 'src/core/watch/figures.ts'),
  schema_migrations: table('local', 'src/db/migrate.ts'),
};
