/** The routes of the management API for blocklists. numbers.ts imports files of millions of numbers. */
import type { Static } from 'typebox';
import * as blocklists from '../../core/catalogue/blocklists.ts';
import { change, mapPage } from '../../core/config/management.ts';
import { usualForm } from '../../core/model/numbers.ts';
import { shanghaiTime } from '../../std/shanghai.ts';
import * as contract from '../../../contract/index.ts';
import { listOf, ref } from '../../../contract/index.ts';
import { type Api, type ConsoleDeps, idOrNull, operatorOnly, optionalPhone, pageRequest, phonesOf, scopeOf } from './shared.ts';

export function addBlocklists(api: Api, deps: ConsoleDeps): void {
  const { db, clock } = deps;
  const tags = ['blocklists'];

  api.get(
    '/v1/blocklists',
    {
      schema: {
        operationId: 'listBlocklists',
        summary: 'Blocklists, by id; an account sees those of its subscriptions and signatures',
        tags,
        querystring: contract.whosePageQuery,
        response: { 200: listOf(contract.blocklistSchema) },
      },
    },
    async ({ caller, query }) =>
      mapPage(await blocklists.listBlocklists(db.sql, scopeOf(caller, query.accountId), pageRequest(query)), blocklistView),
  );

  api.post(
    '/v1/blocklists',
    {
      config: operatorOnly,
      schema: {
        operationId: 'ensureBlocklist',
        summary: 'Get or make the list of this kind for this subject; empty and system have no subject',
        tags,
        body: contract.newBlocklist,
        response: { 200: ref(contract.blocklistSchema) },
      },
    },
    async ({ body: { kind, subjectId } }) =>
      blocklistView(
        await change(deps, async (sql) => {
          const id = await blocklists.ensureBlocklist(sql, kind, BigInt(subjectId ?? 0));
          return blocklists.getBlocklist(sql, null, id);
        }),
      ),
  );

  api.get(
    '/v1/blocklists/:id/numbers',
    {
      schema: {
        operationId: 'listBlockedNumbers',
        summary: 'Numbers on a list; with `phone`, only that number if it is on the list',
        tags,
        params: contract.idParams,
        querystring: contract.blockedNumberQuery,
        response: { 200: listOf(contract.blockedNumberSchema) },
      },
    },
    async ({ caller, params, query }) => {
      const { id } = await blocklists.getBlocklist(db.sql, scopeOf(caller), BigInt(params.id));
      return mapPage(await blocklists.listNumbers(db.sql, id, optionalPhone(query.phone), pageRequest(query)), blockedNumberView);
    },
  );

  api.post(
    '/v1/blocklists/:id/numbers',
    {
      schema: {
        operationId: 'addBlockedNumbers',
        summary: 'Add numbers to a list',
        tags,
        params: contract.idParams,
        body: contract.blockedNumbers,
        response: { 200: ref(contract.addedSchema) },
      },
    },
    async ({ caller, params, body }) => {
      const { id } = await blocklists.getBlocklist(db.sql, scopeOf(caller), BigInt(params.id));
      return { added: await blocklists.addNumbers(db.sql, id, phonesOf(body.numbers), caller.role, clock()) };
    },
  );

  api.delete(
    '/v1/blocklists/:id/numbers',
    {
      schema: {
        operationId: 'removeBlockedNumbers',
        summary: 'Remove numbers from a list',
        tags,
        params: contract.idParams,
        body: contract.blockedNumbers,
        response: { 200: ref(contract.removedSchema) },
      },
    },
    async ({ caller, params, body }) => {
      const { id } = await blocklists.getBlocklist(db.sql, scopeOf(caller), BigInt(params.id));
      return { removed: await blocklists.removeNumbers(db.sql, id, phonesOf(body.numbers)) };
    },
  );
}

const blocklistView = ({ id, kind, subjectId, accountId }: blocklists.Blocklist): Static<typeof contract.blocklistSchema> => ({
  id: Number(id),
  kind,
  subjectId: subjectId === 0n ? null : Number(subjectId),
  accountId: idOrNull(accountId),
});

const blockedNumberView = ({ phone, source, addedAt }: blocklists.BlockedNumber): Static<typeof contract.blockedNumberSchema> => ({
  phone: usualForm(phone),
  source,
  addedAt: shanghaiTime(addedAt),
});
