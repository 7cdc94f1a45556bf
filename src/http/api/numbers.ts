/**
 * The routes of the management API for numbers: their carrier and province, ported numbers, and files of millions of numbers. They follow
 * the rules of shared.ts, and only the operator may use them. Files are streamed: see core/config/imports.ts.
 */
import { Readable } from 'node:stream';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { Static } from 'typebox';
import * as blocklists from '../../core/catalogue/blocklists.ts';
import { change, Denial, mapPage } from '../../core/config/management.ts';
import { dropImportedRanges, importedTable, importRanges, readRanges } from '../../core/numbers/number-plan.ts';
import { usualForm } from '../../core/model/numbers.ts';
import * as portability from '../../core/numbers/portability.ts';
import { shanghaiTime } from '../../std/shanghai.ts';
import * as contract from '../../../contract/index.ts';
import { listOf, ref } from '../../../contract/index.ts';
import {
  type Api,
  type ConsoleDeps,
  operatorOnly,
  optionalPhone,
  pageRequest,
  phoneOf,
  phonesOf,
  placeView,
  RequestError,
} from './shared.ts';

export function addNumbers(api: Api, deps: ConsoleDeps): void {
  addLookup(api, deps);
  addNumberTable(api, deps);
  addPortedNumbers(api, deps);
  addImports(api, deps);
}

// ── one number ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function addLookup(api: Api, { db, directory, numberPlan }: ConsoleDeps): void {
  api.get(
    '/v1/numbers/:number',
    {
      config: operatorOnly,
      schema: {
        operationId: 'getNumber',
        summary: 'The carrier and place of a number, and the blocklists it is on',
        tags: ['numbers'],
        params: contract.numberParams,
        response: { 200: ref(contract.numberSchema) },
      },
    },
    async ({ params }) => {
      const e164 = phoneOf('number', params.number);
      const [lists, ported] = await Promise.all([blocklists.listsOf(db.sql, e164), portability.findPorted(db.sql, e164)]);
      const [phone = null] = await portability.withPorted(db.sql, directory, [numberPlan.of(e164)]);
      return {
        number: usualForm(e164),
        ...placeView(phone),
        ported: ported && portedView(ported),
        lists: lists.map(({ listId, kind, subjectId, accountId, source, addedAt }) => ({
          id: Number(listId),
          kind,
          subjectId: subjectId === 0n ? null : Number(subjectId),
          accountId: accountId === null ? null : Number(accountId),
          source,
          addedAt: shanghaiTime(addedAt),
        })),
      };
    },
  );
}

// ── the table of ranges ──────────────────────────────────────────────────────────────────────────────────────────────────────────

function addNumberTable(api: Api, deps: ConsoleDeps): void {
  const tags = ['numbers'];
  const response = { 200: ref(contract.numberTableSchema) };

  api.get(
    '/v1/number-table',
    {
      config: operatorOnly,
      schema: { operationId: 'getNumberTable', summary: 'The tables of number ranges: how much they know, and since when', tags, response },
    },
    async () => tableView(deps),
  );

  api.delete(
    '/v1/number-table',
    {
      config: operatorOnly,
      schema: {
        operationId: 'resetNumberTable',
        summary: 'Delete the imported ranges; only the bundled table counts again',
        tags,
        response,
      },
    },
    async () => {
      await change(deps, dropImportedRanges);
      await deps.numberPlan.refresh();
      return tableView(deps);
    },
  );
}

async function tableView({ db, numberPlan }: ConsoleDeps): Promise<Static<typeof contract.numberTableSchema>> {
  const imported = await importedTable(db.sql);
  return {
    bundled: { ...numberPlan.bundled },
    imported: imported && { ...imported, importedAt: shanghaiTime(imported.importedAt) },
  };
}

// ── ported numbers ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

function addPortedNumbers(api: Api, deps: ConsoleDeps): void {
  const { db } = deps;
  const tags = ['numbers'];
  const removed = { 200: ref(contract.removedSchema) };

  api.get(
    '/v1/ported-numbers',
    {
      config: operatorOnly,
      schema: {
        operationId: 'listPortedNumbers',
        summary: 'Numbers that were ported to another carrier, in order of the numbers',
        tags,
        querystring: contract.portedQuery,
        response: { 200: listOf(contract.portedNumberSchema) },
      },
    },
    async ({ query }) => {
      const filter = { source: query.source ?? null, phone: optionalPhone(query.phone) };
      return mapPage(await portability.listPorted(db.sql, filter, pageRequest(query)), portedView);
    },
  );

  api.delete(
    '/v1/ported-numbers',
    {
      config: operatorOnly,
      schema: {
        operationId: 'removePortedNumbers',
        summary: 'Delete ported numbers',
        tags,
        body: contract.blockedNumbers,
        response: removed,
      },
    },
    async ({ body }) => ({ removed: await change(deps, (sql) => portability.removePorted(sql, phonesOf(body.numbers))) }),
  );

  api.post(
    '/v1/ported-numbers/clear',
    {
      config: operatorOnly,
      schema: {
        operationId: 'clearPortedNumbers',
        summary: 'Delete all ported numbers from one source: learned or imported',
        tags,
        body: contract.portedClearing,
        response: removed,
      },
    },
    async ({ body }) => ({ removed: await change(deps, (sql) => portability.clearPorted(sql, body.source)) }),
  );
}

