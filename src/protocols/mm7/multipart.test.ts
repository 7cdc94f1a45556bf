import { PassThrough } from 'node:stream';
import { Dicer } from '@fastify/busboy';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ProtocolError } from '../wire/fields.ts';
import { findPart, octetsOf, parseContentType, readMultipart, rootOf, writeMultipart } from './multipart.ts';

const read = (contentType: string, body: string | Buffer) => readMultipart(Buffer.from(body), parseContentType(contentType));
const texts = (contentType: string, body: string) => read(contentType, body).map(({ body }) => body.toString());

describe('content types', () => {
  test.each([
    ['multipart/related; boundary="a b"; type="text/xml"; start="<x>"', { boundary: 'a b', type: 'text/xml', start: '<x>' }],
    ['Multipart/Related;start=<x>;boundary=--NextPart ; type=text/xml', { boundary: '--NextPart', type: 'text/xml', start: '<x>' }],
    ['multipart/related ; BOUNDARY = "a;\\"b\\\\" ;start= "x"', { boundary: 'a;"b\\', start: 'x' }],
    ['multipart/related; boundary=1; boundary=2', { boundary: '1' }],
    ['multipart/related', {}],
  ])('%s', (header, parameters) => {
    expect(parseContentType(header)).toMatchObject({ type: 'multipart/related' });
    expect(Object.fromEntries(parseContentType(header).parameters)).toEqual(parameters);
  });

  test('a header of a megabyte is read quickly', () => {
    const from = performance.now();
    for (const piece of [';', 'a=', '; a="', '\\', ' ', ';a=b ']) parseContentType(`multipart/related${piece.repeat(200_000)}`);
    expect(performance.now() - from).toBeLessThan(100);
  });
});

const related = 'multipart/related; boundary=B';

describe('reading', () => {
  test('a preamble, an epilogue, blanks behind the boundary, and no header at all', () => {
    const body = 'this is a multi-part message\r\n--B \t\r\nContent-Type:text/xml\r\n\r\none\r\n--B\r\n\r\ntwo\r\n\r\n--B--\r\nbye';
    expect(read(related, body).map(({ contentType, body }) => [contentType.type, body.toString()])).toEqual([
      ['text/xml', 'one'],
      ['text/plain', 'two\r\n'],
    ]);
  });

  test('bare line feeds, folded headers, and a body that ends with the boundary', () => {
    const body = '--B\nContent-Type: text/plain;\n charset=gbk\nContent-Id: <1>\n\none\n--B\n\n\n--B--';
    const parts = read(related, body);
    expect(parts.map(({ body }) => body.toString())).toEqual(['one', '']);
    expect(parts[0]).toMatchObject({ contentId: '1' });
    expect(parts[0]?.contentType.parameters.get('charset')).toBe('gbk');
  });

  test('a boundary that only begins a longer one, or does not begin a line, is content', () => {
    expect(texts(related, '--B\r\n\r\n--BC\r\nx --B\r\n--B\r\n\r\ny\r\n--B--')).toEqual(['--BC\r\nx --B', 'y']);
  });

  test('base64 and quoted-printable are decoded, binary is a view', () => {
    const encoded = (encoding: string, text: string) => `--B\r\nContent-Transfer-Encoding: ${encoding}\r\n\r\n${text}\r\n`;
    const body = `${encoded('Base64', '5L2g\r\n5aW9')}${encoded('quoted-printable', '=E4=BD=A0=\r\n=3D  \r\nx')}${encoded('binary', '=E4')}--B--`;
    expect(texts(related, body)).toEqual(['你好', '你=\r\nx', '=E4']);
    const octets = Buffer.from(body);
    expect(readMultipart(octets, parseContentType(related))[2]?.body.buffer).toBe(octets.buffer);
  });

  test('the root is what start names, else the first; references go by location, id, then name', () => {
    const body = [
      '--B\r\nContent-ID: 1.txt\r\nContent-Location: a.txt\r\n\r\none',
      '--B\r\nContent-ID: <a.txt>\r\n\r\ntwo',
      '--B\r\nContent-Type: image/gif; name="b c.gif"\r\n\r\nthree',
      '--B\r\nContent-Type: image/gif\r\nContent-Disposition: attachment; filename=d.gif\r\n\r\nfour\r\n--B--',
    ].join('\r\n');
    const parts = read(related, body);
    const found = (reference: string) => findPart(parts, reference)?.body.toString();
    expect(['a.txt', '<1.txt>', 'cid:1.txt', 'b c.gif', 'b%20c.gif', 'd.gif', 'e.gif', '', '%'].map(found)).toEqual([
      'one',
      'one',
      'one',
      'three',
      'three',
      'four',
      undefined,
      undefined,
      undefined,
    ]);
    expect(rootOf(parts, parseContentType('multipart/related; start="<a.txt>"'))).toBe(parts[1]);
    expect(rootOf(parts, parseContentType('multipart/related; start=nothing'))).toBe(parts[0]);
    expect(rootOf(parts, parseContentType('multipart/related'))).toBe(parts[0]);
  });
});

