/**
 * The frames of multimedia packages: from the customer's input to content that a carrier and a phone accept. `media.ts` stores the media.
 *
 * The bytes of a medium decide its type, not its declared name: pictures are decoded, sounds and films are inspected. Counts and sizes are
 * checked before decoding, by the arithmetic of base64, so that too large content costs nothing and always gets the same error.
 */
import { createHash } from 'node:crypto';
import { fileTypeFromBuffer } from 'file-type';
import { type MediaInfo, mediaInfoFactory } from 'mediainfo.js';
import sharp from 'sharp';
import type { ProductLimits } from '../model/configuration.ts';
import { Refusal } from '../model/refusals.ts';
import type { MediaFile, StoredFrame } from '../model/submission.ts';

sharp.concurrency(1);
sharp.cache(false);

/** The customer's input after the checks; `media` holds each different file once. */
export interface PackageDraft {
  readonly frames: readonly StoredFrame[];
  readonly media: readonly MediaFile[];
}

const kinds = ['text', 'image', 'audio', 'video'] as const;
type Kind = (typeof kinds)[number];

interface Format {
  readonly kind: Kind;
  readonly type: string;
  /** The types that the bytes may have. */
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
 * the place of the error.
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

/** Refuses stored frames that exceed the limits, which may have become narrower since. */
export function checkLimits(frames: readonly StoredFrame[], limits: Required<ProductLimits>): void {
  checkFrameCount(frames.length, limits);
  frames.forEach(({ text }, index) => text !== null && checkText(`content[${index}]`, text, limits));
  checkTotal(
    frames.reduce((sum, { text, media }) => sum + Buffer.byteLength(text ?? '') + (media?.size ?? 0), 0),
    limits,
  );
}

/** Checks counts and sizes of everything that may be text or base64, valid or not. */
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
  /** As the customer wrote it, for error messages. */
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
  // Per account: otherwise the time of the check would show what other customers send.
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

/** Files that were examined and found intact: a picture that a customer sends with every message is decoded once. */
const foundWhole = new Set<string>();
const mostRemembered = 10_000;

async function examine(path: string, named: string, format: Format, bytes: Buffer): Promise<void> {
  const sniffed = await fileTypeFromBuffer(bytes);
  if (!sniffed) throw invalid(path, `ext_type 是 ${named},内容却无法识别`);
  if (!format.sniffed.includes(sniffed.ext)) throw invalid(path, `ext_type 是 ${named},内容却是 ${sniffed.ext}`);
  const flaw = format.kind === 'image' ? await flawOfImage(bytes) : await flawOfStream(bytes, format.kind);
  if (flaw !== null) throw invalid(path, flaw);
}

/** Decodes the whole picture: a truncated picture is found here and not by the carrier. */
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

/** A sound must contain audio and a film video, and neither may be truncated. */
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
    mediaInfo = undefined; // the failure may have left it in a broken state
    return [];
  }
}

/** Packages are decoded one at a time: each may need a hundred megabytes for a short time. */
let turn: Promise<unknown> = Promise.resolve();

function inTurn<T>(work: () => Promise<T>): Promise<T> {
  const mine = turn.then(work);
  turn = mine.catch(() => {});
  return mine;
}

// ── signature ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * The frames with 【name】 in front of their first text, unless the text already begins with it. If there is no text, the first frame gets
 * one above its medium.
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

/** All readable text in it, a line for each frame. */
export const textOf = (frames: readonly StoredFrame[]): string => frames.flatMap(({ text }) => (text === null ? [] : [text])).join('\n');
