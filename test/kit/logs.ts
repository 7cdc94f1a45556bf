/**
 * Collects the logs of all nodes in a test file, in this process and in others, and checks that they hold no secret, no phone number, and
 * no text that a person wrote. Each platform checks when it stops, so every story also tests the log.
 */
import { createHash } from 'node:crypto';
import { createLog, type Log } from '../../src/log.ts';
import type { Management } from '../../src/core/config/management.ts';

let kept = '';

/** Keeps what a node has written. */
export function keepLog(text: string): void {
  kept += text;
  if (process.env['HONGYAN_TEST_LOG'] !== undefined) process.stderr.write(text);
}

/** The log of a node in this process: all of it, as an operator would have it written. */
export const testLog = (): Log => createLog('debug', { write: keepLog });

/** Looks for what this installation holds in everything that has been logged so far; throws when something of it is there. */
export async function checkLogs({ db, box }: Pick<Management, 'db' | 'box'>, secrets: readonly string[]): Promise<void> {
  const { sql } = db;
  const sealed = await sql<{ sealed: string }[]>`
    select api_key as sealed from accounts union select secret from channels union
    select password from subscriptions where password is not null`;
  const opened = sealed.map(({ sealed }) => box.open(sealed));
  const said = await sql<{ text: string }[]>`
    select distinct content as text from batches union select distinct content from replies`;
  const numbers = await sql<{ phone: bigint }[]>`
    select distinct unnest(phones) as phone from chunks union select distinct phone from replies union select phone from blocked_numbers`;
  const md5 = (text: string): string => createHash('md5').update(text).digest('hex');
  complain({
    secrets: [...secrets, ...opened, ...opened.map(md5)].filter(({ length }) => length >= 6),
    texts: said.flatMap(({ text }) => text.split(/[$\n]/)).filter(({ length }) => length >= 4),
    numbers: new Set(numbers.map(({ phone }) => String(phone).replace(/^86(?=1\d{10}$)/, ''))),
  });
}

function complain(held: { secrets: readonly string[]; texts: readonly string[]; numbers: ReadonlySet<string> }): void {
  const found = [...held.secrets, ...held.texts].filter((text) => kept.includes(text));
  for (const [number] of kept.matchAll(/(?<!\d)(?:\+?86)?1[3-9]\d{9}(?!\d)/g))
    if (held.numbers.has(number.replace(/^\+?86/, ''))) found.push(number);
  // Whatever the value: a credential or a connection's address has no place in a line.
  for (const [said] of kept.matchAll(/\b(?:Bearer|Basic) [\w+/=-]{6,}|postgres(?:ql)?:\/\/\S+:\S+@/g)) found.push(said);
  if (found.length === 0) return;
  const lines = kept.split('\n').filter((line) => found.some((text) => line.includes(text)));
  throw new Error(`the log says what it must not: ${[...new Set(found)].slice(0, 5).join(', ')}\n${lines.slice(0, 5).join('\n')}`);
}
