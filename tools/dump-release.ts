/**
 * Fills a small installation through the same APIs that customers, carriers and operators use, stops it, and writes it as a fixture for
 * all later releases: test/fixtures/releases/<version>.sql. Run by `npm run db:fixture`, once for each release, and committed with it.
 *
 * The installation is the sandbox's, so there are simulated carriers. Its last process has no role but `api`: what it takes stays in the
 * queue, and what it owes waits to be pushed.
 */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type AimCredentials, callMms, type Client, clientOf } from '../test/kit/customers.ts';
import { type AimCustomer, createOperator } from '../test/kit/operator.ts';
import { startHelper, until } from '../test/kit/processes.ts';
import { cappedSignature, listedNumbers, listedWords, outcomes, plainNumber, spIdOf } from '../sandbox/magic.ts';
import { type Sandbox, type SandboxOptions, startSandbox } from '../sandbox/sandbox.ts';
import { createToken } from '../src/core/config/tokens.ts';
import { createDb } from '../src/db/db.ts';
import { startEmbeddedPostgres } from '../src/db/embedded.ts';
import { createLog } from '../src/log.ts';
import { packageRoot } from '../src/std/package-root.ts';
import { wallClock } from '../src/std/shanghai.ts';
import { askAll, dumpRelease, fixtureKey, operatorToken, reportMms } from './release-fixture.ts';

const dayMs = 86_400_000;
const demo = 1;
const mmsProduct = 1018;
const mmsAccount = { apiId: 'mms-demo', apiKey: 'demo-mms-key' };
const aimAccount = (spId: bigint): AimCredentials => ({ spId: String(spId), password: 'demo-aim-password', templateId: 101 });
const aimDemo = aimAccount(500_001n);
/** A server that is never there. */
const nowhere = 'http://127.0.0.1:9/';
const picture = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';

/** A number with a fate of its own. That of 0007 is never reported, and that of 0008 too late for us. */
const fated = (digits: string): string => `1350001${digits}`;
const usual = fated('9999');
const many = [
  ...outcomes.map(({ digits }) => (digits === 'other' ? usual : fated(digits))).filter((number) => number !== fated('0008')),
  ...Object.values(listedNumbers),
  '12000000000',
];

/** Numbers that are not where the bundled table has them. */
const moved = { imported: '13700000098', ranged: '13912340000', learned: '13600000000' } as const;

const chosen = { rowsPerPull: 5, optOutWords: ['TD', '不要'] };
const particulars = { settings: Object.keys(chosen), phones: [fated('0007'), usual], numbers: Object.values(moved) };

