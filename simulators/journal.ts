/**
 * The memory of a simulated carrier that is killed and started again: the messages that phones got, and everything still owed to the
 * platform. Each entry is one line of JSON, written before the answer leaves, because a real carrier does not forget a message that it has
 * accepted.
 */
import fs from 'node:fs';

export interface Journal {
  /** A phone's message was taken (or a part of it). */
  took(message: JournalledMessage): void;
  /** From now on this is owed until it is settled, even by a later process. */
  owes(id: string, what: object): void;
  settled(id: string): void;
  /** What an earlier process still owed, oldest first. */
  readonly left: ReadonlyMap<string, object>;
}

export interface JournalledMessage {
  readonly id: string;
  readonly to: string;
  readonly from: string;
  /** Which part of a message of several parts this is. */
  readonly part?: { readonly reference: number; readonly total: number; readonly number: number } | undefined;
}

export type JournalLine =
  | { readonly took: JournalledMessage }
  | { readonly owes: string; readonly what: Readonly<Record<string, unknown>> }
  | { readonly settled: string };

/** Every complete line of a journal. A line that was cut off when its writer was killed is left out. */
export function readJournal(file: string): JournalLine[] {
  const lines = fs.existsSync(file) ? fs.readFileSync(file, 'utf8').split('\n').slice(0, -1) : [];
  return lines.flatMap((line) => (line.startsWith('{') && line.endsWith('}') ? [JSON.parse(line) as JournalLine] : []));
}

export function openJournal(file: string): Journal {
  const left = new Map<string, object>();
  for (const line of readJournal(file)) {
    if ('owes' in line) left.set(line.owes, line.what);
    else if ('settled' in line) left.delete(line.settled);
  }
  const fd = fs.openSync(file, 'a');
  fs.writeSync(fd, '\n'); // ends a line that a killed process may have begun
  const add = (line: JournalLine): void => void fs.writeSync(fd, `${JSON.stringify(line)}\n`);
  return {
    left,
    took: (message) => add({ took: message }),
    owes: (id, what) => add({ owes: id, what: what as Readonly<Record<string, unknown>> }),
    settled: (id) => add({ settled: id }),
  };
}
