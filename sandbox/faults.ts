/**
 * Faults of the simulated carriers on demand: `/sandbox/v1/faults`. What they are and what they do is in simulators/carrier.ts and
 * docs/sandbox.md; here they are read from JSON and handed to the simulators of a protocol, or of all.
 */
import type { FastifyInstance } from 'fastify';
import { type Faults, type Protocol, readFaults } from '../simulators/carrier.ts';
import { type HttpPart, jsonType, plainFailure } from '../src/http/part.ts';

const scopes = ['all', 'cmpp', 'mm7'] as const;

/** The simulators of each protocol. */
export type FaultySimulators = Readonly<Record<Protocol, readonly { faults: Faults }[]>>;

export function createFaultsPart(simulators: FaultySimulators): HttpPart {
  /** As it was put. */
  let shown: Readonly<Record<string, Faults>> = {};

  function set(body: unknown): string | null {
    if (typeof body !== 'object' || body === null || Array.isArray(body)) return 'a JSON object is expected';
    const read: Partial<Record<(typeof scopes)[number], Faults>> = {};
    for (const [name, value] of Object.entries(body)) {
      const scope = scopes.find((known) => known === name);
      if (!scope) return `${name}: no simulator; there are ${scopes.join(', ')}`;
      const result = readFaults(scope, value, scope);
      if ('problem' in result) return result.problem;
      read[scope] = result.faults;
    }
    for (const protocol of ['cmpp', 'mm7'] as const)
      for (const simulator of simulators[protocol]) simulator.faults = { ...read.all, ...read[protocol] };
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
