/**
 * Cuts a stream into frames that begin with their own length: four octets, big-endian, themselves included, as CMPP, SGIP, SMGP and
 * SMPP have it. A length out of bounds means that we no longer know where frames begin: the stream is lost and must be closed.
 */
import { ProtocolError } from './fields.ts';

export interface FrameBounds {
  /** Octets of the shortest legal frame, usually the header; at least 4. */
  readonly min: number;
  readonly max: number;
}

/** A frame lies in `buffer` from `start` to before `end`. The buffer is shared: copy what must outlive the call. */
export type FrameListener = (buffer: Buffer, start: number, end: number) => void;

/**
 * Returns a function that takes the stream chunk by chunk and hands over each whole frame. It keeps at most one incomplete frame, and
 * throws `ProtocolError` at a length out of bounds, after which it must not be used again.
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
