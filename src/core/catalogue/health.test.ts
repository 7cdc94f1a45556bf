import { describe, expect, it } from 'vitest';
import { createWatch, type Sign, type Diagnosis } from './health.ts';
import { type Channel, defaultHealthRules, type HealthCause, type HealthRules } from '../model/configuration.ts';

function watching(rules: Partial<HealthRules> = {}) {
  const diagnoses: Diagnosis[] = [];
  let ms = 1_000_000;
  const watch = createWatch(
    (diagnosis) => diagnoses.push(diagnosis),
    () => ms,
  );
  const enter = (health: Channel['health'], healthCause: HealthCause | null = null, isHealthForced = false) =>
    watch.enter({ health, healthCause, isHealthForced, healthRules: { ...defaultHealthRules, ...rules } });
  enter('healthy');
  return {
    watch,
    diagnoses,
    enter,
    pass: (seconds: number) => void (ms += seconds * 1000),
    hear: (count: number, sign: Sign) => {
      for (let i = 0; i < count; i++) watch.heard(sign);
    },
    begin: () => {
      let begun = 0;
      for (; begun < 1000 && watch.mayBegin(); begun++) watch.began();
      return begun;
    },
    report: (count: number, delivered: boolean) => {
      for (let i = 0; i < count; i++) watch.reported(delivered);
    },
  };
}

describe('outcomes', () => {
  it('more than 30 % failures among the last 200 make a channel unhealthy, 30 % do not', () => {
    const { hear, diagnoses } = watching();
    hear(140, 'fine');
    hear(60, 'failed');
    expect(diagnoses).toEqual([]);
    hear(1, 'failed'); // takes the place of one that was fine
    expect(diagnoses).toEqual([
      { health: 'unhealthy', cause: 'failures', reason: '61 of the last 200 outcomes were failures of the channel' },
    ]);
  });

  it('what is older than the last 200 is forgotten', () => {
    const { hear, diagnoses } = watching();
    for (let round = 0; round < 20; round++) {
      hear(50, 'failed');
      hear(150, 'fine');
      if (round === 0) expect(diagnoses).toEqual([expect.objectContaining({ cause: 'failures' })]); // 50 of 50
    }
    const later = watching();
    later.hear(200, 'fine');
    for (let round = 0; round < 20; round++) {
      later.hear(50, 'failed');
      later.hear(150, 'fine');
    }
    expect(later.diagnoses).toEqual([]);
  });

  it('of fewer than 50 nothing is concluded', () => {
    const { hear, diagnoses } = watching();
    hear(49, 'failed');
    expect(diagnoses).toEqual([]);
    hear(1, 'failed');
    expect(diagnoses).toHaveLength(1);
  });

  it('connections that break all at once are no reason; breaking again and again is one', () => {
    const { hear, diagnoses, pass } = watching();
    hear(1000, 'cut');
    expect(diagnoses).toEqual([]);
    for (let second = 0; second < 4; second++) {
      pass(1);
      hear(32, 'cut');
    }
    expect(diagnoses).toHaveLength(1);
  });

  it('after a diagnosis nothing is begun, and nothing more concluded, until it is in force', () => {
    const { hear, diagnoses, watch } = watching();
    expect(watch.mayBegin()).toBe(true);
    hear(100, 'failed');
    expect(diagnoses).toHaveLength(1);
    expect(watch.mayBegin()).toBe(false);
    watch.restart(); // it could not be said of the channel
    expect(watch.mayBegin()).toBe(true);
    hear(49, 'failed');
    expect(diagnoses).toHaveLength(1);
  });

  it('what an operator has forced is not judged', () => {
    const { hear, diagnoses, enter, watch } = watching();
    enter('healthy', null, true);
    hear(500, 'failed');
    expect(diagnoses).toEqual([]);
    expect(watch.mayBegin()).toBe(true);
    enter('unhealthy', null, true);
    expect(watch.mayBegin()).toBe(false);
    enter('healthy');
    hear(49, 'failed');
    expect(diagnoses).toEqual([]); // what was seen while it was forced is forgotten
  });
});

