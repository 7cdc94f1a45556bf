/**
 * PDUs of the binary carrier protocols: a header, then a body that a table describes.
 *
 * Every header begins with the length of the PDU, itself included, and with the command, and ends with the number of the request; each
 * has four octets. What follows the command is a protocol's own, its `tail`: the number alone in CMPP and SMGP; the sender's node, the
 * time and the number in SGIP; the status and the number in SMPP.
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

/** Functions that take a frame rely on its header being whole. */
export interface PduFormat<Tail> {
  /** Octets of the header: the shortest frame. */
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
    // Without a reader of fields: it is wanted of every frame.
    sequenceOf: (buffer, start) => buffer.readUInt32BE(start + headerSize - 4),
    tailOf: (buffer, start) => tail.read(buffer, { at: start + tailAt, end: start + headerSize }),
  };
}