describe('refusing', () => {
  test.each([
    ['another type', 'text/plain; boundary=B', '--B\r\n\r\n--B--'],
    ['no boundary', 'multipart/related', '--B\r\n\r\n--B--'],
    ['the wrong boundary', 'multipart/related; boundary=C', '--B\r\n\r\nx\r\n--B--'],
    ['a boundary beyond all bounds', `multipart/related; boundary=${'x'.repeat(1000)}`, ''],
    ['no parts', related, '--B--'],
    ['what was cut off', related, '--B\r\n\r\none\r\n--B\r\n\r\ntw'],
    ['too many parts', related, `${'--B\r\n\r\n\r\n'.repeat(101)}--B--`],
    ['a header without a colon', related, '--B\r\nhello\r\n\r\nx\r\n--B--'],
    ['a header beyond all bounds', related, `--B\r\n${'a: b\r\n'.repeat(5000)}\r\nx\r\n--B--`],
  ])('%s', (_, contentType, body) => {
    expect(() => read(contentType, body)).toThrow(ProtocolError);
  });

  test('megabytes of almost boundaries, quickly', () => {
    const from = performance.now();
    for (const piece of ['\r\n--', '\r\n--B', '--B', '\r\n--Bx', '\n--B-', '--B \t'])
      expect(() => read(related, piece.repeat(1_000_000))).toThrow(ProtocolError);
    expect(performance.now() - from).toBeLessThan(2000);
  });
});

/** The same parts as an independent reader sees them. */
function dicer(boundary: string, chunks: readonly Buffer[]): Promise<Buffer[]> {
  return new Promise((resolve, reject) => {
    const parts: Promise<Buffer>[] = [];
    const reader = new Dicer({ boundary });
    reader.on('part', (part) => {
      const through = part.pipe(new PassThrough());
      parts.push(through.toArray().then((pieces: Buffer[]) => Buffer.concat(pieces)));
    });
    reader.on('error', reject);
    reader.on('finish', () => resolve(Promise.all(parts)));
    for (const chunk of chunks) reader.write(chunk);
    reader.end();
  });
}

describe('writing', () => {
  test('what is large is not copied, what is small is joined', () => {
    const medium = Buffer.alloc(100_000, 1);
    const headers = ['Content-Type: image/gif'];
    const chunks = writeMultipart('B', [
      { headers, body: 'x' },
      { headers, body: medium },
      { headers, body: [Buffer.from('y'), medium] },
    ]);
    expect(chunks).toHaveLength(5);
    expect(chunks[1]).toBe(medium);
    expect(chunks[3]).toBe(medium);
    expect(octetsOf(chunks)).toBe(Buffer.concat(chunks).length);
  });

  test('whatever is written is read again, by us and by another reader', async () => {
    const bodies = fc.array(fc.oneof(fc.uint8Array({ minLength: 1, maxLength: 200 }), fc.constant(new Uint8Array(20_000).fill(0x0d))), {
      minLength: 1,
      maxLength: 8,
    });
    await fc.assert(
      fc.asyncProperty(bodies, async (given) => {
        const expected = given.map((octets) => Buffer.from(octets));
        const chunks = writeMultipart(
          'frames-0f1e2d3c',
          expected.map((body, i) => ({ headers: [`Content-ID: <${i}>`], body })),
        );
        const parts = readMultipart(Buffer.concat(chunks), parseContentType('multipart/mixed; boundary=frames-0f1e2d3c'));
        // Compared as text, because comparing buffers element by element takes seconds.
        const hex = (bodies: readonly Buffer[]) => bodies.map((body) => body.toString('hex'));
        expect(hex(parts.map(({ body }) => body))).toEqual(hex(expected));
        expect(parts.map(({ contentId }) => contentId)).toEqual(expected.map((_, i) => String(i)));
        expect(hex(await dicer('frames-0f1e2d3c', chunks))).toEqual(hex(expected));
      }),
      { numRuns: 50 },
    );
  });
});
