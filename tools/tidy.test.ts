// Keeps the house in order: who may import whom, who may read the environment, open sockets or write a table, and which shapes
// of SQL stay out because they do not work once the database is sharded. To move a border, change its table here, in the open.
//
// Each check is a function from sources to complaints, so that it can be shown to complain about a bad example.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { channelKinds } from '../src/channels/kinds.ts';
import { dialects } from '../src/http/dialects/registry.ts';
import { packageRoot } from '../src/std/package-root.ts';

// ── the rules ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * Which room may import which. A room is a folder or a file, the first that fits; what it may import is a room, or a part of
 * one. Everything may import its own room. Tests are neighbours of what they test and may import anything.
 */
const rooms: readonly { room: string; mayImport: readonly string[] }[] = [
  { room: 'contract', mayImport: [] },
  { room: 'src/std', mayImport: [] },
  { room: 'src/protocols', mayImport: ['src/std'] },
  { room: 'src/channels', mayImport: ['src/protocols', 'src/std', 'src/log.ts'] },
  { room: 'src/db', mayImport: ['src/std'] },
  {
    room: 'src/core',
    mayImport: ['src/db/db.ts', 'src/std', 'src/protocols/text.ts', 'src/protocols/mm7/smil.ts', 'src/protocols/receipts.ts'],
  },
  // Workers hold the transactions around what core does, hence the Db and its errors; their SQL is core's all the same.
  {
    room: 'src/workers',
    mayImport: ['src/core', 'src/channels', 'src/protocols/text.ts', 'src/std', 'src/db/db.ts', 'src/log.ts', 'src/metrics.ts'],
  },
  // Of channels it knows what a protocol is, and none of them.
  {
    room: 'src/http/api',
    mayImport: ['contract/index.ts', 'src/http/part.ts', 'src/core', 'src/channels/channel.ts', 'src/std'],
  },
  { room: 'src/http', mayImport: ['src/core', 'src/channels/channel.ts', 'src/std', 'src/log.ts', 'src/metrics.ts'] },
  { room: 'src/log.ts', mayImport: [] },
  { room: 'src/metrics.ts', mayImport: ['src/log.ts'] },
  { room: 'src/config.ts', mayImport: ['src/std', 'src/log.ts'] },
  { room: 'src/app.ts', mayImport: ['src'] },
  { room: 'src/main.ts', mayImport: ['src', 'sandbox'] },
  { room: 'simulators', mayImport: ['src/protocols', 'src/std'] },
  // The sandbox adds routes of its own to the server, as a dialect does.
  {
    room: 'sandbox',
    mayImport: ['src/app.ts', 'src/http/part.ts', 'src/config.ts', 'src/log.ts', 'src/core', 'src/db', 'src/std', 'simulators'],
  },
  // What tests, benchmarks and crash runs share.
  { room: 'test/kit', mayImport: ['src', 'simulators', 'sandbox'] },
  // It speaks HTTP as a customer does; into the database it writes only what would have happened long ago.
  { room: 'test/bench', mayImport: ['test/kit', 'simulators', 'src/std', 'src/db', 'src/core/model/ids.ts'] },
  { room: 'test/crash', mayImport: ['test/kit', 'simulators', 'src'] },
  { room: 'tools', mayImport: ['src', 'test', 'sandbox'] },
  { room: 'test', mayImport: ['src', 'simulators', 'sandbox', 'tools'] },
];

/** The folder of a vendor's family of dialects; none knows another. */
const familyOf = (file: string): string | undefined => /^src\/http\/dialects\/([^/]+)\//.exec(file)?.[1];

/** Rooms that clients will share, with all the packages that they may import. */
const packages: readonly { room: string; mayImport: readonly string[] }[] = [{ room: 'contract', mayImport: ['typebox'] }];

/** Things that only some files may touch. src/main.ts hands the environment to src/config.ts, which reads it. */
const reserved = {
  environment: ['src/config.ts', 'src/main.ts', 'test/', 'tools/', 'simulators/', 'vitest.config.ts'],
  driver: ['src/db/db.ts'],
  sockets: [
    'src/channels/',
    'src/http/',
    'src/workers/post.ts',
    'src/metrics.ts',
    'src/db/embedded.ts',
    'simulators/',
    'sandbox/',
    'test/',
  ],
};
const socketModules = ['net', 'tls', 'dgram', 'http', 'https', 'http2'].flatMap((name) => [name, `node:${name}`]).concat('undici', 'ws');
/** Exports of socket modules that open nothing. */
const harmless = new Set(['isIP', 'isIPv4', 'isIPv6', 'BlockList', 'SocketAddress', 'STATUS_CODES']);

