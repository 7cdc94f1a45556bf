/**
 * Rate arithmetic of one connection: a token bucket, counted in segments. Pure: the time, in milliseconds of any steady clock, comes
 * as a parameter and must not go backwards.
 *
 * The bucket holds a tenth of a second, because carriers count per second: a bucket of a whole second would let twice the rate
 * through in its first one.
 */

const burstSeconds = 0.1;
/** What remains of the rate after the carrier said "too fast", how low that may go, and how much of the full rate returns each second. */
const slowFactor = 0.7;
const slowest = 0.1;
const recoveryPerSecond = 0.1;
/** One burst above the limit brings a window full of complaints; they count once. */
const slowAgainAfterMs = 1000;

export interface Pacer {
  /** Takes one segment's token if there is one. */
  take(now: number): boolean;
  /** Tokens there will be `aheadMs` from now, whole ones. Negative never. */
  available(now: number, aheadMs: number): number;
  /** Milliseconds until `available(…, aheadMs)` is at least `tokens`, 0 if it is. */
  waitMs(now: number, tokens: number, aheadMs: number): number;
  /** The carrier complained: the rate drops, and comes back within seconds if the complaints stop. */
  slow(now: number): void;
}

/** `ratePerSecond` must be positive; `now` is the time of its creation. */
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
