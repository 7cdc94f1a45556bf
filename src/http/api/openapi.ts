/**
 * The OpenAPI document of the management API, made from the schemas of all routes and the contract's examples. It is served without a
 * token. A copy is committed beside the contract, as contract/openapi.json.
 */
import swagger from '@fastify/swagger';
import type { FastifySchema } from 'fastify';
import { Type } from 'typebox';
import { type Example, examples } from '../../../contract/index.ts';
import { jsonType } from '../part.ts';
import type { Api } from './shared.ts';

const tags = [
  { name: 'accounts', description: 'Customers.' },
  { name: 'subscriptions', description: 'Products that accounts use, with price and balance.' },
  {
    name: 'products and channels',
    description: 'Products that accounts can subscribe to, and the channels to carriers that send their messages.',
  },
  { name: 'templates and signatures', description: 'Templates and signatures that customers submit for approval before they send.' },
  { name: 'blocklists', description: 'Numbers that must not get messages.' },
  { name: 'numbers', description: 'The carriers and places of numbers.' },
  { name: 'content templates', description: 'Patterns of texts that pass, wait for a person, or are intercepted.' },
  { name: 'sensitive words', description: 'Words for which a text waits for a person or is intercepted.' },
  { name: 'caps', description: 'How many messages one number may get.' },
  { name: 'review', description: 'Batches that wait for a person, and previews of screening.' },
  { name: 'messages', description: 'Batches, messages with their outcomes, and replies.' },
  { name: 'events', description: 'Events for customers, and the pushes that handed them over.' },
  { name: 'settings', description: 'Settings of the whole platform.' },
  { name: 'meta', description: 'This document.' },
];

/** Call this before the routes are added: the document holds only the routes that come later. */
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
    // The document is large and the same for everybody, so it is written once.
    async (_request, reply) => reply.type(jsonType).send((document ??= Buffer.from(JSON.stringify(api.swagger())))),
  );
}

/** The same schema with all examples of its body and one example of each parameter. */
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
