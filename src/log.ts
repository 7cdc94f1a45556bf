// The log: one JSON object per line on stderr. Its readers must not see customers' data, so phone numbers are masked everywhere, and
// values under sensitive names are censored. Even so, callers log ids and not contents.
import { pino } from 'pino';

export type Log = pino.Logger;

/** The names of pino's levels; `silent` switches the log off. */
export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof logLevels)[number];

const censoredKey = /^(password|secret|secretKey|apiKey|api_key|token|signature|authorization|cookie|content|text)$/i;
/** A mainland number, with or without +86, or any number written with a plus. Longer runs of digits are ids. */
const phoneNumber = /(?<![\d.])(?:(\+?86)?(1[3-9]\d)\d{4}(\d{4})|(\+\d{3})\d{2,8}(\d{4}))(?!\d)/g;
const maxDepth = 6;
const maxElements = 50;

/** Creates the log. Tests pass a destination of their own to read the lines. */
export function createLog(level: LogLevel, destination: pino.DestinationStream = pino.destination({ fd: 2, sync: true })): Log {
  const log = pino(
    {
      level,
      base: { pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }), log: redactAll, bindings: redactAll },
      serializers: { err: (redacted: unknown) => redacted },
      // Messages do not pass through the formatters. They are strings, so the finished line stays JSON when it is masked.
      hooks: { streamWrite: mask },
    },
    destination,
  );
  // Children do not inherit the formatter of bindings, but they inherit this method.
  const child: (this: Log, bindings: pino.Bindings, options?: pino.ChildLoggerOptions) => Log = log.child;
  return Object.assign(log, {
    child(this: Log, bindings: pino.Bindings, options?: pino.ChildLoggerOptions) {
      return child.call(this, redactAll(bindings), options);
    },
  });
}

function mask(text: string): string {
  return text.replace(phoneNumber, (_, prefix: string | undefined, start: string, end: string, foreignStart: string, foreignEnd: string) =>
    start ? `${prefix ?? ''}${start}****${end}` : `${foreignStart}****${foreignEnd}`,
  );
}

function redactAll(values: object): Record<string, unknown> {
  return redactObject(values, 0);
}

function redactObject(values: object, depth: number): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(values).map(([key, value]) => [key, censoredKey.test(key) && value != null ? '[censored]' : redact(value, depth)]),
  );
}

function redact(value: unknown, depth: number): unknown {
  if (typeof value === 'string') return mask(value);
  if (typeof value === 'number' || typeof value === 'bigint') {
    const text = String(value);
    const masked = mask(text);
    return masked === text ? (typeof value === 'bigint' ? text : value) : masked;
  }
  if (typeof value !== 'object' || value === null || value instanceof Date) return value;
  if (depth >= maxDepth) return '[deep]';
  if (value instanceof Error) return redactError(value, depth + 1);
  if (value instanceof Uint8Array) return `[${value.byteLength} bytes]`;
  if (Array.isArray(value)) {
    const shown: unknown[] = value.slice(0, maxElements).map((element) => redact(element, depth + 1));
    return value.length > maxElements ? [...shown, `[${value.length - maxElements} more]`] : shown;
  }
  return redactObject(value, depth + 1);
}

/** Keeps only the properties that identify the fault. Others quote rows, such as PostgreSQL's `detail` and the driver's `parameters`. */
function redactError(error: Error, depth: number): Record<string, unknown> {
  const { code, constraint_name: constraint }: Error & { code?: unknown; constraint_name?: unknown } = error;
  return {
    type: error.name,
    message: mask(error.message),
    ...(code !== undefined && { code }),
    ...(constraint !== undefined && { constraint }),
    stack: mask(error.stack ?? ''),
    ...(error.cause !== undefined && { cause: redact(error.cause, depth) }),
  };
}
