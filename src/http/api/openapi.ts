/**
 * The OpenAPI document of the management API: made of the schemas of all routes and of the contract's examples, served to anyone. A copy
 * is committed beside the contract, as contract/openapi.json.
 */
import swagger from '@fastify/swagger';
import type { FastifySchema } from 'fastify';
import { Type } from 'typebox';
import { type Example, examples } from '../../../contract/index.ts';
import { jsonType } from '../part.ts';
import type { Api } from './shared.ts';

const tags = [
  { name: 'accounts', description: 'Customers.' },
  { name: 'subscriptions', description: 'Products that accounts may send with, at which price, and what they have paid.' },
  { name: 'products and channels', description: 'What can be subscribed to, and which connections to carriers it is sent through.' },
  { name: 'templates and signatures', description: 'What customers submit for approval before they send.' },
  { name: 'blocklists', description: 'Numbers that must not be sent to.' },
  { name: 'numbers', description: 'Whose numbers are, and where.' },
  { name: 'content templates', description: 'Texts that pass, wait for a person, or are intercepted.' },
  { name: 'sensitive words', description: 'Words that make a text wait for a person, or intercept it.' },
  { name: 'caps', description: 'How many messages one number may get.' },
  { name: 'review', description: 'What waits for a person, and what screening would say.' },
  { name: 'messages', description: 'What was submitted, what became of it, and what people answered.' },
  { name: 'events', description: 'What is owed to customers, and how it was handed over.' },
  { name: 'settings', description: 'What the whole platform runs by.' },
  { name: 'meta', description: 'This document.' },
];

/** To be called before the routes are added, of which the document tells. */
export async function addOpenApi(api: Api): Promise<void> {
  await api.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: '鸿雁 Hongyan management API', version: '1', license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } },
      servers: [
        { url: '/', description: 'The platform that serves this document.' },
        { url: 'http://127.0.0.1:8080', description: 'A sandbox on this machine.' },
      ],
      tags,
      components: { securitySchemes: { token: { type: 'http', scheme: 'bearer' } } },
    },
    refResolver: { buildLocalReference: (json, _base, _fragment, at) => (typeof json.$id === 'string' ? json.$id : `schema-${at}`) },
    transform: ({ schema, url }) => ({ schema: withExamples(schema), url }),
  });
  let document: Buffer | undefined;
  api.get(
    '/v1/openapi.json',
    {
      config: { forAnyone: true },
      schema: { operationId: 'getOpenApiDocument', summary: 'This document', tags: ['meta'], response: { 200: Type.Unknown() } },
    },
    // Written once: it is for anyone, and large.
    async (_request, reply) => reply.type(jsonType).send((document ??= Buffer.from(JSON.stringify(api.swagger())))),
  );
}

/** The same schema with all examples of its body, and with one of each parameter. */
export function withExamples(schema: FastifySchema): FastifySchema {
  const own = examples.filter(({ operation }) => operation === schema.operationId);
  const bodies = own.flatMap(({ body }) => (body === undefined ? [] : [body]));
  return {
    ...schema,
    ...withParameters(
      schema,
      'params',
      own.map(({ path }) => path),
    ),
    ...withParameters(
      schema,
      'querystring',
      own.map(({ query }) => query),
    ),
    ...withParameters(
      schema,
      'headers',
      own.map(({ headers }) => headers),
    ),
    ...(bodies.length > 0 && { body: { ...Object(schema.body), examples: bodies } }),
  };
}

function withParameters(
  schema: FastifySchema,
  part: 'params' | 'querystring' | 'headers',
  given: readonly Example['query'][],
): FastifySchema {
  const parameters = schema[part] as { readonly properties: Readonly<Record<string, object>> } | undefined;
  if (!parameters) return {};
  const values: Record<string, string | number> = Object.assign({}, ...given.toReversed());
  const properties = Object.entries(parameters.properties).map(([name, property]): [string, object] => [
    name,
    values[name] === undefined ? property : { ...property, examples: [values[name]] },
  ]);
  return { [part]: { ...parameters, properties: Object.fromEntries(properties) } };
}
