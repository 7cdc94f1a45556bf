/**
 * Customers: accounts with their API credentials, and subscriptions, by which an account uses a product. The only writer of `accounts` and
 * `subscriptions`; the ledger owns a subscription's money.
 *
 * Call writers in a transaction (`change` in management.ts provides one). Each begins by raising the configuration's version, which locks
 * its only row. So changes of configuration happen one after another, and what a writer has checked stays true until it commits.
 */
import { createHash, randomBytes, randomInt } from 'node:crypto';
import { isIP } from 'node:net';
import type { Sql } from '../../db/db.ts';
import type { SecretBox } from '../../std/secret-box.ts';
import { ensureBlocklist } from './blocklists.ts';
import { raiseVersion, rateLimitColumn } from '../config/directory.ts';
import { balanceOf, openBalance, topUp, yuan } from '../money/ledger.ts';
import type { Management, Page, PageRequest } from '../config/management.ts';
import { afterId, checkAccount, Denial, found, nextConfigId, pageOf } from '../config/management.ts';
import type { DialectRules, Dialects } from '../model/dialect.ts';
import type { Account, Medium, Product, RateLimit, SendingWindow, Subscription } from '../model/configuration.ts';

// ── accounts ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export type StoredAccount = Account & { readonly createdAt: Date };

/** The URL of each kind of push. Null (or empty) removes a URL; a kind that is not named keeps its URL. */
type PushUrlChange = Readonly<Record<string, string | null>>;

export interface AccountSettings {
  readonly name?: string;
  readonly ipAllowList?: readonly string[];
  readonly locked?: boolean;
  readonly pushUrls?: PushUrlChange;
  readonly exemptNumbers?: readonly bigint[];
}

/** Of the first four, those left out are generated. Only the sandbox sets them, since its credentials are published. */
export interface NewAccount extends AccountSettings {
  readonly id?: bigint;
  readonly apiId?: string;
  readonly apiKey?: string;
  readonly name: string;
}

/** Creates an account. The returned `apiKey` is stored sealed and shown only this once. */
export async function createAccount(sql: Sql, box: SecretBox, account: NewAccount): Promise<{ account: StoredAccount; apiKey: string }> {
  await raiseVersion(sql);
  const id = account.id ?? (await nextConfigId(sql));
  const apiId = account.apiId ?? randomApiId();
  const apiKey = account.apiKey ?? randomSecret();
  const [taken] = await sql`select 1 from accounts where id = ${id} or api_id = ${apiId}`;
  if (taken) throw new Denial('conflict', 'there is an account with this id or apiId already');
  await sql`
    insert into accounts (id, name, api_id, api_key, ip_allow_list, push_urls, locked, exempt_numbers)
    values (${id}, ${account.name}, ${apiId}, ${box.seal(apiKey)}, ${allowList(account.ipAllowList ?? [])}::text[],
            ${sql.json(changedUrls({}, account.pushUrls, accountPushKinds))}, ${account.locked ?? false},
            ${exempt(account.exemptNumbers ?? [])}::bigint[])`;
  return { account: await getAccount(sql, id), apiKey };
}

/** Changes the named settings and leaves the others. */
export async function changeAccount(sql: Sql, id: bigint, wanted: AccountSettings): Promise<StoredAccount> {
  await raiseVersion(sql);
  const before = await getAccount(sql, id);
  await sql`
    update accounts
    set name = ${wanted.name ?? before.name}, locked = ${wanted.locked ?? before.locked},
        ip_allow_list = ${allowList(wanted.ipAllowList ?? before.ipAllowList)}::text[],
        push_urls = ${sql.json(changedUrls(before.pushUrls, wanted.pushUrls, accountPushKinds))},
        exempt_numbers = ${exempt(wanted.exemptNumbers ?? before.exemptNumbers)}::bigint[]
    where id = ${id}`;
  return getAccount(sql, id);
}

/** Replaces the API key; the old one is invalid from the commit on. */
export async function rotateApiKey(sql: Sql, box: SecretBox, id: bigint): Promise<string> {
  await raiseVersion(sql);
  const apiKey = randomSecret();
  const [account] = await sql`update accounts set api_key = ${box.seal(apiKey)} where id = ${id} returning 1`;
  found(account, 'account');
  return apiKey;
}

export async function getAccount(sql: Sql, id: bigint): Promise<StoredAccount> {
  const [account] = await sql<StoredAccount[]>`select ${accountColumns(sql)} from accounts where id = ${id}`;
  return found(account, 'account');
}

