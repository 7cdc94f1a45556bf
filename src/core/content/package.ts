/**
 * Multimedia packages: from the frames that a customer wrote to content that a carrier and a phone will take, and from what was stored
 * back to the bytes that are sent. The only writer of `media`.
 *
 * A medium is what its bytes are, not what it is called: pictures are decoded, sounds and films looked into. Counts and sizes are
 * checked before anything is decoded, by the arithmetic of base64, so that what is too large costs nothing and is always called so.
 * Bytes are stored once for each account, by their SHA-256; packages name them.
 */
import { createHash } from 'node:crypto';
import { fileTypeFromBuffer } from 'file-type';
import { type MediaInfo, mediaInfoFactory } from 'mediainfo.js';
import sharp from 'sharp';
import type { Db, Sql } from '../../db/db.ts';
import type { ProductLimits } from '../model/configuration.ts';
import { Refusal } from '../model/refusals.ts';
import type { MediaFile, StoredFrame, StoredPackage } from '../model/submission.ts';

sharp.concurrency(1);
sharp.cache(false);

/** What a customer wrote, checked; `media` holds each different file once. */
export interface PackageDraft {
  readonly frames: readonly StoredFrame[];
  readonly media: readonly MediaFile[];
}

const kinds = ['text', 'image', 'audio', 'video'] as const;
type Kind = (typeof kinds)[number];

interface Format {
  readonly kind: Kind;
  readonly type: string;
  /** What the bytes may turn out to be. */
  readonly sniffed: readonly string[];
}

const formats: Readonly<Record<string, Format>> = {
  txt: { kind: 'text', type: 'text/plain', sniffed: [] },
  jpg: { kind: 'image', type: 'image/jpeg', sniffed: ['jpg'] },
  png: { kind: 'image', type: 'image/png', sniffed: ['png', 'apng'] },
  gif: { kind: 'image', type: 'image/gif', sniffed: ['gif'] },
  mp3: { kind: 'audio', type: 'audio/mpeg', sniffed: ['mp3'] },
  mp4: { kind: 'video', type: 'video/mp4', sniffed: ['mp4', 'm4v'] },
};
const extensionsOf: Readonly<Record<Kind, string>> = { text: 'txt', image: 'jpg、jpeg、png、gif', audio: 'mp3', video: 'mp4' };

const maxPixels = 40_000_000;
const decodeSeconds = 10;
/** A NUL, or half a surrogate pair: neither can be stored. */
const unstorable = /[\0\p{Cs}]/u;

const invalid = (path: string, reason: string): Refusal => new Refusal('content_invalid', `${path}: ${reason}`);
const tooLarge = (path: string, reason: string): Refusal => new Refusal('content_too_large', `${path}: ${reason}`);

// ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * Reads an array of frames, each of one or two `{con_type, ext_type, data}`. Refuses with `content_too_large` or `content_invalid` and
 * the place that is wrong.
 */
export async function readPackage(accountId: bigint, content: readonly unknown[], limits: Required<ProductLimits>): Promise<PackageDraft> {
  measure(content, limits);
  if (content.length === 0) throw invalid('content', '没有帧');
  const frames = content.map(readFrame);
  return inTurn(async () => {
    const media = new Map<string, MediaFile>();
    const stored: StoredFrame[] = [];
    for (const { text, medium, mediaFirst } of frames) {
      const file = medium && (await readMedium(accountId, medium, media));
      stored.push({ text, media: file && referenceTo(file), mediaFirst });
    }
    return { frames: stored, media: [...media.values()] };
  });
}

const referenceTo = ({ sha256, type, extension, bytes }: MediaFile) => ({ sha256, type, extension, size: bytes.length });

