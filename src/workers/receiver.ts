/**
 * Stores the reports, read replies and replies of carriers in the database in batches, and acknowledges them after the commit, never
 * before. If they cannot be stored now, it refuses them, and the carrier sends them again.
 */
import type { CarrierInbound, CarrierReport, ReadReply } from '../channels/channel.ts';
import type { Inbound } from '../core/outcome/inbound.ts';
import type { Report, Reports } from '../core/outcome/reports.ts';
import type { Signals } from '../core/config/signals.ts';
import type { Log } from '../log.ts';
import type { Recent, RecentEntry } from './recent.ts';

export interface Receiver {
  start(): void;
  /** Finishes everything received so far. Call it after the connections have closed. */
  stop(): Promise<void>;
  onReport(channelId: bigint, report: CarrierReport, acknowledge: (safe: boolean) => void): void;
  onReadReply(channelId: bigint, reply: ReadReply, acknowledge: (safe: boolean) => void): void;
  onInbound(channelId: bigint, inbound: CarrierInbound, acknowledge: (safe: boolean) => void): void;
}

interface Arrived {
  /** Says that the message was read, not what became of it; its code is the carrier's word. */
  readonly isReading: boolean;
  readonly report: { -readonly [Key in keyof Report]: Report[Key] };
  entry: RecentEntry | undefined;
  /** Rounds it has waited for its submit response. */
  waited: number;
  acknowledge(safe: boolean): void;
}

/** Reports applied in one batch. */
const most = 2000;
const gatherMs = 4;
/**
 * A report may overtake its own submit response, on another connection, by milliseconds. Waiting some rounds for it is cheaper than
 * storing an orphan. Reports of messages sent by another node, or before a restart, pay this delay for nothing.
 */
const roundsWaited = 10;
const orphanBeatMs = 1000;
const orphansPerBeat = 2000;

export function createReceiver(deps: {
  reports: Reports;
  inbound: Inbound;
  recent: Recent;
  signals: Signals;
  log: Log;
  count(what: 'reports' | 'orphans' | 'inbound', n: number): void;
}): Receiver {
  const { reports, inbound, recent, signals, log } = deps;
  let arrived: Arrived[] = [];
  let working: Promise<void> | undefined;
  let gathering: NodeJS.Timeout | undefined;
  let timer: NodeJS.Timeout | undefined;
  let retrying: Promise<unknown> | undefined;
  const receiving = new Set<Promise<void>>();

  function schedule(): void {
    if (working || gathering || arrived.length === 0) return;
    gathering = setTimeout(() => {
      gathering = undefined;
      working = work().finally(() => {
        working = undefined;
        schedule();
      });
    }, gatherMs);
  }

  /** Stores a set; returns whether it is safe now. */
  async function stored(what: string, set: readonly Arrived[], store: (reports: readonly Report[]) => Promise<unknown>): Promise<boolean> {
    if (set.length === 0) return true;
    try {
      await store(set.map(({ report }) => report));
      return true;
    } catch (error) {
      log.error({ err: error, [what]: set.length }, `${what} could not be stored; the carriers will send them again`);
      return false;
    }
  }

  async function work(): Promise<void> {
    // A report may arrive before the row it ends is committed; it waits for a later round.
    const ready: Arrived[] = [];
    const early: Arrived[] = [];
    for (const one of arrived) {
      one.entry ??= recent.find(one.report.channelId, one.report.carrierId);
      const isDue = one.entry ? one.entry.recorded : ++one.waited > roundsWaited;
      one.report.sent = one.entry?.sent ?? null;
      (isDue && ready.length < most ? ready : early).push(one);
    }
    arrived = early;
    if (ready.length === 0) return;
    const endings = ready.filter(({ isReading }) => !isReading);
    const readings = ready.filter(({ isReading }) => isReading);
    const areEndingsSafe = await stored('reports', endings, async (set) => {
      const { orphaned } = await reports.receive(set);
      deps.count('reports', set.length);
      deps.count('orphans', orphaned);
      signals.emit('push');
    });
    for (const { report, entry, acknowledge } of endings) {
      if (areEndingsSafe && entry) recent.forget(report.channelId, report.carrierId);
      acknowledge(areEndingsSafe);
    }
    const areReadingsSafe = await stored('read replies', readings, (set) => reports.noteReadings(set));
    for (const { acknowledge } of readings) acknowledge(areReadingsSafe);
  }

  function take(isReading: boolean, report: Report, acknowledge: (safe: boolean) => void): void {
    arrived.push({ isReading, report, entry: undefined, waited: 0, acknowledge });
    schedule();
  }

  return {
    start() {
      timer = setInterval(() => {
        retrying ??= Promise.all([reports.retryOrphans(orphansPerBeat), inbound.giveUpWaiting()])
          .then(([orphans, replies]) => {
            if (orphans + replies > 0) signals.emit('push');
          })
          .catch((error: unknown) => log.error({ err: error }, 'orphans could not be tried again'))
          .finally(() => {
            retrying = undefined;
          });
      }, orphanBeatMs);
    },
    async stop() {
      clearInterval(timer);
      await retrying;
      while (working || gathering || arrived.length > 0) {
        schedule();
        await (working ?? new Promise((resolve) => setTimeout(resolve, gatherMs)));
      }
      await Promise.all(receiving);
    },
    onReport(channelId, { carrierId, status, delivered, phone }, acknowledge) {
      take(false, { channelId, carrierId, code: delivered ? 'DELIVRD' : status, delivered, phone, sent: null }, acknowledge);
    },
    onReadReply(channelId, { carrierId, status, phone }, acknowledge) {
      take(true, { channelId, carrierId, code: status, delivered: false, phone, sent: null }, acknowledge);
    },
    onInbound(channelId, part, acknowledge) {
      const work = inbound
        .receive({ channelId, ...part })
        .then(
          () => {
            deps.count('inbound', 1);
            signals.emit('push');
            acknowledge(true);
          },
          (error: unknown) => {
            log.error({ err: error, channel: String(channelId) }, 'a reply could not be stored; the carrier will send it again');
            acknowledge(false);
          },
        )
        .finally(() => receiving.delete(work));
      receiving.add(work);
    },
  };
}