/** Accounts by id: only the account itself, or all of them for the operator (`accountId` null). */
export async function listAccounts(sql: Sql, accountId: bigint | null, page: PageRequest): Promise<Page<StoredAccount>> {
  const rows = await sql<StoredAccount[]>`
    select ${accountColumns(sql)} from accounts
    where id > ${afterId(page)} and (${accountId}::bigint is null or id = ${accountId})
    order by id limit ${page.limit + 1}`;
  return pageOf(rows, page, ({ id }) => [id]);
}

const accountColumns = (sql: Sql) => sql`
  id, name, api_id as "apiId", ip_allow_list as "ipAllowList", push_urls as "pushUrls", locked, exempt_numbers as "exemptNumbers",
  created_at as "createdAt"`;

// ── subscriptions ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface StoredSubscription extends Subscription {
  readonly medium: Medium;
  readonly unit: Product['unit'];
  /** The money that may still be spent. */
  readonly balanceE4: bigint;
  readonly createdAt: Date;
}

export interface SubscriptionSettings {
  readonly priceE4?: bigint;
  readonly class?: 0 | 1;
  readonly pushUrls?: PushUrlChange;
  readonly enabled?: boolean;
  readonly sendingWindow?: SendingWindow | null;
  readonly unmatched?: Subscription['unmatched'];
  /** Null: no limit. */
  readonly rateLimit?: RateLimit | null;
}

/**
 * `spId`, `password` and `extension` are generated if left out, the first two only where the dialect has them. Without a `dialect` it
 * speaks the usual one of its product's medium.
 */
export interface NewSubscription extends SubscriptionSettings {
  readonly id?: bigint;
  readonly accountId: bigint;
  readonly productId: bigint;
  readonly dialect?: string;
  readonly priceE4: bigint;
  readonly spId?: bigint;
  readonly password?: string;
  readonly extension?: string;
}

/**
 * Subscribes an account to a product, with an empty balance and an empty blocklist of its own.
 *
 * The password (null where the dialect has none) is stored sealed and shown only this once. Extensions stay unique and prefix-free, so the
 * digits of a reply begin with at most one of them.
 */
export async function createSubscription(
  sql: Sql,
  { box, directory: { dialects } }: Pick<Management, 'box' | 'directory'>,
  wanted: NewSubscription,
): Promise<{ subscription: StoredSubscription; password: string | null }> {
  await raiseVersion(sql);
  const { accountId, productId } = wanted;
  await checkAccount(sql, accountId);
  const [product] = await sql<{ medium: Medium }[]>`select medium from products where id = ${productId}`;
  if (!product) throw new Denial('invalid', 'productId: no such product');

  const id = wanted.id ?? (await nextConfigId(sql));
  const dialect = wanted.dialect ?? dialects.usual[product.medium];
  const hasSpId = speakable(dialects, dialect, product.medium).credentials === 'sp_id';
  const spId = hasSpId ? (wanted.spId ?? id) : null;
  const password = hasSpId ? (wanted.password ?? randomSecret()) : null;
  const [taken] = await sql`select 1 from subscriptions where id = ${id} or sp_id = ${spId}`;
  if (taken) throw new Denial('conflict', 'there is a subscription with this id or spId already');

  const extension = await freeExtension(sql, wanted.extension);
  await sql`
    insert into subscriptions (id, account_id, product_id, written_dialect, sp_id, password, price_e4, extension, class, push_urls, enabled, sending_window,
                               unmatched, rate_per_second, rate_burst)
    values (${id}, ${accountId}, ${productId}, ${dialect}, ${spId}, ${password === null ? null : box.seal(password)}, ${wanted.priceE4}, ${extension},
            ${wanted.class ?? 1}, ${sql.json(changedUrls({}, wanted.pushUrls, subscriptionPushKinds))}, ${wanted.enabled ?? true},
            ${wanted.sendingWindow ? sql.json(wanted.sendingWindow) : null}, ${wanted.unmatched ?? 'pass'},
            ${wanted.rateLimit?.perSecond ?? null}, ${wanted.rateLimit?.burst ?? null})`;
  await openBalance(sql, accountId, id);
  await ensureBlocklist(sql, 'subscription', id);
  return { subscription: await getSubscription(sql, accountId, id), password };
}

