/**
 * Customers' programs, written from the vendors' documents alone: forms and MD5 for AIM, signed JSON for MMS. They know only the
 * platform's URL. They distinguish a refusal (`Refused`: an answer came) from no answer at all.
 */
import { createHash, randomUUID } from 'node:crypto';

export const md5 = (text: string): string => createHash('md5').update(text).digest('hex');

/** The platform has answered, and not with success. */
export class Refused extends Error {
  readonly code: string;
  /** What else the answer said. */
  readonly answer: Readonly<Record<string, unknown>>;

  constructor(endpoint: string, code: string, text: string, answer: Readonly<Record<string, unknown>>) {
    super(`${endpoint}: ${code} ${text}`);
    this.code = code;
    this.answer = answer;
  }
}

// ── AIM ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface AimCredentials {
  readonly spId: string;
  readonly password: string;
  readonly templateId: bigint | number;
}

export interface ReportRow {
  readonly ext: string;
  readonly msgId: string;
  readonly mobile: string;
  readonly status: string;
  readonly time: string;
  readonly price: string;
}

export interface ReplyRow {
  readonly content: string;
  readonly mobile: string;
  readonly msgId: string;
  readonly ext: string;
}

export interface Submitted {
  readonly code: number;
  readonly msg: string;
  readonly msgId: string;
  readonly failed: Readonly<Record<string, string>>;
}

export interface Client {
  submit(phones: readonly string[], more?: { content?: string; ext?: string; key?: string }): Promise<Submitted>;
  /** One pull. */
  reports(): Promise<ReportRow[]>;
  replies(): Promise<ReplyRow[]>;
  /** In ten-thousandths of a yuan. */
  balanceE4(): Promise<bigint>;
}

/** Rows as they are pulled, and as they are pushed. */
export function parseReports(text: string): ReportRow[] {
  return rowsOf(text).map(([ext = '', msgId = '', mobile = '', status = '', time = '', price = '']) => ({
    ext,
    msgId,
    mobile,
    status,
    time,
    price,
  }));
}

const rowsOf = (text: string): string[][] => (text === '' ? [] : text.split('|').map((row) => row.split(',')));

const parseReplies = (text: string): ReplyRow[] =>
  rowsOf(text).map(([content = '', mobile = '', msgId = '', ext = '']) => ({ content: decodeURIComponent(content), mobile, msgId, ext }));

/** What is pushed has no message id. */
export const parsePushedReplies = (text: string): ReplyRow[] =>
  rowsOf(text).map(([content = '', mobile = '', ext = '']) => ({ content: decodeURIComponent(content), mobile, msgId: '', ext }));

/** A customer's program, speaking to one node. */
export function clientOf({ port }: { readonly port: number }, { spId, password, templateId }: AimCredentials): Client {
  const credentials = { sp_id: spId, password: md5(password) };
  async function call(endpoint: string, form: Record<string, string> = {}, headers: Record<string, string> = {}) {
    const body = new URLSearchParams({ ...credentials, ...form });
    const response = await fetch(`http://127.0.0.1:${port}/api/${endpoint}`, { method: 'POST', body, headers });
    return (await response.json()) as { code: number; msg: string; msg_id?: string; failed_data?: Submitted['failed']; data?: unknown };
  }
  async function pull(endpoint: string): Promise<string> {
    const { code, msg, data } = await call(endpoint);
    if (code !== 0 || typeof data !== 'string') throw new Refused(endpoint, String(code), msg, {});
    return data;
  }
  return {
    async submit(phones, { content = '【鸿雁】您有一张优惠券 $url$', ext = '', key } = {}) {
      const form = { mobiles: JSON.stringify(phones), content, template_id: String(templateId), ...(ext && { ext }) };
      const answer = await call('send-aim', form, key === undefined ? {} : { 'idempotency-key': key });
      return { code: answer.code, msg: answer.msg, msgId: answer.msg_id ?? '', failed: answer.failed_data ?? {} };
    },
    reports: async () => parseReports(await pull('report')),
    replies: async () => parseReplies(await pull('get-reply')),
    async balanceE4() {
      const { data } = await call('balance');
      return e4((data as { balance: string }).balance);
    },
  };
}

/** A decimal number in ten-thousandths. */
export function e4(decimal: string): bigint {
  const [whole = '0', fraction = ''] = decimal.split('.');
  return BigInt(whole + fraction.padEnd(4, '0'));
}

// ── MMS ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface MmsCredentials {
  readonly apiId: string;
  readonly apiKey: string;
}

export function mmsSignature(parameters: Readonly<Record<string, unknown>>, apiKey: string): string {
  const { api_id: apiId, request_id: requestId, timestamp } = parameters;
  return md5(`api_id=${String(apiId)}&api_key=${apiKey}&request_id=${String(requestId)}&timestamp=${String(timestamp)}`);
}

/** Calls an endpoint of the MMS API; what is given replaces the common parameters too. */
export async function callMms(
  { port }: { readonly port: number },
  { apiId, apiKey }: MmsCredentials,
  endpoint: string,
  parameters: Readonly<Record<string, unknown>> = {},
): Promise<Readonly<Record<string, unknown>>> {
  const common = { api_id: apiId, timestamp: Math.floor(Date.now() / 1000), request_id: randomUUID(), ...parameters };
  const response = await fetch(`http://127.0.0.1:${port}/mms/v1/${endpoint}`, {
    method: 'POST',
    body: JSON.stringify({ signature: mmsSignature(common, apiKey), ...common }),
  });
  const answer = (await response.json()) as Record<string, unknown>;
  if (answer['code'] !== 'OK') throw new Refused(endpoint, String(answer['code']), String(answer['message']), answer);
  return answer;
}
