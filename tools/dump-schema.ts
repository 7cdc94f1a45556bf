// Writes src/db/schema.sql: the schema that all migrations together make, read from the catalogs of a freshly migrated
// database. It is for people: to read the tables in one place, and to see in a diff what a migration really changed.
// Run by `npm run db:dump`; schema.test.ts notices when it was forgotten.
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { createDb, type Sql } from '../src/db/db.ts';
import { startEmbeddedPostgres } from '../src/db/embedded.ts';
import { migrate } from '../src/db/migrate.ts';
import { packageRoot } from '../src/std/package-root.ts';

export const schemaFile = path.join(packageRoot(), 'src/db/schema.sql');

const header = `-- The schema after all migrations, for reading and review. Made by \`npm run db:dump\`; change migrations, not this file.
-- Daily partitions, which the janitor makes, are left out.`;

/** The schema as text: sequences, then tables by name with their constraints and indexes. The same schema gives the same text. */
export async function dumpSchema(sql: Sql): Promise<string> {
  const sequences = await sql<{ line: string }[]>`
    select format('create sequence %I start with %s increment by %s;', sequencename, start_value, increment_by) as line
    from pg_sequences where schemaname = 'public' order by sequencename`;
  const tables = await sql<{ id: number; name: string; options: string | null; partitionedBy: string | null }[]>`
    select oid::int as id, quote_ident(relname) as name, array_to_string(reloptions, ', ') as options,
           case when relkind = 'p' then pg_get_partkeydef(oid) end as "partitionedBy"
    from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition
    order by relname`;
  const columns = await sql<{ id: number; line: string }[]>`
    select attrelid::int as id,
           concat_ws(' ', quote_ident(attname), format_type(atttypid, atttypmod),
                     case when attcollation <> typcollation then 'collate ' || quote_ident(collname) end,
                     case when attnotnull then 'not null' end,
                     case when attgenerated = '' then 'default ' || pg_get_expr(adbin, adrelid)
                          else 'generated always as (' || regexp_replace(pg_get_expr(adbin, adrelid), '\\s+', ' ', 'g') || ') stored' end) as line
    from pg_attribute
    join pg_type on pg_type.oid = atttypid
    left join pg_collation on pg_collation.oid = attcollation
    left join pg_attrdef on adrelid = attrelid and adnum = attnum
    where attnum > 0 and not attisdropped
    order by attrelid, attnum`;
  const constraints = await sql<{ id: number; line: string }[]>`
    select conrelid::int as id, format('constraint %I ', conname) || pg_get_constraintdef(oid) as line
    from pg_constraint where contype in ('p', 'u', 'f', 'c', 'x')
    order by conrelid, position(contype in 'pufcx'), conname`;
  const indexes = await sql<{ id: number; line: string }[]>`
    select indrelid::int as id, pg_get_indexdef(indexrelid) as line
    from pg_index
    where not exists (select from pg_constraint where conindid = indexrelid and contype in ('p', 'u', 'x'))
    order by indrelid, indexrelid::regclass::text`;
  const others = await sql<{ line: string }[]>`
    select pg_get_functiondef(oid) || ';' as line from pg_proc where pronamespace = 'public'::regnamespace
    union all
    select 'create view ' || quote_ident(viewname) || ' as' || chr(10) || definition from pg_views where schemaname = 'public'
    order by line`;

  const texts = tables.map(({ id, name, options, partitionedBy }) => {
    const body = [...linesOf(columns, id), ...linesOf(constraints, id)].map((line) => `  ${line}`).join(',\n');
    const tail = `${partitionedBy ? ` partition by ${partitionedBy}` : ''}${options ? ` with (${options})` : ''};`;
    return [`create table ${name} (\n${body}\n)${tail}`, ...linesOf(indexes, id).map((line) => `${line};`)].join('\n');
  });
  return `${[header, sequences.map(({ line }) => line).join('\n'), ...texts, ...others.map(({ line }) => line)].filter(Boolean).join('\n\n')}\n`;
}

function linesOf(rows: readonly { id: number; line: string }[], id: number): string[] {
  return rows.filter((row) => row.id === id).map(({ line }) => line);
}

async function main(): Promise<void> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'hongyan-schema-'));
  chmodSync(folder, 0o711); // under root the server runs as another account
  const server = await startEmbeddedPostgres({ dataDir: path.join(folder, 'postgres'), settings: { fsync: 'off' }, log: () => {} });
  const db = createDb(server.url('postgres'), { max: 1 });
  try {
    await migrate(db);
    writeFileSync(schemaFile, await dumpSchema(db.sql));
  } finally {
    await db.end();
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

if (process.argv[1] !== undefined && path.resolve(process.argv[1]) === fileURLToPath(import.meta.url)) await main();
