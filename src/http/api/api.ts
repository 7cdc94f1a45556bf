/**
 * The management API under /v1 as a whole: authentication, the checks of requests, and the form of errors. The routes are in the other
 * files of this folder, by subject; the OpenAPI document is in openapi.ts, and the JSON in contract/.
 *
 * A caller shows a bearer token and is the operator or an account. This is decided before the body is read, and so is whether only the
 * operator may use the route. Requests are checked against the contract as they are: nothing is coerced, dropped or filled in. The one
 * exception: queries and paths are text, so their digits become numbers where the contract asks for numbers.
 */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyBodyParser, FastifyInstance, FastifyReply, FastifyRequest, FastifySchemaCompiler } from 'fastify';
import type { TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import type { TLocalizedValidationError } from 'typebox/error';
import { validateCard } from '../../core/content/layouts.ts';
import { Denial } from '../../core/config/management.ts';
import type { TokenHolder } from '../../core/config/tokens.ts';
import { findToken } from '../../core/config/tokens.ts';
import { addAccounts, addSubscriptions } from './accounts.ts';
import { addBlocklists } from './blocklists.ts';
import { addCaps } from './caps.ts';
import { addCatalogue } from './catalogue.ts';
import { addContentRoutes } from './content.ts';
import { addNumbers } from './numbers.ts';
import { addOpenApi } from './openapi.ts';
import { namedSchemas, problemSchema, ref } from '../../../contract/index.ts';
import { addEvents, addRecords } from './records.ts';
import { addReviews } from './reviews.ts';
import { addSettings } from './settings.ts';
import { type Api, type ConsoleDeps, RequestError } from './shared.ts';
import { addTemplates } from './templates.ts';
import { explain, joinPath } from '../../std/explain.ts';
import type { HttpPart } from '../part.ts';
import { plainFailure } from '../part.ts';

const routes = [
  addAccounts,
  addSubscriptions,
  addCatalogue,
  addTemplates,
  addBlocklists,
  addNumbers,
  addContentRoutes,
  addCaps,
  addReviews,
  addRecords,
  addEvents,
  addSettings,
];

const typed = (server: FastifyInstance): Api => server.withTypeProvider<TypeBoxTypeProvider>();

export function createConsoleApi(deps: ConsoleDeps): HttpPart {
  return {
    prefix: '/v1',
    failure: plainFailure,
    async routes(server) {
      const api = typed(server);
      for (const schema of namedSchemas) api.addSchema(schema);
      api.setValidatorCompiler(checkerOf);
      api.setErrorHandler(answerError);
      api.removeAllContentTypeParsers();
      api.addContentTypeParser('application/json', { parseAs: 'string' }, readJson(api));
      api.decorateRequest('caller');
      api.addHook('onRequest', async (request, reply) => {
        const { forAnyone, operatorOnly } = request.routeOptions.config;
        if (!forAnyone) request.caller = await callerOf(deps, request, reply, operatorOnly === true);
      });
      api.addHook('onRoute', ({ schema = {}, config }) => {
        schema.security = config?.forAnyone ? [] : [{ token: [] }];
        if (config?.operatorOnly) schema.description = 'For the operator only.';
        schema.response = Object.assign({ '4xx': ref(problemSchema) }, schema.response);
      });
      await addOpenApi(api);
      for (const add of routes) add(api, deps);
    },
  };
}

// ── who calls ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

async function callerOf({ db }: ConsoleDeps, request: FastifyRequest, reply: FastifyReply, operatorOnly: boolean): Promise<TokenHolder> {
  const token = /^Bearer +(\S{1,500})$/i.exec(request.headers.authorization ?? '')?.[1];
  const caller = token === undefined ? null : await findToken(db.sql, token);
  if (!caller) {
    if (token !== undefined) request.countFailure();
    reply.header('www-authenticate', 'Bearer');
    throw new RequestError(401, 'unauthenticated', 'Authorization: a valid bearer token is needed');
  }
  if (operatorOnly && caller.role !== 'operator') throw new RequestError(403, 'forbidden', 'this is for the operator only');
  return caller;
}

// ── what is wrong ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function answerError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const say = (status: number, code: string, message: string) => reply.code(status).send({ error: { code, message } });
  if (error instanceof RequestError) return say(error.status, error.code, error.message);
  if (error instanceof Denial) {
    // An invalid query is a bad request (400). A well-formed body with invalid content gets 422.
    const statuses = { not_found: 404, conflict: 409, invalid: request.method === 'GET' ? 400 : 422, malformed: 400 };
    return say(statuses[error.code], error.code === 'malformed' ? 'invalid' : error.code, error.message);
  }
  const { statusCode, message } = error instanceof Error && 'statusCode' in error ? error : { statusCode: 500, message: '' };
  if (statusCode === 415)
    return say(415, 'unsupported_media_type', `the body must be ${request.routeOptions.config.bodyType ?? 'application/json'}`);
  if (statusCode === 400) return say(400, 'malformed', message);
  throw error; // The listener answers it: a body that is too large, or a fault.
}

// ── what a request must look like ────────────────────────────────────────────────────────────────────────────────────────────────

/** Reads JSON, but refuses `__proto__`. An empty text counts as no body, because some clients announce JSON with every request. */
function readJson(api: Api): FastifyBodyParser<string> {
  const parse = api.getDefaultJsonParser('error', 'error');
  return (request, text, done) => (text === '' ? done(null, undefined) : parse(request, text, done));
}

const checkerOf: FastifySchemaCompiler<TSchema> = ({ schema, httpPart = 'body' }) => {
  const validator = Compile(schema);
  return (given: unknown) => {
    const value = httpPart === 'body' ? given : withNumbers(schema, given);
    if (!validator.Check(value)) return { error: new RequestError(400, 'invalid', problemOf(validator.Errors(value), value, httpPart)) };
    const path = unstorablePath(value, '');
    if (path !== null) return { error: new RequestError(400, 'invalid', `${path || httpPart}: holds a character that is none`) };
    return { value };
  };
};

/** Turns digits into a number where the schema wants an integer, because queries and paths hold only text. */
function withNumbers(schema: TSchema, given: unknown): unknown {
  const properties = 'properties' in schema ? schema.properties : undefined;
  if (!isRecord(properties) || !isRecord(given)) return given;
  const entries = Object.entries(given).map(([name, text]): [string, unknown] => {
    const property = properties[name];
    const isNumber = isRecord(property) && property['type'] === 'integer' && typeof text === 'string' && /^\d{1,16}$/.test(text);
    return [name, isNumber ? Number(text) : text];
  });
  return Object.fromEntries(entries);
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> => typeof value === 'object' && value !== null;

/** Says what is wrong. A card has a check of its own, which explains an error better than a union of schemas can. */
function problemOf(errors: readonly TLocalizedValidationError[], value: unknown, part: string): string {
  const first = errors.find(({ keyword }) => keyword !== 'boolean');
  if (first?.instancePath.startsWith('/card') && isRecord(value)) {
    const judged = validateCard(value['card']);
    if ('error' in judged) return `card.${judged.error}`;
  }
  return explain(errors, part);
}

/** The path of a text that PostgreSQL cannot store: one with a NUL or half a surrogate pair. The schema does not find these. */
function unstorablePath(value: unknown, path: string): string | null {
  if (typeof value === 'string') return /[\0\p{Cs}]/u.test(value) ? path : null;
  if (!isRecord(value)) return null;
  for (const [name, part] of Object.entries(value)) {
    const wrong = unstorablePath(part, Array.isArray(value) ? `${path}[${name}]` : joinPath(path, name));
    if (wrong !== null) return wrong;
  }
  return null;
}
