/**
 * Rate arithmetic of one connection: a token bucket, counted in segments. Pure: the time, in milliseconds of any steady clock, comes
 * as a parameter and must not go backwards.
 *
 * The bucket holds a tenth of a second, because carriers count per second: a bucket of a whole second would let twice the rate
 * through in its first one.
 */

const burstSeconds = 0.1;
/** The share of the rate that is left after the carrier throttled, the lowest share, and how much of the full rate returns each second. */
const slowFactor = 0.7;
const slowest = 0.1;
const recoveryPerSecond = 0.1;
/** One burst above the limit brings a window full of "too fast" answers; they count once. */
const slowAgainAfterMs = 1000;

export interface Pacer {
  /** Takes one segment's token if there is one. */
  take(now: number): boolean;
  /** Whole tokens that will be there `aheadMs` from now. Never negative. */
  available(now: number, aheadMs: number): number;
  /** Milliseconds until `available(…, aheadMs)` is at least `tokens`; 0 if it already is. */
  waitMs(now: number, tokens: number, aheadMs: number): number;
  /** The carrier throttled: the rate drops, and recovers within seconds if it stops throttling. */
  slow(now: number): void;
}

/** `ratePerSecond` must be positive; `now` is the creation time. */
export function createPacer(ratePerSecond: number, now: number): Pacer {
  const burst = Math.max(1, ratePerSecond * burstSeconds);
  let tokens = burst;
  let rate = ratePerSecond;
  let at = now;
  let slowedAt = Number.NEGATIVE_INFINITY;

  function refill(now: number): void {
    const seconds = (now - at) / 1000;
    if (seconds <= 0) return;
    at = now;
    if (rate < ratePerSecond) rate = Math.min(ratePerSecond, rate + ratePerSecond * recoveryPerSecond * seconds);
    tokens = Math.min(burst, tokens + rate * seconds);
  }

  return {
    take(now) {
      refill(now);
      if (tokens < 1) return false;
      tokens -= 1;
      return true;
    },
    available(now, aheadMs) {
      refill(now);
      return Math.floor(tokens + (rate * aheadMs) / 1000);
    },
    waitMs(now, wanted, aheadMs) {
      refill(now);
      return Math.max(0, ((wanted - tokens) / rate) * 1000 - aheadMs);
    },
    slow(now) {
      refill(now);
      if (now - slowedAt < slowAgainAfterMs) return;
      slowedAt = now;
      rate = Math.max(ratePerSecond * slowest, rate * slowFactor);
      tokens = Math.min(tokens, 0);
    },
  };
}
