/** A periodic task, cut into portions. A task is idempotent and may run on several nodes at once. */
export interface Task {
  /** For the log. */
  readonly name: string;
  /** The interval in milliseconds. A task that is still running is not begun again. */
  readonly everyMs: number;
  /**
   * Does one portion at each step, and yields how many things it has ended. The caller may stop for good between two portions. A portion
   * that has several parts checks `isStopping` between them.
   */
  portions(isStopping: () => boolean): AsyncGenerator<number, void>;
}
