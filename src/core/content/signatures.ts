/** Signatures and their state with each carrier. The only writer of `signatures`. */
import type { Sql } from '../../db/db.ts';
import { raiseVersion } from '../config/directory.ts';
import type { Page, PageRequest } from '../config/management.ts';
import { afterId, checkAccount, Denial, found, nextConfigId, pageOf } from '../config/management.ts';
import type { Registration, Signature } from '../model/configuration.ts';

export interface StoredSignature {
  readonly id: bigint;
  readonly accountId: bigint;
  /** Without its brackets. */
  readonly name: string;
  readonly registrations: Signature['registrations'];
  readonly createdAt: Date;
}

/** Registers a signature for an account; the name may be written with or without 【】. */
export async function createSignature(
  sql: Sql,
  signature: { id?: bigint; accountId: bigint; name: string; registrations?: Signature['registrations'] },
): Promise<StoredSignature> {
  await raiseVersion(sql);
  const { accountId } = signature;
  const name = signature.name.trim().replace(/^【(.*)】$/u, '$1');
  if (!/^[^【】]{2,20}$/u.test(name)) throw new Denial('invalid', 'name: 2 to 20 characters between the brackets');
  await checkAccount(sql, accountId);
  const id = signature.id ?? (await nextConfigId(sql));
  const [taken] = await sql`select 1 from signatures where id = ${id} or (account_id = ${accountId} and name = ${name})`;
  if (taken) throw new Denial('conflict', 'the account has this signature already');
  const [row] = await sql<StoredSignature[]>`
    insert into signatures (account_id, id, name, registrations)
    values (${accountId}, ${id}, ${name}, ${sql.json(signature.registrations ?? {})})
    returning ${signatureColumns(sql)}`;
  return found(row, 'signature');
}

/** Stores the state of a signature with carriers; a carrier that is not named keeps its state, null removes it. */
export async function changeRegistrations(
  sql: Sql,
  id: bigint,
  wanted: Readonly<Record<string, Registration | null>>,
): Promise<StoredSignature> {
  await raiseVersion(sql);
  const [row] = await sql<StoredSignature[]>`
    update signatures set registrations = jsonb_strip_nulls(registrations || ${sql.json(wanted)}::jsonb)
    where id = ${id} returning ${signatureColumns(sql)}`;
  return found(row, 'signature');
}

const signatureColumns = (sql: Sql) => sql`id, account_id as "accountId", name, registrations, created_at as "createdAt"`;

/** Signatures by id: an account's, or all for the operator (`accountId` null). */
export async function listSignatures(sql: Sql, accountId: bigint | null, page: PageRequest): Promise<Page<StoredSignature>> {
  const rows = await sql<StoredSignature[]>`
    select ${signatureColumns(sql)} from signatures
    where (${accountId}::bigint is null or account_id = ${accountId}) and id > ${afterId(page)}
    order by id limit ${page.limit + 1}`;
  return pageOf(rows, page, ({ id }) => [id]);
}
