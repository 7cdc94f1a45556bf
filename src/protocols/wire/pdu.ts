/**
 * PDUs of the binary carrier protocols: a header, then a body that a table describes.
 *
 * Every header begins with the length of the PDU (including itself) and the command, and ends with the request's number; each has four
 * octets. After the command each protocol has its own `tail`: only the number in CMPP and SMGP; the sender's node, the time and the number
 * in SGIP; the status and the number in SMPP.
 */
import { type Field, type Layout, u32 } from './fields.ts';

/** One kind of PDU. */
export interface Pdu<Tail, T> {
  readonly commandId: number;
  /** Throws RangeError if a value does not fit its field. */
  encode(tail: Tail, body: T): Buffer;
  /** Takes a whole frame, header included. Throws ProtocolError. */
  decode(buffer: Buffer, start: number, end: number): T;
}

/** These functions expect a frame with a complete header. */
export interface PduFormat<Tail> {
  /** Octets of the header, which is the shortest frame. */
  readonly headerSize: number;
  pdu<T>(commandId: number, body: Layout<T>): Pdu<Tail, T>;
  commandOf(buffer: Buffer, start: number): number;
  sequenceOf(buffer: Buffer, start: number): number;
  tailOf(buffer: Buffer, start: number): Tail;
}

const tailAt = 8;

/** Throws TypeError if the size of `tail` depends on its value. */
export function pduFormat<Tail>(tail: Pick<Field<Tail>, 'size' | 'write' | 'read'>): PduFormat<Tail> {
  if (tail.size === null) throw new TypeError('a header is of one size');
  const headerSize = tailAt + tail.size;
  return {
    headerSize,
    pdu: (commandId, body) => ({
      commandId,
      encode(values, value) {
        const length = headerSize + body.measure(value);
        const buffer = Buffer.allocUnsafe(length);
        u32.write(buffer, 0, length);
        u32.write(buffer, 4, commandId);
        tail.write(buffer, tailAt, values);
        body.write(buffer, headerSize, value);
        return buffer;
      },
      decode: (buffer, start, end) => body.read(buffer, { at: start + headerSize, end }),
    }),
    commandOf: (buffer, start) => buffer.readUInt32BE(start + 4),
    // Not read as a field, since every frame needs it and this is faster.
    sequenceOf: (buffer, start) => buffer.readUInt32BE(start + headerSize - 4),
    tailOf: (buffer, start) => tail.read(buffer, { at: start + tailAt, end: start + headerSize }),
  };
}
