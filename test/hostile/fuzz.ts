/**
 * Shared by the tests with hostile input: how long they search, hostile texts, JSON and requests, and a client that sends raw octets.
 *
 * Each property is tried for a few seconds in the test suite; `FUZZ_SECONDS=600` searches longer. A failure prints its seed and path, with
 * which fast-check repeats it.
 */
import net from 'node:net';
import * as fc from 'fast-check';

const seconds = Number(process.env['FUZZ_SECONDS'] ?? 3);

/** What a test that looks for so long may take in all. */
export const fuzzTimeoutMs = seconds * 1000 + 60_000;

/** Tries a property for the time there is, or a share of it where there are many of a kind, then says how often. */
export async function fuzzed<T>(arbitrary: fc.Arbitrary<T>, check: (value: T) => void | Promise<void>, share = 1): Promise<number> {
  let runs = 0;
  const last = { work: Promise.resolve() };
  const property = fc.asyncProperty(arbitrary, async (value) => {
    runs++;
    last.work = Promise.resolve(check(value));
    await last.work;
  });
  await fc.assert(property, {
    numRuns: 10_000_000,
    interruptAfterTimeLimit: seconds * share * 1000,
    maxSkipsPerRun: 1000,
    endOnFailure: seconds <= 3,
  });
  // Time was up in the midst of one, which is not waited for: what it does is still to be seen.
  await last.work;
  return runs;
}

// ── what is sent ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const nasty = [
  '',
  '\0',
  'a\0b',
  '\ud800',
  '\udc00x',
  '\ufeff',
  '\u202e',
  '💥',
  '一'.repeat(2000),
  'a'.repeat(20_000),
  '9'.repeat(400),
  '-1',
  '-0',
  '0',
  '1e999',
  'NaN',
  '0x10',
  '9007199254740993',
  '9223372036854775808',
  '18446744073709551616',
  '１３８００００００００',
  '__proto__',
  'constructor',
  'hasOwnProperty',
  '../../etc/passwd',
  '%00',
  '%',
  '%zz',
  '%ff%fe',
  "' or 1=1 --",
  '$url$',
  '${name}',
  '<script>',
  'a,b|c',
  '\r\nX-Injected: 1',
  '2026-02-30 25:61:61',
  '0000-00-00',
  '+0086',
  '::1',
];

export const hostileText: fc.Arbitrary<string> = fc.oneof(
  fc.constantFrom(...nasty),
  fc.string({ unit: 'binary', maxLength: 30 }),
  fc.string({ maxLength: 40 }),
);

export const hostileValue: fc.Arbitrary<unknown> = fc.oneof(
  hostileText,
  fc.constantFrom<unknown>(null, true, false, 0, -1, 1.5, 1e300, -1e300, 2 ** 53, 2 ** 63, [], {}, [[]], [[[[[[[[[[]]]]]]]]]]),
  fc.integer(),
  fc.double(),
  fc.jsonValue({ maxDepth: 3 }),
  fc.array(hostileText, { maxLength: 5 }),
);

/** A JSON value with one or two of its parts replaced, dropped, doubled, or with one part more. */
export const mutated = (valid: unknown): fc.Arbitrary<unknown> =>
  fc
    .array(fc.tuple(fc.nat(1000), fc.constantFrom('replace', 'replace', 'drop', 'add', 'wrap'), hostileText, hostileValue), {
      minLength: 1,
      maxLength: 2,
    })
    .map((changes) => changes.reduce<unknown>((value, [at, how, name, hostile]) => change(value, at, how, name, hostile), valid));

function change(root: unknown, at: number, how: string, name: string, hostile: unknown): unknown {
  const copy: unknown = structuredClone(root);
  const places: [Record<string, unknown>, string][] = [];
  const visit = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return;
    for (const key of Object.keys(value)) {
      places.push([value as Record<string, unknown>, key]);
      visit((value as Record<string, unknown>)[key]);
    }
  };
  visit(copy);
  const [owner, key] = places[at % Math.max(1, places.length)] ?? [];
  if (!owner || key === undefined) return hostile;
  if (how === 'drop') delete owner[key];
  else if (how === 'add') Object.defineProperty(owner, name, { value: hostile, enumerable: true, configurable: true, writable: true });
  else owner[key] = how === 'wrap' ? [owner[key]] : hostile;
  return copy;
}

/** JSON as text: of values, with duplicate keys, endless brackets, numbers that are none, cut off, or with octets that are no UTF-8. */
export const jsonOctets = (value: fc.Arbitrary<unknown>): fc.Arbitrary<Buffer> => {
  const written = value.map((value) => JSON.stringify(value) ?? '');
  return fc.oneof(
    { weight: 6, arbitrary: written.map((text) => Buffer.from(text)) },
    {
      weight: 1,
      arbitrary: fc.tuple(written, hostileText).map(([text, more]) => Buffer.from(text.replace(/^\{/, `{${JSON.stringify(more)}:1,`))),
    },
    { weight: 1, arbitrary: written.map((text) => Buffer.from(text.replace(/^\{(.*)\}$/s, '{$1,$1}'))) },
    { weight: 1, arbitrary: fc.tuple(written, fc.nat()).map(([text, at]) => Buffer.from(text).subarray(0, at % (text.length + 1))) },
    {
      weight: 1,
      arbitrary: fc.tuple(written, fc.nat(), fc.uint8Array({ maxLength: 4 })).map(([text, at, octets]) => {
        const bytes = Buffer.from(text);
        const from = at % (bytes.length + 1);
        return Buffer.concat([bytes.subarray(0, from), octets, bytes.subarray(from)]);
      }),
    },
    {
      weight: 1,
      arbitrary: fc
        .tuple(fc.constantFrom('[', '{"a":', '[{"a":[', '"', '1', '-', '{"a":1e', '\\u'), fc.constantFrom(1, 7, 9, 500, 100_000))
        .map(([piece, times]) => Buffer.from(piece.repeat(times))),
    },
    {
      weight: 1,
      arbitrary: fc
        .constantFrom('1e400', '{"a":1e400}', '-', 'nul', '\ufeff{}', '{"a":"\\ud800"}', '{"\\u0000":"\\u0000"}', '[0')
        .map((text) => Buffer.from(text)),
    },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 100 }).map((octets) => Buffer.from(octets)) },
  );
};