/** Refuses stored frames that are over limits, which may have become narrower since. */
export function checkLimits(frames: readonly StoredFrame[], limits: Required<ProductLimits>): void {
  checkFrameCount(frames.length, limits);
  frames.forEach(({ text }, index) => text !== null && checkText(`content[${index}]`, text, limits));
  checkTotal(
    frames.reduce((sum, { text, media }) => sum + Buffer.byteLength(text ?? '') + (media?.size ?? 0), 0),
    limits,
  );
}

/** Counts and sizes, of whatever may be text or base64, right or wrong. */
function measure(content: readonly unknown[], limits: Required<ProductLimits>): void {
  checkFrameCount(content.length, limits);
  let total = 0;
  content.forEach((frame, index) => {
    if (!Array.isArray(frame)) return;
    frame.forEach((element: unknown, position) => {
      if (typeof element !== 'object' || element === null || !('data' in element) || typeof element.data !== 'string') return;
      const isText = kindOf('con_type' in element ? element.con_type : undefined) === 'text';
      total += isText ? Buffer.byteLength(element.data) : decodedSize(base64In(element.data));
      if (isText) checkText(`content[${index}][${position}].data`, element.data, limits);
    });
  });
  checkTotal(total, limits);
}

function checkFrameCount(count: number, { frames }: Required<ProductLimits>): void {
  if (count > frames) throw tooLarge('content', `有 ${count} 帧,最多 ${frames} 帧`);
}

function checkText(path: string, text: string, { textCharacters }: Required<ProductLimits>): void {
  if (text.length <= textCharacters) return;
  const count = Array.from(text).length;
  if (count > textCharacters) throw tooLarge(path, `有 ${count} 个字符,最多 ${textCharacters} 个`);
}

function checkTotal(bytes: number, { packageKiB }: Required<ProductLimits>): void {
  if (bytes > packageKiB * 1024) throw tooLarge('content', `共 ${bytes} 字节,最多 ${packageKiB * 1024} 字节(${packageKiB} KiB)`);
}

interface ReadFrame {
  readonly text: string | null;
  readonly medium: ReadMedium | null;
  readonly mediaFirst: boolean;
}

interface ReadMedium {
  readonly path: string;
  /** As it was written, for people. */
  readonly named: string;
  readonly extension: string;
  readonly format: Format;
  readonly base64: string;
}

function readFrame(frame: unknown, index: number): ReadFrame {
  const path = `content[${index}]`;
  if (!Array.isArray(frame)) throw invalid(path, '每一帧应为数组');
  if (frame.length < 1 || frame.length > 2) throw invalid(path, `每一帧应有 1 到 2 个元素,现有 ${frame.length} 个`);
  let text: string | null = null;
  let medium: ReadMedium | null = null;
  let mediaFirst = false;
  frame.forEach((element: unknown, position) => {
    const read = readElement(element, `${path}[${position}]`);
    if (typeof read === 'string') {
      if (text !== null) throw invalid(path, '同一帧最多一段文字');
      text = read;
    } else {
      if (medium !== null) throw invalid(path, '同一帧最多一种媒体文件,多个媒体文件请放在多帧中');
      medium = read;
      mediaFirst = text === null;
    }
  });
  return { text, medium, mediaFirst: mediaFirst && text !== null };
}

