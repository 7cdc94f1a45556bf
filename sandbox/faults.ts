/**
 * Sets faults of the simulated carriers on demand: `/sandbox/v1/faults`. simulators/faults.ts and docs/sandbox.md describe the faults.
 * This file reads them from JSON and passes them to the simulators of one protocol, or of all.
 */
import type { FastifyInstance } from 'fastify';
import { type Faults, type FaultyKind, readFaults } from '../simulators/faults.ts';
import { type HttpPart, jsonType, plainFailure } from '../src/http/part.ts';

export interface FaultySimulator {
  readonly kind: FaultyKind;
  readonly simulator: { faults: Faults };
}

/** `kinds`: all channel kinds; each is a key of the JSON, beside `all`. */
export function createFaultsPart(kinds: readonly FaultyKind[], simulators: readonly FaultySimulator[]): HttpPart {
  const scopes = ['all', ...kinds.map(({ name }) => name)];
  /** As it was put. */
  let shown: Readonly<Record<string, Faults>> = {};

  function set(body: unknown): string | null {
    if (typeof body !== 'object' || body === null || Array.isArray(body)) return 'a JSON object is expected';
    const read: Record<string, Faults> = {};
    for (const [name, value] of Object.entries(body)) {
      if (!scopes.includes(name)) return `${name}: no simulator; there are ${scopes.join(', ')}`;
      const result = readFaults(kinds, name, value, name);
      if ('problem' in result) return result.problem;
      read[name] = result.faults;
    }
    for (const { kind, simulator } of simulators) simulator.faults = { ...read['all'], ...read[kind.name] };
    shown = read;
    return null;
  }

  function routes(server: FastifyInstance): void {
    server.get('/sandbox/v1/faults', (_request, answer) => answer.header('content-type', jsonType).send(JSON.stringify(shown)));

    server.put('/sandbox/v1/faults', (request, answer) => {
      const problem = set(request.body);
      answer.header('content-type', jsonType);
      if (problem === null) return answer.send(JSON.stringify(shown));
      return answer.code(400).send(JSON.stringify({ error: { code: 'invalid', message: problem } }));
    });
  }

  return { prefix: '/sandbox/v1/faults', routes, failure: plainFailure };
}
