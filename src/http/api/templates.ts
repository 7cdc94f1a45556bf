/** The routes of the management API for templates and signatures. */
import type { Static } from 'typebox';
import { change, mapPage } from '../../core/config/management.ts';
import * as signatures from '../../core/content/signatures.ts';
import * as templates from '../../core/content/templates.ts';
import { shanghaiTime } from '../../std/shanghai.ts';
import * as contract from '../../../contract/index.ts';
import { listOf, ref } from '../../../contract/index.ts';
import {
  accountOf,
  type Api,
  type ConsoleDeps,
  framesView,
  futureOf,
  operatorOnly,
  pageRequest,
  scopeOf,
  mediaResponse,
  sendMedia,
  timeOrNull,
} from './shared.ts';

export function addTemplates(api: Api, deps: ConsoleDeps): void {
  const { db, directory, clock, signals } = deps;
  const tags = ['templates and signatures'];
  const answer = { params: contract.idParams, response: { 200: ref(contract.templateSchema) } };
  const decided = (template: templates.StoredTemplate) => {
    signals.emit('push'); // the decision may be an event that waits for its push
    return templateView(template);
  };

  api.get(
    '/v1/templates',
    {
      schema: {
        operationId: 'listTemplates',
        summary: 'Templates, newest first',
        tags,
        querystring: contract.templateQuery,
        response: { 200: listOf(contract.templateSchema) },
      },
    },
    async ({ caller, query }) =>
      mapPage(
        await templates.listTemplates(
          db.sql,
          scopeOf(caller, query.accountId),
          { state: query.state ?? null, medium: query.medium ?? null },
          pageRequest(query),
        ),
        templateView,
      ),
  );

  api.get(
    '/v1/templates/:id',
    { schema: { operationId: 'getTemplate', summary: 'One template', tags, ...answer } },
    async ({ caller, params }) => templateView(await templates.getTemplate(db.sql, scopeOf(caller), BigInt(params.id))),
  );

  api.get(
    '/v1/templates/:id/media/:sha256',
    {
      schema: {
        operationId: 'getTemplateMedium',
        summary: 'One media file of a multimedia template',
        tags,
        params: contract.mediaParams,
        response: mediaResponse,
      },
    },
    async ({ caller, params }, reply) => {
      const { accountId, frames } = await templates.getTemplate(db.sql, scopeOf(caller), BigInt(params.id));
      return sendMedia(deps, reply, accountId, frames ?? [], params.sha256);
    },
  );

  api.post(
    '/v1/templates',
    {
      schema: {
        operationId: 'createTemplate',
        summary: 'Submit a template for approval',
        tags,
        body: contract.newTemplate,
        response: { 201: ref(contract.templateSchema) },
      },
    },
    async ({ caller, body: { accountId, validUntil, ...template } }, reply) => {
      const wanted = {
        ...template,
        accountId: accountOf(caller, accountId),
        ...(validUntil !== undefined && { validUntil: futureOf('validUntil', validUntil, clock()) }),
      };
      const created = await change(deps, (sql) => templates.createTemplate(sql, wanted));
      reply.code(201);
      return templateView(created);
    },
  );

  api.post(
    '/v1/templates/:id/approve',
    { config: operatorOnly, schema: { operationId: 'approveTemplate', summary: 'Approve a template', tags, ...answer } },
    async ({ params }) =>
      decided(await change(deps, (sql) => templates.approveTemplate(sql, directory.dialects, BigInt(params.id), clock()))),
  );

  api.post(
    '/v1/templates/:id/reject',
    {
      config: operatorOnly,
      schema: { operationId: 'rejectTemplate', summary: 'Reject a template', tags, body: contract.rejection, ...answer },
    },
    async ({ params, body: { reason } }) =>
      decided(await change(deps, (sql) => templates.rejectTemplate(sql, directory.dialects, BigInt(params.id), reason, clock()))),
  );

  api.post(
    '/v1/templates/:id/withdraw',
    { schema: { operationId: 'withdrawTemplate', summary: 'Withdraw a template', tags, ...answer } },
    async ({ caller, params }) =>
      templateView(await change(deps, (sql) => templates.withdrawTemplate(sql, scopeOf(caller), BigInt(params.id), clock()))),
  );

  api.get(
    '/v1/signatures',
    {
      schema: {
        operationId: 'listSignatures',
        summary: 'Signatures, by id',
        tags,
        querystring: contract.whosePageQuery,
        response: { 200: listOf(contract.signatureSchema) },
      },
    },
    async ({ caller, query }) =>
      mapPage(await signatures.listSignatures(db.sql, scopeOf(caller, query.accountId), pageRequest(query)), signatureView),
  );

  api.post(
    '/v1/signatures',
    {
      config: operatorOnly,
      schema: {
        operationId: 'createSignature',
        summary: 'Register a signature for an account',
        tags,
        body: contract.newSignature,
        response: { 201: ref(contract.signatureSchema) },
      },
    },
    async ({ body: { accountId, name, registrations = {} } }, reply) => {
      const signature = await change(deps, (sql) => signatures.createSignature(sql, { accountId: BigInt(accountId), name, registrations }));
      reply.code(201);
      return signatureView(signature);
    },
  );

  api.patch(
    '/v1/signatures/:id',
    {
      config: operatorOnly,
      schema: {
        operationId: 'changeSignature',
        summary: 'Set how far carriers are with registering a signature; null removes a carrier',
        tags,
        params: contract.idParams,
        body: contract.signatureChange,
        response: { 200: ref(contract.signatureSchema) },
      },
    },
    async ({ params, body: { registrations } }) =>
      signatureView(await change(deps, (sql) => signatures.changeRegistrations(sql, BigInt(params.id), registrations))),
  );
}

const templateView = (template: templates.StoredTemplate): Static<typeof contract.templateSchema> => ({
  ...template,
  id: Number(template.id),
  accountId: Number(template.accountId),
  frames: template.frames && framesView(template.frames),
  parameters: [...template.parameters],
  validUntil: timeOrNull(template.validUntil),
  createdAt: shanghaiTime(template.createdAt),
  decidedAt: timeOrNull(template.decidedAt),
});

const signatureView = ({ createdAt, ...signature }: signatures.StoredSignature): Static<typeof contract.signatureSchema> => ({
  ...signature,
  id: Number(signature.id),
  accountId: Number(signature.accountId),
  createdAt: shanghaiTime(createdAt),
});
