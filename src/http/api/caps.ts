/** The routes of the management API for frequency caps. Only the operator may use them. core/screening/caps.ts says how caps count. */
import type { Static } from 'typebox';
import * as caps from '../../core/screening/caps.ts';
import { change, mapPage } from '../../core/config/management.ts';
import { shanghaiTime } from '../../std/shanghai.ts';
import * as contract from '../../../contract/index.ts';
import { listOf, ref } from '../../../contract/index.ts';
import { type Api, type ConsoleDeps, operatorOnly, pageRequest } from './shared.ts';

export function addCaps(api: Api, deps: ConsoleDeps): void {
  const { db } = deps;
  const config = operatorOnly;
  const tags = ['caps'];
  const one = { tags, params: contract.idParams, response: { 200: ref(contract.capSchema) } };

  api.get(
    '/v1/caps',
    {
      config,
      schema: {
        operationId: 'listCaps',
        summary: 'Frequency caps, by id',
        tags,
        querystring: contract.capQuery,
        response: { 200: listOf(contract.capSchema) },
      },
    },
    async ({ query: { scope, subjectId, ...page } }) => {
      const filter = { scope: scope ?? null, subjectId: subjectId === undefined ? null : BigInt(subjectId) };
      return mapPage(await caps.listCaps(db.sql, filter, pageRequest(page)), capView);
    },
  );

  api.get('/v1/caps/:id', { config, schema: { operationId: 'getCap', summary: 'One frequency cap', ...one } }, async ({ params }) =>
    capView(await caps.getCap(db.sql, BigInt(params.id))),
  );

  api.post(
    '/v1/caps',
    {
      config,
      schema: {
        operationId: 'createCap',
        summary: 'Limit how many messages of a subscription, product or signature one number may get',
        tags,
        body: contract.newCap,
        response: { 201: ref(contract.capSchema) },
      },
    },
    async ({ body: { subjectId, ...cap } }, reply) => {
      const made = await change(deps, (sql) => caps.createCap(sql, { ...cap, subjectId: BigInt(subjectId) }));
      reply.code(201);
      return capView(made);
    },
  );

  api.patch(
    '/v1/caps/:id',
    { config, schema: { operationId: 'changeCap', summary: 'Change a cap', body: contract.capChange, ...one } },
    async ({ params, body }) => capView(await change(deps, (sql) => caps.changeCap(sql, BigInt(params.id), body))),
  );

  api.delete(
    '/v1/caps/:id',
    { config, schema: { operationId: 'deleteCap', summary: 'Delete a cap; the answer is the deleted cap', ...one } },
    async ({ params }) => capView(await change(deps, (sql) => caps.removeCap(sql, BigInt(params.id)))),
  );
}

const capView = ({ id, subjectId, createdAt, ...cap }: caps.StoredCap): Static<typeof contract.capSchema> => ({
  ...cap,
  id: Number(id),
  subjectId: Number(subjectId),
  createdAt: shanghaiTime(createdAt),
});
