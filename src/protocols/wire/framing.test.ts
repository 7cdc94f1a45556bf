import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { ProtocolError } from './fields.ts';
import { createFrameReader } from './framing.ts';

const bounds = { min: 8, max: 64 };

function frame(content: Uint8Array): Buffer {
  const buffer = Buffer.alloc(8 + content.length, 0xaa);
  buffer.writeUInt32BE(buffer.length, 0);
  buffer.set(content, 8);
  return buffer;
}

test('the same frames come out however the stream is cut into chunks', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 56 })),
      fc.array(fc.integer({ min: 1, max: 70 }), { minLength: 1 }),
      (contents, cuts) => {
        const frames = contents.map(frame);
        const stream = Buffer.concat(frames);
        const seen: string[] = [];
        const read = createFrameReader(bounds, (buffer, start, end) => seen.push(buffer.toString('hex', start, end)));
        for (let at = 0, i = 0; at < stream.length; i += 1) {
          const size = cuts[i % cuts.length]!;
          read(stream.subarray(at, at + size));
          at += size;
        }
        expect(seen).toEqual(frames.map((buffer) => buffer.toString('hex')));
      },
    ),
  );
});

test('a length out of bounds loses the stream, before the frame itself has come', () => {
  for (const length of [0, 7, 65, 0xffffffff]) {
    const head = Buffer.alloc(4);
    head.writeUInt32BE(length);
    expect(() => createFrameReader(bounds, () => {})(head)).toThrow(ProtocolError);
  }
});