function readElement(element: unknown, path: string): string | ReadMedium {
  if (typeof element !== 'object' || element === null || Array.isArray(element)) throw invalid(path, '应为 {"con_type","ext_type","data"}');
  const { con_type: conType, ext_type: extType, data }: { con_type?: unknown; ext_type?: unknown; data?: unknown } = element;
  const kind = kindOf(conType);
  if (kind === null) throw invalid(`${path}.con_type`, '应为 text、image、audio、video,或 1 到 4');
  if (typeof extType !== 'string') throw invalid(`${path}.ext_type`, `应为 ${extensionsOf[kind]}`);
  const named = extType.trim().replace(/^\./, '').toLowerCase();
  const extension = named === 'jpeg' ? 'jpg' : named;
  const format = Object.hasOwn(formats, extension) ? formats[extension] : undefined;
  if (format?.kind !== kind) throw invalid(`${path}.ext_type`, `${kind} 的扩展名应为 ${extensionsOf[kind]},现为 ${quoted(extType)}`);
  if (typeof data !== 'string') throw invalid(`${path}.data`, '应为字符串');
  if (kind === 'text') {
    if (data === '') throw invalid(`${path}.data`, '文字为空');
    if (unstorable.test(data)) throw invalid(`${path}.data`, '含有不可用的字符');
    return data;
  }
  const base64 = base64In(data);
  if (base64 === '') throw invalid(`${path}.data`, '内容为空');
  if (!isBase64(base64)) throw invalid(`${path}.data`, '不是合法的 base64');
  return { path: `${path}.data`, named, extension, format, base64 };
}

function kindOf(conType: unknown): Kind | null {
  if (typeof conType === 'number') return kinds[conType - 1] ?? null;
  return kinds.find((kind) => kind === conType) ?? null;
}

const quoted = (text: string): string => JSON.stringify(text.length > 20 ? `${text.slice(0, 20)}…` : text);

/** Without a data URL's head and without line breaks. */
function base64In(data: string): string {
  const head = /^\s*data:[^,]{0,200};base64,/i.exec(data)?.[0] ?? '';
  return data
    .slice(head.length)
    .replace(/[\r\n]+/g, '')
    .trim();
}

function isBase64(text: string): boolean {
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(text)) return false;
  return text.endsWith('=') ? text.length % 4 === 0 : text.length % 4 !== 1;
}

function decodedSize(base64: string): number {
  const padding = base64.endsWith('==') ? 2 : base64.endsWith('=') ? 1 : 0;
  return Math.floor(((base64.length - padding) * 3) / 4);
}

// ── what the bytes are ───────────────────────────────────────────────────────────────────────────────────────────────────────────

async function readMedium(
  accountId: bigint,
  { path, named, extension, format, base64 }: ReadMedium,
  known: Map<string, MediaFile>,
): Promise<MediaFile> {
  const bytes = Buffer.from(base64, 'base64');
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const before = known.get(sha256);
  if (before?.extension === extension) return before;
  const file = { sha256, type: format.type, extension, bytes };
  // Each account's by itself: how long it takes tells nobody what others send.
  const key = `${accountId}/${sha256}.${extension}`;
  if (!foundWhole.has(key)) await examine(path, named, format, bytes);
  foundWhole.add(key);
  for (const oldest of foundWhole) {
    if (foundWhole.size <= mostRemembered) break;
    foundWhole.delete(oldest);
  }
  known.set(sha256, file);
  return file;
}

/** Files that were examined and found whole: a customer who sends the same picture with every message has it decoded once. */
const foundWhole = new Set<string>();
const mostRemembered = 10_000;

async function examine(path: string, named: string, format: Format, bytes: Buffer): Promise<void> {
  const sniffed = await fileTypeFromBuffer(bytes);
  if (!sniffed) throw invalid(path, `ext_type 是 ${named},内容却无法识别`);
  if (!format.sniffed.includes(sniffed.ext)) throw invalid(path, `ext_type 是 ${named},内容却是 ${sniffed.ext}`);
  const flaw = format.kind === 'image' ? await flawOfImage(bytes) : await flawOfStream(bytes, format.kind);
  if (flaw !== null) throw invalid(path, flaw);
}

/** Decodes it whole: a picture that is cut off is found here and not by the carrier. */
async function flawOfImage(bytes: Buffer): Promise<string | null> {
  try {
    const { width, height, pages = 1 } = await sharp(bytes, { limitInputPixels: false }).metadata();
    if (width * height > maxPixels) return `图片有 ${width}×${height} 像素,超过 4000 万像素`;
    const animated = pages > 1 && width * height * pages <= maxPixels;
    const picture = sharp(bytes, { limitInputPixels: maxPixels, failOn: 'error', sequentialRead: true, pages: animated ? -1 : 1 });
    await picture.timeout({ seconds: decodeSeconds }).stats();
    return null;
  } catch {
    return '图片已损坏或不完整,无法解码';
  }
}

