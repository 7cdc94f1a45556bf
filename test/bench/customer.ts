/** The customers' programs: they submit and pull as a client of the vendors does. Any unexpected answer is an error. */
import { randomFillSync } from 'node:crypto';
import http from 'node:http';
import { performance } from 'node:perf_hooks';
import { crc32, deflateSync } from 'node:zlib';
import { callMms, md5 } from '../kit/customers.ts';
import { timed } from './measure.ts';
import type { Customer, MmsCustomer, Platform } from './platform.ts';

const agent = new http.Agent({ keepAlive: true, maxSockets: 64 });

/** Ends the connections that are kept for the next call. */
export const hangUp = (): void => agent.destroy();

/** One call to the AIM API; returns the parsed answer. */
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

/** A submit of so many numbers, none of which may be intercepted. */
export async function submit(platform: Platform, customer: Customer, count: number): Promise<void> {
  const { failed_data: intercepted } = await call(platform, '/api/send-aim', {
    ...credentials(customer),
    template_id: String(customer.templateId),
    content: '【鸿雁】您有一条新通知,点击 $url$ 查看,拒收请回复R',
    mobiles: JSON.stringify(numbers(count)),
  });
  const refused = Object.entries(intercepted as object);
  if (refused.length > 0) throw new Error(`${refused.length} of ${count} numbers were intercepted: ${refused[0]?.join(' ')}`);
}

/** Pulls reports once. */
export const pull = (platform: Platform, customer: Customer) => call(platform, '/api/report', credentials(customer));

/** Milliseconds that requests took. */
export interface Took {
  readonly submits: number[];
  readonly pulls: number[];
}

/** Submits so many over two connections and pulls over two until every one has been reported, exactly once. */
export async function drain(
  platform: Platform,
  customer: Customer,
  wanted: number,
  took: Took = { submits: [], pulls: [] },
): Promise<void> {
  let left = wanted;
  let pulled = 0;
  const submitting = Promise.all(
    Array.from({ length: 2 }, async () => {
      while (left > 0) {
        const count = Math.min(10_000, left);
        left -= count;
        took.submits.push(await timed(() => submit(platform, customer, count)));
      }
    }),
  );
  const pulling = Promise.all(
    Array.from({ length: 2 }, async () => {
      while (pulled < wanted) {
        const start = performance.now();
        const { data } = await pull(platform, customer);
        took.pulls.push(performance.now() - start);
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

/** A package of about 100 KB: a picture that does not compress, as a valid PNG whose pixels nobody looks at. */
export function picture(): string {
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

/** Submits so many multimedia messages, 10,000 a request; returns how long each request took. */
export async function submitMms(platform: Platform, customer: MmsCustomer, wanted: number, image: string | null): Promise<number[]> {
  const took: number[] = [];
  for (let left = wanted; left > 0; left -= 10_000) {
    const frame = [{ con_type: 'text', ext_type: 'txt', data: '周末开盘' }];
    if (image) frame.push({ con_type: 'image', ext_type: 'png', data: image });
    const form = {
      product_id: customer.productId,
      phone: numbers(Math.min(10_000, left)),
      sign_name: customer.signName,
      title: '开盘通知',
      content: [frame],
    };
    took.push(await timed(() => callMms(platform, customer, 'batchSend', form)));
  }
  return took;
}

/** Until the platform has taken in so many reports since it started. */
export async function reported(platform: Platform, wanted: number): Promise<void> {
  while ((await platform.reports()) < wanted) await new Promise((resolve) => setTimeout(resolve, 50));
}
