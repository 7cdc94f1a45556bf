/**
 * What a small installation looks like that a release has left behind: every row of every table as SQL, and what the management API of
 * that release said of them. One file a release in test/fixtures/releases. It is written by `npm run db:fixture` (dump-release.ts), and
 * test/stories/upgrade.test.ts has the present program go on with it.
 *
 * Tables, columns and partitions are read from the catalogs, so this file knows none of them. The schema is not in a fixture: migrations
 * are never edited, so those up to the one that the fixture names make it again.
 */
import { createHash } from 'node:crypto';
import os from 'node:os';
import type { Operator } from '../test/kit/operator.ts';
import type { Sql } from '../src/db/db.ts';
import { demoMmsc } from '../sandbox/demo-data.ts';
import { callbackUsername } from '../simulators/mm7.ts';
import { basicAuthorization } from '../src/protocols/mm7/digest.ts';
import { mm7Namespace, writeEnvelope, xmlType } from '../src/protocols/mm7/mm7.ts';
import { addDays, shanghaiDay, shanghaiTime } from '../src/std/shanghai.ts';

/** The key that seals the secrets in every fixture, so that a test can open them. It protects nothing. */
export const fixtureKey = createHash('sha256').update('hongyan release fixture').digest('hex');
/** Of the sandbox, whose demo data every fixture begins with. */
export const operatorToken = 'sandbox-operator-token';

/** Answers of the management API by their paths. */
export type Answers = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

export interface Release {
  /** The last migration that was applied. */
  readonly migration: string;
  /** When the installation was stopped. */
  readonly at: Date;
  readonly answers: Answers;
}

const begins = { migration: '-- migration ', at: '-- at ', answer: '-- GET ' } as const;

/** The fixture as text: a statement for each table, with its rows in an order that the same database always has. */
export async function dumpRelease(sql: Sql, { at, answers }: Omit<Release, 'migration'>): Promise<string> {
  const [last] = await sql<{ name: string }[]>`select name from schema_migrations order by version desc limit 1`;
  const tables = await sql<{ name: string; columns: string[] }[]>`
    select t.table_name::text as name, array_agg(c.column_name::text order by c.ordinal_position) as columns
    from information_schema.tables t join information_schema.columns c using (table_schema, table_name)
    join pg_class p on p.oid = format('%I.%I', table_schema, table_name)::regclass and not p.relispartition
    where table_schema = 'public' and table_type = 'BASE TABLE' and table_name <> 'schema_migrations' and c.is_generated = 'NEVER'
    group by 1 order by 1`;
  const rows = await Promise.all(
    tables.map(async ({ name, columns }) => {
      const values = columns.map((column) => `quote_nullable(${column}::text)`).join(', ');
      const found = await sql.unsafe<{ row: string }[]>(
        `select row from (select concat_ws(', ', ${values}) as row from ${name}) as rows order by row collate "C"`,
      );
      if (found.length === 0) return [];
      return [`insert into ${name} (${columns.join(', ')}) values\n${found.map(({ row }) => `(${row})`).join(',\n')};`];
    }),
  );
  const partitions = await sql<{ name: string; line: string }[]>`
    select p.relname::text as name, format('create table %I partition of %I %s;', p.relname, t.relname, pg_get_expr(p.relpartbound, p.oid)) as line
    from pg_inherits i join pg_class p on p.oid = i.inhrelid join pg_class t on t.oid = i.inhparent
    where p.relispartition and p.relkind = 'r' order by 1`;
  const filled = await Promise.all(partitions.map(async ({ name }) => (await sql.unsafe(`select 1 from ${name} limit 1`)).length > 0));
  const sequences = await sql<{ line: string }[]>`
    select format('select setval(%L, %s);', sequencename, last_value) as line from pg_sequences
    where schemaname = 'public' and last_value is not null order by 1`;
  const lines = [
    '-- A small installation as a release has left it. Written by `npm run db:fixture`; never to be edited.',
    `${begins.migration}${last?.name ?? ''}`,
    `${begins.at}${at.toISOString()}`,
    ...Object.entries(answers).map(([path, answer]) => `${begins.answer}${path} ${JSON.stringify(answer)}`),
    `truncate ${tables.map(({ name }) => name).join(', ')};`,
    ...partitions.filter((_, n) => filled[n]).map(({ line }) => line),
    ...rows.flat(),
    ...sequences.map(({ line }) => line),
  ];
  // Nodes are named after the machine.
  return `${lines.join('\n')}\n`.replaceAll(new RegExp(`(?<=['"])${os.hostname()}(?=-[0-9a-f]{8}['"])`, 'g'), 'node');
}

