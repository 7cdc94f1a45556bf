/**
 * Codes of short links. A code is ten base62 characters, derived from a message's id. So ten thousand links need no rows. Codes look
 * random, so that nobody finds a stranger's card by counting.
 *
 * The derivation is a keyed permutation of the 58-bit numbers: a balanced Feistel network over two halves of 29 bits, whose round
 * function is AES-256 of (round number, half). A permutation needs no table and never collides. NIST's FF1 uses ten rounds for the same
 * construction, too. ECB is used here as the bare block cipher, a keyed function of one block, and encrypts nothing. It also lets one call
 * to OpenSSL compute one round of a whole chunk, which keeps a code well under a microsecond.
 *
 * This module does not know what a code opens, or whether its message exists: that is in `cards.ts`.
 */
import { createCipheriv, createHmac } from 'node:crypto';
import { chunkCapacity } from '../model/ids.ts';

/** Every code has this length, so a text's length is known before its link is. */
export const linkCodeLength = 10;

export interface Links {
  /**
   * The codes of messages of one chunk, in the order of `indexes`; a number `n` stands for all indexes below `n`.
   * At most a chunk's capacity at once.
   */
  encodeMany(chunkId: bigint, indexes: number | readonly number[]): string[];
  /** The message's id, or null if no message can have this code. A code that decodes need not belong to an existing message. */
  decode(code: string): bigint | null;
}

const rounds = 10;
const halfBits = 29;
const halfMask = 2 ** halfBits - 1;
const indexBits = 9;
/** How many of a chunk id's low bits share the low half with the index. */
const chunkBitsInLow = halfBits - indexBits;
const maxChunkId = 1n << BigInt(2 * halfBits - indexBits);
const blockBytes = 16;

const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const codePattern = /^[0-9A-Za-z]{10}$/;
const pairs = Array.from({ length: 62 * 62 }, (_, i) => alphabet.charAt(Math.floor(i / 62)) + alphabet.charAt(i % 62));
const digitOf = new Map(Array.from(alphabet, (character, digit) => [character, digit]));
const fiveDigits = 62 ** 5;

/** Derives the codes from a 32-byte secret of the installation. With another secret, every link already sent becomes unknown. */
export function createLinks({ secret }: { secret: Uint8Array }): Links {
  if (secret.length !== 32) throw new RangeError(`the secret of the short links must have 32 bytes, not ${secret.length}`);
  // A derived key, so that the secret may serve other purposes too.
  const key = createHmac('sha256', secret).update('hongyan short links').digest();
  const cipher = createCipheriv('aes-256-ecb', key, null).setAutoPadding(false);

  const input = Buffer.alloc(chunkCapacity * blockBytes);
  const left = new Uint32Array(chunkCapacity);
  const right = new Uint32Array(chunkCapacity);

  /** Replaces the first `n` pairs of halves by (right, left xor f(round, right)). */
  function round(number: number, n: number): void {
    for (let i = 0; i < n; i++) {
      const at = i * blockBytes;
      input[at] = number;
      input.writeUInt32LE(right[i] ?? 0, at + 4);
    }
    const output = cipher.update(input.subarray(0, n * blockBytes));
    for (let i = 0; i < n; i++) {
      const mixed = ((left[i] ?? 0) ^ output.readUInt32LE(i * blockBytes)) & halfMask;
      left[i] = right[i] ?? 0;
      right[i] = mixed;
    }
  }

  return {
    encodeMany(chunkId, indexes) {
      const n = typeof indexes === 'number' ? indexes : indexes.length;
      if (n > chunkCapacity || chunkId < 0n || chunkId >= maxChunkId)
        throw new RangeError(`no links for ${n} messages of chunk ${chunkId}`);
      const high = Number(chunkId >> BigInt(chunkBitsInLow));
      const low = Number(chunkId & ((1n << BigInt(chunkBitsInLow)) - 1n)) << indexBits;
      for (let i = 0; i < n; i++) {
        left[i] = high;
        right[i] = low | (typeof indexes === 'number' ? i : (indexes[i] ?? 0));
      }
      for (let number = 0; number < rounds; number++) round(number, n);
      return Array.from({ length: n }, (_, i) => spell(left[i] ?? 0, right[i] ?? 0));
    },

    decode(code) {
      if (!codePattern.test(code)) return null;
      let value = 0n;
      for (const character of code) value = value * 62n + BigInt(digitOf.get(character) ?? 0);
      // 62^10 is almost three times 2^58; codes above 2^58 are never given out.
      if (value >> BigInt(2 * halfBits) !== 0n) return null;
      // Decoding is the same network with the halves exchanged and the rounds in reverse.
      left[0] = Number(value & BigInt(halfMask));
      right[0] = Number(value >> BigInt(halfBits));
      for (let number = rounds - 1; number >= 0; number--) round(number, 1);
      return (BigInt(right[0] ?? 0) << BigInt(halfBits)) | BigInt(left[0] ?? 0);
    },
  };
}

/** The ten digits of `high × 2^29 + low`, in steps small enough to be exact in doubles: BigInt would cost more than the cipher. */
function spell(high: number, low: number): string {
  const first = high * 2 ** 15 + (low >>> 14);
  const second = (first % fiveDigits) * 2 ** 14 + (low & 0x3fff);
  return spellFive(Math.floor(first / fiveDigits) * 2 ** 14 + Math.floor(second / fiveDigits)) + spellFive(second % fiveDigits);
}

function spellFive(value: number): string {
  const lastFour = value % (62 * 62 * 62 * 62);
  return (
    alphabet.charAt(Math.floor(value / (62 * 62 * 62 * 62))) +
    (pairs[Math.floor(lastFour / (62 * 62))] ?? '') +
    (pairs[lastFour % (62 * 62)] ?? '')
  );
}
