/**
 * The media of multimedia packages: stored once per account, by their SHA-256, and loaded for the dispatcher. The only writer of
 * `media`. Packages name media; only media that a package names are stored.
 */
import type { Db, Sql } from '../../db/db.ts';
import type { MediaFile, StoredPackage } from '../model/submission.ts';

/** Stores media that are not stored yet. Two transactions that store the same one wait for each other, so keys are taken in order. */
export async function storeMedia(sql: Sql, accountId: bigint, media: readonly MediaFile[], at: Date): Promise<void> {
  if (media.length === 0) return;
  const digests = media.map(({ sha256 }) => Buffer.from(sha256, 'hex'));
  // Locked, so that existing media stay until the package that names them is committed.
  const present = await sql<{ sha256: Buffer }[]>`
    select sha256 from media where account_id = ${accountId} and sha256 = any(${digests}::bytea[]) order by sha256 for key share`;
  const known = new Set(present.map(({ sha256 }) => sha256.toString('hex')));
  const missing = media.filter(({ sha256 }) => !known.has(sha256)).sort((a, b) => (a.sha256 < b.sha256 ? -1 : 1));
  for (const { sha256, type, extension, bytes } of missing)
    await sql`
      insert into media (account_id, sha256, type, extension, size, octets, created_at)
      values (${accountId}, ${Buffer.from(sha256, 'hex')}, ${type}, ${extension}, ${bytes.length}, ${bytes}, ${at})
      on conflict do nothing`;
}

/**
 * Deletes those of these media that no batch and no template names any more. Two statements: a transaction that stores a package with such
 * a medium either locked it first, and the second statement sees it; or it waits, finds the medium gone and stores it again. Callers must
 * exclude each other: two that remove the last two names would each see the other's name.
 */
export async function purgeUnusedMedia(sql: Sql, accountId: bigint, digests: readonly string[]): Promise<void> {
  if (digests.length === 0) return;
  const bytes = digests.map((digest) => Buffer.from(digest, 'hex'));
  const locked = await sql<{ sha256: Buffer }[]>`
    select sha256 from media where account_id = ${accountId} and sha256 = any(${bytes}::bytea[]) order by sha256 for update`;
  await sql`
    delete from media m
    where m.account_id = ${accountId} and m.sha256 = any(${locked.map(({ sha256 }) => sha256)}::bytea[])
      and not exists (
        select 1 from batches b
        where b.account_id = ${accountId} and b.package is not null
          and jsonb_path_query_array(b.package, '$.frames[*].media.sha256') ? encode(m.sha256, 'hex'))
      and not exists (
        select 1 from templates t
        where t.account_id = ${accountId} and jsonb_path_query_array(t.frames, '$[*].media.sha256') ? encode(m.sha256, 'hex'))`;
}

export async function findMedia(sql: Sql, accountId: bigint, sha256: string): Promise<MediaFile | null> {
  const [row] = await sql<{ type: string; extension: string; octets: Buffer }[]>`
    select type, extension, octets from media where account_id = ${accountId} and sha256 = ${Buffer.from(sha256, 'hex')}`;
  return row ? { sha256, type: row.type, extension: row.extension, bytes: row.octets } : null;
}

/** A package with its bytes: channels call it a MessagePackage. */
export interface LoadedPackage {
  readonly subject: string;
  readonly frames: readonly {
    readonly text: string | null;
    readonly media: { readonly contentType: string; readonly extension: string; readonly bytes: Buffer } | null;
    readonly mediaFirst: boolean;
  }[];
}

export interface PackageLoader {
  /** The package of a batch; the same object while it is cached, so a channel can upload it once for many messages. */
  load(accountId: bigint, batchId: bigint, stored: StoredPackage): Promise<LoadedPackage>;
}

const cachedBytes = 64 << 20;

/** Caches recently loaded packages, up to this many bytes. */
export function createPackageLoader({ db, maxBytes = cachedBytes }: { db: Db; maxBytes?: number }): PackageLoader {
  const cache = new Map<bigint, { readonly loading: Promise<LoadedPackage>; readonly bytes: number }>();
  let held = 0;

  async function read(accountId: bigint, { subject, frames }: StoredPackage): Promise<LoadedPackage> {
    const digests = [...new Set(frames.flatMap(({ media }) => (media ? [media.sha256] : [])))];
    const rows = await db.sql<{ sha256: Buffer; octets: Buffer }[]>`
      select sha256, octets from media
      where account_id = ${accountId} and sha256 = any(${digests.map((digest) => Buffer.from(digest, 'hex'))}::bytea[])`;
    const bytes = new Map(rows.map(({ sha256, octets }) => [sha256.toString('hex'), octets]));
    return {
      subject,
      frames: frames.map(({ text, media, mediaFirst }) => {
        if (!media) return { text, media: null, mediaFirst };
        const octets = bytes.get(media.sha256);
        if (!octets) throw new Error(`a package of account ${accountId} names a medium that is not stored`);
        return { text, media: { contentType: media.type, extension: media.extension, bytes: octets }, mediaFirst };
      }),
    };
  }

  function forget(batchId: bigint): void {
    held -= cache.get(batchId)?.bytes ?? 0;
    cache.delete(batchId);
  }

  return {
    load(accountId, batchId, stored) {
      const cached = cache.get(batchId);
      const bytes = cached?.bytes ?? stored.frames.reduce((sum, { media }) => sum + (media?.size ?? 0), 0);
      const loading = cached?.loading ?? read(accountId, stored);
      forget(batchId); // so that it is last in the map, as the most recently used
      cache.set(batchId, { loading, bytes });
      held += bytes;
      if (!cached) loading.catch(() => forget(batchId));
      for (const oldest of cache.keys()) {
        if (held <= maxBytes || oldest === batchId) break;
        forget(oldest);
      }
      return loading;
    },
  };
}
