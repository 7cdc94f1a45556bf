// Refuses SQL that PostgreSQL can do, but not once the rows are spread over several (or not without waiting). What a statement is made of
// is seen as far as one file shows it: a fragment that comes from another file is a `?`.
import { distributionColumn, type Table } from '../../src/db/tables.ts';
import { forbiddenShapes } from './rules.ts';
import { type Cte, commands, type Named, ownText, type Query, queries, textOf } from './sql.ts';

type Tables = Readonly<Record<string, Table>>;

/** The part of a statement from each match on to the end of its clause: the closing bracket of its CTE, RETURNING, or a semicolon. */
export function clauses(sql: string, start: RegExp): string[] {
  return [...sql.matchAll(start)].map(({ index }) => {
    let depth = 0;
    for (let at = index; at < sql.length; at++) {
      if (sql[at] === '(') depth++;
      if (sql[at] === ')') depth--;
      if (depth < 0 || sql[at] === ';' || (depth === 0 && /^returning\b/i.test(sql.slice(at, at + 10)))) return sql.slice(index, at);
    }
    return sql.slice(index);
  });
}

const inShort = (sql: string) => `${sql.trim().replace(/\s+/g, ' ').slice(0, 80)}…`;

/** What the words of a statement show. */
export function checkShapes(file: string, statements: readonly string[]): string[] {
  return statements.flatMap((sql) => {
    const updates = clauses(sql, /(?<!\bfor\s+(?:no\s+key\s+)?)(?<!\bdo\s+)\bupdate\s+[a-z_?]/gi);
    const parts = {
      statement: [sql],
      update: updates,
      'update set': updates.map((update) => settings(update)),
      'conflict update': clauses(sql, /\bdo\s+update\s+set\b/gi),
    };
    return forbiddenShapes.flatMap(({ name, in: place, shape }) =>
      parts[place].some((part) => shape.test(part)) ? [`${file}: ${name}: ${inShort(sql)}`] : [],
    );
  });
}

/** What is left of complaints without the excused ones; an exception that excuses nothing is a complaint. */
export const shapesInSpiteOf = (exceptions: readonly { readonly complaint: string }[], complaints: readonly string[]): string[] => [
  ...complaints.filter((text) => !exceptions.some(({ complaint }) => text.startsWith(complaint))),
  ...exceptions
    .filter(({ complaint }) => !complaints.some((text) => text.startsWith(complaint)))
    .map(({ complaint }) => `nothing begins with "${complaint}": take it off the exceptions`),
];

/** What stands between SET and the FROM or WHERE of an UPDATE. */
function settings(update: string): string {
  const [set] = clauses(update, /\bset\b/gi);
  let depth = 0;
  for (let at = 0; at < (set?.length ?? 0); at++) {
    if (set?.[at] === '(') depth++;
    if (set?.[at] === ')') depth--;
    if (depth === 0 && /^\W(from|where)\b/i.test(set?.slice(at, at + 7) ?? '') && !/distinct$/i.test(set?.slice(0, at) ?? ''))
      return set?.slice(0, at) ?? '';
  }
  return set ?? '';
}

/** Several commands in one string become one prepared statement, which a distributed database refuses. */
export const checkCommands = (file: string, unsafe: readonly string[]): string[] =>
  unsafe.filter((text) => commands(text).length > 1).map((text) => `${file}: several commands in one string: ${inShort(text)}`);

/** What only a statement that is taken apart shows: which table is locked, joined or filled, and by what. */
export function checkQueries(file: string, statements: readonly string[], tables: Tables): string[] {
  return statements.flatMap((sql) =>
    queries(sql).flatMap((query) =>
      [...checkLocks(query, tables), ...checkJoins(query, tables), ...checkConflicts(query, tables)].map(
        (complaint) => `${file}: ${complaint}: ${inShort(textOf(query.tokens))}`,
      ),
    ),
  );
}

const isSpread = (table: Table | undefined): table is Table => table !== undefined && distributionColumn[table.distribution] !== undefined;

const lock = /\bfor (?:no key update|update|key share|share)\b(?: of ([a-z_0-9 ,]+?))?(?: skip locked| nowait)?$/;

