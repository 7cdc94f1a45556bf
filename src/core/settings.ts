/**
 * Values the installation makes for itself once and keeps: the key of the short links. Sealed like every secret. The only writer of
 * `settings`.
 */
import { randomBytes } from 'node:crypto';
import type { Db } from '../db/db.ts';
import type { SecretBox } from '../std/secret-box.ts';

/** The 32-byte secret that short links are derived from; the same on every node, made by whichever asks first. */
export async function linkSecret(db: Db, box: SecretBox): Promise<Buffer> {
  await db.sql`insert into settings (name, value) values ('link_secret', ${box.seal(randomBytes(32).toString('hex'))}) on conflict do nothing`;
  const [row] = await db.sql<{ value: string }[]>`select value from settings where name = 'link_secret'`;
  if (!row) throw new Error('the setting link_secret is missing');
  return Buffer.from(box.open(row.value), 'hex');
}
