/**
 * Whether a channel is well, by what one node sees of it: a watch counts the outcomes of the messages that went through it and the
 * reports that came back, says when they make it unhealthy, and lets a trickle of messages through once it may be tried again. Pure: no
 * database, and the time comes from outside. What is concluded is written by the worker of the same name, for all nodes.
 *
 * A channel is healthy, and may take what comes; unhealthy, and begins nothing; or probing: so many messages are begun, and what becomes
 * of them decides. From the moment of a diagnosis until it is in force nothing is begun. What was seen in one state is forgotten in the next.
 *
 * Sessions are not judged here: whether there is one on any node is known only where all nodes meet, in `channel_nodes`.
 */
import type { Channel, HealthCause } from '../model/configuration.ts';
import { defaultHealthRules, type HealthRules } from '../model/configuration.ts';

/**
 * What the outcome of a message says of its channel. `cut`: its connection broke before the answer. `nothing`: it was not sent, after all.
 */
export type Sign = 'fine' | 'failed' | 'cut' | 'nothing';

/** What a node has found out about a channel. */
export type Diagnosis =
  | { readonly health: 'healthy' }
  | { readonly health: 'unhealthy'; readonly cause: HealthCause; readonly reason: string };

export interface Watch {
  /** The state that is in force. True if it is another one than before. */
  enter(channel: Pick<Channel, 'health' | 'healthCause' | 'isHealthForced' | 'healthRules'>): boolean;
  /** Forgets what was seen and concluded in this state. */
  restart(): void;
  /** Whether one more message may be begun; `began` says that it was. */
  mayBegin(): boolean;
  began(): void;
  heard(sign: Sign): void;
  reported(delivered: boolean): void;
  /** To be called every second or so: reports are judged, and a probe that nothing came of is made once more. */
  tick(): void;
}

/**
 * A carrier that restarts breaks all its connections at once, with all that was in the air: in a second no more than so many of those
 * count. One that breaks them again and again is found all the same.
 */
const cutsPerSecond = 10;
/** The hour that reports are judged over, in buckets. */
const buckets = 60;
const bucketMs = 60_000;

/** `conclude` is called at most once in a state. `now`: monotonic milliseconds. */
export function createWatch(conclude: (diagnosis: Diagnosis) => void, now: () => number = () => performance.now()): Watch {
  let health: Channel['health'] = 'healthy';
  let isProbedByReports = false;
  let isJudged = true;
  let rules: HealthRules = defaultHealthRules;
  let isConcluded = false;
  /** How many messages may be begun. */
  let allowance = Number.POSITIVE_INFINITY;
  let usedUpAt = 0;

  /** The last outcomes, 1 for a failure, as a ring. */
  let ring = new Uint8Array(rules.outcomes);
  let at = 0;
  let outcomes = 0;
  let failures = 0;
  let second = 0;
  let cuts = 0;
  /** Reports of each minute, as a ring, too. */
  const reports = Array.from({ length: buckets }, () => ({ number: -1, all: 0, delivered: 0 }));

  function restart(): void {
    ring = new Uint8Array(rules.outcomes);
    at = outcomes = failures = 0;
    for (const bucket of reports) bucket.number = -1;
    isConcluded = false;
    allowance = health === 'healthy' ? Number.POSITIVE_INFINITY : health === 'unhealthy' ? 0 : rules.probeMessages;
  }

  function say(diagnosis: Diagnosis): void {
    isConcluded = true;
    allowance = 0;
    conclude(diagnosis);
  }

  function judgeOutcomes(): void {
    if (isConcluded || !isJudged || health === 'unhealthy') return;
    const isProbing = health === 'probing';
    const enough = isProbing ? rules.probeMessages : rules.leastOutcomes;
    // Of a probe so many failures are too many whatever else comes; it is enough to have heard them.
    const judged = isProbing ? Math.max(outcomes, enough) : outcomes;
    if (judged >= enough && failures * 100 > rules.failurePercent * judged)
      say({ health: 'unhealthy', cause: 'failures', reason: `${failures} of the last ${outcomes} outcomes were failures of the channel` });
    else if (isProbing && !isProbedByReports && outcomes >= enough) say({ health: 'healthy' });
  }

  function judgeReports(): void {
    if (isConcluded || !isJudged || health === 'unhealthy' || rules.deliveredPercent === 0) return;
    const oldest = Math.floor(now() / bucketMs) - buckets;
    let all = 0;
    let delivered = 0;
    for (const bucket of reports) {
      if (bucket.number <= oldest) continue;
      all += bucket.all;
      delivered += bucket.delivered;
    }
    const isProbing = health === 'probing';
    if (all < (isProbing ? rules.probeMessages : rules.leastReports)) return;
    if (delivered * 100 < rules.deliveredPercent * all)
      say({ health: 'unhealthy', cause: 'reports', reason: `${delivered} of ${all} reports within an hour told of success` });
    else if (isProbing && isProbedByReports) say({ health: 'healthy' });
  }

  return {
    enter(channel) {
      const isOther = channel.health !== health || channel.isHealthForced === isJudged;
      rules = channel.healthRules;
      health = channel.health;
      isJudged = !channel.isHealthForced;
      isProbedByReports = channel.healthCause === 'reports' && rules.deliveredPercent > 0;
      if (isOther || ring.length !== rules.outcomes) restart();
      return isOther;
    },
    restart,
    mayBegin: () => allowance > 0,
    began() {
      allowance--;
      if (allowance === 0) usedUpAt = now();
    },
    heard(sign) {
      if (sign === 'nothing') {
        if (health === 'probing' && !isConcluded) allowance++;
        return;
      }
      const failure = sign === 'fine' ? 0 : 1;
      if (sign === 'cut') {
        const current = Math.floor(now() / 1000);
        if (current !== second) [second, cuts] = [current, 0];
        if (++cuts > cutsPerSecond) return;
      }
      failures += failure - (ring[at] ?? 0);
      ring[at] = failure;
      at = at + 1 === ring.length ? 0 : at + 1;
      if (outcomes < ring.length) outcomes++;
      if (failure === 1 || health === 'probing') judgeOutcomes();
    },
    reported(delivered) {
      if (rules.deliveredPercent === 0) return;
      const number = Math.floor(now() / bucketMs);
      const bucket = reports[number % buckets];
      if (!bucket) return;
      if (bucket.number !== number) [bucket.number, bucket.all, bucket.delivered] = [number, 0, 0];
      bucket.all++;
      if (delivered) bucket.delivered++;
    },
    tick() {
      judgeReports();
      const isStuck = health === 'probing' && !isConcluded && allowance === 0 && now() - usedUpAt >= rules.pauseSeconds * 1000;
      if (isStuck) allowance = rules.probeMessages;
    },
  };
}
