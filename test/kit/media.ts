/** Small real media for tests: pictures that decode, a sound of silence, and a film of one black frame. */
import sharp from 'sharp';

/** A picture of noise, so that its size follows from its dimensions. */
export function picture(format: 'png' | 'jpeg' | 'gif', width = 60, height = 40, seed = 0): Promise<Buffer> {
  const pixels = Buffer.alloc(width * height * 3);
  let state = seed * 7919 + 88_172_645;
  for (let at = 0; at < pixels.length; at++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    pixels[at] = state & 0xff;
  }
  return sharp(pixels, { raw: { width, height, channels: 3 } })
    .toFormat(format)
    .toBuffer();
}

/** The head of a PNG that claims to be enormous, with a body of one row. */
export async function bomb(width: number, height: number): Promise<Buffer> {
  const bytes = await picture('png');
  bytes.writeUInt32BE(width, 16);
  bytes.writeUInt32BE(height, 20);
  bytes.writeUInt32BE(crc32(bytes.subarray(12, 29)), 29);
  return bytes;
}

function crc32(bytes: Buffer): number {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xed_b8_83_20 : 0);
  }
  return ~crc >>> 0;
}

/** MPEG-1 layer 3, 128 kbit/s, 44.1 kHz, silent. */
export function sound(frames = 40): Buffer {
  const frame = Buffer.alloc(417);
  frame.set([0xff, 0xfb, 0x90, 0x00]);
  return Buffer.concat(Array.from({ length: frames }, () => frame));
}

const box = (type: string, ...parts: readonly (Buffer | readonly number[])[]): Buffer => {
  const body = Buffer.concat(parts.map((part) => Buffer.from(part)));
  const head = Buffer.alloc(8);
  head.writeUInt32BE(8 + body.length);
  head.write(type, 4, 'latin1');
  return Buffer.concat([head, body]);
};
const u32 = (...values: readonly number[]): Buffer => {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, index) => bytes.writeUInt32BE(value, 4 * index));
  return bytes;
};
const u16 = (...values: readonly number[]): Buffer => {
  const bytes = Buffer.alloc(2 * values.length);
  values.forEach((value, index) => bytes.writeUInt16BE(value, 2 * index));
  return bytes;
};
const matrix = u32(0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000);

/** ISO 14496-12: one track of video, one sample. */
export function film(): Buffer {
  const sample = Buffer.alloc(200, 1);
  const ftyp = box('ftyp', Buffer.from('isom'), u32(512), Buffer.from('isomiso2avc1mp41'));
  const mdat = box('mdat', sample);
  const avcC = box('avcC', [1, 66, 0, 10, 0xff, 0xe1], u16(4), [0x67, 66, 0, 10], [1], u16(4), [0x68, 0xce, 0x38, 0x80]);
  const avc1 = box(
    'avc1',
    Buffer.alloc(6),
    u16(1),
    Buffer.alloc(16),
    u16(176, 144),
    u32(0x480000, 0x480000, 0),
    u16(1),
    Buffer.alloc(32),
    u16(24, 0xffff),
    avcC,
  );
  const stbl = box(
    'stbl',
    box('stsd', u32(0, 1), avc1),
    box('stts', u32(0, 1, 1, 1000)),
    box('stsc', u32(0, 1, 1, 1, 1)),
    box('stsz', u32(0, 0, 1, sample.length)),
    box('stco', u32(0, 1, ftyp.length + 8)),
  );
  const minf = box('minf', box('vmhd', u32(1, 0, 0)), box('dinf', box('dref', u32(0, 1), box('url ', u32(1)))), stbl);
  const hdlr = box('hdlr', u32(0, 0), Buffer.from('vide'), Buffer.alloc(12), Buffer.from('v\0'));
  const mdia = box('mdia', box('mdhd', u32(0, 0, 0, 1000, 1000), u16(0x55c4, 0)), hdlr, minf);
  const tkhd = box('tkhd', u32(3, 0, 0, 1, 0, 1000, 0, 0), u16(0, 0, 0, 0), matrix, u32(176 << 16, 144 << 16));
  const mvhd = box('mvhd', u32(0, 0, 0, 1000, 1000, 0x10000), u16(0x100, 0), u32(0, 0), matrix, Buffer.alloc(24), u32(2));
  return Buffer.concat([ftyp, mdat, box('moov', mvhd, box('trak', tkhd, mdia))]);
}