/** Changes the named settings and leaves the others; for an account, only if the subscription is its own. */
export async function changeSubscription(
  sql: Sql,
  accountId: bigint | null,
  id: bigint,
  wanted: SubscriptionSettings,
): Promise<StoredSubscription> {
  await raiseVersion(sql);
  const before = await getSubscription(sql, accountId, id);
  const { rateLimit = before.rateLimit, sendingWindow = before.sendingWindow } = wanted;
  await sql`
    update subscriptions
    set price_e4 = ${wanted.priceE4 ?? before.priceE4}, class = ${wanted.class ?? before.class}, enabled = ${wanted.enabled ?? before.enabled},
        push_urls = ${sql.json(changedUrls(before.pushUrls, wanted.pushUrls, subscriptionPushKinds))},
        sending_window = ${sendingWindow ? sql.json(sendingWindow) : null}, unmatched = ${wanted.unmatched ?? before.unmatched},
        rate_per_second = ${rateLimit?.perSecond ?? null}, rate_burst = ${rateLimit?.burst ?? null}
    where id = ${id} and account_id = ${before.accountId}`;
  return getSubscription(sql, accountId, id);
}

/**
 * Changes a subscription's dialect. Events already owed stay in the old dialect, and can be pulled with its calls. The password and the
 * sp_id stay.
 */
export async function changeDialect(sql: Sql, dialects: Dialects, id: bigint, dialect: string): Promise<StoredSubscription> {
  await raiseVersion(sql);
  const { accountId, medium, spId } = await getSubscription(sql, null, id);
  if (speakable(dialects, dialect, medium).credentials === 'sp_id' && spId === null)
    throw new Denial('conflict', `dialect: ${dialect} is spoken with an sp_id, which this subscription has not got; make another one`);
  await sql`update subscriptions set written_dialect = ${dialect} where account_id = ${accountId} and id = ${id}`;
  return getSubscription(sql, accountId, id);
}

/** The rules of a dialect that can send products of this medium; or a denial. */
function speakable({ rules }: Dialects, name: string, medium: Medium): DialectRules {
  const fitting = [...rules.values()].filter(({ media }) => media.includes(medium));
  const found = fitting.find((dialect) => dialect.name === name);
  if (!found)
    throw new Denial('invalid', `dialect: for a product of medium ${medium} there are ${fitting.map((one) => one.name).join(', ')}`);
  return found;
}

/** One subscription; for an account, only if it is its own. */
export async function getSubscription(sql: Sql, accountId: bigint | null, id: bigint): Promise<StoredSubscription> {
  const [subscription] = await sql<StoredSubscription[]>`
    ${storedSubscriptions(sql)} where s.id = ${id} and (${accountId}::bigint is null or s.account_id = ${accountId})`;
  return found(subscription, 'subscription');
}

/** Subscriptions by id: an account's, or all of them for the operator (`accountId` null). */
export async function listSubscriptions(sql: Sql, accountId: bigint | null, page: PageRequest): Promise<Page<StoredSubscription>> {
  const rows = await sql<StoredSubscription[]>`
    ${storedSubscriptions(sql)} where s.id > ${afterId(page)} and (${accountId}::bigint is null or s.account_id = ${accountId})
    order by s.id limit ${page.limit + 1}`;
  return pageOf(rows, page, ({ id }) => [id]);
}

const storedSubscriptions = (sql: Sql) => sql`
  select s.id, s.account_id as "accountId", s.product_id as "productId", p.medium, p.unit, s.dialect, s.sp_id as "spId", s.price_e4 as "priceE4",
         s.extension, s.class, s.push_urls as "pushUrls", s.enabled, s.sending_window as "sendingWindow", s.unmatched,
         ${rateLimitColumn(sql)}, b.balance_e4 as "balanceE4", s.created_at as "createdAt"
  from subscriptions s
  join products p on p.id = s.product_id
  join balances b on b.account_id = s.account_id and b.subscription_id = s.id`;

export interface Payment {
  readonly amountE4: bigint;
  readonly note: string | null;
  readonly at: Date;
  /** The payer's own key: a repeat pays nothing more. Null: every call pays. */
  readonly idempotencyKey: string | null;
}

/** Pays into a subscription's balance and returns the balance. A repeated key with another amount is denied. */
export async function payIn(sql: Sql, subscriptionId: bigint, { amountE4, note, at, idempotencyKey }: Payment): Promise<bigint> {
  const { accountId } = await getSubscription(sql, null, subscriptionId);
  const key = idempotencyKey === null ? await nextRecordId(sql) : keyOfText(`${subscriptionId}:${idempotencyKey}`);
  if (!(await topUp(sql, { accountId, subscriptionId, amountE4, key, note, at }))) {
    const [first] = await sql<{ amountE4: bigint }[]>`
      select amount_e4 as "amountE4" from ledger_entries
      where account_id = ${accountId} and batch_id = 0 and kind = 'top_up' and seq = ${key}`;
    if (first?.amountE4 !== amountE4)
      throw new Denial('conflict', `this Idempotency-Key has been used for a top-up of ${yuan(first?.amountE4 ?? 0n)}`);
  }
  return balanceOf(sql, accountId, subscriptionId);
}

