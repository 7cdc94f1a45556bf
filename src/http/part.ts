/**
 * The interface between the listener and each family of paths that it serves.
 *
 * A part owns the paths at or below its prefix: it brings the routes, and the form of the answers that the listener gives there by itself.
 * A dialect (dialects/dialect.ts) brings one part or several.
 */
import type { FastifyInstance } from 'fastify';

/** The errors that the listener answers by itself. */
export type Problem =
  | 'not_found'
  | 'method_not_allowed'
  | 'too_large' // the body is over the route's limit
  | 'malformed' // not HTTP, or a body that cannot be read as its content type
  | 'forbidden_host' // the sandbox serves only this machine
  | 'too_many' // the address has too many requests under way, or too many wrong credentials
  | 'unavailable' // starting, draining, or too many bytes in hand
  | 'fault'; // our own fault; the answer tells only the request's id

export interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

export interface HttpPart {
  /** For example `/api`. If several prefixes match a path, the longest one wins. */
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
  method_not_allowed: 'This path does not support this method.',
  too_large: 'The body is too large.',
  malformed: 'The request cannot be read.',
  forbidden_host: 'The Host header must name the loopback interface.',
  too_many: 'Too many requests from this address; try again later.',
  unavailable: 'The server is starting, stopping or busy; try again.',
  fault: 'The server has a fault; the operator can find it by the request id.',
};

/** The error form of the management API, and of paths that no part owns. */
export function plainFailure(problem: Problem, requestId: string): Answer {
  const message = problem === 'fault' ? `${englishProblem.fault} (${requestId})` : englishProblem[problem];
  return { status: problemStatus[problem], contentType: jsonType, body: JSON.stringify({ error: { code: problem, message } }) };
}