/** What people do with a sandbox that is running. */
function createPeople(sandbox: Sandbox) {
  const base = `http://127.0.0.1:${sandbox.port}`;
  const operator = createOperator(base, operatorToken);
  const { call } = operator;
  const frames = (word = '') => [
    [
      { con_type: 'text', ext_type: 'txt', data: `周末看房有礼${word}` },
      { con_type: 'image', ext_type: 'png', data: picture },
    ],
  ];
  async function put(method: string, route: string, body: string, contentType: string): Promise<void> {
    const headers = { 'content-type': contentType, authorization: `Bearer ${operatorToken}` };
    const answer = await fetch(`${base}${route}`, { method, headers, body });
    if (!answer.ok) throw new Error(`${route}: ${await answer.text()}`);
  }
  const rows = async (route: string) => (await call('GET', route))['data'] as Readonly<Record<string, unknown>>[];
  return {
    base,
    operator,
    call,
    rows,
    client: (credentials: AimCredentials): Client => clientOf(sandbox, credentials),
    async aim(credentials: AimCredentials, phones: readonly string[], { word = '', signature = '鸿雁', ...more }: AimOptions = {}) {
      const content = `【${signature}】您好${word} $url$`;
      const { code, msg, msgId } = await clientOf(sandbox, credentials).submit(phones, { content, ...more });
      if (code !== 0) throw new Error(`${code} ${msg}`);
      return msgId;
    },
    async mms(phone: readonly string[], { word = '', ...more }: MmsOptions = {}) {
      const content = more.template_id === undefined ? frames(word) : [];
      const common = { product_id: mmsProduct, phone, sign_name: '鸿雁', title: '沙箱', content };
      return String((await callMms(sandbox, mmsAccount, 'batchSend', { ...common, ...more }))['task_id']);
    },
    async mmsTemplate(title: string) {
      const template = { title, content: frames(), purpose: '会员营销', sign_name: '鸿雁' };
      return Number((await callMms(sandbox, mmsAccount, 'templateCreate', template))['template_id']);
    },
    pushTo: (url: string | null) => call('PATCH', `/accounts/${demo}`, { pushUrls: { report: url, reply: url, template: url } }),
    file: (route: string, text: string) => put('POST', `/v1${route}`, text, 'text/csv'),
    faults: (faults: object) => put('PUT', '/sandbox/v1/faults', JSON.stringify(faults), 'application/json'),
    reply: (from: string, to: string, content: string) =>
      put('POST', '/sandbox/v1/replies', JSON.stringify({ from, to, content }), 'application/json'),
    /** Waits until all messages of a batch have ended, but for so many. */
    async ended(batch: string, open = 0): Promise<string> {
      await until(`batch ${batch} has ended but for ${open}`, async () => {
        const { totals } = (await call('GET', `/batches/${batch}`)) as { totals: Record<string, number> };
        return (totals['queued'] ?? 0) + (totals['sent'] ?? 0) === open;
      });
      return batch;
    },
    has: (what: string, route: string, fits: (row: Readonly<Record<string, unknown>>) => boolean = () => true) =>
      until(what, async () => (await rows(route)).some(fits)),
  };
}
type People = ReturnType<typeof createPeople>;
interface AimOptions {
  readonly word?: string;
  readonly signature?: string;
  readonly ext?: string;
  readonly key?: string;
}
interface MmsOptions {
  readonly word?: string;
  readonly send_time?: string;
  readonly template_id?: number;
}

/** A batch of long ago, of which nothing is owed any more. */
async function sendLongAgo({ aim, client, ended }: People): Promise<string> {
  const batch = await ended(await aim(aimDemo, [usual, fated('0001')]));
  await client(aimDemo).reports();
  return batch;
}

async function configure({ base, call, file, mmsTemplate }: People, { app }: Sandbox): Promise<void> {
  await call('PATCH', '/settings', { ...chosen, pushDelaysSeconds: [0.05] });
  const token = await createToken(app.management.db.sql, { name: 'customer', caller: { role: 'account', accountId: BigInt(demo) } });
  await file('/ported-numbers/import', `number,carrier\n${moved.imported},unicom\n`);
  await file('/number-table/import?origin=fixture', `prefix,carrier,province,city\n${moved.ranged.slice(0, 7)},mobile,西藏,拉萨\n`);
  // Only a channel of one carrier is believed when it says that a number is another's.
  await call('PATCH', '/channels/1', { carriers: ['mobile'] });
  await createOperator(base, token).call('POST', '/content-templates', { text: '【鸿雁】您的验证码是{6}' });
  await call('POST', '/accounts', { name: 'fenced', locked: true, exemptNumbers: [plainNumber], ipAllowList: ['203.0.113.7'] });
  const card = { layout: 'notice', title: '通知', rows: [{ label: '事项', value: '${what}' }] };
  const decisions = { reject: { reason: '内容不合规' }, withdraw: undefined };
  for (const [decision, body] of Object.entries(decisions)) {
    const { id } = await call('POST', '/templates', { accountId: demo, name: decision, card });
    await call('POST', `/templates/${String(id)}/${decision}`, body);
  }
  // Nobody can be told yet: there is no URL.
  await call('POST', `/templates/${await mmsTemplate('驳回')}/reject`, { reason: '图片不清晰' });
  await mmsTemplate('待审核');
}

