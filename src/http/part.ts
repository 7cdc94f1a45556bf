/**
 * What the listener needs to know of each family of paths it serves, and what the rest of the program needs of a customer API.
 *
 * A part owns the paths at or below its prefix: its routes, and the form in which callers there are told of what goes wrong before or
 * beside those routes. A dialect (dialects/dialect.ts) brings one part or several.
 */
import type { FastifyInstance } from 'fastify';

/** What the listener answers by itself. */
export type Problem =
  | 'not_found'
  | 'method_not_allowed'
  | 'too_large' // the body, over the route's limit
  | 'malformed' // not HTTP, or a body that cannot be read as what it claims to be
  | 'forbidden_host' // the sandbox is for this machine only
  | 'too_many' // under way of this address, or wrong credentials of it
  | 'unavailable' // starting, draining, or too much in hand
  | 'fault'; // our own; nothing of it is told but the request's id

export interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

export interface HttpPart {
  /** `/api`; of several parts the one with the longest prefix owns a path. */
  readonly prefix: string;
  /** Registers the routes, under their full paths. */
  routes(server: FastifyInstance): void | Promise<void>;
  failure(problem: Problem, requestId: string): Answer;
}

export const problemStatus: Readonly<Record<Problem, number>> = {
  not_found: 404,
  method_not_allowed: 405,
  too_large: 413,
  malformed: 400,
  forbidden_host: 403,
  too_many: 429,
  unavailable: 503,
  fault: 500,
};

export const jsonType = 'application/json; charset=utf-8';

const englishProblem: Readonly<Record<Problem, string>> = {
  not_found: 'There is nothing at this path.',
  method_not_allowed: 'This path does not answer to this method.',
  too_large: 'The body is too large.',
  malformed: 'The request cannot be read.',
  forbidden_host: 'The Host header must name the loopback interface.',
  too_many: 'Too many requests from this address; wait a little.',
  unavailable: 'The server is starting, stopping or busy; try again.',
  fault: 'Something went wrong on our side; the operator finds it by the request id.',
};

/** The form of the management API, and of paths that are nobody's. */
export function plainFailure(problem: Problem, requestId: string): Answer {
  const message = problem === 'fault' ? `${englishProblem.fault} (${requestId})` : englishProblem[problem];
  return { status: problemStatus[problem], contentType: jsonType, body: JSON.stringify({ error: { code: problem, message } }) };
}
