/** Pauses between tries to reach a carrier: each is twice the one before, up to a limit, and is shortened at random by up to a half. */

export interface BackoffSettings {
  readonly reconnectMinMs: number;
  readonly reconnectMaxMs: number;
  /** The shortest pause after a refused login, since carriers block accounts that try too often. */
  readonly refusedMinMs: number;
}

export interface Backoff {
  /** The next pause, in milliseconds. */
  next(isRefused: boolean): number;
  /** The pause before it was shortened; 0 when the next one will be the shortest. */
  readonly lastMs: number;
  /** Call it when the carrier was reached: the next pause is the shortest again. */
  reset(): void;
}

export function createBackoff({ reconnectMinMs, reconnectMaxMs, refusedMinMs }: BackoffSettings): Backoff {
  let lastMs = 0;
  return {
    next(isRefused) {
      lastMs = Math.min(reconnectMaxMs, Math.max(reconnectMinMs, 2 * lastMs));
      const shortened = lastMs * (0.5 + Math.random() / 2);
      return isRefused ? Math.max(refusedMinMs, shortened) : shortened;
    },
    get lastMs() {
      return lastMs;
    },
    reset() {
      lastMs = 0;
    },
  };
}
