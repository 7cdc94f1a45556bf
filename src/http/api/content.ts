/**
 * The routes of the management API for content templates and lists of sensitive words. They follow the rules of shared.ts. A change is
 * answered once this node screens by it.
 */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { Static } from 'typebox';
import * as content from '../../core/screening/content-rules.ts';
import { change, mapPage } from '../../core/config/management.ts';
import { fold } from '../../core/screening/sensitive-words.ts';
import { shanghaiTime } from '../../std/shanghai.ts';
import * as contract from '../../../contract/index.ts';
import { listOf, ref } from '../../../contract/index.ts';
import { type Api, type ConsoleDeps, idOrNull, operatorOnly, pageRequest, RequestError, scopeOf } from './shared.ts';

export function addContentRoutes(api: Api, deps: ConsoleDeps): void {
  addContentTemplates(api, deps);
  addWordLists(api, deps);
}

async function changeRules<Result>(deps: ConsoleDeps, work: Parameters<typeof change<Result>>[1]): Promise<Result> {
  const result = await change(deps, work);
  await deps.contentRules.refresh();
  return result;
}

// ── content templates ────────────────────────────────────────────────────────────────────────────────────────────────────────────

function addContentTemplates(api: Api, deps: ConsoleDeps): void {
  const { db } = deps;
  const tags = ['content templates'];
  const answer = { params: contract.idParams, response: { 200: ref(contract.contentTemplateSchema) } };

  api.get(
    '/v1/content-templates',
    {
      schema: {
        operationId: 'listContentTemplates',
        summary: 'Content templates, newest first; an account sees its own',
        tags,
        querystring: contract.contentTemplateQuery,
        response: { 200: listOf(contract.contentTemplateSchema) },
      },
    },
    async ({ caller, query }) => {
      const filter = { owner: query.owner ?? null, state: query.state ?? null, verdict: query.verdict ?? null };
      return mapPage(
        await content.listContentTemplates(db.sql, scopeOf(caller, query.accountId), filter, pageRequest(query)),
        contentTemplateView,
      );
    },
  );

  api.get(
    '/v1/content-templates/:id',
    { schema: { operationId: 'getContentTemplate', summary: 'One content template', tags, ...answer } },
    async ({ caller, params }) => contentTemplateView(await content.getContentTemplate(db.sql, scopeOf(caller), BigInt(params.id))),
  );

  api.post(
    '/v1/content-templates',
    {
      schema: {
        operationId: 'createContentTemplate',
        summary: 'Make a content template, the platform’s or an account’s; one that an account makes waits for the operator’s decision',
        tags,
        body: contract.newContentTemplate,
        response: { 201: ref(contract.contentTemplateSchema) },
      },
    },
    async ({ caller, body }, reply) => {
      const { accountId, text, note = '', verdict, enabled = true } = body;
      const owner = scopeOf(caller, accountId);
      if (caller.role === 'account') textAndNoteOnly(body);
      else if (verdict === undefined) throw new RequestError(400, 'invalid', 'verdict: required');
      const wanted = { accountId: owner, text, note, verdict: verdict ?? null, enabled: verdict !== undefined && enabled };
      const created = await changeRules(deps, (sql) => content.createContentTemplate(sql, wanted));
      reply.code(201);
      return contentTemplateView(created);
    },
  );

  api.patch(
    '/v1/content-templates/:id',
    {
      schema: {
        operationId: 'changeContentTemplate',
        summary: 'Change a content template; if an account changes the text, it waits for the operator’s decision again',
        tags,
        body: contract.contentTemplateChange,
        ...answer,
      },
    },
    async ({ caller, params, body }) => {
      const scope = scopeOf(caller);
      if (caller.role === 'account') textAndNoteOnly(body);
      return contentTemplateView(await changeRules(deps, (sql) => content.changeContentTemplate(sql, scope, BigInt(params.id), body)));
    },
  );

  api.delete(
    '/v1/content-templates/:id',
    {
      schema: {
        operationId: 'deleteContentTemplate',
        summary: 'Delete a content template; the answer is the deleted one',
        tags,
        ...answer,
      },
    },
    async ({ caller, params }) => {
      const scope = scopeOf(caller);
      return contentTemplateView(await changeRules(deps, (sql) => content.deleteContentTemplate(sql, scope, BigInt(params.id))));
    },
  );
}

/** An account may set only the text and the note; the operator decides the verdict. */
function textAndNoteOnly(body: object): void {
  const others = Object.keys(body).filter((name) => name === 'verdict' || name === 'enabled');
  if (others.length > 0) throw new RequestError(403, 'forbidden', `${others.join(', ')}: for the operator only`);
}

// ── lists of words ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Generous: a hundred thousand words are less than 2 MiB. */
const importBytes = 8 << 20;

