/**
 * Customers of the MMS dialect on the platform of aim-platform.ts: accounts with known keys, products, a signature, and customers'
 * programs that sign their requests as the vendor's document says (written apart from the code under test).
 */
import { randomUUID } from 'node:crypto';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { mmsSignature } from './customers.ts';
import { changeAccount, createAccount, createSubscription, payIn } from '../../src/core/catalogue/accounts.ts';
import { addNumbers, ensureBlocklist } from '../../src/core/catalogue/blocklists.ts';
import { createProduct } from '../../src/core/catalogue/products.ts';
import { change } from '../../src/core/config/management.ts';
import { createSignature } from '../../src/core/content/signatures.ts';
import { createToken } from '../../src/core/config/tokens.ts';
import { type Answer, type Platform, startAimPlatform } from './aim-platform.ts';

export const apiKey = 'demo-mms-key';
const operatorToken = 'operator-of-the-tests';
/** The account of `mms-demo`. */
export const demoAccount = 11n;
/** Its subscription to product 1018. */
export const demoSubscription = 511n;

export interface MmsPlatform extends Platform {
  /** A signed request; what is given replaces the common parameters too. */
  mms(endpoint: string, parameters?: Readonly<Record<string, unknown>>, init?: RequestInit): Promise<Answer>;
  /** The management API, as the operator. */
  manage(method: string, path: string, body?: object): Promise<Answer>;
  /** Where the account's events go. */
  pushTo(urls: Readonly<Record<string, string | null>>): Promise<void>;
}

export const signatureOf = (parameters: Readonly<Record<string, unknown>>, key = apiKey): string => mmsSignature(parameters, key);

export async function startMmsPlatform(options: Parameters<typeof startAimPlatform>[0] = {}): Promise<MmsPlatform> {
  const platform = await startAimPlatform({ roles: ['api', 'push'], pushAllow: ['127.0.0.0/8'], ...options });
  const { management } = platform.app;
  await change(management, async (sql) => {
    const { box } = management;
    const at = platform.clock();
    await createToken(sql, { name: 'tests', caller: { role: 'operator' }, token: operatorToken });
    await createProduct(sql, { id: 1018n, name: '营销彩信-房产类', medium: 'mms', unit: 'messages', poolId: 1n });
    await createProduct(sql, { id: 1020n, name: '营销彩信-商超类', medium: 'mms', unit: 'messages', poolId: 1n });
    await createProduct(sql, { id: 1001n, name: '彩信', medium: 'mms', unit: 'yuan', poolId: 1n, limits: { packageKiB: 80, frames: 3 } });
    for (const [id, apiId, more] of [
      [demoAccount, 'mms-demo', {}],
      [12n, 'mms-locked', { locked: true }],
      [13n, 'mms-fenced', { ipAllowList: ['203.0.113.7'] }],
      [14n, 'mms-other', {}],
    ] as const)
      await createAccount(sql, box, { id, name: apiId, apiId, apiKey, ...more });
    for (const [id, accountId, productId, priceE4, amountE4] of [
      [demoSubscription, demoAccount, 1018n, 10_000n, 1_888_880_000n],
      [512n, demoAccount, 1020n, 10_000n, 20_000n],
      [513n, demoAccount, 1001n, 2500n, 1_000_000n],
      [514n, 14n, 1018n, 10_000n, 10_000n],
    ] as const) {
      await createSubscription(sql, management, { id, accountId, productId, priceE4 });
      await payIn(sql, id, { amountE4, note: null, at, idempotencyKey: null });
    }
    await createSignature(sql, { accountId: demoAccount, name: '鸿雁' });
    await createSignature(sql, { accountId: 14n, name: '别人' });
    await addNumbers(sql, await ensureBlocklist(sql, 'empty', 0n), [8613800000021n], 'operator', at);
  });

  const call = (path: string, init: RequestInit) => platform.call(path, init);
  return {
    ...platform,
    mms(endpoint, parameters = {}, init = {}) {
      const common = {
        api_id: 'mms-demo',
        timestamp: Math.floor(platform.clock().getTime() / 1000),
        request_id: randomUUID(),
        ...parameters,
      };
      const body = JSON.stringify({ signature: signatureOf(common), ...common });
      return call(`/mms/v1/${endpoint}`, { method: 'POST', body, ...init });
    },
    manage: (method, path, body) =>
      call(`/v1/${path}`, {
        method,
        headers: { authorization: `Bearer ${operatorToken}`, ...(body && { 'content-type': 'application/json' }) },
        ...(body && { body: JSON.stringify(body) }),
      }),
    pushTo: async (pushUrls) => void (await change(management, (sql) => changeAccount(sql, demoAccount, { pushUrls }))),
  };
}

export interface PushServer {
  readonly url: string;
  readonly received: readonly {
    readonly path: string;
    readonly contentType: string;
    readonly body: Record<string, unknown>;
    readonly at: number;
  }[];
  close(): void;
}

/** A customer's server: `/success`, `/padded`, `/capital`, `/500`, `/hang`; any other path is answered by itself. */
export async function startPushServer(): Promise<PushServer> {
  const received: PushServer['received'][number][] = [];
  const server = http.createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const path = request.url ?? '';
      const body = JSON.parse(Buffer.concat(chunks).toString()) as Record<string, unknown>;
      received.push({ path, contentType: request.headers['content-type'] ?? '', body, at: Date.now() });
      if (path === '/hang') return;
      if (path === '/500') response.writeHead(500).end('success');
      else response.end({ '/padded': ' \r\nsuccess\n', '/capital': 'SUCCESS' }[path] ?? path.slice(1));
    });
  });
  server.keepAliveTimeout = 60_000;
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    received,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}
