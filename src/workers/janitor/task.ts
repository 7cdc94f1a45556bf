/**
 * What must be done now and then without anybody asking, cut into portions. A task is idempotent and may run on several nodes at once.
 */
export interface Task {
  /** For the log. */
  readonly name: string;
  /** How often it is begun, in milliseconds. While it still runs it is not begun again. */
  readonly everyMs: number;
  /**
   * Does one portion at each step, and yields how many things it has ended. Between two portions the task may be left for good. A portion
   * that consists of several by itself asks `isStopping` between them.
   */
  portions(isStopping: () => boolean): AsyncGenerator<number, void>;
}
