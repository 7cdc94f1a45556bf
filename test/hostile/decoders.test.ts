/**
 * For any octets, a decoder returns a value or throws the error that it documents, and soon. Damaged copies of valid octets reach deeper
 * than noise.
 */
import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { charactersOf, matches, parsePattern, subjectOf } from '../../src/core/screening/content-templates.ts';
import { parseNumber, usualForm } from '../../src/core/model/numbers.ts';
import { canonicalForm, parseForm, TooManyParameters } from '../../src/http/dialects/yit3/form.ts';
import {
  cmpp,
  cmppFrames,
  commandOf,
  decodeConnectResp,
  decodeDeliver,
  decodeDeliverResp,
  decodeReport,
  decodeSubmitResp,
  sequenceOf,
} from '../../src/protocols/cmpp.ts';
import { basicAuthorization, readBasic, readChallenge, readDigest } from '../../src/protocols/mm7/digest.ts';
import { cString, layout, octets, ProtocolError, rest, tlvs, u8, u16 } from '../../src/protocols/wire/fields.ts';
import { createFrameReader } from '../../src/protocols/wire/framing.ts';
import { readEnvelope, readRequest } from '../../src/protocols/mm7/mm7.ts';
import { parseContentType, readMultipart } from '../../src/protocols/mm7/multipart.ts';
import { defaultStyle, readPresentation, readSmil, wordsOf, writeSmil } from '../../src/protocols/mm7/smil.ts';
import { decodeText, type Encoding, joinParts, splitHeader } from '../../src/protocols/text.ts';
import { parseXml } from '../../src/protocols/mm7/xml.ts';
import { fuzzed, fuzzTimeoutMs, mangled } from './fuzz.ts';

const linesOf = (name: string): string[][] =>
  readFileSync(new URL(`../../src/protocols/testdata/${name}`, import.meta.url), 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split(name === 'mm7.hex' ? '\t' : ' '));
const pdus = linesOf('cmpp.hex').map(([, hex = '']) => Buffer.from(hex, 'hex'));
const posts = linesOf('mm7.hex').map(([, contentType = '', hex = '']) => ({ contentType, body: Buffer.from(hex, 'hex') }));
const documents = posts.filter(({ contentType }) => contentType.startsWith('text/xml')).map(({ body }) => body);
const smil = writeSmil(
  [
    { media: { element: 'video', src: '1.mp4' }, text: '1.txt', mediaFirst: true },
    { media: { element: 'img', src: 'a&b.gif' }, text: null, mediaFirst: false },
  ],
  defaultStyle,
);

const cStringAndTlvs = layout({
  address: cString(21),
  flags: u8,
  optional: tlvs({
    id: [0x001e, cString(65)],
    state: [0x0427, u8],
    payload: [0x0424, rest],
    port: [0x020a, u16],
    source: [0x0010, octets(8)],
  }),
});

const versions = [2, 3] as const;
const encodings: readonly Encoding[] = ['ascii', 'ucs2', 'gbk', 'binary'];

interface Decoder {
  readonly name: string;
  readonly samples: readonly (string | Buffer)[];
  /** More than one, since each reads the same octets. */
  readonly decoders: readonly ((octets: Buffer) => unknown)[];
  /** What it throws when it refuses; without one it takes everything. */
  readonly refusal?: abstract new (
    ...all: never[]
  ) => Error;
}

