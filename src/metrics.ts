/**
 * Figures for the operator, in Prometheus' format, on an address of their own so that they are never public by accident.
 */
import http from 'node:http';
import { Counter, collectDefaultMetrics, Registry } from 'prom-client';

const counted = {
  sent: 'Messages that carriers have accepted.',
  rejected: 'Messages that carriers have rejected.',
  inDoubt: 'Messages that may or may not have been sent: an answer never came, or a process was lost.',
  reports: 'Delivery reports taken in.',
  orphans: 'Delivery reports that matched no message when they came.',
  inbound: 'Replies and segments of replies taken in.',
  pushed: 'Events that customers’ servers have taken.',
  pushFailed: 'Events in pushes that were not taken, each time anew.',
} as const;

export interface Metrics {
  count(what: keyof typeof counted, n: number): void;
  listen(address: { readonly host: string; readonly port: number }): Promise<void>;
  close(): Promise<void>;
}

export function createMetrics(): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const counters = new Map(
    Object.entries(counted).map(([name, help]) => {
      const snake = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
      return [name, new Counter({ name: `hongyan_${snake}_total`, help, registers: [registry] })] as const;
    }),
  );
  let server: http.Server | undefined;

  return {
    count(what, n) {
      if (n > 0) counters.get(what)?.inc(n);
    },
    async listen({ host, port }) {
      server = http.createServer((request, response) => {
        if (request.method !== 'GET' || request.url?.split('?')[0] !== '/metrics') {
          response.writeHead(404).end();
          return;
        }
        registry.metrics().then(
          (text) => response.writeHead(200, { 'content-type': registry.contentType }).end(text),
          () => response.writeHead(500).end(),
        );
      });
      server.headersTimeout = 5000;
      server.maxConnections = 50;
      await new Promise<void>((resolve, reject) => server?.once('error', reject).listen(port, host, resolve));
    },
    close: () =>
      new Promise((resolve) => {
        if (!server) return resolve();
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
