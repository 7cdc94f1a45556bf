/**
 * Bearer tokens of the management API. Owns the table `tokens`.
 *
 * A token is shown once, when it is made; what is stored is its SHA-256. That is enough: a token is 32 random bytes, so there is
 * nothing to guess that a slow hash would slow down, and looking a hash up tells a timer nothing about the token.
 */
import { createHash, randomBytes } from 'node:crypto';
import type { Sql } from '../../db/db.ts';
import { checkAccount } from './management.ts';

/** Who calls the management API: the operator, or one account. */
export type Caller = { readonly role: 'operator' } | { readonly role: 'account'; readonly accountId: bigint };

/** A caller as its token shows it. */
export type TokenHolder = Caller & { readonly tokenName: string };

export interface NewToken {
  readonly name: string;
  readonly caller: Caller;
  /** The token itself, where it must be a known one (the sandbox); random if left out. */
  readonly token?: string;
}

/** Makes a token and returns it; it cannot be read again. */
export async function createToken(sql: Sql, { name, caller, token = newToken() }: NewToken): Promise<string> {
  const accountId = caller.role === 'account' ? caller.accountId : null;
  if (accountId !== null) await checkAccount(sql, accountId);
  await sql`
    insert into tokens (hash, role, account_id, name)
    values (${hashOf(token)}, ${caller.role}, ${accountId}, ${name})`;
  return token;
}

/** Whose token this is; null if it is nobody's. */
export async function findToken(sql: Sql, presented: string): Promise<TokenHolder | null> {
  const [row] = await sql<{ accountId: bigint | null; tokenName: string }[]>`
    select account_id as "accountId", name as "tokenName" from tokens where hash = ${hashOf(presented)}`;
  if (!row) return null;
  const { accountId, tokenName } = row;
  return accountId === null ? { role: 'operator', tokenName } : { role: 'account', accountId, tokenName };
}

const newToken = (): string => `hy_${randomBytes(32).toString('base64url')}`;
const hashOf = (token: string): Buffer => createHash('sha256').update(token).digest();
