/**
 * Bearer tokens of the management API. Owns the table `tokens`.
 *
 * A token is shown once, when it is made; its SHA-256 is stored. A slow hash would not help: a token is 32 random bytes, so it cannot be
 * guessed. The time of looking a hash up reveals nothing about the token.
 */
import { createHash, randomBytes } from 'node:crypto';
import type { Sql } from '../../db/db.ts';
import { checkAccount } from './management.ts';

/** Who calls the management API: the operator, or one account. */
export type Caller = { readonly role: 'operator' } | { readonly role: 'account'; readonly accountId: bigint };

/** A caller, with the name of its token. */
export type TokenHolder = Caller & { readonly tokenName: string };

export interface NewToken {
  readonly name: string;
  readonly caller: Caller;
  /** A fixed token, for the sandbox; random if left out. */
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

/** The holder of this token; null if there is none. */
export async function findToken(sql: Sql, presented: string): Promise<TokenHolder | null> {
  const [row] = await sql<{ accountId: bigint | null; tokenName: string }[]>`
    select account_id as "accountId", name as "tokenName" from tokens where hash = ${hashOf(presented)}`;
  if (!row) return null;
  const { accountId, tokenName } = row;
  return accountId === null ? { role: 'operator', tokenName } : { role: 'account', accountId, tokenName };
}

const newToken = (): string => `hy_${randomBytes(32).toString('base64url')}`;
const hashOf = (token: string): Buffer => createHash('sha256').update(token).digest();