/** Every way to end, and to wait, that needs nothing special of anybody. */
async function send({ call, aim, mms, mmsTemplate, ended, faults }: People): Promise<void> {
  await ended(await aim(aimDemo, many, { key: 'once', ext: '88' }), 1);
  await ended(await mms(many), 1);
  const template = await mmsTemplate('通过');
  await call('POST', `/templates/${template}/approve`);
  await ended(await mms([usual], { template_id: template }));
  await ended(await aim(aimDemo, [moved.imported, moved.ranged, '13000000000'], { word: '长'.repeat(80) }));
  for (let n = 0; n < 2; n++) await aim(aimDemo, [plainNumber], { signature: cappedSignature });
  await aim(aimDemo, [plainNumber], { word: listedWords.intercept });
  await aim(aimAccount(spIdOf(15)), [plainNumber, usual]);
  const word = listedWords.review;
  for (const held of [await aim(aimDemo, [usual, fated('0001')], { word }), await mms([usual, fated('0001')], { word })]) {
    await call('POST', `/reviews/${held}/approve`);
    await ended(held);
  }
  for (const held of [await aim(aimDemo, [usual], { word }), await mms([usual], { word })])
    await call('POST', `/reviews/${held}/reject`, { reason: '不发' });
  for (const days of [1, 1, 2]) {
    const planned = await mms([plainNumber, fated('0002')], { send_time: wallClock(new Date(Date.now() + days * dayMs)) });
    if (days === 2) await call('POST', `/batches/${planned}/cancel`);
  }
  // Nobody knows whether it was sent; a carrier says that a number is another's.
  await faults({ mm7: { dropShare: 1 }, cmpp: { rejectShare: 1, rejectCode: 9 } });
  await Promise.all([ended(await mms([plainNumber])), ended(await aim(aimDemo, [moved.learned]))]);
  await faults({});
}

/** Replies that somebody and nobody is the owner of; reports that come too late, or belong to nothing. */
async function carriersSay({ base, call, rows, reply, has }: People, extensionOf: (id: number) => string): Promise<void> {
  await reply(plainNumber, '1069000199999999', '你们是谁');
  await reply(plainNumber, `10690001${extensionOf(500_001)}`, '很长的回复'.repeat(20));
  await has('the reply that nobody owns has come', '/replies/unassigned');
  await has('the long reply has come', `/replies?accountId=${demo}`, ({ content }) => String(content).length === 100);
  const sent = await rows(`/messages?accountId=${demo}&phone=${usual}`);
  const { carrierId } = await call('GET', `/messages/${String(sent.find(({ channelId }) => channelId === 3)?.['id'])}`);
  await reportMms(base, String(carrierId), usual, 'Expired');
  await reportMms(base, 'of-nobody', usual, 'Expired');
}

/** Events that were pulled, pulled again, pushed, pushed in vain, kept without a URL, and those whose next try is later. */
async function handOver({ call, client, aim, mms, pushTo, has }: People, pushed: AimCustomer): Promise<void> {
  const own = `accountId=${pushed.accountId}`;
  const blocked = [usual, listedNumbers.empty];
  await aim(pushed, [usual]);
  await has('AIM events are pushed', `/pushes?${own}&state=done`);
  await call('PATCH', `/subscriptions/${pushed.subscriptionId}`, { pushUrls: { report: nowhere, reply: nowhere } });
  await aim(pushed, [usual]);
  await has('AIM events are pushed in vain', `/pushes?${own}&state=failed`);
  await client(aimDemo).reports();
  await call('POST', '/events/replay', { subscriptionId: 500_001, kind: 'report' });
  await client(aimDemo).reports();
  await client(aimDemo).replies();
  const events = `/events?accountId=${demo}`;
  await has('MMS replies are pushed', `${events}&kind=reply&state=handed_over`, ({ route }) => route === 'push');
  await pushTo(nowhere);
  await mms(blocked);
  await has('an MMS event has failed', `${events}&state=failed`);
  await pushTo(null);
  await mms(blocked);
  await has('an MMS event is kept', `${events}&state=kept`);
  await call('PATCH', '/settings', { pushDelaysSeconds: null });
  await pushTo(nowhere);
  await mms(blocked);
  await has('an MMS event is tried again later', `${events}&state=waiting`, ({ tries }) => tries === 1);
}