export function readRelease(text: string): Release {
  const after = (beginning: string): string[] =>
    text.split('\n').flatMap((line) => (line.startsWith(beginning) ? [line.slice(beginning.length)] : []));
  const answers = after(begins.answer).map((line) => {
    const space = line.indexOf(' ');
    return [line.slice(0, space), JSON.parse(line.slice(space + 1)) as Answers[string]];
  });
  const [[migration = ''], [at = '']] = [after(begins.migration), after(begins.at)];
  return { migration, at: new Date(at), answers: Object.fromEntries(answers) as Answers };
}

/** Puts the rows into a database that has the schema of the fixture. Foreign keys are not checked: rows come in the order of their tables. */
export const loadRelease = (sql: Sql, text: string): Promise<unknown> => sql.unsafe(`set session_replication_role = replica;\n${text}`);

const configured =
  'products templates signatures caps blocklists content-templates word-lists ported-numbers reviews replies/unassigned orphans';
const ofAccount = 'replies pushes events?kind=report events?kind=reply events?kind=audit';

/** What is to be asked beside the lists: settings that differ from their defaults, messages to some phones, and where some numbers are. */
export interface Particulars {
  readonly settings: readonly string[];
  readonly phones: readonly string[];
  readonly numbers: readonly string[];
}

/** Asks for all that customers and operators are owed: balances, batches with their totals, events, templates, what waits in review… */
export async function askAll(operator: Operator, at: Date, { settings, phones, numbers }: Particulars): Promise<Answers> {
  const answers: Record<string, Record<string, unknown>> = {};
  const days = `from=${addDays(shanghaiDay(at), -29)}&to=${addDays(shanghaiDay(at), 1)}`;
  const list = async (path: string) => (await operator.call('GET', path))['data'] as { id: string }[];
  async function ask(path: string): Promise<void> {
    const answer = await operator.call('GET', path);
    if (Array.isArray(answer['data']) && answer['data'].length === 0) return;
    // Orphans are tried again every second.
    answers[path] = JSON.parse(JSON.stringify(answer, (key, value: unknown) => (key === 'nextTryAt' ? undefined : value))) as typeof answer;
  }
  const all = await operator.call('GET', '/settings');
  answers['/settings'] = Object.fromEntries(settings.map((name) => [name, all[name]]));
  for (const number of numbers) await ask(`/numbers/${number}`);
  for (const name of [...configured.split(' '), 'accounts', 'subscriptions']) await ask(`/${name}?limit=500`);
  for (const { id } of await list('/subscriptions?limit=500')) await ask(`/ledger?subscriptionId=${id}&limit=500`);
  for (const { id } of await list('/accounts?limit=500')) {
    const whose = `accountId=${id}&limit=500`;
    for (const batch of await list(`/batches?${whose}&${days}`)) await ask(`/batches/${batch.id}`);
    for (const path of ofAccount.split(' ')) await ask(`/${path}${path.includes('?') ? `&${whose}&${days}` : `?${whose}`}`);
    for (const phone of phones) await ask(`/messages?phone=${phone}&${whose}&${days}`);
  }
  return answers;
}

/** What the carrier of multimedia messages says of one of them, in its own time. We have put the phone behind the carrier's id. */
export async function reportMms(base: string, carrierId: string, phone: string, mmStatus: string): Promise<void> {
  const messageId = carrierId.replace(/\/.*/, '');
  const body = writeEnvelope({
    transactionId: `t${messageId}${mmStatus}`,
    namespace: mm7Namespace('REL-6-MM7-1-4'),
    message: {
      name: 'DeliveryReportReq',
      fields: {
        mm7Version: '6.8.0',
        messageId,
        recipient: [{ kind: 'Number', value: `+86${phone}` }],
        sender: [{ kind: 'ShortCode', value: demoMmsc.accessNumber }],
        date: shanghaiTime(new Date()),
        mmStatus,
        statusText: mmStatus,
      },
    },
  });
  const authorization = basicAuthorization(callbackUsername, demoMmsc.secret);
  const headers = { 'content-type': xmlType, authorization };
  const answer = await fetch(`${base}/mm7/${demoMmsc.channelId}`, { method: 'POST', headers, body });
  const text = await answer.text();
  if (!text.includes('>1000<')) throw new Error(`the report was not taken: ${text}`);
}
