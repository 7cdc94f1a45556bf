/** Outcomes without details. All segments with the same outcome share one object. */
import type { SegmentOutcome } from './channel.ts';

export const unsent: SegmentOutcome = { kind: 'unsent' };
export const unknown: SegmentOutcome = { kind: 'unknown' };
/** Unknown because the connection broke. */
export const cutOff: SegmentOutcome = { kind: 'unknown', isCut: true };
export const throttled: SegmentOutcome = { kind: 'throttled' };

/** A rejection with the carrier's number, as customers see it: `ER:0013`. `isOurs` as in `SegmentOutcome`. */
export function rejected(code: number, isOurs = false): SegmentOutcome {
  const text = `ER:${code.toString().padStart(4, '0')}`;
  return isOurs ? { kind: 'rejected', code: text, isOurs } : { kind: 'rejected', code: text };
}