const portedView = ({
  phone,
  carrier,
  notCarriers,
  source,
  changedAt,
}: portability.PortedNumber): Static<typeof contract.portedNumberSchema> => ({
  phone: usualForm(phone),
  carrier,
  notCarriers: [...notCarriers],
  source,
  changedAt: shanghaiTime(changedAt),
});

// ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** About five million numbers, one per line. */
const fileBytes = 96 << 20;
const fileTypes = ['text/csv', 'text/plain'];

function addImports(api: Api, deps: ConsoleDeps): void {
  const { db, clock } = deps;
  let isImporting = false;

  /** Imports one file at a time on each node, because an import uses disk and database connections that other requests need. */
  async function importing<Result>(body: unknown, work: (chunks: AsyncIterable<Uint8Array>) => Promise<Result>): Promise<Result> {
    if (!(body instanceof Readable)) throw new RequestError(400, 'invalid', 'body: required');
    try {
      if (isImporting) throw new Denial('conflict', 'another file is being imported on this node');
      isImporting = true;
      try {
        return await work(bounded(body));
      } finally {
        isImporting = false;
      }
    } finally {
      // A client that is still sending would otherwise not see the answer.
      body.resume();
    }
  }

  void api.register(async (files) => {
    files.removeAllContentTypeParsers();
    files.addContentTypeParser(fileTypes, (_request, body, done) => done(null, body));
    const check = files.validatorCompiler;
    files.setValidatorCompiler((route) => (route.httpPart === 'body' || !check ? () => true : check(route)));
    const streaming = files.withTypeProvider<TypeBoxTypeProvider>();
    const route = {
      config: { ...operatorOnly, bodyType: fileTypes.join(' or '), isStreamed: true },
      bodyLimit: fileBytes,
    };
    const consumes = fileTypes;

    streaming.post(
      '/v1/blocklists/:id/import',
      {
        ...route,
        schema: {
          operationId: 'importBlockedNumbers',
          summary: 'Add a file of numbers to a list, one number per line, all or nothing',
          tags: ['blocklists'],
          consumes,
          params: contract.idParams,
          querystring: contract.numberImportQuery,
          body: contract.numberLines,
          response: { 200: ref(contract.numberImportSchema) },
        },
      },
      async ({ params, query, body }) => {
        const { id } = await blocklists.getBlocklist(db.sql, null, BigInt(params.id));
        const options = { skipInvalid: query.invalid === 'skip', source: 'operator', at: clock() } as const;
        const report = await importing(body, (chunks) => blocklists.importNumbers(db, id, chunks, options));
        return { ...report, problems: [...report.problems] };
      },
    );

    streaming.post(
      '/v1/ported-numbers/import',
      {
        ...route,
        schema: {
          operationId: 'importPortedNumbers',
          summary: 'Import the present carriers of ported numbers; adds to earlier imports or replaces them',
          tags: ['numbers'],
          consumes,
          querystring: contract.portedImportQuery,
          body: contract.portedLines,
          response: { 200: ref(contract.portedImportSchema) },
        },
      },
      async ({ query, body }) => {
        const options = { replace: query.mode === 'replace', at: clock() };
        const report = await importing(body, (chunks) => portability.importPorted(db, chunks, options));
        await deps.directory.refresh();
        return report;
      },
    );

    streaming.post(
      '/v1/number-table/import',
      {
        ...route,
        schema: {
          operationId: 'importNumberTable',
          summary: 'Import the carriers and places of number ranges; adds to the known places or replaces them',
          tags: ['numbers'],
          consumes,
          querystring: contract.rangeImportQuery,
          body: contract.rangeLines,
          response: { 200: ref(contract.numberTableSchema) },
        },
      },
      async ({ query: { mode, origin = '' }, body }) => {
        await importing(body, async (chunks) => {
          const file = await readRanges(chunks);
          await change(deps, (sql) => importRanges(sql, file, { replace: mode === 'replace', origin, at: clock() }));
        });
        await deps.numberPlan.refresh();
        return tableView(deps);
      },
    );
  });
}

/** The body up to its size limit. The stream stays open if the reader stops early. */
async function* bounded(body: Readable): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for await (const chunk of body.iterator({ destroyOnReturn: false }) as AsyncIterable<Uint8Array>) {
    bytes += chunk.length;
    if (bytes > fileBytes) throw Object.assign(new Error('too large'), { statusCode: 413 });
    yield chunk;
  }
}
