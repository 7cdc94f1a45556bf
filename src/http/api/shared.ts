/**
 * Code that the routes of the management API share. Each file beside this one has the routes of one subject. For each route it names the
 * schemas of request and answer (contract/), who may call it, and the function of the core that does the work. At its end it turns the
 * core's rows into the contract's JSON.
 *
 * Two functions decide which account a request is about: `scopeOf`, where the operator may mean all accounts, and `accountOf`, where it
 * must be one account. With an account's token both return that account; if the request names another one, the answer is "not found".
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyBaseLogger, FastifyInstance, FastifyReply, RawServerDefault } from 'fastify';
import { Type } from 'typebox';
import type { ChannelKind } from '../../channels/channel.ts';
import type { ContentRules } from '../../core/screening/content-rules.ts';
import { yuan } from '../../core/money/ledger.ts';
import type { Management, PageRequest } from '../../core/config/management.ts';
import { Denial, found } from '../../core/config/management.ts';
import type { StoredFrame } from '../../core/model/submission.ts';
import { parseNumber } from '../../core/model/numbers.ts';
import type { NumberPlan, Phone } from '../../core/numbers/number-plan.ts';
import type { Outbox } from '../../core/events/outbox.ts';
import { findMedia } from '../../core/content/media.ts';
import type { DayRange } from '../../core/watch/reporting.ts';
import type { Signals } from '../../core/config/signals.ts';
import type { Caller, TokenHolder } from '../../core/config/tokens.ts';
import { addDays, shanghaiDay, shanghaiTime } from '../../std/shanghai.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Set before every route that needs a token. */
    caller: TokenHolder;
  }
  interface FastifyContextConfig {
    /** Needs no token. */
    forAnyone?: boolean;
    /** An account's token is not enough. */
    operatorOnly?: boolean;
    /** The content type of the body, if it is not JSON. */
    bodyType?: string;
  }
}

/** A Fastify instance that takes the types of its routes from their schemas. */
export type Api = FastifyInstance<RawServerDefault, IncomingMessage, ServerResponse, FastifyBaseLogger, TypeBoxTypeProvider>;

export interface ConsoleDeps extends Management {
  readonly channelKinds: readonly ChannelKind[];
  readonly outbox: Pick<Outbox, 'replay'>;
  readonly signals: Pick<Signals, 'emit'>;
  readonly contentRules: Pick<ContentRules, 'judge' | 'refresh'>;
  readonly numberPlan: NumberPlan;
  readonly linkBase: string;
  readonly clock: () => Date;
}

/** A request that is refused before the core is asked. */
export class RequestError extends Error {
  readonly status: 400 | 401 | 403;
  readonly code: 'invalid' | 'unauthenticated' | 'forbidden';
  constructor(status: RequestError['status'], code: RequestError['code'], message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export const operatorOnly = { operatorOnly: true };

/** The account a request is limited to; null means all accounts, which only the operator may see. */
export function scopeOf(caller: Caller, accountId?: number): bigint | null {
  const named = accountId === undefined ? null : BigInt(accountId);
  if (caller.role === 'operator') return named;
  // The same answer whether that account exists or not.
  if (named !== null && named !== caller.accountId) throw new Denial('not_found', 'no such account');
  return caller.accountId;
}

/** The one account a request is about. */
export function accountOf(caller: Caller, accountId?: number): bigint {
  const account = scopeOf(caller, accountId);
  if (account === null) throw new RequestError(400, 'invalid', 'accountId: the operator must say whose');
  return account;
}

export const pageRequest = ({ limit = 50, cursor = null }: { limit?: number; cursor?: string | null }): PageRequest => ({ limit, cursor });
export const optionalId = (id: number | string | undefined): bigint | null => (id === undefined ? null : BigInt(id));

export const optionalPhone = (written: string | undefined): bigint | null => (written === undefined ? null : phoneOf('phone', written));
export const phonesOf = (numbers: readonly string[]): bigint[] => numbers.map((written, at) => phoneOf(`numbers[${at}]`, written));

export function phoneOf(path: string, written: string): bigint {
  const phone = parseNumber(written);
  if (phone === null) throw new Denial('invalid', `${path}: ${JSON.stringify(written)} is no valid number`);
  return phone;
}

/** `"12.5"` or `12.5` → 125000n. */
export function e4Of(path: string, written: string | number): bigint {
  const [, whole = '', fraction = ''] = /^(\d{1,12})(?:\.(\d{1,4}))?$/.exec(String(written)) ?? [];
  if (whole === '') throw new Denial('invalid', `${path}: not an amount with at most four decimals`);
  return BigInt(whole + fraction.padEnd(4, '0'));
}

export function futureOf(path: string, written: string, now: Date): Date {
  const at = new Date(written);
  if (!(at > now)) throw new Denial('invalid', `${path}: not a time to come`);
  return at;
}

export function one<View>([view]: readonly View[]): View {
  if (view === undefined) throw new Error('a view of one row is missing');
  return view;
}

export const idOrNull = (id: bigint | null): number | null => (id === null ? null : Number(id));
export const textOrNull = (id: bigint | null): string | null => (id === null ? null : String(id));

export const moneyOrNull = (amountE4: bigint | null): string | null => (amountE4 === null ? null : yuan(amountE4));
export const timeOrNull = (at: Date | null): string | null => (at === null ? null : shanghaiTime(at));

/** The place of a number; empty if the number is not valid. */
export const placeView = (phone: Phone | null) => ({
  carriers: [...(phone?.carriers ?? [])],
  province: phone?.province ?? null,
  city: phone?.city ?? null,
});

/** How a route answers with `sendMedia`. */
export const mediaResponse = {
  200: { description: 'The bytes, with their own type.', content: { '*/*': { schema: Type.Unknown() } } },
};

/** Sends the bytes of a medium, if these frames name it. */
export async function sendMedia(
  { db }: ConsoleDeps,
  reply: FastifyReply,
  accountId: bigint,
  frames: readonly StoredFrame[],
  sha256: string,
): Promise<Buffer> {
  const isNamed = frames.some(({ media }) => media?.sha256 === sha256);
  const { type, bytes } = found((isNamed ? await findMedia(db.sql, accountId, sha256) : null) ?? undefined, 'medium');
  // The bytes come from a customer, so browsers may show them but never run them.
  void reply.headers({
    'content-type': type,
    'x-content-type-options': 'nosniff',
    'content-security-policy': "default-src 'none'; sandbox",
  });
  return bytes;
}

export const framesView = (frames: readonly StoredFrame[]) =>
  frames.map((frame) => ({ ...frame, media: frame.media && { ...frame.media } }));

/** The longest range of days in one request. */
const maxDays = 31;

/** The days asked for, or the last three. */
export function dayRange({ from, to }: { from?: string; to?: string }, now: Date): DayRange {
  for (const [path, day] of Object.entries({ from, to }))
    if (day !== undefined && !isDay(day)) throw new RequestError(400, 'invalid', `${path}: there is no such day`);
  const toDay = to ?? shanghaiDay(now);
  const fromDay = from ?? addDays(toDay, -2);
  if (fromDay > toDay) throw new RequestError(400, 'invalid', 'from: comes after to');
  if (addDays(fromDay, maxDays) <= toDay) throw new RequestError(400, 'invalid', `from, to: at most ${maxDays} days at once`);
  return { fromDay, toDay };
}

const isDay = (day: string): boolean => !Number.isNaN(Date.parse(`${day}T00:00:00Z`)) && addDays(day, 0) === day;
