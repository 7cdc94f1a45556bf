/**
 * Field primitives of the binary carrier protocols, and `layout()`, which makes encoder, decoder and type out of one table.
 *
 * A table is read once, when its module loads; after that a value costs one loop over closures and only its own allocation. Readers never
 * read past the given end: missing octets throw `ProtocolError`, the only error a decoder throws. Raw octets are returned as views into the
 * input, so copy them to keep them longer than the frame.
 */

/** The received data breaks the protocol. The only error decoders throw. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError';
}

/** A reader's position; `end` is the first octet after its range. */
interface Cursor {
  at: number;
  readonly end: number;
}

export interface Field<T> {
  /** The octets of every value; null where that depends on the value. */
  readonly size: number | null;
  /** What is written when a value is left out. */
  readonly empty: T;
  measure(value: T): number;
  /** Writes at `at` and returns the offset after it. Throws RangeError for a value that does not fit, which is our own error. */
  write(buffer: Buffer, at: number, value: T): number;
  read(buffer: Buffer, cursor: Cursor): T;
}

/** Moves the cursor over `count` octets and returns where they begin. */
function take(cursor: Cursor, count: number): number {
  const from = cursor.at;
  if (from + count > cursor.end) throw new ProtocolError(`${count} octets wanted at ${from}, ${cursor.end - from} left`);
  cursor.at = from + count;
  return from;
}

function integer(size: 1 | 2 | 4): Field<number> {
  const max = 2 ** (8 * size) - 1;
  return {
    size,
    empty: 0,
    measure: () => size,
    write(buffer, at, value) {
      if (!(value >= 0 && value <= max)) throw new RangeError(`${value} does not fit ${size} octets`);
      if (size === 4) {
        buffer[at] = value >>> 24;
        buffer[at + 1] = value >>> 16;
      }
      if (size > 1) buffer[at + size - 2] = value >>> 8;
      buffer[at + size - 1] = value;
      return at + size;
    },
    read(buffer, cursor) {
      const at = take(cursor, size);
      return size === 4 ? buffer.readUInt32BE(at) : size === 2 ? buffer.readUInt16BE(at) : buffer.readUInt8(at);
    },
  };
}

export const u8 = integer(1);
export const u16 = integer(2);
export const u32 = integer(4);

/** Text before the first NUL between two offsets. */
function textBetween(buffer: Buffer, from: number, to: number): string {
  let end = from;
  while (end < to && buffer[end] !== 0) end += 1;
  return end === from ? '' : buffer.toString('latin1', from, end);
}

/** Writes one octet a character and pads with NUL. A loop, since for such short strings a call into native code costs more. */
function writePadded(buffer: Buffer, at: number, value: string, size: number): number {
  const length = value.length;
  if (length > size) throw new RangeError(`"${value}" does not fit ${size} octets`);
  for (let i = 0; i < length; i += 1) {
    const code = value.charCodeAt(i);
    if (code > 0xff) throw new RangeError(`"${value}" is not one octet a character`);
    buffer[at + i] = code;
  }
  for (let i = length; i < size; i += 1) buffer[at + i] = 0;
  return at + size;
}

/** "Octet String": fixed size, padded with NUL on the right, possibly without any. Readers cut at the first NUL. */
export function octets(size: number): Field<string> {
  return {
    size,
    empty: '',
    measure: () => size,
    write: (buffer, at, value) => writePadded(buffer, at, value, size),
    read(buffer, cursor) {
      const at = take(cursor, size);
      return textBetween(buffer, at, at + size);
    },
  };
}

/** As `octets`, for the last field of a PDU: written in full, read from whatever is left, even nothing (cmpp.md §12). */
export function trailing(size: number): Field<string> {
  return {
    ...octets(size),
    read(buffer, cursor) {
      const at = cursor.at;
      const end = Math.min(cursor.end, at + size);
      cursor.at = cursor.end;
      return textBetween(buffer, at, end);
    },
  };
}

/**
 * "C-Octet String" (SMPP 3.4 §3.1): text that ends with one NUL, at most `size` octets including it. A text that does not end within them,
 * or within the PDU, is refused.
 */