function checkLocks(query: Query, tables: Tables): string[] {
  const text = ownText(query.tokens);
  const locking = lock.exec(text);
  if (!locking || query.verb !== 'select') return [];
  const only = locking[1]?.split(/[ ,]+/).filter((word) => word !== 'skip' && word !== 'locked');
  const locked = query.from.filter(({ name, alias }) => isSpread(tables[name]) && !query.ctes.has(name) && (!only || only.includes(alias)));
  const names = [query, ...query.inner].flatMap(({ from }) => from.map(({ name }) => name));
  return [
    ...locked
      .filter((item) => !isPinned(query, item, tables))
      .map(({ name }) => `locks rows of ${name} without ${columnOf(name, tables)} = …`),
    ...(locked.length > 0 && names.some((name) => query.ctes.has(name)) ? ['locks rows in a query that reads a CTE'] : []),
  ];
}

const columnOf = (name: string, tables: Tables): string => distributionColumn[tables[name]?.distribution ?? 'local'] ?? '';

/** Whether the rows of a table are found by equality on the column that spreads them. */
function isPinned(query: Query, { name, alias }: Named, tables: Tables): boolean {
  const column = columnOf(name, tables);
  const text = ownText(query.tokens);
  const isAlone = [...(query.target ? [query.target] : []), ...query.from].filter((item) => isSpread(tables[item.name])).length === 1;
  const named = isAlone ? `(?:${alias} \\. |(?<!\\. ))${column}` : `${alias} \\. ${column}`;
  const using = new RegExp(`\\busing \\( (?:[^)]*, )?${column}\\b`);
  return new RegExp(`\\b${named} = (?!any\\b|all\\b)|(?<![<>!] )= ${named}\\b`).test(text) || using.test(text);
}

/** Tables of a query and of the queries in its brackets, CTEs that are not read first included. */
function joined(query: Query, tables: Tables, seen: ReadonlySet<Cte> = new Set()): { query: Query; item: Named }[] {
  const own = [...(query.target && query.verb !== 'insert' ? [query.target] : []), ...query.from];
  return [
    ...own.flatMap((item) => {
      const cte = query.ctes.get(item.name);
      if (!cte) return isSpread(tables[item.name]) ? [{ query, item }] : [];
      return cte.materialized || seen.has(cte) ? [] : cte.queries.flatMap((inner) => joined(inner, tables, new Set([...seen, cte])));
    }),
    ...query.inner.flatMap((inner) => joined(inner, tables, seen)),
  ];
}

/**
 * Of different distribution: one must be read first, in a materialized CTE. Of the same: both found by equality on the column that spreads
 * them, in the query of their own if they stand in brackets.
 */
function checkJoins(query: Query, tables: Tables): string[] {
  const own = [...(query.target && query.verb !== 'insert' ? [query.target] : []), ...query.from];
  if (own.length === 0) return [];
  const all = joined(query, tables);
  const kinds = new Map(all.map(({ item }) => [tables[item.name]?.distribution, item.name]));
  if (kinds.size > 1) return [`joins ${[...kinds.values()].join(' and ')}, which are spread by different columns`];
  const direct = own.filter(({ name }) => isSpread(tables[name]) && !query.ctes.has(name)).map((item) => ({ query, item }));
  const inBrackets = all.filter((other) => query.inner.includes(other.query));
  if (direct.length === 0 || direct.length + inBrackets.length < 2) return [];
  return [...(direct.length > 1 ? direct : []), ...inBrackets]
    .filter((other) => !isPinned(other.query, other.item, tables))
    .map(({ item }) => `joins ${item.name} without ${columnOf(item.name, tables)} = …`);
}

/** A copy on every node is filled by a statement with its values in it, whose types are then unknown. */
function checkConflicts(query: Query, tables: Tables): string[] {
  if (query.verb !== 'insert' || tables[query.target?.name ?? '']?.distribution !== 'reference') return [];
  const text = textOf(query.tokens);
  const [, before = '', after = ''] = /^(.*?) on conflict (.*)$/.exec(text) ?? [];
  const conflict = after.replace(/ returning .*$/, '');
  return /\bunnest\b/.test(before) && conflict.includes('?') ? ['a value in ON CONFLICT of an insert from unnest into a copied table'] : [];
}
