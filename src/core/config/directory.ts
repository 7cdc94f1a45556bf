/**
 * The configuration as the hot path sees it: accounts, products, subscriptions, channels, pools and lists in memory, so that authenticating
 * and routing a request needs no query.
 *
 * Every change of configuration raises `config_version` in its own transaction (`raiseVersion`). A node reloads on a notification, or when
 * its poll (twice a second) sees another version; the node that made the change calls `refresh` before it answers. The snapshot is replaced
 * whole, never patched, so a reader never sees half a change.
 *
 * The rules for texts take long to load, so they have their own version in the same row (`raiseContentVersion`). This module watches that
 * version; `content-rules.ts` loads the rules.
 */
import type { Db, Sql } from '../../db/db.ts';
import { groupBy } from '../../std/group.ts';
import type { SecretBox } from '../../std/secret-box.ts';
import {
  type Account,
  type Cap,
  type CapScope,
  type Channel,
  defaultHealthRules,
  defaultSettings,
  type PlatformSettings,
  type Product,
  type Signature,
  type Subscription,
} from '../model/configuration.ts';
import type { Dialects } from '../model/dialect.ts';

/** Everything a customer's request needs to know about its sp_id. */
export interface Tenancy {
  readonly account: Account;
  readonly product: Product;
  readonly subscription: Subscription;
  /** The plain product password; null where the subscription has none. */
  readonly password: string | null;
}

/** An account that authenticates with api_id and api_key. */
export interface ApiAccount {
  readonly account: Account;
  readonly apiKey: string;
}

export interface PoolMember {
  readonly channelId: bigint;
  readonly priority: number;
  readonly weight: number;
}

export type BlocklistKind = 'empty' | 'system' | 'product' | 'subscription' | 'signature';

interface Snapshot {
  readonly version: bigint;
  readonly accounts: ReadonlyMap<bigint, Account>;
  readonly byApiId: ReadonlyMap<string, ApiAccount>;
  readonly products: ReadonlyMap<bigint, Product>;
  readonly subscriptions: ReadonlyMap<bigint, Tenancy>;
  readonly byAccount: ReadonlyMap<bigint, readonly Tenancy[]>;
  readonly bySpId: ReadonlyMap<bigint, Tenancy>;
  readonly byExtension: ReadonlyMap<string, Tenancy>;
  readonly channels: ReadonlyMap<bigint, Channel>;
  readonly channelSecrets: ReadonlyMap<bigint, string>;
  readonly pools: ReadonlyMap<bigint, readonly PoolMember[]>;
  readonly lists: ReadonlyMap<string, bigint>;
  readonly signatures: ReadonlyMap<string, Signature>;
  readonly caps: ReadonlyMap<string, readonly Cap[]>;
  readonly numberTable: bigint;
  readonly hasPortedNumbers: boolean;
  readonly settings: PlatformSettings;
}

export interface Directory {
  start(): Promise<void>;
  stop(): Promise<void>;
  /** Reloads the configuration if its version has changed. Call it after a change, before answering. */
  refresh(): Promise<void>;
  /** Rises with every change; for caches that depend on the configuration. */
  version(): bigint;
  onChange(listener: () => void): void;
  /** Rises with every change of the rules for texts. */
  contentVersion(): bigint;
  onContentChange(listener: () => void): void;
  /** All dialects; not configuration, but needed together with it. */
  readonly dialects: Dialects;
  account(id: bigint): Account | undefined;
  accounts(): Iterable<Account>;
  byApiId(apiId: string): ApiAccount | undefined;
  product(id: bigint): Product | undefined;
  subscription(id: bigint): Tenancy | undefined;
  /** An account's subscriptions, by id. */
  subscriptionsOf(accountId: bigint): readonly Tenancy[];
  bySpId(spId: bigint): Tenancy | undefined;
  /** The subscription with the longest extension that these digits (after a channel's access number) begin with. */
  byExtension(digits: string): Tenancy | undefined;
  channels(): Iterable<Channel>;
  channel(id: bigint): Channel | undefined;
  channelSecret(id: bigint): string | undefined;
  /** The channels of a pool, possibly none; undefined if there is no such pool. */
  pool(id: bigint): readonly PoolMember[] | undefined;
  /** The pools that a channel is in. */
  poolsOf(channelId: bigint): readonly bigint[];
  blocklist(kind: BlocklistKind, subjectId: bigint): bigint | undefined;
  signature(accountId: bigint, name: string): Signature | undefined;
  /** The frequency caps of a subject, by id; usually none. */
  caps(scope: CapScope, subjectId: bigint): readonly Cap[];
  /** The number table that the operator has imported (see number-plan.ts); 0 if none. */
  numberTable(): bigint;
  /** Whether any number is known to be ported; if not, no query is needed (see portability.ts). */
  hasPortedNumbers(): boolean;
  settings(): PlatformSettings;
}

