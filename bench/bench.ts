/**
 * `npm run bench`: starts the platform and measures it as a customer sees it. Prints a table, and with --json one line of JSON for each
 * scenario. What the figures mean is in bench/README.md.
 */
import http from 'node:http';
import os from 'node:os';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { randomFillSync } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import { crc32, deflateSync } from 'node:zlib';
import { callMms, md5 } from '../harness/customers.ts';
import { measureGrowth, table } from './growth.ts';
import { type Customer, type MmsCustomer, type Platform, startPlatform } from './platform.ts';

const { values: options } = parseArgs({
  options: {
    scenario: { type: 'string', multiple: true },
    seconds: { type: 'string', default: '10' },
    messages: { type: 'string', default: '300000' },
    stored: { type: 'string', default: '5000000' },
    blocked: { type: 'string', default: '5000000' },
    json: { type: 'boolean', default: false },
    profile: { type: 'boolean', default: false },
  },
});

interface Figures {
  readonly [name: string]: number;
}

const print = (line: string): void => void process.stdout.write(`${line}\n`);
const agent = new http.Agent({ keepAlive: true, maxSockets: 64 });

/** One call as a client of the vendor makes it; returns the parsed answer. */
function call(platform: Platform, path: string, form: Record<string, string>): Promise<Record<string, unknown>> {
  const body = new URLSearchParams(form).toString();
  return new Promise((resolve, reject) => {
    const request = http.request(
      `${platform.base}${path}`,
      {
        method: 'POST',
        agent,
        headers: { 'content-type': 'application/x-www-form-urlencoded', 'content-length': Buffer.byteLength(body) },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => {
          const answer = JSON.parse(Buffer.concat(chunks).toString()) as Record<string, unknown>;
          if (answer.code === 0) resolve(answer);
          else reject(new Error(`${path}: ${JSON.stringify(answer)}`));
        });
      },
    );
    request.once('error', reject);
    request.end(body);
  });
}

const credentials = ({ spId, password }: Customer) => ({
  sp_id: spId,
  password: md5(password),
});

let nextNumber = 0;
/** Mainland numbers, none twice, none with a fate of its own in the simulated gateway. */
const numbers = (count: number): string[] =>
  Array.from({ length: count }, () => {
    const n = nextNumber++;
    return `13${String(5 + Math.floor(n / 9_000_000)).slice(0, 1)}${String(Math.floor(n / 9000) % 10_000).padStart(4, '0')}${String(1000 + (n % 9000))}`;
  });

const submit = (platform: Platform, customer: Customer, count: number) =>
  call(platform, '/api/send-aim', {
    ...credentials(customer),
    template_id: String(customer.templateId),
    content: '【鸿雁】您有一条新通知,点击 $url$ 查看,拒收请回复R',
    mobiles: JSON.stringify(numbers(count)),
  });