/** Tables whose keys need not hold account_id or channel_id: small, rarely written, copied to every node of a sharded database. */
const replicatedTables = new Set(
  `accounts products pools pool_channels channels subscriptions caps blocklists blocked_numbers tokens settings config_version
   schema_migrations figures nodes number_tables ported_numbers content_templates word_lists words`.split(/\s+/),
);

/** What PostgreSQL could do, but not once the rows are spread over several (or not without waiting). */
const forbiddenShapes: readonly { name: string; in: 'update' | 'conflict update' | 'statement'; shape: RegExp }[] = [
  { name: 'a volatile function in UPDATE', in: 'update', shape: /\b(nextval|random|clock_timestamp|gen_random_uuid)\s*\(/i },
  { name: 'column::date in UPDATE', in: 'update', shape: /[a-z_."]::date\b/i },
  { name: 'now() in DO UPDATE SET (use excluded)', in: 'conflict update', shape: /\bnow\s*\(|\bcurrent_timestamp\b/i },
  { name: 'MERGE', in: 'statement', shape: /\bmerge\s+into\b/i },
  { name: 'ctid', in: 'statement', shape: /\bctid\b/i },
  { name: 'DETACH … CONCURRENTLY', in: 'statement', shape: /\bdetach\s+partition\b[^;]*\bconcurrently\b/i },
  { name: 'LATERAL with LIMIT over unnest', in: 'statement', shape: /(?=[\s\S]*\blateral\b)(?=[\s\S]*\bunnest\b)(?=[\s\S]*\blimit\b)/i },
  { name: 'serial', in: 'statement', shape: /\b(small|big)?serial\b/i },
  { name: 'an identity column', in: 'statement', shape: /\bas\s+identity\b/i },
  { name: 'a trigger', in: 'statement', shape: /\bcreate\s+(or\s+replace\s+)?(constraint\s+)?trigger\b/i },
];

// ── reading sources ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Source {
  /** Relative to the package, with slashes. */
  file: string;
  text: string;
}

interface Import {
  from: string;
  /** What is imported by value; types vanish. `*` stands for everything. */
  names: string[];
}

interface Parsed {
  file: string;
  imports: Import[];
  readsEnvironment: boolean;
  /** SQL with `?` for every value. */
  statements: string[];
}

const isTest = (file: string) => file.endsWith('.test.ts') || file.startsWith('test/');
const isIn = (file: string, place: string) => file === place || file.startsWith(place.endsWith('/') ? place : `${place}/`);

function parse({ file, text }: Source): Parsed {
  const parsed: Parsed = { file, imports: [], readsEnvironment: false, statements: [] };
  const visit = (node: ts.Node): void => {
    if (
      (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) &&
      node.moduleSpecifier &&
      ts.isStringLiteral(node.moduleSpecifier)
    ) {
      parsed.imports.push({ from: node.moduleSpecifier.text, names: importedNames(node) });
    } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      const [specifier] = node.arguments;
      if (specifier && ts.isStringLiteralLike(specifier)) parsed.imports.push({ from: specifier.text, names: ['*'] });
    } else if (ts.isPropertyAccessExpression(node) && node.name.text === 'env' && node.expression.getText() === 'process') {
      parsed.readsEnvironment = true;
    } else if (ts.isTaggedTemplateExpression(node) && /(^|\.)sql$/i.test(node.tag.getText())) {
      parsed.statements.push(templateText(node.template));
    } else if (ts.isCallExpression(node) && ts.isPropertyAccessExpression(node.expression) && node.expression.name.text === 'unsafe') {
      const [statement] = node.arguments;
      if (statement && (ts.isTemplateExpression(statement) || ts.isStringLiteralLike(statement)))
        parsed.statements.push(templateText(statement));
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(file, text, ts.ScriptTarget.ES2023, true));
  parsed.statements = parsed.statements.map(withoutComments);
  return parsed;
}

function importedNames(node: ts.ImportDeclaration | ts.ExportDeclaration): string[] {
  if (ts.isExportDeclaration(node)) return node.isTypeOnly ? [] : ['*'];
  const clause = node.importClause;
  if (!clause) return ['*'];
  if (clause.phaseModifier === ts.SyntaxKind.TypeKeyword) return [];
  const bindings = clause.namedBindings;
  const named = bindings && ts.isNamedImports(bindings) ? bindings.elements.filter((element) => !element.isTypeOnly) : [];
  return [
    ...(clause.name || (bindings && ts.isNamespaceImport(bindings)) ? ['*'] : []),
    ...named.map((element) => (element.propertyName ?? element.name).text),
  ];
}

function templateText(node: ts.TemplateLiteral | ts.StringLiteralLike): string {
  return ts.isTemplateExpression(node)
    ? [node.head, ...node.templateSpans.map((span) => span.literal)].map(({ text }) => text).join('?')
    : node.text;
}

const withoutComments = (sql: string) => sql.replace(/--[^\n]*/g, '').replace(/\/\*[\s\S]*?\*\//g, '');

/** Where an import leads inside the package; undefined for packages. */
function resolve(file: string, from: string): string | undefined {
  return from.startsWith('.') ? path.posix.join(path.posix.dirname(file), from) : undefined;
}

// ── the checks ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function checkRooms(sources: readonly Parsed[]): string[] {
  return sources
    .filter(({ file }) => !isTest(file) && file.includes('/'))
    .flatMap(({ file, imports }) => {
      const home = rooms.find(({ room }) => isIn(file, room));
      if (!home) return [`${file} is in no room: add it to the table`];
      return imports.flatMap(({ from }) => {
        const target = resolve(file, from);
        if (target === undefined) return [];
        const [family, other] = [familyOf(file), familyOf(target)];
        if (family !== undefined && other !== undefined && family !== other) return [`${file} imports another dialect, ${target}`];
        const isAllowed = [home.room, ...home.mayImport].some((place) => isIn(target, place));
        return isAllowed && (!isTest(target) || home.room === 'tools') ? [] : [`${file} may not import ${target}`];
      });
    });
}

/** A name in quotes, which only the registry and the folders of dialects may write. */
function checkDialectNames({ file, text }: Source, names: Iterable<string>): string[] {
  if (isIn(file, 'src/http/dialects') || isTest(file)) return [];
  return [...names].filter((name) => new RegExp(`['"\`]${name}['"\`]`).test(text)).map((name) => `${file} names the dialect ${name}`);
}

function checkCycles(sources: readonly Parsed[]): string[] {
  const byFile = new Map(sources.map((source) => [source.file, source]));
  const finished = new Set<string>();
  const complaints: string[] = [];
  const visit = (file: string, trail: readonly string[]): void => {
    const at = trail.indexOf(file);
    if (at >= 0) complaints.push(`import cycle: ${[...trail.slice(at), file].join(' → ')}`);
    if (at >= 0 || finished.has(file)) return;
    for (const { from } of byFile.get(file)?.imports ?? []) {
      const target = resolve(file, from);
      if (target !== undefined) visit(target, [...trail, file]);
    }
    finished.add(file);
  };
  for (const { file } of sources) visit(file, []);
  return complaints;
}

const isOneOf = (file: string, places: readonly string[]) => places.some((place) => isIn(file, place)) || file.endsWith('.test.ts');

function checkReserved(sources: readonly Parsed[]): string[] {
  return sources.flatMap(({ file, imports, readsEnvironment }) => [
    ...(readsEnvironment && !isOneOf(file, reserved.environment) ? [`${file} reads process.env: settings come from src/config.ts`] : []),
    ...imports.flatMap(({ from, names }) => {
      if (from === 'postgres' && !reserved.driver.includes(file)) return [`${file} imports the driver: the door is src/db/db.ts`];
      const opens = socketModules.includes(from) && names.some((name) => !harmless.has(name));
      return opens && !isOneOf(file, reserved.sockets) ? [`${file} imports ${from}: it has no business with sockets`] : [];
    }),
    ...packages
      .filter(({ room }) => isIn(file, room))
      .flatMap(({ room, mayImport }) =>
        imports
          .filter(({ from }) => !from.startsWith('.') && !mayImport.includes(from))
          .map(({ from }) => `${file} imports ${from}: ${room} is shared with clients`),
      ),
  ]);
}

/** Names of protocols in texts of the program: only what belongs to one knows it. */
function checkProtocolNames({ file, text }: Source, names: readonly string[]): string[] {
  const others = names.filter(
    (name) => !['src/protocols', 'src/channels'].some((room) => isIn(file, `${room}/${name}`) || file === `${room}/${name}.ts`),
  );
  if (others.length === 0 || file === 'src/channels/kinds.ts') return [];
  const named = new RegExp(`\\b(${others.join('|')})\\b`, 'i');
  const complaints: string[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) return;
    const isText = ts.isStringLiteralLike(node) || ts.isTemplateHead(node) || ts.isTemplateMiddleOrTemplateTail(node);
    if (isText && named.test(node.text)) complaints.push(`${file} names a protocol: "${node.text.slice(0, 60)}"`);
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(file, text, ts.ScriptTarget.ES2023, true));
  return complaints;
}

const writing =
  /(?:\binsert\s+into|\bdelete\s+from|\btruncate(?:\s+table)?|\bcopy|(?<!\bfor\s+(?:no\s+key\s+)?)(?<!\bdo\s+)(?<!\bon\s+)\bupdate)\s+(?:only\s+)?([a-z_][a-z0-9_]*)/gi;

/** table → files that write it */
function writers(sources: readonly Parsed[], tables: ReadonlySet<string>): Map<string, string[]> {
  const found = new Map<string, Set<string>>();
  for (const { file, statements } of sources.filter(({ file }) => !isTest(file))) {
    for (const [, table = ''] of statements.flatMap((statement) => [...statement.matchAll(writing)])) {
      if (tables.has(table)) found.set(table, (found.get(table) ?? new Set()).add(file));
    }
  }
  return new Map([...found].map(([table, files]) => [table, [...files].sort()]));
}

/** `owners`: what ARCHITECTURE.md says, table → file. */
function checkWriters(sources: readonly Parsed[], tables: ReadonlySet<string>, owners: ReadonlyMap<string, string> | undefined): string[] {
  const complaints: string[] = [];
  const found = writers(sources, tables);
  for (const [table, files] of found) {
    if (files.length > 1) complaints.push(`${table} is written by ${files.join(' and ')}: one of them should ask the other`);
    for (const file of files)
      if (!isIn(file, 'src/core') && file !== 'src/db/migrate.ts')
        complaints.push(`${file} writes ${table}: tables are written in src/core`);
  }
  if (!owners) return complaints;
  for (const table of tables) {
    const [owner, [file]] = [owners.get(table), found.get(table) ?? []];
    if (owner === undefined) complaints.push(`${table} is missing from the table owners in ARCHITECTURE.md`);
    else if (file !== undefined && file !== owner) complaints.push(`${table} is written by ${file}, but ARCHITECTURE.md says ${owner}`);
    else if (file === undefined) complaints.push(`${table} is written by nobody, but ARCHITECTURE.md says ${owner}`);
  }
  for (const table of owners.keys())
    if (!tables.has(table)) complaints.push(`ARCHITECTURE.md names an owner of ${table}, which is no table`);
  return complaints;
}

/** Reads `| table | written by |` under "## Table owners". Several tables may share a row; files are under src/ or src/core/. */
function parseOwners(markdown: string): Map<string, string> {
  const section = /^## Table owners\s*$([\s\S]*?)(?=^## |$(?![\s\S]))/m.exec(markdown)?.[1] ?? '';
  const owners = new Map<string, string>();
  for (const line of section.split('\n').filter((row) => row.trimStart().startsWith('|'))) {
    const [names = '', writer = ''] = line
      .split('|')
      .slice(1)
      .map((cell) => cell.replaceAll('`', '').trim());
    const [, file] = /([\w/-]+)(?:\.ts)?/.exec(writer) ?? [];
    if (file === undefined || names === 'table' || names.startsWith('--')) continue;
    const full = file.startsWith('src/') ? file : `src/${file.includes('/') ? '' : 'core/'}${file}`;
    for (const table of names.split(/[,\s]+/).filter(Boolean)) owners.set(table, `${full}.ts`);
  }
  return owners;
}

/** The part of a statement from each match on to the end of its clause: the closing bracket of its CTE, RETURNING, or a semicolon. */
function clauses(sql: string, start: RegExp): string[] {
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

function checkShapes(file: string, statements: readonly string[]): string[] {
  return statements.flatMap((sql) => {
    const parts = {
      statement: [sql],
      update: clauses(sql, /(?<!\bfor\s+(?:no\s+key\s+)?)(?<!\bdo\s+)\bupdate\s+[a-z_?]/gi),
      'conflict update': clauses(sql, /\bdo\s+update\s+set\b/gi),
    };
    return forbiddenShapes.flatMap(({ name, in: place, shape }) =>
      parts[place].some((part) => shape.test(part)) ? [`${file}: ${name}: ${sql.trim().replace(/\s+/g, ' ').slice(0, 80)}…`] : [],
    );
  });
}

/** Every table that migrations create, with its text between the brackets. */
function createdTables(migration: string): { table: string; body: string }[] {
  return [...migration.matchAll(/\bcreate\s+table\s+(?:if\s+not\s+exists\s+)?([a-z_0-9]+)\s*\(/gi)].map((match) => {
    const [body = ''] = clauses(migration.slice(match.index + match[0].length), /^/g);
    return { table: match[1] ?? '', body };
  });
}

const isSpread = (columns: string) => /\b(account_id|channel_id)\b/.test(columns);

function checkKeys(file: string, migration: string): string[] {
  const complaint = (table: string, key: string) =>
    `${file}: a key of ${table} lacks account_id (or channel_id, for the queue), so it could not be sharded: ${key.trim().replace(/\s+/g, ' ')}`;
  const inTables = createdTables(migration).flatMap(({ table, body }) => {
    if (replicatedTables.has(table)) return [];
    const listed = [...body.matchAll(/\b(?:primary\s+key|unique(?:\s+nulls\s+(?:not\s+)?distinct)?)\s*\(([^)]*)\)/gi)].map(
      ([key, columns = '']) => ({ key, columns }),
    );
    const inline = body
      .split(/,(?![^(]*\))/)
      .filter((line) => /\b(primary\s+key|unique)\b(?!\s*(\(|nulls))/i.test(line))
      .map((line) => ({ key: line, columns: line.trim().split(/\s+/)[0] ?? '' }));
    return [...listed, ...inline].filter(({ columns }) => !isSpread(columns)).map(({ key }) => complaint(table, key));
  });
  const inIndexes = [...migration.matchAll(/\bcreate\s+unique\s+index\s+[^;]*?\bon\s+(?:only\s+)?([a-z_0-9]+)[^;(]*\(([^;]*)\)/gi)]
    .filter(([, table = '', columns = '']) => !replicatedTables.has(table) && !isSpread(columns))
    .map(([index, table = '']) => complaint(table, index));
  return [...inTables, ...inIndexes];
}

function checkPlaces({ file, text }: Source): string[] {
  return text
    .split('\n')
    .flatMap((line, at) => [
      ...(machinePath.test(line) ? [`${file}:${at + 1} names a path of somebody's machine: ${line.trim().slice(0, 80)}`] : []),
      ...(registry.test(line) ? [`${file}:${at + 1} names a package registry: that is for the installer to choose`] : []),
    ]);
}

/** Factors of ids next to arithmetic, in SQL and in the program. */
function checkIdLiterals({ file, text }: Source): string[] {
  if (file === 'src/core/model/ids.ts') return [];
  const complaints: string[] = [];
  const complain = (node: ts.Node) =>
    complaints.push(`${file}: src/core/model/ids.ts does arithmetic on ids: ${node.getText().trim().replace(/\s+/g, ' ').slice(0, 80)}`);
  const isFactor = (node: ts.Node) => (ts.isNumericLiteral(node) || ts.isBigIntLiteral(node)) && idFactor.test(node.text);
  const visit = (node: ts.Node): void => {
    if (ts.isTaggedTemplateExpression(node) && /\bsql(\(\))?$/i.test(node.tag.getText())) {
      if (idFactorInSql.test(withoutComments(templateText(node.template)))) complain(node.template);
    } else if (ts.isBinaryExpression(node) && /^[*/%+-]=?$/.test(node.operatorToken.getText())) {
      // A plain number on the left is a size: 64 * 1024.
      if (isFactor(node.right) || (ts.isBigIntLiteral(node.left) && isFactor(node.left))) complain(node);
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(file, text, ts.ScriptTarget.ES2023, true));
  return complaints;
}

const idFactor = /^(32768|32767|512|511|64|63)n?$/;
const idFactorInSql = /[*/%+]\s*(32768|32767|512|511|64|63)\b/;

/** Folders that exist on the machine of an author, not of a reader. */
const machinePath = /(?<![\w.~/-])\/(?:work|root|workspace|home\/\w+|Users\/\w+)\/[\w.-]/;
const registry = /^(?:@[\w-]+:)?registry\s*=|"resolved":\s*"https?:/i;

// ── the house ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const read = (file: string): Source => ({ file, text: readFileSync(path.join(packageRoot(), file), 'utf8') });

/** What git tracks, or would if it were added; without git (a tarball), nothing to check. */
function trackedFiles(): string[] {
  if (!existsSync(path.join(packageRoot(), '.git'))) return [];
  const list = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], { cwd: packageRoot(), encoding: 'utf8' });
  return list.split('\n').filter((file) => file !== '' && existsSync(path.join(packageRoot(), file)));
}

const tracked = trackedFiles();
const programs = /^(contract|src|simulators|sandbox|bench|tools|test)\/.*\.ts$/;
const sources = tracked.filter((file) => programs.test(file)).map((file) => parse(read(file)));
const production = sources.filter(({ file }) => !isTest(file) && !file.startsWith('tools/'));
const migrations = tracked
  .filter((file) => /^src\/db\/migrations\/.*\.sql$/.test(file))
  .map((file) => ({ file, text: withoutComments(read(file).text) }));

describe('this house', () => {
  it('rooms import only what they may', () => expect(checkRooms(sources)).toEqual([]));

  it('dialects are named by their registry and their own folders alone', () => {
    const texts = tracked.filter((file) => /^src\/.*\.ts$/.test(file)).map(read);
    expect(texts.flatMap((source) => checkDialectNames(source, dialects.rules.keys()))).toEqual([]);
  });

  it('imports make no cycle', () => expect(checkCycles(sources)).toEqual([]));

  it('environment, driver and sockets are touched only where they belong', () => expect(checkReserved(sources)).toEqual([]));

  it('only kinds.ts and what belongs to a protocol name it', () => {
    const files = tracked.filter((file) => /^src\/.*\.ts$/.test(file) && !isTest(file));
    expect(files.flatMap((file) => checkProtocolNames(read(file), Object.keys(channelKinds)))).toEqual([]);
  });

  it('every table has one writer, the one that ARCHITECTURE.md names', () => {
    const tables = new Set(createdTables(read('src/db/schema.sql').text).map(({ table }) => table));
    tables.delete('schema_migrations'); // the migrations' own
    const owners = tracked.includes('ARCHITECTURE.md') ? parseOwners(read('ARCHITECTURE.md').text) : undefined;
    expect(checkWriters(production, tables, owners)).toEqual([]);
  });

  it('no SQL has a shape that could not be sharded', () => {
    const inCode = production.flatMap(({ file, statements }) => checkShapes(file, statements));
    const inMigrations = migrations.flatMap(({ file, text }) => checkShapes(file, text.split(';')));
    expect([...inCode, ...inMigrations]).toEqual([]);
  });

  it('every key of a customer table holds account_id, of a queue table channel_id', () => {
    expect(migrations.flatMap(({ file, text }) => checkKeys(file, text))).toEqual([]);
  });

  it('only ids.ts does arithmetic on ids', () => {
    expect(tracked.filter((file) => programs.test(file)).flatMap((file) => checkIdLiterals(read(file)))).toEqual([]);
  });

  it('no file names a path of one machine or a package registry', () => {
    const texts = tracked.filter((file) => !/\.(png|jpe?g|gif|ico|woff2?|hex)$/.test(file) && file !== 'tools/tidy.test.ts');
    expect(texts.flatMap((file) => checkPlaces(read(file)))).toEqual([]);
  });
});

const parsed = (file: string, text: string) => parse({ file, text });

describe('the checks themselves', () => {
  it.each([
    ['src/std/a.ts', `import { x } from '../core/b.ts';`],
    ['src/core/a.ts', `import type { X } from '../http/server.ts';`],
    ['src/core/a.ts', `import { x } from '../protocols/cmpp.ts';`],
    ['src/core/a.ts', `export { x } from '../channels/cmpp.ts';`],
    ['src/core/a.ts', `const x = await import('../channels/cmpp.ts');`],
    ['src/http/server.ts', `import { x } from '../db/db.ts';`],
    ['src/http/dialects/yit3/aim.ts', `import { x } from '../ihuyi/mms-v1.ts';`],
    ['src/core/a.ts', `import { x } from './b.test.ts';`],
    ['simulators/a.ts', `import { x } from '../src/core/b.ts';`],
    ['src/core/a.ts', `import { x } from '../../contract/index.ts';`],
    ['contract/a.ts', `import { x } from '../src/std/shanghai.ts';`],
    ['src/utils/a.ts', ''],
  ])('rooms: %s with %s', (file, text) => {
    expect(checkRooms([parsed(file, text)])).toHaveLength(1);
  });

  it('names: a dialect in quotes, but for its registry, its folder and tests', () => {
    const text = `if (subscription.dialect === 'here') return;`;
    const files = ['src/core/a.ts', 'src/http/dialects/registry.ts', 'src/http/dialects/x/a.ts', 'src/core/a.test.ts'];
    expect(files.flatMap((file) => checkDialectNames({ file, text }, ['here', 'there']))).toEqual(['src/core/a.ts names the dialect here']);
  });

  it('rooms: what is allowed is allowed', () => {
    const text = `import { x } from '../db/db.ts'; import y from './ids.ts'; import z from '../protocols/text.ts'; import 'node:fs';`;
    expect(checkRooms([parsed('src/core/a.ts', text), parsed('src/core/a.test.ts', `import '../http/server.ts';`)])).toEqual([]);
  });

  it.each([
    ['src/core/a.ts', `type Protocol = 'cmpp' | string;`],
    ['src/http/a.ts', 'const path = `/mm7/${id}`;'],
    ['src/channels/cmpp.ts', `const other = 'mm7';`],
  ])('protocols: %s with %s', (file, text) => expect(checkProtocolNames({ file, text }, ['cmpp', 'mm7'])).toHaveLength(1));

  it('protocols: their own files name them, and imports are no names', () => {
    expect(checkProtocolNames({ file: 'src/channels/mm7/door.ts', text: `const prefix = '/mm7';` }, ['cmpp', 'mm7'])).toEqual([]);
    expect(checkProtocolNames({ file: 'src/core/a.ts', text: `import { x } from '../protocols/mm7/smil.ts'; // cmpp` }, ['mm7'])).toEqual(
      [],
    );
  });

  it('cycles, also of types and of three', () => {
    const files = [
      parsed('src/core/a.ts', `import './b.ts';`),
      parsed('src/core/b.ts', `import type { C } from './c.ts';`),
      parsed('src/core/c.ts', `import { a } from './a.ts';`),
    ];
    expect(checkCycles(files)).toEqual(['import cycle: src/core/a.ts → src/core/b.ts → src/core/c.ts → src/core/a.ts']);
    expect(checkCycles(files.slice(0, 2))).toEqual([]);
  });

  it.each([
    ['src/core/a.ts', 'const { HOME } = process.env;'],
    ['src/app.ts', `f(process.env.HOME);`],
    ['src/core/a.ts', `import postgres from 'postgres';`],
    ['src/core/a.ts', `import net from 'node:net';`],
    ['src/core/a.ts', `import { connect, isIP } from 'net';`],
    ['src/workers/a.ts', `import { request } from 'undici';`],
    ['contract/a.ts', `import type { FastifyRequest } from 'fastify';`],
  ])('reserved: %s with %s', (file, text) => {
    expect(checkReserved([parsed(file, text)])).toHaveLength(1);
  });

  it('reserved: types and harmless functions of socket modules are nobody’s business', () => {
    const text = `import { isIP } from 'node:net'; import type { IncomingMessage } from 'node:http'; import { type Socket, BlockList } from 'node:net';`;
    expect(checkReserved([parsed('src/core/a.ts', text)])).toEqual([]);
  });

  const tables = new Set(['balances', 'batches']);

  it('writers: two files, a file outside core, and disagreement with ARCHITECTURE.md', () => {
    const ledger = parsed('src/core/ledger.ts', 'sql<{ a: bigint }[]>`with x as (update balances set a = ${b} returning 1) select 1`;');
    const submit = parsed('src/core/submit.ts', 'db.sql`insert into balances values (${1})`;');
    const worker = parsed('src/workers/a.ts', "sql.unsafe('delete from batches');");
    expect(checkWriters([ledger, submit], tables, undefined)).toEqual([expect.stringContaining('ledger.ts and src/core/submit.ts')]);
    expect(checkWriters([worker], tables, undefined)).toEqual([expect.stringContaining('src/workers/a.ts writes batches')]);
    const owners = parseOwners(
      '# A\n\n## Table owners\n\n| table | written by |\n|---|---|\n| `balances` | `core/submit.ts` |\n| gone | ledger |\n\n## Next\n| x | y |\n',
    );
    expect(owners).toEqual(
      new Map([
        ['balances', 'src/core/submit.ts'],
        ['gone', 'src/core/ledger.ts'],
      ]),
    );
    expect(checkWriters([ledger], tables, owners)).toEqual([
      'balances is written by src/core/ledger.ts, but ARCHITECTURE.md says src/core/submit.ts',
      'batches is missing from the table owners in ARCHITECTURE.md',
      'ARCHITECTURE.md names an owner of gone, which is no table',
    ]);
    expect(
      checkWriters(
        [],
        tables,
        new Map([
          ['balances', 'x'],
          ['batches', 'y'],
        ]),
      ),
    ).toHaveLength(2);
  });

  it('writers: reading, locking and upserting are not another’s update', () => {
    const text =
      'sql`select 1 from balances for update skip locked; select 2 from batches for no key update; insert into batches (id) values (1) on conflict do update set id = 2`;';
    expect(writers([parsed('src/core/a.ts', text)], tables)).toEqual(new Map([['batches', ['src/core/a.ts']]]));
  });

  it.each([
    `update batches set id = nextval('ids')`,
    'with a as (update batches set x = random() returning 1) select 1',
    'update batches set x = clock_timestamp() where id = ?',
    'update batches set x = 1 where created_at::date = ?',
    'insert into batches values (1) on conflict (id) do update set at = now()',
    'merge into batches using x on true when matched then delete',
    'delete from batches where ctid = any(?)',
    'alter table batches detach partition b concurrently',
    'select 1 from unnest(?) as x, lateral (select 1 from b limit 1) as y',
    'create table a (id bigserial)',
    'create table a (id bigint generated always as identity)',
    'create constraint trigger t after insert on a execute function f()',
  ])('shapes: %s', (sql) => expect(checkShapes('a.ts', [sql])).toHaveLength(1));

  it.each([
    'with a as (update batches set x = now() returning id) insert into b select random(), clock_timestamp() from a',
    'update batches set x = 1 where day = ?::date returning nextval(?)',
    'insert into b values (now()) on conflict (id) do update set at = excluded.at',
    'select id from batches where x < random() for update skip locked',
  ])('shapes: nothing against %s', (sql) => expect(checkShapes('a.ts', [sql])).toEqual([]));

  it.each([
    'create table hot (id bigint primary key, account_id bigint)',
    'create table hot (account_id bigint, id bigint, primary key (id))',
    'create table hot (account_id bigint, name text unique, primary key (account_id, id))',
    'create table hot (account_id bigint, name text, primary key (account_id, name), unique nulls not distinct (name))',
    'create unique index hot_name on hot (name)',
    'create unique index hot_name on only hot using btree (name, id) where id > 0',
  ])('keys: %s', (migration) => expect(checkKeys('a.sql', migration)).toHaveLength(1));

  it('keys: nothing against those that hold the column, nor against configuration', () => {
    const migration = `create table hot (account_id bigint, id numeric(4, 2), primary key (id, account_id));
      create table queue (channel_id bigint primary key); create table accounts (id bigint primary key, api_id text unique);
      create unique index hot_name on hot (lower(name), account_id);`;
    expect(checkKeys('a.sql', migration)).toEqual([]);
  });

  it.each([
    'sql`select id / 32768 as batch_id from messages`',
    'sql()`select 1 from chunks where id between ${low} * 64 and ${high}`',
    'db.sql<{ id: bigint }[]>`select (id % 512)::int as n from messages`',
    'sql`select 1 from messages where id between ${batchId * 32768n} and ${last}`',
    'const chunkId = messageId / 512n;',
    'id += 64n;',
    'const last = first + 32767n;',
    'const index = Number(id) % 512;',
  ])('ids: %s', (text) => expect(checkIdLiterals({ file: 'src/core/a.ts', text })).toHaveLength(1));

  it('ids: their own file, sizes, and the same numbers in a comment or as a value', () => {
    expect(checkIdLiterals({ file: 'src/core/model/ids.ts', text: 'const chunkId = messageId / 512n;' })).toEqual([]);
    const text = 'const size = 64 * 1024 + (512 << 10); sql`select id from batches -- id / 64\n where n <= 64`; // id / 64n';
    expect(checkIdLiterals({ file: 'src/core/a.ts', text })).toEqual([]);
  });

  it('places: paths of a machine and registries, but no relative paths and no web addresses', () => {
    const bad = [
      'const x = "/root/project/x";',
      'see /home/jane/notes',
      'registry=https://npm.example.com',
      '"resolved": "https://npm.example.com/x.tgz"',
    ];
    for (const text of bad) expect(checkPlaces({ file: 'a', text }), text).toHaveLength(1);
    const good = 'src/work/a.ts, ./root/x, https://example.com/home/jane/x, "resolved": "file:x.tgz", /tmp';
    expect(checkPlaces({ file: 'a', text: good })).toEqual([]);
  });
});