export function cString(size: number): Field<string> {
  return {
    size: null,
    empty: '',
    measure: (value) => value.length + 1,
    write(buffer, at, value) {
      // A reader would stop at that NUL.
      if (value.includes('\0')) throw new RangeError(`${JSON.stringify(value)} has a NUL inside`);
      const next = at + value.length + 1;
      if (next > at + size) throw new RangeError(`"${value}" and its NUL do not fit ${size} octets`);
      return writePadded(buffer, at, value, next - at);
    },
    read(buffer, cursor) {
      const from = cursor.at;
      const limit = Math.min(cursor.end, from + size);
      let end = from;
      while (end < limit && buffer[end] !== 0) end += 1;
      if (end === limit) throw new ProtocolError(`no NUL within ${limit - from} octets at ${from}`);
      cursor.at = end + 1;
      return buffer.toString('latin1', from, end);
    },
  };
}

/** Exactly `size` octets as they are; read as a view. */
export function bytes(size: number): Field<Buffer> {
  return {
    size,
    empty: Buffer.alloc(size),
    measure: () => size,
    write(buffer, at, value) {
      if (value.length !== size) throw new RangeError(`${value.length} octets where ${size} belong`);
      buffer.set(value, at);
      return at + size;
    },
    read(buffer, cursor) {
      const at = take(cursor, size);
      return buffer.subarray(at, at + size);
    },
  };
}

/** An opaque id of `size` octets, in the program as lower-case hex text: comparable, printable, and without 64-bit arithmetic. */
export function hex(size: number): Field<string> {
  const empty = '0'.repeat(2 * size);
  return {
    size,
    empty,
    measure: () => size,
    write(buffer, at, value) {
      if (value === empty) buffer.fill(0, at, at + size);
      else if (value.length !== 2 * size || buffer.write(value, at, size, 'hex') !== size)
        throw new RangeError(`"${value}" is not ${size} octets`);
      return at + size;
    },
    read(buffer, cursor) {
      const at = take(cursor, size);
      return buffer.toString('hex', at, at + size);
    },
  };
}

/** One octet of length, then that many octets; read as a view. */
export const sized: Field<Buffer> = {
  size: null,
  empty: Buffer.alloc(0),
  measure: (value) => 1 + value.length,
  write(buffer, at, value) {
    const length = value.length;
    if (length > 0xff) throw new RangeError(`${length} octets do not fit a length of one octet`);
    buffer[at] = length;
    buffer.set(value, at + 1);
    return at + 1 + length;
  },
  read(buffer, cursor) {
    const length = buffer.readUInt8(take(cursor, 1));
    const at = take(cursor, length);
    return buffer.subarray(at, at + length);
  },
};

/** All remaining octets, possibly none, unchanged; read as a view. Useful as the value of a TLV, whose length says how many. */
export const rest: Field<Buffer> = {
  size: null,
  empty: Buffer.alloc(0),
  measure: (value) => value.length,
  write(buffer, at, value) {
    buffer.set(value, at);
    return at + value.length;
  },
  read(buffer, cursor) {
    const at = take(cursor, cursor.end - cursor.at);
    return buffer.subarray(at, cursor.end);
  },
};

/** One octet of count, then that many values. */
export function counted<T>(field: Field<T>): Field<readonly T[]> {
  return {
    size: null,
    empty: [],
    measure: (values) => values.reduce((sum, value) => sum + field.measure(value), 1),
    write(buffer, at, values) {
      if (values.length > 0xff) throw new RangeError(`${values.length} values do not fit a count of one octet`);
      buffer[at] = values.length;
      let next = at + 1;
      for (const value of values) next = field.write(buffer, next, value);
      return next;
    },
    read(buffer, cursor) {
      const count = buffer.readUInt8(take(cursor, 1));
      const values: T[] = [];
      for (let i = 0; i < count; i += 1) values.push(field.read(buffer, cursor));
      return values;
    },
  };
}

/** A field that only some versions have is optional here, and absent from the other versions' tables. */
type Table = Readonly<Record<string, Field<unknown> | undefined>>;

/** The values a table describes, under its names. */
export type Values<F extends Table> = { readonly [K in keyof F]: F[K] extends Field<infer T> | undefined ? T : never };