const notifyChannel = 'hongyan_config';
const pollMs = 500;

/** Marks a change of configuration, in the transaction that makes it. */
export async function raiseVersion(sql: Sql): Promise<void> {
  await sql`update config_version set version = version + 1 where id = 1`;
}

/** Marks a change of the rules for texts, in the transaction that makes it. Call it last, since other transactions wait for the row. */
export async function raiseContentVersion(sql: Sql): Promise<void> {
  await sql`update config_version set content_version = content_version + 1 where id = 1`;
}

export function createDirectory({ db, box, dialects }: { db: Db; box: SecretBox; dialects: Dialects }): Directory {
  let snapshot: Snapshot | undefined;
  let contentVersion = 0n;
  let loading: Promise<void> | undefined;
  let timer: NodeJS.Timeout | undefined;
  let unlisten: (() => Promise<void>) | undefined;
  const listeners: (() => void)[] = [];
  const contentListeners: (() => void)[] = [];

  const now = (): Snapshot => {
    if (!snapshot) throw new Error('the directory was asked before it was started');
    return snapshot;
  };

  async function reloadIfChanged(): Promise<void> {
    const [row] = await db.sql<{ version: bigint; contentVersion: bigint }[]>`
      select version, content_version as "contentVersion" from config_version where id = 1`;
    if (!row) return;
    if (row.version !== snapshot?.version) {
      snapshot = await load(db, box);
      for (const listener of listeners) listener();
    }
    if (row.contentVersion !== contentVersion) {
      contentVersion = row.contentVersion;
      for (const listener of contentListeners) listener();
    }
  }

  /** One load at a time. A caller who comes during a load waits for the next one, since the running one may have read before its change. */
  async function refresh(): Promise<void> {
    while (loading) await loading;
    loading = reloadIfChanged().finally(() => {
      loading = undefined;
    });
    await loading;
  }

  return {
    async start() {
      await refresh();
      unlisten = await db.listen(notifyChannel, () => void refresh().catch(() => {}));
      timer = setInterval(() => void refresh().catch(() => {}), pollMs);
    },
    async stop() {
      clearInterval(timer);
      await unlisten?.();
    },
    async refresh() {
      await refresh();
      await db.notify(notifyChannel);
    },
    version: () => now().version,
    onChange: (listener) => void listeners.push(listener),
    contentVersion: () => contentVersion,
    onContentChange: (listener) => void contentListeners.push(listener),
    dialects,
    account: (id) => now().accounts.get(id),
    accounts: () => now().accounts.values(),
    byApiId: (apiId) => now().byApiId.get(apiId),
    product: (id) => now().products.get(id),
    subscription: (id) => now().subscriptions.get(id),
    subscriptionsOf: (accountId) => now().byAccount.get(accountId) ?? [],
    bySpId: (spId) => now().bySpId.get(spId),
    byExtension(digits) {
      const { byExtension } = now();
      for (let length = digits.length; length > 0; length--) {
        const found = byExtension.get(digits.slice(0, length));
        if (found) return found;
      }
      return undefined;
    },
    channels: () => now().channels.values(),
    channel: (id) => now().channels.get(id),
    channelSecret: (id) => now().channelSecrets.get(id),
    pool: (id) => now().pools.get(id),
    poolsOf: (channelId) =>
      [...now().pools].flatMap(([poolId, members]) => (members.some((member) => member.channelId === channelId) ? [poolId] : [])),
    blocklist: (kind, subjectId) => now().lists.get(`${kind}:${subjectId}`),
    signature: (accountId, name) => now().signatures.get(`${accountId}:${name}`),
    caps: (scope, subjectId) => now().caps.get(`${scope}:${subjectId}`) ?? [],
    numberTable: () => now().numberTable,
    hasPortedNumbers: () => now().hasPortedNumbers,
    settings: () => now().settings,
  };
}

/** A subscription's rate limit as an object; null if it has none. */
export const rateLimitColumn = (sql: Sql) => sql`
  case when rate_per_second is not null then json_build_object('perSecond', rate_per_second, 'burst', rate_burst) end as "rateLimit"`;

