/** Creates the partitions of the coming days. */
import type { Retention } from '../../core/watch/retention.ts';
import type { Task } from './task.ts';

export const createPartitionsTask = (retention: Pick<Retention, 'makePartitions'>): Task => ({
  name: 'partitions',
  everyMs: 3600_000,
  async *portions() {
    await retention.makePartitions();
    yield 0;
  },
});
