import { describe, expect, it } from 'vitest';
import { checkIdLiterals } from './ids.ts';

describe('the check of arithmetic on ids', () => {
  it.each([
    'sql`select id / 32768 as batch_id from messages`',
    'sql()`select 1 from chunks where id between ${low} * 64 and ${high}`',
    'db.sql<{ id: bigint }[]>`select (id % 512)::int as n from messages`',
    'sql`select 1 from messages where id between ${id} and ${last} + 32767`',
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
});
