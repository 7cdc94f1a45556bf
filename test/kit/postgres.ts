// A database of its own for each test file, on the server that the whole run shares (see postgres-server.ts).
import { randomBytes } from 'node:crypto';
import { inject } from 'vitest';
import { createDb } from '../../src/db/db.ts';

export interface FreshDatabase {
  url: string;
  /** Removes the database, disconnecting whoever still uses it. */
  drop(): Promise<void>;
}

/** Makes a database with every migration applied and nothing in it, or with nothing at all if it is to be `empty`. */
export async function freshDatabase({ empty = false } = {}): Promise<FreshDatabase> {
  const name = `test_${randomBytes(8).toString('hex')}`;
  await onServer(`create database ${name} template ${empty ? 'template0' : 'template_hongyan'}`);
  const url = new URL(inject('serverUrl'));
  url.pathname = `/${name}`;
  return { url: url.href, drop: () => onServer(`drop database if exists ${name} with (force)`) };
}

async function onServer(statement: string): Promise<void> {
  const server = createDb(inject('serverUrl'), { max: 1 });
  try {
    await server.sql.unsafe(statement);
  } finally {
    await server.end();
  }
}