describe('a probe', () => {
  it('lets ten messages through, and nothing while the channel is unhealthy', () => {
    const { enter, begin } = watching();
    enter('unhealthy', 'failures');
    expect(begin()).toBe(0);
    enter('probing', 'failures');
    expect(begin()).toBe(10);
  });

  it('makes the channel healthy when ten outcomes were good enough', () => {
    const { enter, begin, hear, diagnoses } = watching();
    enter('probing', 'failures');
    begin();
    hear(3, 'failed');
    hear(6, 'fine');
    expect(diagnoses).toEqual([]);
    hear(1, 'fine');
    expect(diagnoses).toEqual([{ health: 'healthy' }]);
  });

  it('fails as soon as it cannot succeed any more', () => {
    const { enter, begin, hear, diagnoses } = watching();
    enter('probing', 'failures');
    begin();
    hear(3, 'failed');
    expect(diagnoses).toEqual([]);
    hear(1, 'failed');
    expect(diagnoses).toEqual([expect.objectContaining({ health: 'unhealthy', cause: 'failures' })]);
  });

  it('is given back what was not sent after all', () => {
    const { enter, begin, hear } = watching();
    enter('probing', 'failures');
    begin();
    hear(4, 'nothing');
    expect(begin()).toBe(4);
    enter('unhealthy', 'failures');
    hear(4, 'nothing');
    expect(begin()).toBe(0);
  });

  it('of which nothing is heard is made once more after the pause', () => {
    const { enter, begin, pass, watch } = watching();
    enter('probing', 'failures');
    begin();
    pass(29);
    watch.tick();
    expect(begin()).toBe(0);
    pass(1);
    watch.tick();
    expect(begin()).toBe(10);
  });
});

describe('reports', () => {
  it('are not judged unless somebody sets a threshold: most failures are the numbers’', () => {
    const { report, watch, diagnoses } = watching();
    report(5000, false);
    watch.tick();
    expect(diagnoses).toEqual([]);
  });

  it('too few that tell of success within an hour make a channel unhealthy, if there are a hundred', () => {
    const { report, watch, diagnoses, pass } = watching({ deliveredPercent: 20 });
    report(99, false);
    watch.tick();
    expect(diagnoses).toEqual([]);
    pass(61 * 60);
    report(80, false);
    report(20, true);
    watch.tick();
    expect(diagnoses).toEqual([]); // those before are of another hour, and a fifth is enough
    pass(59 * 60);
    report(1, false);
    watch.tick();
    expect(diagnoses).toEqual([{ health: 'unhealthy', cause: 'reports', reason: '20 of 101 reports within an hour told of success' }]);
  });

  it('decide about a probe where they were the cause', () => {
    const { enter, begin, hear, report, watch, diagnoses } = watching({ deliveredPercent: 20 });
    enter('probing', 'reports');
    begin();
    hear(10, 'fine');
    report(9, true);
    watch.tick();
    expect(diagnoses).toEqual([]);
    report(1, true);
    watch.tick();
    expect(diagnoses).toEqual([{ health: 'healthy' }]);
    enter('healthy');
    enter('probing', 'reports');
    report(10, false);
    watch.tick();
    expect(diagnoses.at(-1)).toMatchObject({ health: 'unhealthy', cause: 'reports' });
  });
});

it('an outcome costs less than a fifth of a microsecond', () => {
  const { hear } = watching();
  hear(200_000, 'fine');
  const best = Math.min(
    ...Array.from({ length: 5 }, () => {
      const began = performance.now();
      hear(1_000_000, 'fine');
      return (performance.now() - began) / 1000;
    }),
  );
  expect(best).toBeLessThan(0.2);
});
