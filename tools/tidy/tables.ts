// Compares src/db/tables.ts with the schema and with all SQL: who writes a table, who reads it, and whether its keys can be spread.
import path from 'node:path';
import { distributionColumn, type Table } from '../../src/db/tables.ts';
import { formerTables, writingTests } from './rules.ts';
import { clauses } from './shapes.ts';
import { isIn, isTest, isUnitTest, type Parsed } from './source.ts';
import { tablesOf } from './sql.ts';

type Tables = Readonly<Record<string, Table>>;
type Use = { file: string; table: string };

function uses(sources: readonly Parsed[], tables: Tables): { reads: Use[]; writes: Use[] } {
  const names = new Set(Object.keys(tables));
  const found = sources.map(({ file, statements }) => {
    const used = statements.map((statement) => tablesOf(statement, names));
    const once = (list: readonly string[]) => [...new Set(list)].map((table) => ({ file, table }));
    return { reads: once(used.flatMap(({ reads }) => reads)), writes: once(used.flatMap(({ writes }) => writes)) };
  });
  return { reads: found.flatMap(({ reads }) => reads), writes: found.flatMap(({ writes }) => writes) };
}

/** Each table has one writer and listed readers. Readers and exceptions that are listed and do not occur are complaints too. */
export function checkUses(sources: readonly Parsed[], tables: Tables): string[] {
  const { reads, writes } = uses(
    sources.filter(({ file }) => !isTest(file) && !file.startsWith('tools/')),
    tables,
  );
  const strangers = writes
    .filter(({ file, table }) => tables[table]?.writer !== file)
    .map(({ file, table }) => `${file} writes ${table}, which belongs to ${tables[table]?.writer}`);
  const readers = reads.flatMap(({ file, table }) => {
    const { writer = '', readers = [] } = tables[table] ?? {};
    return isIn(file, path.posix.dirname(writer)) || readers.some((place) => isIn(file, place))
      ? []
      : [`${file} reads ${table}: add its folder to the readers in src/db/tables.ts, or ask ${writer}`];
  });
  const stale = Object.entries(tables).flatMap(([table, { writer, readers }]) => [
    ...(writes.some((use) => use.table === table && use.file === writer) ? [] : [`${writer} does not write ${table}`]),
    ...(writer.startsWith('src/core/') || writer === 'src/db/migrate.ts'
      ? []
      : [`${writer} writes ${table}: tables are written in src/core`]),
    ...readers
      .filter((place) => !reads.some((use) => use.table === table && isIn(use.file, place)))
      .map((place) => `${place} does not read ${table}: take it off the readers`),
  ]);
  return [...strangers, ...readers, ...stale];
}

/** Tests and what they share go through the program as everybody does, but for the listed ones. */
export function checkWritingTests(sources: readonly Parsed[], tables: Tables, exceptions: typeof writingTests = writingTests): string[] {
  const { writes } = uses(
    sources.filter(({ file }) => isTest(file) || file.startsWith('tools/')),
    tables,
  );
  const foreign = writes.filter(
    ({ file, table }) => !isUnitTest(file) || path.posix.dirname(file) !== path.posix.dirname(tables[table]?.writer ?? ''),
  );
  return [
    ...foreign
      .filter(({ file, table }) => !exceptions.some(({ place, writes }) => isIn(file, place) && writes.includes(table)))
      .map(({ file, table }) => `${file} writes ${table}: ask ${tables[table]?.writer}, or add it to the exceptions`),
    ...exceptions.flatMap(({ place, writes }) =>
      writes
        .filter((table) => !foreign.some((use) => use.table === table && isIn(use.file, place)))
        .map((table) => `${place} does not write ${table}: take it off the exceptions`),
    ),
  ];
}

/** The list against the schema: the same tables, each with the column that spreads it. */
export function checkSchema(schema: string, tables: Tables): string[] {
  const created = createdTables(schema);
  return [
    ...created.filter(({ table }) => !tables[table]).map(({ table }) => `${table} is missing from src/db/tables.ts`),
    ...Object.entries(tables).flatMap(([name, { distribution }]) => {
      const found = created.find(({ table }) => table === name);
      const column = distributionColumn[distribution];
      if (!found) return [`src/db/tables.ts lists ${name}, which is no table`];
      return column === undefined || new RegExp(`\\b${column} bigint not null`).test(found.body) ? [] : [`${name} has no ${column}`];
    }),
  ];
}

/** Tables that were dropped must have been made by a migration, and be gone. */
export function staleFormerTables(migrations: string, tables: Tables): string[] {
  const created = new Set(createdTables(migrations).map(({ table }) => table));
  return formerTables.filter((table) => !created.has(table) || tables[table]).map((table) => `${table} is no former table`);
}

/** Every table that migrations create, with its text between the brackets. */
function createdTables(migration: string): { table: string; body: string }[] {
  return [...migration.matchAll(/\bcreate\s+table\s+(?:if\s+not\s+exists\s+)?([a-z_0-9]+)\s*\(/gi)].map((match) => {
    const [body = ''] = clauses(migration.slice(match.index + match[0].length), /^/g);
    return { table: match[1] ?? '', body };
  });
}

/** Whether a key holds the column that spreads its table; what is not spread needs none. Of a former table, either column will do. */
function isSpreadBy(columns: string, name: string, tables: Tables): boolean {
  const table = tables[name];
  const column = table ? distributionColumn[table.distribution] : '(account_id|channel_id)';
  return column === undefined || new RegExp(`\\b${column}\\b`).test(columns);
}

export function checkKeys(file: string, migration: string, tables: Tables): string[] {
  const complaint = (table: string, key: string) =>
    `${file}: a key of ${table} lacks the column that spreads it, so it could not be sharded: ${key.trim().replace(/\s+/g, ' ')}`;
  const inTables = createdTables(migration).flatMap(({ table, body }) => {
    const listed = [...body.matchAll(/\b(?:primary\s+key|unique(?:\s+nulls\s+(?:not\s+)?distinct)?)\s*\(([^)]*)\)/gi)].map(
      ([key, columns = '']) => ({ key, columns }),
    );
    const inline = body
      .split(/,(?![^(]*\))/)
      .filter((line) => /\b(primary\s+key|unique)\b(?!\s*(\(|nulls))/i.test(line))
      .map((line) => ({ key: line, columns: line.trim().split(/\s+/)[0] ?? '' }));
    return [...listed, ...inline].filter(({ columns }) => !isSpreadBy(columns, table, tables)).map(({ key }) => complaint(table, key));
  });
  const inIndexes = [...migration.matchAll(/\bcreate\s+unique\s+index\s+[^;]*?\bon\s+(?:only\s+)?([a-z_0-9]+)[^;(]*\(([^;]*)\)/gi)]
    .filter(([, table = '', columns = '']) => !isSpreadBy(columns, table, tables))
    .map(([index, table = '']) => complaint(table, index));
  return [...inTables, ...inIndexes];
}
