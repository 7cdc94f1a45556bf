/**
 * Files from an operator, of any length, in constant memory: reads rows of a text that arrives in pieces, and stores what was read on disk.
 * A file is read and checked to its end before the first query: no transaction waits for a slow sender, and a file with an error anywhere
 * changes nothing.
 */
import { mkdtemp, open, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Denial } from './management.ts';

/** Takes the rows of a file. */
interface RowTaker {
  /** The fields of one row; a denial says what is wrong with them. */
  add(fields: readonly string[]): void;
  /** Called now and then, and at the end. */
  flush?(): Promise<void>;
}

/** The result of reading a file. */
export interface FileReport {
  readonly rows: number;
  /** Rows that were skipped, as the sender requested. */
  readonly skipped: number;
  /** What was wrong with the first skipped rows. */
  readonly problems: readonly string[];
}

const lineCharacters = 200;
const mostProblems = 20;

/**
 * Reads rows with comma-separated fields, one row a line, in UTF-8. Blank lines and a first line with the column names are skipped. The
 * first wrong row is denied with its line, unless `skipInvalid`.
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
    // Too long for a line of such a file, so it is another kind of file.
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

/** A field in a spreadsheet's quotes. */
const unquoted = (field: string): string => field.trim().replace(/^"(.*)"$/, '$1');

/** Integers on disk. */
export interface Spool {
  add(value: bigint): void;
  /** Writes added values to disk once they are many. */
  flush(): Promise<void>;
  /** All values, in batches; may be called repeatedly. Roughly ordered, and equal values in the order in which they came. */
  batches(): AsyncIterable<readonly bigint[]>;
}

/** Values in one statement. */
const batchSize = 50_000;
/**
 * Values are sorted by size into this many drawers, so that the values of one statement are near each other in the index: 5,000,000
 * scattered numbers take 29 s instead of 40. The gain grows when the index is larger than the memory.
 */
const drawers = 256;
/** Values of one drawer that are written at once. */
const writeSize = 1024;

/** Runs `work` with a spool for values that are mostly within these bounds, and removes the spool afterwards. */
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
  /** The positions of each drawer's pieces in the file. */
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
