/**
 * The presentation of a multimedia message: SMIL (mm7.md §7) and the parts it names, written from frames and read into frames.
 *
 * The writer uses the form that Chinese carriers ask for: a layout with the two regions `Image` and `Text`, and in the body one `par` per
 * frame. All frames share one layout, so the first frame that has both decides which region lies on top. Within each `par` the order of the
 * elements repeats it for that frame; audio is always last.
 *
 * The reader accepts what phones and other writers send: regions in any case, `seq` around the `par`s, media outside of a `par`, sources by
 * location or by `cid:`. Without a usable SMIL, it takes the parts in their order.
 */
import iconv from 'iconv-lite';
import { ProtocolError } from '../wire/fields.ts';
import { findPart, type Part, type PartToWrite, readMultipart, rootOf, writeMultipart } from './multipart.ts';
import { escapeXml, parseXml, type XmlElement } from './xml.ts';

/** One frame: a text, a medium, or both. */
export interface Frame {
  readonly text: string | null;
  readonly media: { readonly contentType: string; readonly extension: string; readonly bytes: Buffer } | null;
  /** The medium is shown above the text. */
  readonly mediaFirst: boolean;
}

export interface PresentationStyle {
  /** How SMIL names its parts: `location` as Chinese rules want it, `cid` as others do. */
  readonly source: 'location' | 'cid';
  readonly frameMs: number;
  readonly width: number;
  readonly height: number;
}

export const defaultStyle: PresentationStyle = { source: 'location', frameMs: 5000, width: 240, height: 320 };

// Writing

/** A frame that names its contents' parts. */
export interface SmilFrame {
  readonly media: { readonly element: MediaElement; readonly src: string } | null;
  readonly text: string | null;
  readonly mediaFirst: boolean;
}

export type MediaElement = 'img' | 'audio' | 'video' | 'ref';

/** Lines end with CRLF, except the last. */
export function writeSmil(frames: readonly SmilFrame[], { frameMs, width, height }: PresentationStyle): string {
  const both = frames.find(({ media, text }) => media && media.element !== 'audio' && text !== null);
  const isTextOnTop = both !== undefined && !both.mediaFirst;
  const textHeight = Math.floor(height / 4);
  const imageHeight = height - textHeight;
  const region = (id: string, top: number, tall: number) =>
    `<region id="${id}" left="0" top="${top}" width="${width}" height="${tall}" fit="meet"/>`;
  const pages = frames.map(({ media, text, mediaFirst }) => {
    const words = text === null ? '' : `<text src="${escapeXml(text)}" region="Text"/>`;
    if (!media) return words;
    const src = escapeXml(media.src);
    if (media.element === 'audio') return `${words}<audio src="${src}"/>`;
    const medium = `<${media.element} src="${src}" region="Image"/>`;
    return mediaFirst ? medium + words : words + medium;
  });
  return [
    '<smil xmlns="http://www.w3.org/2000/SMIL20/CR/Language">',
    '<head><layout>',
    `<root-layout width="${width}" height="${height}"/>`,
    region('Image', isTextOnTop ? textHeight : 0, imageHeight),
    region('Text', isTextOnTop ? 0 : imageHeight, textHeight),
    '</layout></head>',
    '<body>',
    ...pages.map((page) => `<par dur="${frameMs}ms">${page}</par>`),
    '</body>',
    '</smil>',
  ].join('\r\n');
}

function elementFor(contentType: string): MediaElement {
  if (contentType.startsWith('image/')) return 'img';
  if (contentType.startsWith('audio/')) return 'audio';
  return contentType.startsWith('video/') ? 'video' : 'ref';
}

/**
 * Frames as one part of an MM7 request: a `multipart/related` with SMIL and all parts it names. Media are references, not copies; identical
 * media are sent once for each frame, since some phones show a part only once.
 */
export function presentationPart(
  frames: readonly Frame[],
  { contentId, boundary, style }: { readonly contentId: string; readonly boundary: string; readonly style: PresentationStyle },
): PartToWrite {
  const src = (name: string) => (style.source === 'cid' ? `cid:${name}` : name);
  const named = frames.map(({ text, media }, index) => ({
    text: text === null ? null : `${index + 1}.txt`,
    media: media && `${index + 1}.${media.extension}`,
  }));
  const smil = writeSmil(
    frames.map(({ media, mediaFirst }, index) => {
      const { text, media: name } = named[index]!;
      return {
        media: media && name !== null ? { element: elementFor(media.contentType), src: src(name) } : null,
        text: text === null ? null : src(text),
        mediaFirst,
      };
    }),
    style,
  );
  const part = (type: string, name: string, encoding: string, body: string | Buffer): PartToWrite => ({
    headers: [`Content-Type: ${type}`, `Content-ID: <${name}>`, `Content-Location: ${name}`, `Content-Transfer-Encoding: ${encoding}`],
    body,
  });
  const parts = [part('application/smil; charset=utf-8', 'smil.xml', '8bit', smil)];
  for (const [index, { text, media, mediaFirst }] of frames.entries()) {
    const names = named[index]!;
    const words = text === null ? [] : [part('text/plain; charset=utf-8', names.text ?? '', '8bit', text)];
    const medium = media ? [part(media.contentType, names.media ?? '', 'binary', media.bytes)] : [];
    parts.push(...(mediaFirst ? [...medium, ...words] : [...words, ...medium]));
  }
  return {
    headers: [
      `Content-Type: multipart/related; start="<smil.xml>"; type="application/smil"; boundary="${boundary}"`,
      `Content-ID: <${contentId}>`,
    ],
    body: writeMultipart(boundary, parts),
  };
}

