// Keeps the house in order: who may import whom, who may read the environment, open sockets, read or write a table, and which shapes of
// SQL stay out because they do not work once the database is sharded. The rules are in rules.ts and src/db/tables.ts.
//
// Each check is a function from sources to complaints, so that the tests beside it can show it complaining about bad examples.
import { describe, expect, it } from 'vitest';
import { channelKinds } from '../../src/channels/kinds.ts';
import { tables } from '../../src/db/tables.ts';
import { dialects } from '../../src/http/dialects/registry.ts';
import { checkIdLiterals } from './ids.ts';
import { checkCore, checkCycles, checkReserved, checkRooms, staleCore, staleReserved, staleRooms } from './imports.ts';
import { checkNames, checkPlaces } from './names.ts';
import { homes, shapeExceptions } from './rules.ts';
import { checkCommands, checkQueries, checkShapes, shapesInSpiteOf } from './shapes.ts';
import { isTest, parse, read, trackedFiles, withoutComments } from './source.ts';
import { checkKeys, checkSchema, checkUses, checkWritingTests, staleFormerTables } from './tables.ts';

const tracked = trackedFiles();
const programs = tracked.filter((file) => /^((contract|src|simulators|sandbox|tools|test)\/.*|vitest\.config)\.ts$/.test(file)).map(read);
const sources = programs.map(parse);
const production = sources.filter(({ file }) => !isTest(file) && !file.startsWith('tools/'));
const migrations = tracked
  .filter((file) => /^src\/db\/migrations\/.*\.sql$/.test(file))
  .map((file) => ({ file, text: withoutComments(read(file).text) }));

describe.runIf(tracked.length > 0)('this house', () => {
  it('rooms import only what they may, and are allowed nothing else', () => {
    expect([...checkRooms(sources), ...staleRooms(sources)]).toEqual([]);
  });

  it('folders of the core import downwards, in listed pairs', () => expect([...checkCore(sources), ...staleCore(sources)]).toEqual([]));

  it('imports make no cycle', () => expect(checkCycles(sources)).toEqual([]));

  it('environment, driver and sockets are touched where they belong, and there only', () => {
    expect([...checkReserved(sources), ...staleReserved(sources)]).toEqual([]);
  });

  it('protocols and dialects are named by their lists and their own files alone', () => {
    const owned = [
      ...Object.keys(channelKinds).map((name) => ({ name, homes: homes.protocol(name) })),
      ...[...dialects.rules.keys()].map((name) => ({ name, homes: homes.dialect() })),
    ];
    expect(sources.filter(({ file }) => file.startsWith('src/')).flatMap((source) => checkNames(source, owned))).toEqual([]);
  });

  it('the tables are those of the schema', () => {
    const all = migrations.map(({ text }) => text).join(';');
    expect([...checkSchema(read('src/db/schema.sql').text, tables), ...staleFormerTables(all, tables)]).toEqual([]);
  });

  it('every table has one writer, and the readers that src/db/tables.ts names', () => expect(checkUses(sources, tables)).toEqual([]));

  it('tests that write a table are listed', () => expect(checkWritingTests(sources, tables)).toEqual([]));

  it('no SQL has a shape that could not be sharded', () => {
    const inCode = production.flatMap(({ file, statements, unsafe }) => [
      ...checkShapes(file, statements),
      ...checkCommands(file, unsafe),
      ...checkQueries(file, statements, tables),
    ]);
    const inMigrations = migrations.flatMap(({ file, text }) => checkShapes(file, text.split(';')));
    expect(shapesInSpiteOf(shapeExceptions, [...inCode, ...inMigrations])).toEqual([]);
  });

  it('every key of a table that is spread holds its column', () => {
    expect(migrations.flatMap(({ file, text }) => checkKeys(file, text, tables))).toEqual([]);
  });

  it('only ids.ts does arithmetic on ids', () => expect(programs.flatMap(checkIdLiterals)).toEqual([]));

  it('no file names a path of one machine or a package registry', () => {
    const texts = tracked.filter((file) => !/\.(png|jpe?g|gif|ico|woff2?|hex)$/.test(file) && file !== 'tools/tidy/names.test.ts');
    expect(texts.flatMap((file) => checkPlaces(read(file)))).toEqual([]);
  });
});