/** What one process takes, none has sent, and none has pushed. */
async function leave({ call, aim, mms, mmsTemplate, reply, has }: People, pushed: AimCustomer, extensionOf: (id: number) => string) {
  for (const customer of [aimDemo, pushed]) await aim(customer, [usual, listedNumbers.empty]);
  await mms([usual, listedNumbers.empty]);
  await call('POST', `/templates/${await mmsTemplate('刚通过')}/approve`);
  await aim(aimDemo, [usual], { word: listedWords.review });
  await mms([usual], { word: listedWords.review });
  for (const [accountId, subscriptionId] of [
    [demo, 500_000 + mmsProduct],
    [demo, 500_001],
    [pushed.accountId, pushed.subscriptionId],
  ] as const) {
    await reply(usual, `10690003${extensionOf(subscriptionId)}`, '好的');
    await has('a reply waits', `/events?accountId=${accountId}&subscriptionId=${subscriptionId}&kind=reply&state=waiting`);
  }
}

async function main(): Promise<void> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'hongyan-release-'));
  chmodSync(folder, 0o711); // under root the server runs as another account
  const server = await startEmbeddedPostgres({ dataDir: path.join(folder, 'postgres'), settings: { fsync: 'off' }, log: () => {} });
  const receiver = await startHelper<{ port: number }>('test/crash/receiver-process.js', ['0', path.join(folder, 'received')]);
  async function run<T>(options: Partial<SandboxOptions>, work: (people: People, sandbox: Sandbox) => Promise<T>): Promise<T> {
    const sandbox = await startSandbox({
      dataDir: path.join(folder, 'sandbox'),
      databaseUrl: server.url('postgres'),
      secretKeys: fixtureKey,
      port: 0,
      linkBase: 'https://links.example/m',
      metrics: null,
      pushAllow: ['127.0.0.0/8'],
      carrierPorts: [],
      log: createLog('error'),
      reportDelayMs: 20,
      ...options,
    });
    try {
      return await work(createPeople(sandbox), sandbox);
    } finally {
      await sandbox.stop();
    }
  }
  const ago = (days: number) => ({ clock: () => new Date(Date.now() - days * dayMs) });

  try {
    await run(ago(800), sendLongAgo);
    const old = await run(ago(200), sendLongAgo);
    const { pushed, extensionOf } = await run({}, async (people, sandbox) => {
      const { operator, rows, pushTo, call } = people;
      await configure(people, sandbox);
      const url = `http://127.0.0.1:${receiver.said.port}/`;
      const subscription = { pushUrls: { report: url, reply: url } };
      const pushed = await operator.aimCustomer({ name: 'pushed', poolId: 1, subscription });
      const extensions = new Map((await rows('/subscriptions')).map(({ id, extension }) => [id, String(extension)]));
      const extensionOf = (id: number): string => extensions.get(id) ?? '';
      await call('POST', '/caps', { scope: 'subscription', subjectId: pushed.subscriptionId, period: 'day', count: 50 });
      await pushTo(url);
      await send(people);
      await carriersSay(people, extensionOf);
      await handOver(people, pushed);
      await until('old days are gone', async () => (await call('GET', `/batches/${old}`))['purgedAt'] !== null);
      return { pushed, extensionOf };
    });
    const { at, answers } = await run({ roles: ['api'] }, async (people) => {
      await leave(people, pushed, extensionOf);
      const at = new Date();
      return { at, answers: await askAll(people.operator, at, particulars) };
    });

    const db = createDb(server.url('postgres'), { max: 1 });
    const { version } = JSON.parse(readFileSync(path.join(packageRoot(), 'package.json'), 'utf8')) as { version: string };
    const file = path.join(packageRoot(), 'test/fixtures/releases', `${version}.sql`);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, await dumpRelease(db.sql, { at, answers }));
    await db.end();
  } finally {
    await receiver.stop();
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

await main();
