/**
 * The fate of a message at a simulated carrier. In every protocol, the last four digits of the recipient decide it. sandbox/magic.ts
 * describes each fate in the tables of the READMEs.
 */

/** The reported status, in the words of CMPP (null: no report ever), and what is special about it. */
export interface Fate {
  readonly stat: string | null;
  readonly special?: 'reject' | 'throttle-once' | 'slow' | 'twice' | 'before-response';
  readonly reply?: string;
}

const delivered: Fate = { stat: 'DELIVRD' };

/** By the last four digits of the recipient. */
const fatesByDigits = {
  '0001': { stat: 'UNDELIV' },
  '0002': { stat: 'EXPIRED' },
  '0003': { stat: 'REJECTD' },
  '0004': { stat: 'MK:0001' },
  '0005': { stat: null, special: 'reject' },
  '0006': { stat: 'DELIVRD', special: 'throttle-once' },
  '0007': { stat: null },
  '0008': { stat: 'DELIVRD', special: 'slow' },
  '0009': { stat: 'DELIVRD', special: 'twice' },
  '0010': { stat: 'DELIVRD', special: 'before-response' },
  '0011': { stat: 'DELIVRD', reply: 'TD' },
  '0012': { stat: 'DELIVRD', reply: '你好,|世界' },
} as const satisfies Readonly<Record<string, Fate>>;
/** The endings of numbers with a fate of their own. */
export type FateDigits = keyof typeof fatesByDigits;
const fates = new Map<string, Fate>(Object.entries(fatesByDigits));

/** Numbers without a fate of their own all begin their last four digits with something else, which is cheap to see. */
export function fateOf(phone: string): Fate {
  return phone.charCodeAt(phone.length - 4) === 0x30 ? (fates.get(phone.slice(-4)) ?? delivered) : delivered;
}

/** Whether the phone gets the message. */
export const isShown = ({ stat }: Fate): boolean => stat === null || stat === 'DELIVRD';