// Reading

/** One item that a SMIL shows. */
interface SmilItem {
  /** `text`, `img`, `audio`, `video`, `ref`. */
  readonly element: string;
  readonly src: string;
}

const mediaElements = new Set(['text', 'img', 'audio', 'video', 'ref', 'animation', 'textstream']);
const maxFrames = 100;
const maxItems = 300;

/** The items of each frame of a SMIL, in order. Throws ProtocolError if it is not SMIL or beyond the bounds. */
export function readSmil(source: Buffer | string): (readonly SmilItem[])[] {
  const root = parseXml(source);
  if (root.name.toLowerCase() !== 'smil') throw new ProtocolError(`"${root.name}" is not SMIL`);
  const body = root.children.find(({ name }) => name.toLowerCase() === 'body');
  if (!body) throw new ProtocolError('SMIL without a body');
  const frames: SmilItem[][] = [];
  let items = 0;
  const collect = (element: XmlElement, frame: SmilItem[] | null): void => {
    for (const child of element.children) {
      const name = child.name.toLowerCase();
      if (mediaElements.has(name)) {
        const src = child.attributes.get('src');
        if (src === undefined) continue;
        items += 1;
        if (items > maxItems) throw new ProtocolError(`SMIL with more than ${maxItems} media`);
        if (frame) frame.push({ element: name, src });
        else frames.push([{ element: name, src }]);
      } else if (name === 'par' && !frame) {
        const own: SmilItem[] = [];
        collect(child, own);
        if (own.length > 0) frames.push(own);
      } else collect(child, frame);
    }
  };
  collect(body, null);
  if (frames.length > maxFrames) throw new ProtocolError(`SMIL with more than ${maxFrames} frames`);
  return frames;
}

/** A frame as it was received; usually one text and at most one medium. */
export type ShownFrame = readonly ShownItem[];
export type ShownItem =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'media'; readonly contentType: string; readonly name: string; readonly bytes: Buffer };

export interface Presentation {
  readonly frames: readonly ShownFrame[];
  /** What is wrong with the content: references without a part, an unreadable SMIL. A tolerant reader ignores them. */
  readonly problems: readonly string[];
}

/** Reads the content of a message. Throws ProtocolError if its multipart is broken; errors inside become problems. */
export function readPresentation(content: Part): Presentation {
  if (!content.contentType.type.startsWith('multipart/')) return { frames: [[shown(content)]], problems: [] };
  const parts = readMultipart(content.body, content.contentType);
  const isSmil = ({ contentType }: Part) => contentType.type === 'application/smil';
  const root = content.contentType.type === 'multipart/related' ? rootOf(parts, content.contentType) : undefined;
  const smil = root && isSmil(root) ? root : parts.find(isSmil);
  const others = parts.filter((part) => part !== smil && !part.contentType.type.startsWith('multipart/'));
  const problems: string[] = [];
  const frames: ShownFrame[] = [];
  if (smil) {
    try {
      for (const items of readSmil(smil.body)) {
        const frame: ShownItem[] = [];
        for (const { src } of items) {
          const part = findPart(others, src);
          if (part) frame.push(shown(part));
          else problems.push(`nothing is called "${src.slice(0, 100)}"`);
        }
        if (frame.length > 0) frames.push(frame);
      }
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      problems.push(error.message);
    }
  }
  return { frames: frames.length > 0 ? frames : others.map((part) => [shown(part)]), problems };
}

function shown(part: Part): ShownItem {
  const { type } = part.contentType;
  if (type.startsWith('text/')) return { kind: 'text', text: decodeCharset(part.body, part.contentType.parameters.get('charset')) };
  return { kind: 'media', contentType: type, name: part.contentLocation || part.name || part.contentId, bytes: part.body };
}

/** Phones choose their own charset; an unknown or missing one counts as UTF-8. */
function decodeCharset(octets: Buffer, charset = 'utf-8'): string {
  return iconv.decode(octets, iconv.encodingExists(charset) ? charset : 'utf-8');
}

/** A message without its pictures: its texts, joined by line ends. */
export function wordsOf({ frames }: Presentation): string {
  return frames
    .flat()
    .flatMap((item) => (item.kind === 'text' && item.text.trim() !== '' ? [item.text.trim()] : []))
    .join('\n');
}
