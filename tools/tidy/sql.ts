// Takes SQL apart as far as the checks need it: words inside brackets, the parts of each query, the tables it names.

/** A word, a sign or a text in quotes; or what stands between two brackets. Words are lower case. */
type Token = string | readonly Token[];

const wordOrSign = /'(?:[^']|'')*'|"[^"]*"|\$\$[\s\S]*?\$\$|[a-z_][a-z0-9_]*|\d+(?:\.\d+)?|::|=>|<=|>=|<>|!=|\|\||[^\s]/gi;

function tokens(sql: string): Token[] {
  const open: Token[][] = [[]];
  for (const [text] of sql.matchAll(wordOrSign)) {
    if (text === '(') open.push([]);
    else if (text === ')' && open.length > 1) {
      const inner = open.pop() ?? [];
      open.at(-1)?.push(inner);
    } else open.at(-1)?.push(/^['"$]/.test(text) ? text : text.toLowerCase());
  }
  while (open.length > 1) {
    const inner = open.pop() ?? [];
    open.at(-1)?.push(inner);
  }
  return open[0] ?? [];
}

/** A name in a from clause, and what the query calls it. */
export interface Named {
  readonly name: string;
  readonly alias: string;
}

/** One select, insert, update or delete (or a fragment of one), without the queries inside its brackets. */
export interface Query {
  readonly verb: string | undefined;
  /** What it inserts into, updates or deletes from. */
  readonly target: Named | undefined;
  /** What it names after from, join and using: tables, functions, CTEs. */
  readonly from: readonly Named[];
  readonly tokens: readonly Token[];
  /** Queries in brackets, CTEs left out. */
  readonly inner: readonly Query[];
  /** Those that its with clause names, and those that the queries around it name. */
  readonly ctes: ReadonlyMap<string, Cte>;
}

export interface Cte {
  readonly materialized: boolean;
  readonly queries: readonly Query[];
}

const verbs = ['select', 'insert', 'update', 'delete', 'values', 'truncate', 'copy', 'table'];
const endsFrom = new Set(
  `where group order limit for union except intersect returning having window on_conflict offset set values select`.split(' '),
);
const isName = (token: Token | undefined): token is string => typeof token === 'string' && /^[a-z_]/.test(token);

/** Every query of a text, those in brackets and CTEs included; the outermost come first. */
export function queries(sql: string): Query[] {
  return commands(sql).flatMap((command) => withInner(queriesOf(command, new Map())));
}

/** The commands of a text: what stands between semicolons. */
export const commands = (sql: string): (readonly Token[])[] =>
  split(tokens(sql), (token) => token === ';').filter(({ length }) => length > 0);

function withInner(found: readonly Query[]): Query[] {
  const all = new Set<Query>();
  const add = (query: Query): void => {
    if (all.has(query)) return;
    all.add(query);
    for (const cte of query.ctes.values()) cte.queries.forEach(add);
    for (const inner of query.inner) add(inner);
  };
  for (const query of found) add(query);
  return [...all];
}

function split(list: readonly Token[], isBorder: (token: Token) => boolean): Token[][] {
  const parts: Token[][] = [[]];
  for (const token of list) {
    if (isBorder(token)) parts.push([]);
    else parts.at(-1)?.push(token);
  }
  return parts;
}

/** A command may be several queries, between them union, except and intersect. */
function queriesOf(command: readonly Token[], around: ReadonlyMap<string, Cte>): Query[] {
  const ctes = new Map(around);
  let rest = command;
  if (rest[0] === 'with') {
    let at = rest[1] === 'recursive' ? 2 : 1;
    for (;;) {
      const name = rest[at];
      const as = rest.indexOf('as', at);
      if (!isName(name) || as < 0) break;
      const isMaterialized = rest[as + 1] === 'materialized';
      const body = as + (isMaterialized ? 2 : rest[as + 1] === 'not' ? 3 : 1);
      const inside = rest[body];
      if (typeof inside !== 'object') break;
      const found = queriesOf(inside, ctes);
      ctes.set(name, { materialized: isMaterialized || found.some(isWriting), queries: found });
      at = body + 1;
      if (rest[at] !== ',') break;
      at++;
    }
    rest = rest.slice(at);
  }
  return split(rest, (token) => token === 'union' || token === 'except' || token === 'intersect').map((part) => queryOf(part, ctes));
}

const isWriting = ({ verb }: Query) => verb === 'insert' || verb === 'update' || verb === 'delete';

function queryOf(part: readonly Token[], ctes: ReadonlyMap<string, Cte>): Query {
  const verb = verbs.find((word) => part[0] === word);
  return {
    verb,
    target: targetOf(part, verb),
    from: namedAfterFrom(part),
    tokens: part,
    inner: innerQueries(part, ctes),
    ctes,
  };
}

function innerQueries(list: readonly Token[], ctes: ReadonlyMap<string, Cte>): Query[] {
  return list.flatMap((token) => {
    if (typeof token === 'string') return [];
    const [first] = token;
    return first === 'with' || verbs.some((verb) => verb === first) ? queriesOf(token, ctes) : innerQueries(token, ctes);
  });
}

function targetOf(part: readonly Token[], verb: string | undefined): Named | undefined {
  const skip = part.findIndex((token, at) => at > 0 && token !== 'into' && token !== 'from' && token !== 'only' && token !== 'table');
  const writes = verb === 'insert' || verb === 'update' || verb === 'delete' || verb === 'truncate' || verb === 'copy';
  return writes && skip > 0 ? named(part.slice(skip)) : undefined;
}

function named([name, second, third]: readonly Token[]): Named | undefined {
  if (!isName(name)) return undefined;
  const alias = second === 'as' ? third : second;
  const isAlias = isName(alias) && !endsFrom.has(alias) && !['on', 'using', 'cross', 'left', 'inner', 'full', 'right'].includes(alias);
  return { name, alias: isAlias ? alias : name };
}

/** The names between from (or the using of a delete) and the next clause, those in the brackets of joins included. */
function namedAfterFrom(part: readonly Token[]): Named[] {
  const start = part.findIndex(
    (token, at) =>
      (token === 'from' && part[at - 1] !== 'distinct' && part[at - 1] !== 'delete') || (token === 'using' && part[0] === 'delete'),
  );
  if (start < 0) return [];
  const after = part.slice(start + 1);
  const end = after.findIndex(
    (token, at) => typeof token === 'string' && endsFrom.has(token === 'on' && after[at + 1] === 'conflict' ? 'on_conflict' : token),
  );
  return items(end < 0 ? after : after.slice(0, end));
}

const items = (list: readonly Token[]): Named[] =>
  split(list, (token) => token === ',' || token === 'join').flatMap((item) => {
    const rest = item.filter((token, at) => !(at === 0 && (token === 'lateral' || token === 'only')));
    const [first] = rest;
    if (typeof first === 'object') return verbs.some((verb) => verb === first[0]) || first[0] === 'with' ? [] : items(first);
    const found = typeof rest[1] === 'object' ? undefined : named(rest);
    return found ? [found] : [];
  });

/** The text of tokens, a space between any two. */
export const textOf = (list: readonly Token[]): string =>
  list.map((token) => (typeof token === 'string' ? token : `( ${textOf(token)} )`)).join(' ');

/** The text of a query without the queries in its brackets. */
export const ownText = (list: readonly Token[]): string =>
  list
    .map((token) => {
      if (typeof token === 'string') return token;
      return verbs.some((verb) => verb === token[0]) || token[0] === 'with' ? '( … )' : `( ${ownText(token)} )`;
    })
    .join(' ');

/** Tables that a text reads and writes, of those given. A fragment that is nothing but a table's name reads it. */
export function tablesOf(sql: string, tables: ReadonlySet<string>): { reads: string[]; writes: string[] } {
  const found = queries(sql);
  const isTable = (query: Query, { name }: Named) => tables.has(name) && !query.ctes.has(name);
  const alone = sql.trim();
  return {
    reads: [
      ...(tables.has(alone) ? [alone] : []),
      ...found.flatMap((query) => query.from.filter((item) => isTable(query, item)).map(({ name }) => name)),
    ],
    writes: found.flatMap(({ target }) => (target && tables.has(target.name) ? [target.name] : [])),
  };
}