const all: readonly Decoder[] = [
  {
    name: 'PDUs of CMPP',
    // A frame is at least a header; the framing below sees to that.
    samples: pdus,
    decoders: versions.flatMap((version) => [
      ...Object.values(cmpp[version]).map((pdu) => whole((octets) => pdu.decode(octets, 0, octets.length))),
      whole((octets) => decodeReport(decodeDeliver(version, octets, 0, octets.length).msgContent)),
      whole((octets) => [commandOf(octets, 0), sequenceOf(octets, 0), decodeConnectResp(octets, 0, octets.length)]),
      whole((octets) => decodeSubmitResp(octets, 0, octets.length)),
      whole((octets) => decodeDeliverResp(octets, 0, octets.length)),
    ]),
    refusal: ProtocolError,
  },
  {
    name: 'frames of CMPP, however they are cut',
    samples: [Buffer.concat(pdus.slice(0, 6)), Buffer.concat(pdus)],
    decoders: [1, 7, 64, 5000].map((size) => (octets) => {
      const read = createFrameReader(cmppFrames, (_, start, end) => expect(end - start).toBeGreaterThanOrEqual(cmppFrames.min));
      for (let at = 0; at < octets.length; at += size) read(Buffer.from(octets.subarray(at, at + size)));
    }),
    refusal: ProtocolError,
  },
  {
    name: 'texts that end with a NUL, and optional parameters',
    samples: ['3130363930303031000f001e00093061316232633364000427000102', '00000424000474657374140000021234'].map((hex) =>
      Buffer.from(hex, 'hex'),
    ),
    decoders: [
      (buffer) => {
        const cursor = { at: 0, end: buffer.length };
        const { optional } = cStringAndTlvs.read(buffer, cursor);
        expect(cursor.at).toBe(buffer.length);
        expect(optional.payload?.length ?? 0).toBeLessThan(buffer.length);
      },
    ],
    refusal: ProtocolError,
  },
  {
    name: 'requests of MM7 and their presentations',
    samples: posts.map(({ body }) => body),
    decoders: [...new Set(posts.map(({ contentType }) => contentType))].map((contentType) => (octets) => {
      const { content } = readRequest(contentType, octets);
      if (content) wordsOf(readPresentation(content));
    }),
    refusal: ProtocolError,
  },
  { name: 'envelopes of MM7', samples: documents, decoders: [readEnvelope], refusal: ProtocolError },
  {
    name: 'XML',
    samples: [...documents, smil, '<a b="c">&lt;<![CDATA[d]]><!-- e --><f:g/></a>'],
    decoders: [parseXml],
    refusal: ProtocolError,
  },
  { name: 'SMIL', samples: [smil], decoders: [readSmil], refusal: ProtocolError },
  {
    name: 'content types and their parts',
    samples: [
      ...posts.map(({ contentType }) => contentType),
      'multipart/related; type="text/xml"; start="<a>"; boundary="--B"',
      'text/plain; charset*=utf-8\'\'x; name="a\\"b"',
    ],
    decoders: [(octets) => readMultipart(Buffer.from('--B\r\n\r\nx\r\n--B--'), parseContentType(octets.toString('latin1')))],
    refusal: ProtocolError,
  },
  {
    name: 'multipart bodies',
    samples: [
      '--B\r\nContent-Type: text/plain; name=a\r\nContent-ID: <x>\r\n\r\none\r\n--B\r\n\r\ntwo\r\n--B--\r\n',
      '--B--',
      '--B\n\n--B',
    ],
    decoders: [(octets) => readMultipart(octets, parseContentType('multipart/related; boundary=B'))],
    refusal: ProtocolError,
  },
  {
    name: 'HTTP authentication',
    samples: [
      basicAuthorization('用户', 'a:b'),
      'Digest username="a\\"b", realm="r", nonce="n", uri="/", algorithm=MD5, response="0", qop=auth, nc=00000001, cnonce="c"',
      'Basic realm="x", Digest realm="y", nonce="z", qop="auth,auth-int", algorithm=SHA-256-sess',
    ],
    decoders: [
      (octets) => readBasic(octets.toString('latin1')),
      (octets) => readDigest(octets.toString('latin1')),
      (octets) => readChallenge([octets.toString('latin1')]),
    ],
  },
  {
    name: 'short messages and their headers',
    samples: ['050003010201', '0608040001020162', '0a', ''].map((hex) =>
      Buffer.from(hex + Buffer.from('你好', 'utf16le').toString('hex'), 'hex'),
    ),
    decoders: encodings.map((encoding) => (octets) => {
      const { body } = splitHeader(octets);
      expect(body.length).toBeLessThanOrEqual(octets.length);
      joinParts([
        { encoding, octets: body },
        { encoding, octets },
      ]);
      return decodeText(octets, encoding);
    }),
  },
  {
    name: 'forms',
    samples: ['sp_id=500001&password=%E4%BD%A0&mobiles=%5B%221%22%5D&content=a+b%2Bc', 'a&b=&=c&a=%zz&a=%ff'],
    decoders: [(octets) => canonicalForm(parseForm(octets, octets.toString('latin1')), ['a'])],
    refusal: TooManyParameters,
  },
  {
    name: 'phone numbers',
    samples: ['13800138000', '+86 138-0013-8000', '008613800138000', '+14155550100', '(0086)138.0013.8000'],
    decoders: [
      (octets) => {
        const phone = parseNumber(octets.toString());
        // What is taken for a number is the same one in the form in which we write it.
        if (phone !== null) expect(parseNumber(usualForm(phone))).toBe(phone);
      },
    ],
  },
  {
    name: 'content templates',
    samples: ['【鸿雁】验证码{code}，${n:5}分钟内有效$url$', '{}{}{}{999}', 'a{3}b$c:4$d'],
    decoders: [
      (octets) => {
        const text = octets.toString();
        const pattern = parsePattern(text);
        if ('error' in pattern) return;
        expect(matches(pattern, subjectOf(text.slice(0, 500)))).toBeTypeOf('boolean');
        expect(pattern.length.least).toBeLessThanOrEqual(charactersOf(text));
      },
    ],
  },
];

/** A decoder of PDUs gets whole frames only. */
function whole(decode: (octets: Buffer) => unknown): (octets: Buffer) => unknown {
  return (octets) => (octets.length < cmppFrames.min ? undefined : decode(octets));
}

test.each(all)(
  '$name: hostile octets are read or refused, soon',
  async ({ samples, decoders, refusal }) => {
    const runs = await fuzzed(
      fc.oneof({ weight: 19, arbitrary: mangled(samples) }, { weight: 1, arbitrary: mangled(samples).map(thousandfold) }),
      (octets) => {
        for (const decode of decoders) {
          const start = performance.now();
          try {
            decode(octets);
          } catch (error) {
            if (!refusal || !(error instanceof refusal)) throw error;
          }
          expect(performance.now() - start).toBeLessThan(1000);
        }
      },
      1 / 3,
    );
    expect(runs).toBeGreaterThan(20);
  },
  fuzzTimeoutMs,
);

/** What is harmless once may cost much a thousand times. */
const thousandfold = (octets: Buffer): Buffer => Buffer.concat(Array.from({ length: 1000 }, () => octets.subarray(0, 100)));
