/**
 * Files that an operator sends, of any length, in constant memory: rows of a text that arrives in pieces, and a place on disk for what was
 * read of them. A file is read and checked to its end before the database is asked for anything: no transaction waits for a slow sender,
 * and a file that is broken anywhere has changed nothing.
 */
import { mkdtemp, open, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Denial } from './management.ts';

/** Who takes the rows of a file. */
interface RowTaker {
  /** The fields of one row; a denial says what is wrong with them. */
  add(fields: readonly string[]): void;
  /** Called now and then, and at the end. */
  flush?(): Promise<void>;
}

/** What became of the rows of a file. */
export interface FileReport {
  readonly rows: number;
  /** Rows that were passed over, since the sender wanted it so. */
  readonly skipped: number;
  /** What was wrong with the first of those. */
  readonly problems: readonly string[];
}

const lineCharacters = 200;
const mostProblems = 20;

/**
 * Reads rows of fields with commas between, one a line; in UTF-8, blank lines and a first line that says the column names are passed over.
 * The first row that is wrong is denied with its line, unless `skipInvalid`.
 */
export async function readRows(
  chunks: AsyncIterable<Uint8Array>,
  { columns, skipInvalid }: { readonly columns: string; readonly skipInvalid: boolean },
  taker: RowTaker,
): Promise<FileReport> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let line = 0;
  let rows = 0;
  let skipped = 0;
  const problems: string[] = [];
  let rest = '';

  function take(text: string): void {
    line++;
    // No line of such a file: it is no such file.
    if (text.length > lineCharacters) throw new Denial('invalid', `line ${line}: more than ${lineCharacters} characters`);
    const written = text.trim();
    if (written === '' || (line === 1 && written.toLowerCase() === columns)) return;
    try {
      taker.add(written.split(',').map(unquoted));
      rows++;
    } catch (error) {
      if (!(error instanceof Denial)) throw error;
      const problem = `line ${line}: ${error.message}`;
      if (!skipInvalid) throw new Denial('invalid', problem);
      skipped++;
      if (problems.length < mostProblems) problems.push(problem);
    }
  }

  function takeText(text: string, isLast: boolean): void {
    const lines = (rest + text).split('\n');
    rest = isLast ? '' : (lines.pop() ?? '');
    for (const one of lines) take(one);
    if (rest.length > lineCharacters) take(rest);
  }

  const decode = (chunk?: Uint8Array): string => {
    try {
      return decoder.decode(chunk, { stream: chunk !== undefined });
    } catch {
      throw new Denial('invalid', `after line ${line}: not UTF-8`);
    }
  };

  for await (const chunk of chunks) {
    takeText(decode(chunk), false);
    await taker.flush?.();
  }
  takeText(decode(), true);
  await taker.flush?.();
  return { rows, skipped, problems };
}

/** As spreadsheets write a field. */
const unquoted = (field: string): string => field.trim().replace(/^"(.*)"$/, '$1');

/** Integers on disk. */
export interface Spool {
  add(value: bigint): void;
  /** Writes what was added, where it is much. */
  flush(): Promise<void>;
  /** All of them, as often as wanted, so many at once: in rough order, and equal ones in the order in which they came. */
  batches(): AsyncIterable<readonly bigint[]>;
}

/** Into one statement. */
const batchSize = 50_000;
/**
 * Values lie in so many drawers by their size, so that what goes into one statement is near each other in the index: 5,000,000 scattered
 * numbers take 29 s instead of 40, and the more an index is larger than the memory, the more that is.
 */
const drawers = 256;
/** Of one drawer, written at once. */
const writeSize = 1024;

/** Gives work a spool for values that are mostly within these bounds, and takes it away afterwards. */
export async function withSpool<Result>(
  bounds: { readonly from: bigint; readonly to: bigint },
  work: (spool: Spool) => Promise<Result>,
): Promise<Result> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'hongyan-import-'));
  try {
    const file = await open(path.join(folder, 'rows'), 'w+', 0o600);
    try {
      return await work(spoolIn(file, bounds));
    } finally {
      await file.close();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function spoolIn(file: Awaited<ReturnType<typeof open>>, { from, to }: { from: bigint; to: bigint }): Spool {
  const waiting = Array.from({ length: drawers }, (): bigint[] => []);
  /** Where the pieces of each drawer lie in the file. */
  const pieces = waiting.map((): { at: number; count: number }[] => []);
  let end = 0;
  const lowest = Number(from);
  const width = Number(to - from) / drawers;

  async function write(drawer: number): Promise<void> {
    const values = BigInt64Array.from(waiting[drawer] ?? []);
    waiting[drawer] = [];
    pieces[drawer]?.push({ at: end, count: values.length });
    const at = end;
    end += values.byteLength;
    await file.write(new Uint8Array(values.buffer), 0, values.byteLength, at);
  }

  async function read({ at, count }: { at: number; count: number }): Promise<BigInt64Array> {
    const values = new BigInt64Array(count);
    const bytes = new Uint8Array(values.buffer);
    for (let done = 0; done < bytes.length; ) {
      const { bytesRead } = await file.read(bytes, done, bytes.length - done, at + done);
      if (bytesRead === 0) throw new Error('the spool has become shorter');
      done += bytesRead;
    }
    return values;
  }

  return {
    add(value) {
      const drawer = Math.floor((Number(value) - lowest) / width);
      waiting[Math.min(Math.max(drawer, 0), drawers - 1)]?.push(value);
    },
    async flush() {
      for (const [drawer, values] of waiting.entries()) if (values.length >= writeSize) await write(drawer);
    },
    async *batches() {
      let batch: bigint[] = [];
      for (const [drawer, values] of waiting.entries()) {
        if (values.length > 0) await write(drawer);
        for (const piece of pieces[drawer] ?? []) {
          batch.push(...(await read(piece)));
          if (batch.length < batchSize) continue;
          yield batch;
          batch = [];
        }
      }
      if (batch.length > 0) yield batch;
    },
  };
}