/** Median and tails of some durations in milliseconds. */
function percentiles(times: number[]): Figures {
  const sorted = [...times].sort((a, b) => a - b);
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
  return { p50Ms: at(0.5), p95Ms: at(0.95), p99Ms: at(0.99) };
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

const scenarios: Record<string, (platform: Platform) => Promise<Figures>> = {
  /** Submits of 10,000 numbers, one after the other, into a queue nobody empties. */
  async 'accept-10000'(platform) {
    for (let i = 0; i < 3; i++) await submit(platform, platform.queueing, 10_000);
    const times: number[] = [];
    for (let i = 0; i < 50; i++) times.push(await timed(() => submit(platform, platform.queueing, 10_000)));
    const total = times.reduce((sum, ms) => sum + ms, 0);
    return { requestsPerSecond: (50 / total) * 1000, messagesPerSecond: (500_000 / total) * 1000, ...percentiles(times) };
  },

  /** Submits of one number each over 50 connections. */
  async 'accept-1'(platform) {
    const seconds = Number(options.seconds);
    const times: number[] = [];
    const start = performance.now();
    const until = start + seconds * 1000;
    await Promise.all(
      Array.from({ length: 50 }, async () => {
        while (performance.now() < until) times.push(await timed(() => submit(platform, platform.queueing, 1)));
      }),
    );
    const requestsPerSecond = (times.length / (performance.now() - start)) * 1000;
    return { requestsPerSecond, messagesPerSecond: requestsPerSecond, ...percentiles(times) };
  },

  /** Ten thousand numbers a request with a package of 100 KB: from the first submit until every report is taken in. */
  async mms(platform) {
    const customer = await platform.startMms();
    const image = picture();
    const wanted = 30_000;
    await submitMms(platform, customer, 10_000, image);
    await reported(platform, 10_000);
    const before = await platform.cpu();
    const start = performance.now();
    await submitMms(platform, customer, wanted, image);
    await reported(platform, 10_000 + wanted);
    const seconds = (performance.now() - start) / 1000;
    const after = await platform.cpu();
    return {
      messagesPerSecond: wanted / seconds,
      platformCpu: (after.platform - before.platform) / seconds,
      databaseCpu: (after.database - before.database) / seconds,
      carrierCpu: (after.carrier - before.carrier) / seconds,
      residentMiB: await platform.residentMiB(),
    };
  },

  /**
   * Reports, one a POST, to a receiver that answers at once. It keeps the first ones waiting until all reports are in the queue, so that
   * pushing is measured by itself; well below the time-out.
   */
  async push(platform) {
    const customer = await platform.startMms();
    let pushed = 0;
    let held: http.ServerResponse[] | null = [];
    const receiver = http.createServer((request, response) => {
      request.resume();
      request.on('end', () => {
        pushed++;
        if (held) held.push(response);
        else response.end('success');
      });
    });
    await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve));
    await customer.pushTo(`http://127.0.0.1:${String((receiver.address() as AddressInfo).port)}/`);
    const wanted = 20_000;
    await submitMms(platform, customer, wanted, null);
    await reported(platform, wanted);
    const before = pushed;
    const waiting = held;
    held = null;
    const start = performance.now();
    for (const response of waiting) response.end('success');
    while (pushed < wanted) await new Promise((resolve) => setTimeout(resolve, 10));
    const seconds = (performance.now() - start) / 1000;
    receiver.close();
    receiver.closeAllConnections();
    return { pushesPerSecond: (wanted - before) / seconds };
  },

  /** Accepted, sent over CMPP, reported and pulled: from the first submit to the last row pulled. */
  async 'end-to-end'(platform) {
    const wanted = Number(options.messages);
    await drain(platform, 20_000); // warm: plans, statistics, compiled code
    const before = await platform.cpu();
    const client = process.cpuUsage();
    const start = performance.now();
    await drain(platform, wanted);
    const seconds = (performance.now() - start) / 1000;
    const after = await platform.cpu();
    const { user, system } = process.cpuUsage(client);
    const share = (now: number, then: number): number => (now - then) / seconds;
    return {
      messagesPerSecond: wanted / seconds,
      platformCpu: share(after.platform, before.platform),
      databaseCpu: share(after.database, before.database),
      carrierCpu: share(after.carrier, before.carrier),
      clientCpu: (user + system) / 1e6 / seconds,
      residentMiB: await platform.residentMiB(),
    };
  },
};

/** Scenarios that run only when they are asked for, and print a table of their own. */
const longScenarios: Record<string, (platform: Platform) => Promise<Figures>> = {
  /** The same things on an empty platform, with `--stored` messages, and with `--blocked` numbers on the blocklist. */
  async growth(platform) {
    const size = { stored: Number(options.stored), blocked: Number(options.blocked), messages: Number(options.messages) };
    const { sending, queueing, manage, databaseUrl } = platform;
    const grown = await measureGrowth(
      {
        ...sending,
        otherAccountId: queueing.accountId,
        databaseUrl,
        manage,
        accept: (count) => submit(platform, queueing, count),
        drain: (count) => drain(platform, count),
        pull: () => call(platform, '/api/report', credentials(sending)),
      },
      size,
      (line) => void process.stderr.write(`${line}\n`),
    );
    if (!options.json) print(table(grown, size));
    return Object.fromEntries(
      Object.entries(grown).flatMap(([state, measured]) => Object.entries(measured).map(([name, value]) => [`${state}: ${name}`, value])),
    );
  },
};

