/**
 * Cuts a stream into frames that begin with their own length: four octets, big-endian, including themselves, as in CMPP, SGIP, SMGP and
 * SMPP. After a length out of bounds the beginning of the next frame is unknown, so the stream must be closed.
 */
import { ProtocolError } from './fields.ts';

export interface FrameBounds {
  /** Octets of the shortest legal frame, usually the header; at least 4. */
  readonly min: number;
  readonly max: number;
}

/** A frame lies in `buffer` from `start` up to, but not including, `end`. The buffer is shared: copy what must outlive the call. */
export type FrameListener = (buffer: Buffer, start: number, end: number) => void;

/**
 * Returns a function that takes the stream chunk by chunk and hands over each whole frame. It keeps at most one incomplete frame. At a
 * length out of bounds it throws `ProtocolError` and must not be used again.
 */
export function createFrameReader(bounds: FrameBounds, onFrame: FrameListener): (chunk: Buffer) => void {
  let rest: Buffer | null = null;
  return (chunk) => {
    const buffer: Buffer = rest ? Buffer.concat([rest, chunk]) : chunk;
    let at = 0;
    while (at + 4 <= buffer.length) {
      const length = buffer.readUInt32BE(at);
      if (length < bounds.min || length > bounds.max) throw new ProtocolError(`frame of ${length} octets`);
      if (at + length > buffer.length) break;
      onFrame(buffer, at, at + length);
      at += length;
    }
    // A copy, so that a few octets do not keep a whole chunk in memory.
    rest = at === buffer.length ? null : Buffer.from(buffer.subarray(at));
  };
}
