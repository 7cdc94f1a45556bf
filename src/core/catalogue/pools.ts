/** Channels that may stand in for each other. The only writer of `pools` and `pool_channels`. */
import type { Sql } from '../../db/db.ts';
import type { PoolMember } from '../config/directory.ts';
import { raiseVersion } from '../config/directory.ts';
import type { Page, PageRequest } from '../config/management.ts';
import { afterId, Denial, found, nextConfigId, pageOf } from '../config/management.ts';

/** Channels that may stand in for each other. Of those that fit a number, the lowest priority number goes first, then weight decides. */
export interface Pool {
  readonly id: bigint;
  readonly name: string;
  readonly channels: readonly PoolMember[];
}

export async function createPool(sql: Sql, pool: { id?: bigint; name: string; channels: readonly PoolMember[] }): Promise<Pool> {
  await raiseVersion(sql);
  const id = pool.id ?? (await nextConfigId(sql));
  const [taken] = await sql`select 1 from pools where id = ${id}`;
  if (taken) throw new Denial('conflict', 'there is a pool with this id already');
  await sql`insert into pools (id, name) values (${id}, ${pool.name})`;
  await fillPool(sql, id, pool.channels);
  return getPool(sql, id);
}

/** Changes the named settings; `channels` replaces all members at once. */
export async function changePool(sql: Sql, id: bigint, wanted: { name?: string; channels?: readonly PoolMember[] }): Promise<Pool> {
  await raiseVersion(sql);
  const { name } = await getPool(sql, id);
  await sql`update pools set name = ${wanted.name ?? name} where id = ${id}`;
  if (wanted.channels) {
    await sql`delete from pool_channels where pool_id = ${id}`;
    await fillPool(sql, id, wanted.channels);
  }
  return getPool(sql, id);
}

async function fillPool(sql: Sql, id: bigint, members: readonly PoolMember[]): Promise<void> {
  const channelIds = members.map(({ channelId }) => channelId);
  if (new Set(channelIds).size < channelIds.length) throw new Denial('invalid', 'channels: a channel is named twice');
  const known = await sql`select 1 from channels where id = any(${channelIds}::bigint[])`;
  if (known.length < channelIds.length) throw new Denial('invalid', 'channels: no such channel');
  await sql`
    insert into pool_channels (pool_id, channel_id, priority, weight)
    select ${id}, t.* from unnest(${channelIds}::bigint[], ${members.map(({ priority }) => priority)}::int[],
                                  ${members.map(({ weight }) => weight)}::int[]) as t`;
}

async function getPool(sql: Sql, id: bigint): Promise<Pool> {
  const [pool] = await withMembers(sql, await sql<{ id: bigint; name: string }[]>`select id, name from pools where id = ${id}`);
  return found(pool, 'pool');
}

export async function listPools(sql: Sql, page: PageRequest): Promise<Page<Pool>> {
  const rows = await sql<{ id: bigint; name: string }[]>`
    select id, name from pools where id > ${afterId(page)} order by id limit ${page.limit + 1}`;
  return pageOf(await withMembers(sql, rows), page, ({ id }) => [id]);
}

async function withMembers(sql: Sql, pools: readonly { id: bigint; name: string }[]): Promise<Pool[]> {
  const members = await sql<(PoolMember & { poolId: bigint })[]>`
    select pool_id as "poolId", channel_id as "channelId", priority, weight from pool_channels
    where pool_id = any(${pools.map(({ id }) => id)}::bigint[])
    order by priority, channel_id`;
  return pools.map((pool) => ({
    ...pool,
    channels: members
      .filter(({ poolId }) => poolId === pool.id)
      .map(({ channelId, priority, weight }) => ({ channelId, priority, weight })),
  }));
}