export interface Layout<T> {
  /** The octets of every value; null where that depends on the value. */
  readonly size: number | null;
  measure(value: T): number;
  write(buffer: Buffer, at: number, value: T): number;
  read(buffer: Buffer, cursor: Cursor): T;
}

/**
 * Compiles a table of fields, in the order of the specification. When writing, a name that the table lacks is ignored; an optional one that
 * the value lacks is written empty.
 */
export function layout<const F extends Table>(table: F): Layout<Values<F>> {
  const entries = Object.entries(table).filter((entry): entry is [string, Field<unknown>] => entry[1] !== undefined);
  const names = entries.map(([name]) => name);
  const fields = entries.map(([, field]) => field);
  const fixed = fields.reduce((sum, field) => sum + (field.size ?? 0), 0);
  const variable = entries.filter(([, field]) => field.size === null);
  // Every value starts as a copy of this one, so it has all its properties from the start. That is far cheaper than adding them one by one.
  const blank: Record<string, unknown> = Object.fromEntries(entries.map(([name, field]) => [name, field.empty]));

  return {
    size: variable.length === 0 ? fixed : null,
    measure(value: Readonly<Record<string, unknown>>) {
      let size = fixed;
      for (const [name, field] of variable) size += field.measure(value[name] ?? field.empty);
      return size;
    },
    write(buffer, at, value: Readonly<Record<string, unknown>>) {
      let next = at;
      for (let i = 0; i < fields.length; i += 1) {
        const field = fields[i]!;
        next = field.write(buffer, next, value[names[i]!] ?? field.empty);
      }
      return next;
    },
    read(buffer, cursor) {
      const value = { ...blank };
      for (let i = 0; i < fields.length; i += 1) value[names[i]!] = fields[i]!.read(buffer, cursor);
      // The type was made from the table.
      return value as Values<F>;
    },
  };
}

/** The tag of each optional parameter and what its value is. */
type TlvTable = Readonly<Record<string, readonly [tag: number, field: Field<unknown>]>>;

/** The parameters that a table describes, under its names; each may be missing. */
type TlvValues<F extends TlvTable> = {
  readonly [K in keyof F]?: F[K] extends readonly [number, Field<infer T>] ? T : never;
};

const tlvHead = 4;
const maxTlvLength = 0xffff;

/**
 * The optional parameters that end a PDU of SMGP 3.0 or SMPP 3.4 (§3.2.4.1): two octets of tag, two of length, the value, up to the end of
 * the PDU. A table gives the tag and the field of each name. The reader skips parameters with other tags; if a tag comes twice, the last
 * one counts. A value that its field does not take in full, or that reaches past the end, is refused.
 */
export function tlvs<const F extends TlvTable>(table: F): Field<TlvValues<F>> {
  const entries = Object.entries(table).map(([name, [tag, field]]) => ({ name, tag, field }));
  const byTag = new Map(entries.map((entry) => [entry.tag, entry]));

  return {
    size: null,
    empty: {},
    measure(values: Readonly<Record<string, unknown>>) {
      let size = 0;
      for (const { name, field } of entries) if (values[name] !== undefined) size += tlvHead + field.measure(values[name]);
      return size;
    },
    write(buffer, at, values: Readonly<Record<string, unknown>>) {
      let next = at;
      for (const { name, tag, field } of entries) {
        const value = values[name];
        if (value === undefined) continue;
        const length = field.measure(value);
        if (length > maxTlvLength) throw new RangeError(`${name} of ${length} octets does not fit a TLV`);
        next = u16.write(buffer, next, tag);
        next = u16.write(buffer, next, length);
        next = field.write(buffer, next, value);
      }
      return next;
    },
    read(buffer, cursor) {
      const values: Record<string, unknown> = {};
      while (cursor.at < cursor.end) {
        const tag = u16.read(buffer, cursor);
        const length = u16.read(buffer, cursor);
        const at = take(cursor, length);
        const value = { at, end: at + length };
        const known = byTag.get(tag);
        if (!known) continue;
        values[known.name] = known.field.read(buffer, value);
        if (value.at !== value.end) throw new ProtocolError(`${known.name} in ${length} octets, ${value.end - value.at} too many`);
      }
      // The type was made from the table.
      return values as TlvValues<F>;
    },
  };
}