function addWordLists(api: Api, deps: ConsoleDeps): void {
  const { db } = deps;
  const tags = ['sensitive words'];
  const answer = { params: contract.idParams, response: { 200: ref(contract.wordListSchema) } };

  api.get(
    '/v1/word-lists',
    {
      config: operatorOnly,
      schema: {
        operationId: 'listWordLists',
        summary: 'Lists of sensitive words, by id',
        tags,
        querystring: contract.pageQuery,
        response: { 200: listOf(contract.wordListSchema) },
      },
    },
    async ({ query }) => mapPage(await content.listWordLists(db.sql, pageRequest(query)), wordListView),
  );

  api.get(
    '/v1/word-lists/:id',
    { config: operatorOnly, schema: { operationId: 'getWordList', summary: 'One list of words', tags, ...answer } },
    async ({ params }) => wordListView(await content.getWordList(db.sql, BigInt(params.id))),
  );

  api.post(
    '/v1/word-lists',
    {
      config: operatorOnly,
      schema: {
        operationId: 'createWordList',
        summary: 'Make a list of words',
        tags,
        body: contract.newWordList,
        response: { 201: ref(contract.wordListSchema) },
      },
    },
    async ({ body }, reply) => {
      const list = await changeRules(deps, (sql) => content.createWordList(sql, { enabled: true, ...body }));
      reply.code(201);
      return wordListView(list);
    },
  );

  api.patch(
    '/v1/word-lists/:id',
    {
      config: operatorOnly,
      schema: { operationId: 'changeWordList', summary: 'Change a list of words', tags, body: contract.wordListChange, ...answer },
    },
    async ({ params, body }) => wordListView(await changeRules(deps, (sql) => content.changeWordList(sql, BigInt(params.id), body))),
  );

  api.delete(
    '/v1/word-lists/:id',
    {
      config: operatorOnly,
      schema: { operationId: 'deleteWordList', summary: 'Delete a list with its words; the answer is the deleted list', tags, ...answer },
    },
    async ({ params }) => wordListView(await changeRules(deps, (sql) => content.deleteWordList(sql, BigInt(params.id)))),
  );

  api.get(
    '/v1/word-lists/:id/words',
    {
      config: operatorOnly,
      schema: {
        operationId: 'listWords',
        summary: 'Words on a list, by folded form; with `search`, those that contain the text',
        tags,
        params: contract.idParams,
        querystring: contract.wordQuery,
        response: { 200: listOf(contract.wordSchema) },
      },
    },
    async ({ params, query }) => {
      const { id } = await content.getWordList(db.sql, BigInt(params.id));
      const part = query.search === undefined ? null : fold(query.search);
      return mapPage(await content.listWords(db.sql, id, part, pageRequest(query)), (word) => ({ ...word }));
    },
  );

  api.post(
    '/v1/word-lists/:id/words',
    {
      config: operatorOnly,
      schema: {
        operationId: 'addWords',
        summary: 'Add words to a list',
        tags,
        params: contract.idParams,
        body: contract.newWords,
        response: { 200: ref(contract.addedSchema) },
      },
    },
    async ({ params, body }) => {
      const words = await content.foldWords(body.words, (at) => `words[${at}]`);
      return { added: await changeRules(deps, (sql) => content.addWords(sql, BigInt(params.id), words)) };
    },
  );

  api.delete(
    '/v1/word-lists/:id/words',
    {
      config: operatorOnly,
      schema: {
        operationId: 'removeWords',
        summary: 'Remove words from a list',
        tags,
        params: contract.idParams,
        body: contract.newWords,
        response: { 200: ref(contract.removedSchema) },
      },
    },
    async ({ params, body }) => {
      const words = await content.foldWords(body.words, (at) => `words[${at}]`);
      return { removed: await changeRules(deps, (sql) => content.removeWords(sql, BigInt(params.id), words)) };
    },
  );

  void api.register(async (plain) => {
    plain.removeAllContentTypeParsers();
    plain.addContentTypeParser('text/plain', { parseAs: 'string' }, (_request, text, done) => done(null, text));
    plain.withTypeProvider<TypeBoxTypeProvider>().post(
      '/v1/word-lists/:id/import',
      {
        config: { ...operatorOnly, bodyType: 'text/plain' },
        bodyLimit: importBytes,
        schema: {
          operationId: 'importWords',
          summary: 'Add many words to a list, one word per line',
          tags,
          consumes: ['text/plain'],
          params: contract.idParams,
          body: contract.wordLines,
          response: { 200: ref(contract.addedSchema) },
        },
      },
      async ({ params, body }) => {
        const lines = body
          .replace(/^\ufeff/, '')
          .split(/\r\n|\n|\r/)
          .map((line, at) => ({ word: line.trim(), number: at + 1 }))
          .filter(({ word }) => word !== '');
        const written = lines.map(({ word }) => word);
        const words = await content.foldWords(written, (at) => `line ${lines[at]?.number}`);
        return { added: await changeRules(deps, (sql) => content.addWords(sql, BigInt(params.id), words)) };
      },
    );
  });
}

// ── to the contract's JSON ───────────────────────────────────────────────────────────────────────────────────────────────────────

const contentTemplateView = (template: content.StoredContentTemplate): Static<typeof contract.contentTemplateSchema> => ({
  ...template,
  id: Number(template.id),
  accountId: idOrNull(template.accountId),
  createdAt: shanghaiTime(template.createdAt),
});

const wordListView = (list: content.WordList): Static<typeof contract.wordListSchema> => ({
  ...list,
  id: Number(list.id),
  words: Number(list.words),
  createdAt: shanghaiTime(list.createdAt),
});