/** Reads everything as of one instant, so that the version and the rows agree. */
async function load(db: Db, box: SecretBox): Promise<Snapshot> {
  const rows = await db.transaction(async (sql) => {
    await sql`set transaction isolation level repeatable read, read only`;
    return {
      version: await sql<{ version: bigint }[]>`select version from config_version where id = 1`,
      accounts: await sql<(Account & { apiKey: string })[]>`
        select id, name, api_id as "apiId", api_key as "apiKey", ip_allow_list as "ipAllowList", push_urls as "pushUrls", locked,
               exempt_numbers as "exemptNumbers"
        from accounts`,
      products: await sql<Product[]>`
        select id, name, medium, unit, pool_id as "poolId", signature_required as "signatureRequired",
               strict_signatures as "strictSignatures", templates_only as "templatesOnly", sending_window as "sendingWindow", charge_on as "chargeOn",
               in_doubt as "inDoubt", ttl_hours as "ttlHours", limits from products`,
      subscriptions: await sql<(Subscription & { password: string | null })[]>`
        select id, account_id as "accountId", product_id as "productId", dialect, sp_id as "spId", password, price_e4 as "priceE4",
               extension, class, push_urls as "pushUrls", enabled, sending_window as "sendingWindow", unmatched, ${rateLimitColumn(sql)}
        from subscriptions order by id`,
      channels: await sql<(Channel & { secret: string })[]>`
        select id, name, protocol, enabled, connections, carriers, provinces, coalesce(health_forced, health) as health,
               health_forced is not null as "isHealthForced", case when health_forced is null then health_cause end as "healthCause",
               health_rules as "healthRules", access_number as "accessNumber", settings, secret
        from channels order by id`,
      pools: await sql<{ id: bigint }[]>`select id from pools`,
      members: await sql<(PoolMember & { poolId: bigint })[]>`
        select pool_id as "poolId", channel_id as "channelId", priority, weight from pool_channels order by priority, channel_id`,
      lists: await sql<{ id: bigint; kind: string; subjectId: bigint }[]>`select id, kind, subject_id as "subjectId" from blocklists`,
      settings: await sql<{ value: string }[]>`select value from settings where name = 'platform'`,
      signatures: await sql<(Signature & { accountId: bigint; name: string })[]>`
        select account_id as "accountId", id, name, registrations from signatures`,
      caps: await sql<Cap[]>`select id, scope, subject_id as "subjectId", period, count from caps order by id`,
      numbers: await sql<{ table: bigint; ported: boolean }[]>`
        select coalesce((select version from number_tables where id = 1), 0) as "table", exists (select from ported_numbers) as ported`,
    };
  });

  const accounts = new Map(rows.accounts.map(({ apiKey: _sealed, ...account }): [bigint, Account] => [account.id, account]));
  const products = new Map(rows.products.map((product) => [product.id, product]));
  const tenancies = rows.subscriptions.map(({ password, ...subscription }): Tenancy => {
    const account = accounts.get(subscription.accountId);
    const product = products.get(subscription.productId);
    if (!account || !product) throw new Error(`subscription ${subscription.id} has no account or product`);
    return { account, product, subscription, password: password === null ? null : box.open(password) };
  });
  const pools = new Map<bigint, PoolMember[]>(rows.pools.map(({ id }) => [id, []]));
  for (const { poolId, ...member } of rows.members) pools.get(poolId)?.push(member);

  return {
    version: rows.version[0]?.version ?? 0n,
    accounts,
    byApiId: new Map(
      rows.accounts.map(({ apiKey, ...account }) => [
        account.apiId,
        { account: accounts.get(account.id) ?? account, apiKey: box.open(apiKey) },
      ]),
    ),
    products,
    subscriptions: new Map(tenancies.map((tenancy) => [tenancy.subscription.id, tenancy])),
    byAccount: groupBy(tenancies, ({ account }) => account.id),
    bySpId: new Map(tenancies.flatMap((tenancy) => (tenancy.subscription.spId === null ? [] : [[tenancy.subscription.spId, tenancy]]))),
    byExtension: new Map(tenancies.map((tenancy) => [tenancy.subscription.extension, tenancy])),
    channels: new Map(
      rows.channels.map(({ secret: _secret, ...channel }) => [
        channel.id,
        { ...channel, healthRules: { ...defaultHealthRules, ...channel.healthRules } },
      ]),
    ),
    channelSecrets: new Map(rows.channels.map(({ id, secret }) => [id, box.open(secret)])),
    pools,
    lists: new Map(rows.lists.map(({ kind, subjectId, id }) => [`${kind}:${subjectId}`, id])),
    signatures: new Map(rows.signatures.map(({ accountId, name, ...signature }) => [`${accountId}:${name}`, signature])),
    caps: groupBy(rows.caps, ({ scope, subjectId }) => `${scope}:${subjectId}`),
    numberTable: rows.numbers[0]?.table ?? 0n,
    hasPortedNumbers: rows.numbers[0]?.ported ?? false,
    settings: { ...defaultSettings, ...(JSON.parse(rows.settings[0]?.value ?? '{}') as Partial<PlatformSettings>) },
  };
}