/** A sound must have audio in it and a film video, and neither may be cut off. */
async function flawOfStream(bytes: Buffer, kind: Kind): Promise<string | null> {
  const tracks = await tracksOf(bytes);
  const isWhole = !tracks.some((track) => 'extra' in track && track.extra?.['IsTruncated'] === 'Yes');
  if (kind === 'audio') return isWhole && tracks.some((track) => track['@type'] === 'Audio') ? null : '音频已损坏或不完整';
  const hasPicture = tracks.some((track) => track['@type'] === 'Video' && (track.Width ?? 0) > 0);
  return isWhole && hasPicture ? null : '视频已损坏或不完整';
}

let mediaInfo: Promise<MediaInfo> | undefined;

async function tracksOf(bytes: Buffer) {
  mediaInfo ??= mediaInfoFactory({ format: 'object' });
  try {
    const { media } = await (await mediaInfo).analyzeData(bytes.length, (size, offset) => bytes.subarray(offset, offset + size));
    return media?.track ?? [];
  } catch {
    mediaInfo = undefined; // what it stumbled over may have left it in pieces
    return [];
  }
}

/** Packages are decoded one at a time: each may need a hundred megabytes for a moment. */
let turn: Promise<unknown> = Promise.resolve();

function inTurn<T>(work: () => Promise<T>): Promise<T> {
  const mine = turn.then(work);
  turn = mine.catch(() => {});
  return mine;
}

// ── signature ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * The frames with 【name】 in front of their first text, unless it begins so already. Without any text, the first frame gets one above its
 * medium.
 */
export function signed(frames: readonly StoredFrame[], name: string): StoredFrame[] {
  const mark = `【${name}】`;
  const at = Math.max(
    0,
    frames.findIndex(({ text }) => text !== null),
  );
  return frames.map((frame, index) => {
    if (index !== at || frame.text?.startsWith(mark)) return frame;
    return { ...frame, text: mark + (frame.text ?? '') };
  });
}

/** Everything that can be read in it, a line for each frame. */
export const textOf = (frames: readonly StoredFrame[]): string => frames.flatMap(({ text }) => (text === null ? [] : [text])).join('\n');

// ── storing and loading ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Stores what is not stored yet. Two that store the same at once wait for each other, so keys are taken in order. */
export async function storeMedia(sql: Sql, accountId: bigint, media: readonly MediaFile[], at: Date): Promise<void> {
  if (media.length === 0) return;
  const digests = media.map(({ sha256 }) => Buffer.from(sha256, 'hex'));
  // Locked, so that what is there stays until the package that names it is committed.
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
 * Forgets which of these media no batch and no template names any more. Two statements: whoever stores a package that names one either
 * locked it first, and is seen by the second, or waits, finds it gone and stores it again. Callers exclude each other, or two that take the
 * last two names away would each see the other's.
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

/** A package with its bytes: what channels call a MessagePackage. */
export interface LoadedPackage {
  readonly subject: string;
  readonly frames: readonly {
    readonly text: string | null;
    readonly media: { readonly contentType: string; readonly extension: string; readonly bytes: Buffer } | null;
    readonly mediaFirst: boolean;
  }[];
}

export interface PackageLoader {
  /** The package of a batch; the same object for as long as it is remembered, which lets a channel upload it once for many messages. */
  load(accountId: bigint, batchId: bigint, stored: StoredPackage): Promise<LoadedPackage>;
}

const cachedBytes = 64 << 20;

/** Remembers what was loaded lately, up to so many bytes. */
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
      forget(batchId); // to stand last, as the one that was asked for last
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