/** A package of about 100 KB: a picture that does not compress, as a valid PNG whose pixels nobody looks at. */
function picture(): string {
  const side = 184;
  const rows = Buffer.alloc(side * (1 + side * 3));
  for (let y = 0; y < side; y++) randomFillSync(rows, y * (1 + side * 3) + 1, side * 3);
  const chunk = (type: string, data: Buffer): Buffer => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const framed = Buffer.alloc(body.length + 8);
    framed.writeUInt32BE(data.length);
    body.copy(framed, 4);
    framed.writeUInt32BE(crc32(body), body.length + 4);
    return framed;
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(side);
  header.writeUInt32BE(side, 4);
  header.set([8, 2, 0, 0, 0], 8);
  const signature = Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]);
  const png = [signature, chunk('IHDR', header), chunk('IDAT', deflateSync(rows, { level: 0 })), chunk('IEND', Buffer.alloc(0))];
  return Buffer.concat(png).toString('base64');
}

/** Submits so many multimedia messages, 10,000 a request. */
async function submitMms(platform: Platform, customer: MmsCustomer, wanted: number, image: string | null): Promise<void> {
  for (let left = wanted; left > 0; left -= 10_000) {
    const frame = [{ con_type: 'text', ext_type: 'txt', data: '周末开盘' }];
    if (image) frame.push({ con_type: 'image', ext_type: 'png', data: image });
    await callMms(platform, customer, 'batchSend', {
      product_id: customer.productId,
      phone: numbers(Math.min(10_000, left)),
      sign_name: customer.signName,
      title: '开盘通知',
      content: [frame],
    });
  }
}

async function reported(platform: Platform, wanted: number): Promise<void> {
  while ((await platform.reports()) < wanted) await new Promise((resolve) => setTimeout(resolve, 50));
}

/** Submits so many and pulls until every one has been reported, exactly once. */
async function drain(platform: Platform, wanted: number): Promise<void> {
  let left = wanted;
  let pulled = 0;
  const submitting = Promise.all(
    Array.from({ length: 2 }, async () => {
      while (left > 0) {
        const count = Math.min(10_000, left);
        left -= count;
        await submit(platform, platform.sending, count);
      }
    }),
  );
  const pulling = Promise.all(
    Array.from({ length: 2 }, async () => {
      while (pulled < wanted) {
        const { data } = await call(platform, '/api/report', credentials(platform.sending));
        const rows = typeof data === 'string' && data !== '' ? data.split('|') : [];
        pulled += rows.length;
        const odd = rows.find((row) => row.split(',')[3] !== 'DELIVRD');
        if (odd) throw new Error(`an unexpected report: ${odd}`);
        if (rows.length < 1000) await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }),
  );
  await Promise.all([submitting, pulling]);
  if (pulled !== wanted) throw new Error(`${pulled} rows were pulled for ${wanted} messages`);
}

const wanted = options.scenario ?? Object.keys(scenarios);
const all = { ...scenarios, ...longScenarios };
const unknown = wanted.filter((name) => !(name in all));
if (unknown.length > 0) throw new Error(`no scenario ${unknown.join(', ')}; there are ${Object.keys(all).join(', ')}`);
const machine = `${os.cpus().length} × ${os.cpus()[0]?.model ?? 'unknown'}, ${Math.round(os.totalmem() / 2 ** 30)} GiB, Node ${process.version}`;
if (!options.json) print(machine);
for (const name of wanted) {
  const platform = await startPlatform({ profile: options.profile });
  try {
    const figures = (await all[name]?.(platform)) ?? {};
    if (options.json) print(JSON.stringify({ scenario: name, machine, at: new Date().toISOString(), ...figures }));
    else if (name in scenarios)
      print(
        `${name.padEnd(14)}${Object.entries(figures)
          .map(([key, value]) => `${key} ${value.toFixed(value < 100 ? 2 : 0)}`)
          .join('   ')}`,
      );
  } finally {
    await platform.stop();
  }
}
agent.destroy();
