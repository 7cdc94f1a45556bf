/** Phone numbers as people write them: from many forms to E.164 digits and back. number-plan.ts knows their carriers and places. */

const mainland = /^(?:\+86|0086|86)?(1[3-9]\d{9})$/;
const foreign = /^(?:\+|00)([1-9]\d{6,14})$/;

/**
 * Reads a number as customers write it: mainland with or without `+86`, `86` or `0086`; other countries with `+` or `00`. Spaces, hyphens
 * and parentheses are ignored. Null for any other form; +86 must be a mobile number.
 */
export function parseNumber(written: string): bigint | null {
  const digits = /[ ()-]/.test(written) ? written.replace(/[ ()-]/g, '') : written;
  const national = mainland.exec(digits)?.[1];
  if (national !== undefined) return BigInt(`86${national}`);
  const international = foreign.exec(digits)?.[1];
  return international === undefined || international.startsWith('86') ? null : BigInt(international);
}

/** Mobile numbers of the mainland; `to` is not included. */
export const mainlandNumbers = { from: 8_613_000_000_000n, to: 8_620_000_000_000n } as const;

/** The form most customers write: eleven digits for the mainland, `+` and digits for other countries. Only other forms are stored. */
export function usualForm(e164: bigint | string): string {
  const digits = String(e164);
  return digits.length === 13 && digits.startsWith('86') ? digits.slice(2) : `+${digits}`;
}
