import { pino } from 'pino';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startManagement, type TestManagement } from '../../../test/kit/management.ts';
import { until } from '../../../test/kit/platform.ts';
import type { ChannelConnection } from '../../channels/channel.ts';
import type { Channel } from '../../core/model/configuration.ts';
import { createLeases, type LeasedConnection, type Leases } from './leases.ts';

let management: TestManagement;

beforeAll(async () => {
  management = await startManagement();
});

afterAll(() => management.stop());

/** A carrier that nobody can reach. */
const unreachable = (): ChannelConnection => ({
  state: 'down',
  start: () => {},
  stop: async () => {},
  room: () => 0,
  segmentsOf: () => 1,
  send: (_message, settle) => queueMicrotask(() => settle([{ kind: 'unsent' }])),
});

function leasesOf(node: string, channelId: bigint, connections: number, connect = unreachable) {
  const lines: Record<string, unknown>[] = [];
  const log = pino({}, { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) });
  let flushes = 0;
  const leases = createLeases(
    { db: management.db, log, node, connect, onReport: () => {}, onReadReply: () => {}, onInbound: () => {} },
    { id: channelId, connections } as Channel,
    '',
    {
      onRoom: () => {},
      onUp: () => {},
      isClaiming: () => false,
      flushSoon: () => void flushes++,
      nextFlush: () => Promise.resolve(),
    },
  );
  return { leases, faults: () => lines.filter(({ level }) => level === 50), flushes: () => flushes };
}

const phasesOf = (leases: Leases) => [...leases.all()].map(({ phase }) => phase);
const first = (leases: Leases): LeasedConnection => {
  const [connection] = leases.all();
  if (!connection) throw new Error('nothing is leased');
  return connection;
};

it('a connection works, returns its chunks and works again, until it is given back', async () => {
  const { leases, faults, flushes } = leasesOf('a', 1n, 2);
  await leases.beat();
  expect(phasesOf(leases)).toEqual(['working', 'working']);
  const connection = first(leases);
  leases.returnChunks(connection);
  leases.returnChunks(connection); // once more while it does so
  expect([connection.phase, flushes()]).toEqual(['returning', 2]);
  leases.resume(connection);
  expect(connection.phase).toBe('working');
  leases.returnChunks(connection);
  await leases.giveBack(true);
  expect([connection.phase, leases.count(), faults()]).toEqual(['gone', 0, []]);
  expect(await management.db.sql`select 1 from channel_leases where channel_id = 1 and node is not null`).toEqual([]);
});

it('a step that does not exist is logged once, and only costs the connection', async () => {
  const { leases, faults } = leasesOf('a', 2n, 2);
  await leases.beat();
  const connection = first(leases);
  leases.resume(connection);
  expect(connection).toMatchObject({ phase: 'gone', deadline: 0 });
  expect(faults()).toEqual([expect.objectContaining({ channel: '2', connection: 0, from: 'working', to: 'working' })]);
  leases.drop(connection, 'as it was already');
  leases.returnChunks(connection);
  expect([phasesOf(leases), connection.phase, faults().length]).toEqual([['working'], 'gone', 1]);
  await leases.giveBack(true);
});

it('a connection that cannot be closed is dropped, so that its lease runs out', async () => {
  const stubborn = (): ChannelConnection => ({ ...unreachable(), stop: () => Promise.reject(new Error('no')) });
  const { leases, faults } = leasesOf('a', 3n, 2, stubborn);
  await leases.beat();
  expect(leases.count()).toBe(2);
  const other = leasesOf('b', 3n, 2);
  await other.leases.beat(); // there are two nodes now
  await leases.beat();
  await until('one has been dropped', () => Promise.resolve(leases.count() === 1));
  expect(faults().map(({ msg }) => msg)).toEqual([
    'a connection was not given back; its lease runs out',
    'a connection cannot take this step: it is dropped',
    'a connection could not be stopped',
  ]);
  expect(phasesOf(leases)).toEqual(['working']);
});
