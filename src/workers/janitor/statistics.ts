/** Gives the planner statistics about the day that is filling up, before its own collector would. */
import type { Retention } from '../../core/watch/retention.ts';
import type { Task } from './task.ts';

export const createStatisticsTask = (retention: Pick<Retention, 'analyzeToday'>): Task => ({
  name: 'statistics',
  everyMs: 2000,
  async *portions() {
    await retention.analyzeToday();
    yield 0;
  },
});
