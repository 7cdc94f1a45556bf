// The rules of the house: who may import whom, who may read the environment or open sockets, who may write a table, and which shapes of
// SQL stay out. To move a border, change its table here, in the open. What matches nothing in the sources is a complaint too.

interface Room {
  readonly room: string;
  readonly mayImport: readonly string[];
}

/**
 * Which room may import which. A room is a folder or a file, the first that fits; what it may import is a room, or a part of
 * one. Everything may import its own room. Unit tests are neighbours of what they test and may import anything.
 */
export const rooms: readonly Room[] = [
  { room: 'contract', mayImport: [] },
  { room: 'src/std', mayImport: [] },
  { room: 'src/protocols', mayImport: [] },
  // A kind may load its simulator, but only lazily (see checkRooms). No simulator knows a channel.
  { room: 'src/channels', mayImport: ['src/protocols', 'src/std', 'simulators'] },
  { room: 'src/db', mayImport: ['src/std'] },
  { room: 'src/core', mayImport: ['src/db/db.ts', 'src/std', 'src/protocols/text.ts'] },
  // Workers hold the transactions around what core does, hence the Db and its errors; their SQL is core's all the same.
  { room: 'src/workers', mayImport: ['src/core', 'src/channels', 'src/std', 'src/db/db.ts', 'src/log.ts'] },
  // Of channels it knows what a protocol is, and none of them.
  {
    room: 'src/http/api',
    mayImport: ['contract/index.ts', 'src/http/part.ts', 'src/core', 'src/channels/channel.ts', 'src/std'],
  },
  { room: 'src/http', mayImport: ['src/core', 'src/channels/channel.ts', 'src/std'] },
  { room: 'src/log.ts', mayImport: [] },
  { room: 'src/metrics.ts', mayImport: [] },
  { room: 'src/config.ts', mayImport: ['src/std', 'src/log.ts'] },
  { room: 'src/app.ts', mayImport: ['src'] },
  { room: 'src/main.ts', mayImport: ['src', 'sandbox'] },
  { room: 'simulators', mayImport: ['src/protocols', 'src/std'] },
  // The sandbox adds routes of its own to the server, as a dialect does.
  {
    room: 'sandbox',
    mayImport: ['src/app.ts', 'src/channels/kinds.ts', 'src/http/part.ts', 'src/log.ts', 'src/core', 'src/db', 'src/std', 'simulators'],
  },
  // What tests, benchmarks and crash runs share.
  { room: 'test/kit', mayImport: ['src', 'simulators', 'sandbox'] },
  // It speaks HTTP as a customer does; into the database it writes only what would have happened long ago.
  { room: 'test/bench', mayImport: ['test/kit', 'simulators', 'src/std', 'src/db', 'src/core/model/ids.ts'] },
  { room: 'test/crash', mayImport: ['test/kit', 'simulators', 'src'] },
  { room: 'tools', mayImport: ['src', 'test', 'sandbox', 'simulators'] },
  { room: 'test', mayImport: [] },
];

/** The folders of the core, the lowest level first. A folder imports those of lower levels only. */
export const coreLevels: readonly (readonly string[])[] = [
  ['model'],
  ['config', 'money'],
  ['catalogue', 'numbers', 'events'],
  ['queue'],
  ['content', 'screening', 'outcome'],
  ['intake', 'watch'],
];

/** Which folder of the core imports which others. */
export const coreImports: Readonly<Record<string, readonly string[]>> = {
  money: ['model'],
  config: ['model'],
  catalogue: ['model', 'config', 'money'],
  numbers: ['model', 'config'],
  events: ['model', 'config'],
  queue: ['model', 'config', 'numbers'],
  content: ['model', 'config', 'events', 'queue'],
  screening: ['model', 'config', 'money', 'catalogue', 'numbers', 'queue'],
  outcome: ['model', 'config', 'money', 'catalogue', 'numbers', 'events'],
  intake: ['model', 'config', 'money', 'catalogue', 'numbers', 'queue', 'content', 'screening', 'outcome'],
  watch: ['model', 'config', 'money', 'events', 'queue', 'content', 'outcome'],
};

/** Rooms that clients will share, with all the packages that they may import. */
export const packages: readonly Room[] = [{ room: 'contract', mayImport: ['typebox'] }];

/** Things that only some files may touch, beside unit tests. src/main.ts hands the environment to src/config.ts, which reads it. */
export const reserved = {
  environment: ['src/main.ts', 'test/', 'vitest.config.ts'],
  driver: ['src/db/db.ts'],
  sockets: ['src/channels/', 'src/http/', 'src/workers/post.ts', 'src/metrics.ts', 'src/db/embedded.ts', 'simulators/', 'test/'],
};
export const socketModules = ['net', 'tls', 'dgram', 'http', 'https', 'http2']
  .flatMap((name) => [name, `node:${name}`])
  .concat('undici', 'ws');
