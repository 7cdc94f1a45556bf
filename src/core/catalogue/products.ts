/**
 * What the operator sells. The only writer of `products`. Call writers in a transaction; they raise the configuration's version first
 * (accounts.ts says why).
 */
import type { Sql } from '../../db/db.ts';
import { raiseVersion } from '../config/directory.ts';
import type { Page, PageRequest } from '../config/management.ts';
import { afterId, Denial, found, nextConfigId, pageOf } from '../config/management.ts';
import type { Medium, Product, ProductLimits, SendingWindow } from '../model/configuration.ts';

export type StoredProduct = Product & { readonly createdAt: Date };

export interface ProductSettings {
  readonly name?: string;
  readonly poolId?: bigint | null;
  readonly signatureRequired?: boolean;
  readonly strictSignatures?: boolean;
  readonly templatesOnly?: boolean;
  readonly sendingWindow?: SendingWindow | null;
  readonly chargeOn?: Product['chargeOn'];
  readonly inDoubt?: Product['inDoubt'];
  readonly ttlHours?: number;
  readonly limits?: ProductLimits;
}

/** Medium and unit never change, because balances are counted in the unit. */
export interface NewProduct extends ProductSettings {
  readonly id?: bigint;
  readonly name: string;
  readonly medium: Medium;
  readonly unit: Product['unit'];
}

/** Creates a product. By default, an AIM or SMS in doubt is sent again, and an MMS in doubt is given up. */
export async function createProduct(sql: Sql, product: NewProduct): Promise<StoredProduct> {
  await raiseVersion(sql);
  const id = product.id ?? (await nextConfigId(sql));
  const [taken] = await sql`select 1 from products where id = ${id}`;
  if (taken) throw new Denial('conflict', 'there is a product with this id already');
  await checkPool(sql, product.poolId);
  await sql`
    insert into products (id, name, medium, unit, pool_id, signature_required, strict_signatures, templates_only, sending_window, charge_on,
                          in_doubt, ttl_hours, limits)
    values (${id}, ${product.name}, ${product.medium}, ${product.unit}, ${product.poolId ?? null}, ${product.signatureRequired ?? true},
            ${product.strictSignatures ?? false}, ${product.templatesOnly ?? false},
            ${product.sendingWindow ? sql.json(product.sendingWindow) : null},
            ${product.chargeOn ?? 'delivered'}, ${product.inDoubt ?? (product.medium === 'mms' ? 'give_up' : 'resend')},
            ${product.ttlHours ?? 24}, ${sql.json(product.limits ?? {})})`;
  return getProduct(sql, null, id);
}

/** Changes the named settings and leaves the others. Messages that are already accepted keep the settings they were accepted under. */
export async function changeProduct(sql: Sql, id: bigint, wanted: ProductSettings): Promise<StoredProduct> {
  await raiseVersion(sql);
  const product = { ...(await getProduct(sql, null, id)), ...wanted };
  await checkPool(sql, product.poolId);
  await sql`
    update products
    set name = ${product.name}, pool_id = ${product.poolId}, signature_required = ${product.signatureRequired},
        strict_signatures = ${product.strictSignatures}, templates_only = ${product.templatesOnly},
        sending_window = ${product.sendingWindow ? sql.json(product.sendingWindow) : null},
        charge_on = ${product.chargeOn}, in_doubt = ${product.inDoubt}, ttl_hours = ${product.ttlHours}, limits = ${sql.json(product.limits)}
    where id = ${id}`;
  return getProduct(sql, null, id);
}

/** One product; for an account, only if it subscribes to it. */
export async function getProduct(sql: Sql, accountId: bigint | null, id: bigint): Promise<StoredProduct> {
  const [product] = await sql<StoredProduct[]>`${visibleProducts(sql, accountId)} and p.id = ${id}`;
  return found(product, 'product');
}

/** Products by id: those an account subscribes to, or all of them for the operator (`accountId` null). */
export async function listProducts(sql: Sql, accountId: bigint | null, page: PageRequest): Promise<Page<StoredProduct>> {
  const rows = await sql<StoredProduct[]>`
    ${visibleProducts(sql, accountId)} and p.id > ${afterId(page)} order by p.id limit ${page.limit + 1}`;
  return pageOf(rows, page, ({ id }) => [id]);
}

const visibleProducts = (sql: Sql, accountId: bigint | null) => sql`
  select p.id, p.name, p.medium, p.unit, p.pool_id as "poolId", p.signature_required as "signatureRequired",
         p.strict_signatures as "strictSignatures", p.templates_only as "templatesOnly", p.sending_window as "sendingWindow", p.charge_on as "chargeOn",
         p.in_doubt as "inDoubt", p.ttl_hours as "ttlHours", p.limits, p.created_at as "createdAt"
  from products p
  where (${accountId}::bigint is null
         or exists (select 1 from subscriptions s where s.account_id = ${accountId} and s.product_id = p.id))`;

async function checkPool(sql: Sql, poolId: bigint | null | undefined): Promise<void> {
  if (poolId === null || poolId === undefined) return;
  const [pool] = await sql`select 1 from pools where id = ${poolId}`;
  if (!pool) throw new Denial('invalid', 'poolId: no such pool');
}