/** Negative, so that it never equals a number of the sequence that replaces a missing key. */
const keyOfText = (text: string): bigint => -1n - (createHash('sha256').update(text).digest().readBigUInt64BE() >> 1n);

// ── extensions ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The wanted extension, if no other is its prefix and it is no other's prefix; without a wanted one, the first free one. */
async function freeExtension(sql: Sql, wanted: string | undefined): Promise<string> {
  const rows = await sql<{ extension: string }[]>`select extension from subscriptions`;
  const taken = new Set(rows.map(({ extension }) => extension));
  const beginnings = new Set([...taken].flatMap(beginningsOf));
  const isFree = (extension: string): boolean => !beginnings.has(extension) && beginningsOf(extension).every((part) => !taken.has(part));

  if (wanted !== undefined) {
    if (isFree(wanted)) return wanted;
    throw new Denial('conflict', `extension: ${wanted} is another subscription's, or begins it, or begins with it`);
  }
  for (const extension of proposals()) if (isFree(extension)) return extension;
  throw new Denial('conflict', 'extension: none is left to assign');
}

/** `123` → `1`, `12`, `123`. */
const beginningsOf = (extension: string): string[] => Array.from(extension, (_, at) => extension.slice(0, at + 1));

/**
 * Four digits first, to leave room for the customers' own digits. Those beginning with 0 are the reserve for when the four digits are used
 * up.
 */
function* proposals(): Generator<string> {
  for (let number = 1000; number < 10_000; number++) yield String(number);
  for (let number = 0; number < 100_000; number++) yield String(number).padStart(6, '0');
}

// ── what settings may hold ───────────────────────────────────────────────────────────────────────────────────────────────────────

const accountPushKinds = ['report', 'reply', 'template'];
const subscriptionPushKinds = ['report', 'reply'];
const longestUrl = 2000;

function changedUrls(before: Readonly<Record<string, string | undefined>>, wanted: PushUrlChange = {}, kinds: readonly string[]) {
  const urls = { ...before };
  for (const [kind, url] of Object.entries(wanted)) {
    if (!kinds.includes(kind)) throw new Denial('invalid', `pushUrls.${kind}: there are ${kinds.join(', ')}`);
    if (url === null || url === '') delete urls[kind];
    else urls[kind] = pushUrl(kind, url);
  }
  return urls;
}

/** Checks only the form of the URL. Each push checks whether the address it resolves to may be reached. */
function pushUrl(kind: string, text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  const isUsable = url && (url.protocol === 'http:' || url.protocol === 'https:') && !url.username && !url.password && !url.hash;
  if (!isUsable || text.length > longestUrl)
    throw new Denial(
      'invalid',
      `pushUrls.${kind}: not an http or https URL of at most ${longestUrl} characters without user, password and fragment`,
    );
  return text;
}

/** More would be a second kind of blocklist, and every node keeps these numbers in memory. */
const mostExempt = 300;

function exempt(numbers: readonly bigint[]): readonly bigint[] {
  if (numbers.length > mostExempt) throw new Denial('invalid', `exemptNumbers: at most ${mostExempt}`);
  return [...new Set(numbers)];
}

function allowList(entries: readonly string[]): readonly string[] {
  entries.forEach((entry, at) => {
    const [address = '', bits = '0', ...rest] = entry.split('/');
    const widest = { 0: -1, 4: 32, 6: 128 }[isIP(address)] ?? -1;
    if (!/^\d{1,3}$/.test(bits) || Number(bits) > widest || rest.length > 0)
      throw new Denial('invalid', `ipAllowList[${at}]: ${JSON.stringify(entry)} is neither an address nor a CIDR range`);
  });
  return entries;
}

// ── ids and secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

async function nextRecordId(sql: Sql): Promise<bigint> {
  const [row] = await sql<[{ id: bigint }]>`select nextval('record_ids') as id`;
  return row.id;
}

/** 16 capitals and digits, as in the vendors' APIs. It names the account and is not a secret. */
const randomApiId = (): string => Array.from({ length: 16 }, () => 'ABCDEFGHJKLMNPQRSTUVWXYZ23456789'.charAt(randomInt(32))).join('');
const randomSecret = (): string => randomBytes(24).toString('base64url');
