import { randomBytes } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ProtocolError } from '../wire/fields.ts';
import { type Part, parseContentType, type PartToWrite, readMultipart, writeMultipart } from './multipart.ts';
import { defaultStyle, type Frame, presentationPart, readPresentation, readSmil, wordsOf, writeSmil } from './smil.ts';

/** Reads back the part that was written into a request. */
function reread(part: PartToWrite): Part {
  const [found] = readMultipart(Buffer.concat(writeMultipart('outer', [part])), parseContentType('multipart/related; boundary=outer'));
  if (!found) throw new Error('nothing was written');
  return found;
}

const content = (contentType: string, body: string): Part => ({
  contentType: parseContentType(contentType),
  contentId: '',
  contentLocation: '',
  name: '',
  body: Buffer.from(body),
});

const smilOf = (body: string) => `<smil><head/><body>${body}</body></smil>`;

describe('writing', () => {
  test('one par a frame, regions by what it shows, audio last', () => {
    const smil = writeSmil(
      [
        { media: { element: 'video', src: '1.mp4' }, text: '1.txt', mediaFirst: true },
        { media: { element: 'audio', src: 'a&b.mp3' }, text: '2.txt', mediaFirst: true },
        { media: null, text: '3.txt', mediaFirst: false },
      ],
      { ...defaultStyle, frameMs: 3000 },
    );
    expect(smil).toContain('<region id="Text" left="0" top="240"');
    expect(smil.match(/<par.*/g)).toEqual([
      '<par dur="3000ms"><video src="1.mp4" region="Image"/><text src="1.txt" region="Text"/></par>\r'.trim(),
      '<par dur="3000ms"><text src="2.txt" region="Text"/><audio src="a&amp;b.mp3"/></par>',
      '<par dur="3000ms"><text src="3.txt" region="Text"/></par>',
    ]);
  });

  test('a text that stands first stands on top', () => {
    const smil = writeSmil([{ media: { element: 'img', src: '1.gif' }, text: '1.txt', mediaFirst: false }], defaultStyle);
    expect(smil).toContain('<region id="Text" left="0" top="0" width="240" height="80"');
    expect(smil).toContain('<region id="Image" left="0" top="80" width="240" height="240"');
    expect(smil).toContain('<text src="1.txt" region="Text"/><img src="1.gif" region="Image"/>');
  });

  test.each(['location', 'cid'] as const)('whatever is written with sources by %s is read again, in order', (source) => {
    const media = fc
      .constantFrom(['image/gif', 'gif'], ['video/mp4', 'mp4'], ['image/jpeg', 'jpg'])
      .map(([contentType = '', extension = '']) => ({ contentType, extension, bytes: randomBytes(50) }));
    const text = fc.string({ unit: 'grapheme', minLength: 1 });
    const frame: fc.Arbitrary<Frame> = fc.oneof(
      fc.record({ text, media, mediaFirst: fc.boolean() }),
      fc.record({ text, media: fc.constant(null), mediaFirst: fc.boolean() }),
      fc.record({ text: fc.constant(null), media, mediaFirst: fc.boolean() }),
    );
    fc.assert(
      fc.property(fc.array(frame, { minLength: 1, maxLength: 15 }), (frames) => {
        const part = presentationPart(frames, { contentId: 'x', boundary: 'inner-1', style: { ...defaultStyle, source } });
        const { frames: shown, problems } = readPresentation(reread(part));
        expect(problems).toEqual([]);
        const expected = frames.map(({ text, media, mediaFirst }) => {
          const words = text === null ? [] : [{ kind: 'text', text }];
          const medium = media ? [{ kind: 'media', contentType: media.contentType, bytes: media.bytes }] : [];
          return mediaFirst ? [...medium, ...words] : [...words, ...medium];
        });
        expect(shown).toMatchObject(expected);
      }),
      { numRuns: 50 },
    );
  });
});

describe('reading', () => {
  test('seq around pars, media outside of one, any case, any prefix', () => {
    const smil =
      '<s:SMIL xmlns:s="x"><s:Body><s:seq><s:Par><s:IMG src="1"/><s:Text src="2"/></s:Par></s:seq><s:text src="3"/></s:Body></s:SMIL>';
    expect(readSmil(smil)).toEqual([
      [
        { element: 'img', src: '1' },
        { element: 'text', src: '2' },
      ],
      [{ element: 'text', src: '3' }],
    ]);
  });

  test.each([
    ['another document', '<html><body/></html>'],
    ['no body', '<smil/>'],
    ['a document type', '<!DOCTYPE smil PUBLIC "x" "y"><smil><body/></smil>'],
    ['frames beyond all bounds', smilOf('<par><text src="1"/></par>'.repeat(101))],
    ['media beyond all bounds', smilOf(`<par>${'<text src="1"/>'.repeat(301)}</par>`)],
  ])('%s is refused', (_, smil) => {
    expect(() => readSmil(smil)).toThrow(ProtocolError);
  });

  const multipart = (type: string, ...parts: string[]) =>
    content(`${type}; boundary=B`, `${parts.map((part) => `--B\r\n${part}\r\n`).join('')}--B--`);

  test('a reference that leads nowhere is a problem, and the rest is shown', () => {
    const smil = `Content-Type: application/smil\r\n\r\n${smilOf('<par><img src="1.gif"/><text src="cid:t"/></par>')}`;
    expect(readPresentation(multipart('multipart/related', smil, 'Content-ID: <t>\r\n\r\nhello'))).toEqual({
      frames: [[{ kind: 'text', text: 'hello' }]],
      problems: ['nothing is called "1.gif"'],
    });
  });

  test('without SMIL, or with one nobody can read, the parts are shown in their order', () => {
    const parts = ['Content-Type: image/gif; name=a.gif\r\n\r\nGIF', 'Content-Type: text/plain; charset=gb2312\r\n\r\nx'] as const;
    const shown = [[{ kind: 'media', contentType: 'image/gif', name: 'a.gif', bytes: Buffer.from('GIF') }], [{ kind: 'text', text: 'x' }]];
    expect(readPresentation(multipart('multipart/mixed', ...parts))).toEqual({ frames: shown, problems: [] });
    const broken = readPresentation(multipart('multipart/related', 'Content-Type: application/smil\r\n\r\n<smil>', ...parts));
    expect(broken.frames).toEqual(shown);
    expect(broken.problems).toHaveLength(1);
  });

  test('texts in the charset they name, GBK and UTF-16 too, else UTF-8', () => {
    const text = (charset: string, body: Buffer) => wordsOf(readPresentation({ ...content(`text/plain${charset}`, ''), body }));
    expect(text('', Buffer.from('你好'))).toBe('你好');
    expect(text('; charset="GBK"', Buffer.from([0xc4, 0xe3, 0xba, 0xc3]))).toBe('你好');
    expect(text('; charset=utf-16', Buffer.from('\ufeff你好', 'utf16le'))).toBe('你好');
    expect(text('; charset=klingon', Buffer.from('你好'))).toBe('你好');
  });

  test('the words of all frames are joined', () => {
    const part = presentationPart(
      [
        { text: ' a ', media: { contentType: 'image/gif', extension: 'gif', bytes: Buffer.from('x') }, mediaFirst: true },
        { text: 'b', media: null, mediaFirst: false },
      ],
      { contentId: 'x', boundary: 'inner', style: defaultStyle },
    );
    expect(wordsOf(readPresentation(reread(part)))).toBe('a\nb');
  });
});
