// A wire between a node and its database that fails at the worst moment.
import net from 'node:net';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Between a node and the database; does something to the next COMMIT that passes on a connection that has used a table. It knows both by their
 * text, which a connection sends once and then calls by a name, so it begins by making the node connect anew.
 */
export async function startMeddler(databaseUrl: string) {
  const target = new URL(databaseUrl);
  const host = decodeURIComponent(target.hostname);
  const port = Number(target.port);
  let plan: 'answer lost' | 'delayed and lost' | 'never arrives' | null = null;
  let table = '';
  let away = 0;
  let backAt = 0;
  const clients = new Set<net.Socket>();
  const server = net.createServer((client) => {
    if (performance.now() < backAt) {
      client.destroy();
      return;
    }
    clients.add(client);
    let isCut = false;
    client.on('close', () => {
      clients.delete(client);
      if (!isCut) upstream.destroy(); // the database is to hear of it, and not to keep what the session has locked
    });
    const upstream = net.connect(host.startsWith('/') ? { path: `${host}/.s.PGSQL.${port}` } : { host, port });
    let hasUsed = false;
    client.on('data', (data: Buffer) => {
      hasUsed ||= plan !== null && data.includes(table);
      const cut = plan !== null && hasUsed && data.includes('commit\0') ? plan : null;
      if (cut === null) {
        upstream.write(data);
        return;
      }
      plan = null;
      isCut = true;
      backAt = performance.now() + away;
      if (away > 0) for (const other of clients) other.destroy();
      client.destroy();
      if (cut === 'answer lost') upstream.end(data);
      else if (cut === 'delayed and lost') setTimeout(() => upstream.end(data), 300);
      else upstream.destroy();
    });
    upstream.on('data', (data) => void client.write(data));
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      one.on('error', () => {});
      one.on('end', () => other.end());
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  target.hostname = '127.0.0.1';
  target.port = String((server.address() as net.AddressInfo).port);
  return {
    url: target.href,
    /** Then, if so wanted, nobody is there for so long. */
    async meddle(wanted: NonNullable<typeof plan>, using: 'batches' | 'parcels', { awayMs = 0 } = {}) {
      for (const client of clients) client.destroy();
      await sleep(100);
      table = using;
      plan = wanted;
      away = awayMs;
    },
    isDone: () => plan === null,
    close: () =>
      new Promise((resolve) => {
        server.close(resolve);
        for (const client of clients) client.destroy();
      }),
  };
}