/** Exports of socket modules that open nothing. */
export const harmless = new Set(['isIP', 'isIPv6', 'BlockList']);

/** Where the lists of names and those who bear them are at home: `kinds` and `dialects` come from the program. */
export const homes = {
  protocol: (name: string) => [
    'src/channels/kinds.ts',
    `src/protocols/${name}`,
    `src/channels/${name}`,
    `src/protocols/${name}.ts`,
    `src/channels/${name}.ts`,
  ],
  dialect: () => ['src/http/dialects'],
};

/** Tables that migrations made and later ones dropped; their keys are still judged by what their statements say. */
export const formerTables: readonly string[] = ['events', 'waiting_events'];

/** Tests that write a table themselves, to bring about what would take days or a broken database. Those beside a table's writer may. */
export const writingTests: readonly { readonly place: string; readonly writes: readonly string[] }[] = [
  { place: 'src/core/outcome/messages.test.ts', writes: ['dispatch_queue'] },
  { place: 'src/core/queue/routing.test.ts', writes: ['channels'] },
  { place: 'src/core/catalogue/channels.test.ts', writes: ['channel_nodes'] },
  { place: 'src/core/screening/content-rules.test.ts', writes: ['config_version'] },
  { place: 'src/workers', writes: ['dispatch_queue', 'messages'] },
  { place: 'test/stories/content.test.ts', writes: ['batches'] },
  { place: 'test/stories/dialects.test.ts', writes: ['subscriptions'] },
  { place: 'test/stories/metrics.test.ts', writes: ['figures', 'orphan_reports', 'replies'] },
  { place: 'test/stories/mms-pushes.test.ts', writes: ['parcels'] },
  { place: 'test/stories/mms.test.ts', writes: ['parcels'] },
  { place: 'test/stories/pushes.test.ts', writes: ['parcels'] },
  { place: 'test/stories/reports.test.ts', writes: ['messages'] },
  { place: 'test/crash', writes: ['parcels'] },
];

/** Shapes that the words of a statement show, each in the part of it where it does harm. */
export const forbiddenShapes: readonly {
  name: string;
  in: 'statement' | 'update' | 'update set' | 'conflict update';
  shape: RegExp;
}[] = [
  { name: 'a volatile function in UPDATE', in: 'update', shape: /\b(nextval|random|clock_timestamp|gen_random_uuid)\s*\(/i },
  { name: 'column::date in UPDATE', in: 'update', shape: /[a-z_."]::date\b/i },
  {
    name: 'a column cut from itself (wrap it in coalesce)',
    in: 'update',
    shape: /\b(\w+)\s*=\s*(?:\w+\.)?\1\s*\[(?:[^\]:]|::)*(?<!:):(?!:)/i,
  },
  { name: 'case column when in UPDATE (use case when column =)', in: 'update', shape: /\bcase\b(?!\s+when\b)/i },
  {
    name: 'the time in CASE or COALESCE of UPDATE',
    in: 'update set',
    shape: /\b(case\b(?:(?!\bend\b)[\s\S])*|coalesce\s*\([^)]*)\bnow\s*\(/i,
  },
  {
    name: 'a STABLE function of columns in UPDATE SET',
    in: 'update set',
    shape:
      /\b(jsonb?_build_object|to_jsonb?|to_char|date_trunc|format|concat)\s*\((?=[^)]*\b[a-z_]+\.[a-z_]+)|::interval|\bmake_interval\s*\([^)]*[a-z_]+\.[a-z_]/i,
  },
  { name: 'now() in DO UPDATE SET (use excluded)', in: 'conflict update', shape: /\bnow\s*\(|\bcurrent_timestamp\b/i },
  { name: 'MERGE', in: 'statement', shape: /\bmerge\s+into\b/i },
  { name: 'ctid', in: 'statement', shape: /\bctid\b/i },
  { name: 'DETACH … CONCURRENTLY', in: 'statement', shape: /\bdetach\s+partition\b[^;]*\bconcurrently\b/i },
  { name: 'LATERAL with LIMIT over unnest', in: 'statement', shape: /(?=[\s\S]*\blateral\b)(?=[\s\S]*\bunnest\b)(?=[\s\S]*\blimit\b)/i },
  { name: 'serial', in: 'statement', shape: /\b(small|big)?serial\b/i },
  { name: 'an identity column', in: 'statement', shape: /\bas\s+identity\b/i },
  { name: 'a trigger', in: 'statement', shape: /\bcreate\s+(or\s+replace\s+)?(constraint\s+)?trigger\b/i },
];

/** Statements that have a forbidden shape all the same. `complaint` is how the complaint begins. */
export const shapeExceptions: readonly { readonly complaint: string; readonly why: string }[] = [
  {
    complaint: 'src/core/queue/queue.ts: locks rows in a query that reads a CTE: select chunk_id , n , reserved_upto',
    why: 'Claiming asks for the lease and locks the chunks in one trip. Both are rows of one channel, so the whole statement goes to one node.',
  },
];
