/**
 * Figures for the operator, in Prometheus' format. They have an address of their own, so that they are never public by accident.
 *
 * Counters and histograms belong to this process. Figures of the tables are the same on every node; a `Source` reads them at each scrape.
 * If that takes too long, these figures are left out rather than shown as zero, and `hongyan_database_up` is 0.
 */
import http from 'node:http';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

const counted = {
  accepted: { help: 'Messages taken in from customers and queued.', labels: ['medium'] },
  intercepted: { help: 'Messages that screening did not let pass, by the status the customer sees.', labels: ['code'] },
  refused: { help: 'Requests of customers that were refused, by the code in the answer.', labels: ['dialect', 'code'] },
  sent: { help: 'Messages that carriers have accepted.', labels: ['channel'] },
  rejected: { help: 'Messages that carriers have rejected.', labels: ['channel'] },
  rerouted: { help: 'Messages that waited for an unhealthy channel and were moved to another one.', labels: ['channel'] },
  inDoubt: { help: 'Messages that may or may not have been sent: an answer never came, or a process was lost.', labels: [] },
  reports: { help: 'Delivery reports taken in.', labels: [] },
  orphans: { help: 'Delivery reports that matched no message when they came.', labels: [] },
  inbound: { help: 'Replies and segments of replies taken in.', labels: [] },
  pulled: { help: 'Events that customers have pulled.', labels: [] },
  pushed: { help: 'Events that customers’ servers have taken.', labels: [] },
  pushFailed: { help: 'Events in pushes that were not taken, counted at every try.', labels: [] },
} as const;

const timed = {
  http_request_seconds: {
    help: 'Time from a request’s headers to the end of its answer.',
    labels: ['part', 'status'],
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
  },
  db_wait_seconds: {
    help: 'Time a transaction waited for a connection of its pool, and to begin.',
    labels: ['pool'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5],
  },
  db_transaction_seconds: {
    help: 'Time from the beginning of a transaction to its end.',
    labels: ['pool', 'outcome'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30],
  },
} as const;

type Labels = Readonly<Record<string, string>>;

/** One line of a gauge. */
interface Sample {
  readonly labels: Labels;
  readonly value: number;
}

/** Figures that are read at each scrape. */
interface Source {
  readonly described: Readonly<Record<string, { readonly help: string; readonly labels: readonly string[] }>>;
  read(): Promise<{ readonly figures: readonly (Sample & { readonly name: string })[]; readonly ageSeconds: number }>;
}

export interface Metrics {
  count(what: keyof typeof counted, n: number, labels?: Labels): void;
  time(what: keyof typeof timed, labels: Labels, seconds: number): void;
  /** Adds a gauge of this process; `lines` is called at each scrape. */
  gauge(name: string, help: string, labels: readonly string[], lines: () => readonly Sample[]): void;
  /** Adds the figures of the whole installation. */
  include(source: Source): void;
  /** Returns the port; 0 takes a free one. */
  listen(address: { readonly host: string; readonly port: number }): Promise<number>;
  close(): Promise<void>;
}

/** How long an answer waits for the figures of the tables; a scrape usually has a time-out of ten seconds. */
const sourceTimeoutMs = 5000;

const snake = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

export function createMetrics(): Metrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const counters = new Map(
    Object.entries(counted).map(([name, { help, labels }]) => [
      name,
      new Counter<string>({ name: `hongyan_${snake(name)}_total`, help, labelNames: [...labels], registers }),
    ]),
  );
  const histograms = new Map(
    Object.entries(timed).map(([name, { help, labels, buckets }]) => [
      name,
      new Histogram<string>({ name: `hongyan_${name}`, help, labelNames: [...labels], buckets: [...buckets], registers }),
    ]),
  );
  let source: Source | undefined;
  const shown = new Map<string, Gauge>();
  const up = new Gauge({ name: 'hongyan_database_up', help: '1 if the figures of the tables could be read just now.', registers });
  const age = new Gauge({ name: 'hongyan_figures_age_seconds', help: 'How old the figures of the tables are.', registers });
  let server: http.Server | undefined;

  async function readSource(): Promise<void> {
    if (!source) return;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<null>((resolve) => {
      timer = setTimeout(resolve, sourceTimeoutMs, null);
    });
    const read = await Promise.race([source.read().catch(() => null), late]);
    clearTimeout(timer);
    for (const gauge of shown.values()) gauge.reset();
    up.set(read ? 1 : 0);
    if (!read) return;
    age.set(read.ageSeconds);
    for (const { name, labels, value } of read.figures) shown.get(name)?.set(labels, value);
  }

  return {
    count(what, n, labels = {}) {
      if (n > 0) counters.get(what)?.inc(labels, n);
    },
    time: (what, labels, seconds) => histograms.get(what)?.observe(labels, seconds),
    gauge(name, help, labelNames, lines) {
      const gauge: Gauge = new Gauge({
        name: `hongyan_${name}`,
        help,
        labelNames: [...labelNames],
        registers,
        collect() {
          gauge.reset();
          for (const { labels, value } of lines()) gauge.set(labels, value);
        },
      });
    },
    include(added) {
      source = added;
      for (const [name, { help, labels }] of Object.entries(added.described))
        shown.set(name, new Gauge({ name: `hongyan_${name}`, help, labelNames: [...labels], registers }));
    },
    async listen({ host, port }) {
      server = http.createServer((request, response) => {
        if (request.method !== 'GET' || request.url?.split('?')[0] !== '/metrics') {
          response.writeHead(404).end();
          return;
        }
        readSource()
          .then(() => registry.metrics())
          .then(
            (text) => response.writeHead(200, { 'content-type': registry.contentType }).end(text),
            () => response.writeHead(500).end(),
          );
      });
      server.headersTimeout = 5000;
      server.maxConnections = 50;
      await new Promise<void>((resolve, reject) => server?.once('error', reject).listen(port, host, resolve));
      const bound = server.address();
      return typeof bound === 'object' && bound ? bound.port : port;
    },
    close: () =>
      new Promise((resolve) => {
        if (!server) return resolve();
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