/** Octets that were right once: with some changed, cut out, put in or said again; and now and then such as never were. */
export const mangled = (samples: readonly (string | Buffer)[]): fc.Arbitrary<Buffer> => {
  const change = fc.record({
    at: fc.nat(),
    drop: fc.oneof(fc.constant(0), fc.nat(3), fc.nat(200)),
    put: fc.oneof(
      fc.uint8Array({ maxLength: 8 }).map((octets) => Buffer.from(octets)),
      fc
        .constantFrom('\0', '<', '>', '&', '"', '=', '%', '\r\n', '--', '{', '}', '$', ';', ',', '你', '\ud83d')
        .map((text) => Buffer.from(text)),
    ),
    again: fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(300) }),
  });
  const changed = fc.tuple(fc.constantFrom(...samples), fc.array(change, { minLength: 1, maxLength: 5 })).map(([sample, changes]) =>
    changes.reduce((octets, { at, drop, put, again }) => {
      const from = at % (octets.length + 1);
      return Buffer.concat([octets.subarray(0, from), put, octets.subarray(from, from + again), octets.subarray(from + drop)]);
    }, Buffer.from(sample)),
  );
  const noise = fc.uint8Array({ maxLength: 600 }).map((octets) => Buffer.from(octets));
  return fc.oneof({ weight: 9, arbitrary: changed }, { weight: 1, arbitrary: noise });
};

// ── octets over a socket ─────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface Heard {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

export interface Sent {
  readonly method?: string;
  readonly path: string;
  readonly headers?: readonly (readonly [string, string])[];
  readonly body?: Buffer;
  /** `length`: as it is; `chunked`: in pieces, with a trailer; `short` and `long`: Content-Length lies. */
  readonly framing?: 'length' | 'chunked' | 'short' | 'long';
}

/** A request as octets; what its parts hold is not looked at. */
export function octetsOf({ method = 'GET', path, headers = [], body, framing = 'length' }: Sent): Buffer {
  const head = [
    `${method} ${path} HTTP/1.1`,
    'Host: 127.0.0.1',
    'Connection: close',
    ...headers.map(([name, value]) => `${name}: ${value}`),
  ];
  const bytes = body ?? Buffer.alloc(0);
  if (framing === 'chunked') {
    const middle = bytes.length >> 1;
    const pieces = [bytes.subarray(0, middle), bytes.subarray(middle)].filter(({ length }) => length > 0);
    const chunks = pieces.flatMap((piece) => [Buffer.from(`${piece.length.toString(16)};x=y\r\n`), piece, Buffer.from('\r\n')]);
    return Buffer.concat([
      Buffer.from(`${head.join('\r\n')}\r\nTransfer-Encoding: chunked\r\n\r\n`, 'latin1'),
      ...chunks,
      Buffer.from('0\r\nX-Trailer: 1\r\n\r\n'),
    ]);
  }
  const length = bytes.length + { length: 0, short: -1, long: 10 }[framing];
  const announced = body || framing !== 'length' ? `\r\nContent-Length: ${Math.max(0, length)}` : '';
  return Buffer.concat([Buffer.from(`${head.join('\r\n')}${announced}\r\n\r\n`, 'latin1'), bytes]);
}

/**
 * Sends octets and reads until the other side closes; hangs up if there is nothing to hear for a while, since the octets may be no whole
 * request. Every answer in turn; throws if it takes longer than it may.
 */
export async function exchange(port: number, octets: Buffer, { patienceMs = 2000, withinMs = 10_000 } = {}): Promise<Heard[]> {
  const chunks: Buffer[] = [];
  const socket = net.connect({ port, host: '127.0.0.1' });
  socket.setTimeout(patienceMs, () => socket.end());
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`no end of it within ${withinMs} ms: ${octets.subarray(0, 200).toString('latin1')}`)),
      withinMs,
    );
    socket.on('data', (chunk) => chunks.push(chunk));
    // Who is refused before all was sent may be cut off; what was answered before counts.
    socket.on('error', () => {});
    socket.once('close', () => {
      clearTimeout(timer);
      resolve();
    });
    socket.write(octets);
  }).finally(() => socket.destroy());
  return answersIn(Buffer.concat(chunks));
}

function answersIn(octets: Buffer): Heard[] {
  const answers: Heard[] = [];
  for (let at = 0; at < octets.length; ) {
    const end = octets.indexOf('\r\n\r\n', at);
    const head = octets.toString('latin1', at, end === -1 ? undefined : end);
    const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(head)?.[1]);
    if (end === -1 || Number.isNaN(status)) throw new Error(`not an answer: ${JSON.stringify(head.slice(0, 300))}`);
    const field = (name: string): string => new RegExp(`^${name}: *(.*)$`, 'im').exec(head)?.[1]?.trim() ?? '';
    const length = Number(field('content-length') || 0);
    at = end + 4 + length;
    if (status >= 200) answers.push({ status, contentType: field('content-type'), body: octets.toString('utf8', end + 4, at) });
  }
  return answers;
}
