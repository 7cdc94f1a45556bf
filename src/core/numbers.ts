/**
 * Phone numbers: from the many ways customers write them to E.164 digits, and from a mainland number to its carrier.
 * The ranges are the Ministry's public allocation, by hand; ported numbers and finer tables come on top of them later.
 */
import type { Carrier } from './model.ts';

export interface Phone {
  /** E.164 digits, e.g. 8613800000000n. */
  readonly e164: bigint;
  readonly carrier: Carrier;
  /** Null where it is not known. */
  readonly province: string | null;
}

/** First three digits of mainland mobile numbers; virtual operators' ranges are listed under their host carrier. */
const ranges: readonly (readonly [Carrier, string])[] = [
  ['mobile', '134 135 136 137 138 139 147 148 150 151 152 157 158 159 165 172 178 182 183 184 187 188 195 197 198'],
  ['unicom', '130 131 132 145 146 155 156 166 167 171 175 176 185 186 196'],
  ['telecom', '133 149 153 162 173 174 177 180 181 189 190 191 193 199'],
  ['broadcast', '192'],
];
/** Four digits that differ from, or are all there is of, their three. */
const exceptions: readonly (readonly [Carrier, string])[] = [
  ['telecom', '1349 1700 1701 1702'],
  ['mobile', '1703 1705 1706'],
  ['unicom', '1704 1707 1708 1709'],
];

/** Four digits → carrier, so that one look decides. */
const byPrefix = new Map<number, Carrier>();
for (const [carrier, prefixes] of ranges)
  for (const prefix of prefixes.split(' ')) for (let digit = 0; digit < 10; digit++) byPrefix.set(Number(prefix) * 10 + digit, carrier);
for (const [carrier, prefixes] of exceptions) for (const prefix of prefixes.split(' ')) byPrefix.set(Number(prefix), carrier);

const mainland = /^(?:\+86|0086|86)?(1\d{10})$/;
const foreign = /^(?:\+|00)([1-9]\d{6,14})$/;

/**
 * Reads a number as customers write it: mainland with or without `+86`, `86` or `0086`; other countries with `+` or `00`; spaces,
 * hyphens and parentheses are ignored. Null when it is no valid number: +86 must be a mobile number of an allocated range.
 */
export function parsePhone(written: string): Phone | null {
  const digits = /[ ()-]/.test(written) ? written.replace(/[ ()-]/g, '') : written;
  const national = mainland.exec(digits)?.[1];
  if (national !== undefined) {
    const carrier = byPrefix.get(Number(national.slice(0, 4)));
    return carrier ? { e164: BigInt(`86${national}`), carrier, province: null } : null;
  }
  const international = foreign.exec(digits)?.[1];
  if (international === undefined || international.startsWith('86')) return null;
  return { e164: BigInt(international), carrier: 'international', province: null };
}

/** The form most customers write: eleven digits for the mainland, `+` and digits for other countries. Only other forms are stored. */
export function usualForm(e164: bigint | string): string {
  const digits = String(e164);
  return digits.length === 13 && digits.startsWith('86') ? digits.slice(2) : `+${digits}`;
}
