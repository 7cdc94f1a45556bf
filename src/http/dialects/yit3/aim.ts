/**
 * The AIM dialect: the smart SMS API of 3yit, so that a client written against that vendor works by changing its base URL. Four
 * endpoints under /api, and the form of the rows that are pulled and pushed.
 *
 * Every decision follows the vendor's document; where that leaves something open, docs/api/aim.md says how we read it. This file owns what
 * is on the wire: parameters, order of checks, codes, texts, formats. The core decides what happens to a submission.
 */
import { createHash } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Directory, Tenancy } from '../../../core/config/directory.ts';
import { yuan } from '../../../core/money/ledger.ts';
import type { PushRules, ReplyEvent, ReportEvents } from '../../../core/model/dialect.ts';
import { Refusal, type RefusalCode } from '../../../core/model/refusals.ts';
import type { ScreeningStatus } from '../../../core/model/statuses.ts';
import type { Receipt, Recipient, Submission } from '../../../core/model/submission.ts';
import { sourceNumberLength } from '../../../core/queue/routing.ts';
import { wallClock } from '../../../std/shanghai.ts';
import { createFailureLimiter, isListed, isMd5Of, isSignature } from '../../auth.ts';
import { type HttpPart, jsonType, type Problem, problemStatus } from '../../part.ts';
import type { Dialect, DialectDeps } from '../dialect.ts';
import { canonicalForm, encodeValue, type Form, parseForm, TooManyParameters } from './form.ts';

const dialectName = '3yit';

// Ten thousand numbers with their parameters fit into 8 MiB, even if every character is escaped.
const bodyLimit = 8 << 20;
const maxEntries = 10_000;
const maxContentLength = 1000;
const maxSourceDigits = 20;
const maxMobileLength = 32;

// ── codes ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The vendor's codes and texts, to the letter. */
const texts = {
  10000: '服务出错,请稍后再试',
  10001: '参数错误,请确认',
  10008: '账号被锁定,请联系管理员确认',
  10011: '余额不足,请尽快充值',
  10100: '签名校验失败',
  10101: '您的ip不在白名单内,请确认',
  10102: '密码错误,请确认',
  10700: 'aim模版未报备通过',
  10701: '请使用aim产品发送',
  10702: '请选择正确的aim模版',
  10703: '动参个数不正确,请确认',
  10704: '发送内容需要带有aim url占位符',
  10705: '请按照文档格式传输mobiles字段',
} as const;
type Code = keyof typeof texts;

const refusals: Readonly<Record<RefusalCode, Code>> = {
  invalid: 10001,
  wrong_product: 10701,
  malformed_recipients: 10705,
  template_not_found: 10702,
  template_not_approved: 10700,
  parameters_mismatch: 10703,
  placeholder_missing: 10704,
  // These concern packages and request ids that forbid a repeat. This dialect has neither.
  content_invalid: 10001,
  content_too_large: 10001,
  request_repeated: 10001,
  insufficient_balance: 10011,
};

/** The statuses of the vendor's table. Ours are the same. */
const statuses: Readonly<Record<ScreeningStatus, string>> = {
  'WL:CWHM': 'WL:CWHM',
  'WL:MQM': 'WL:MQM',
  'WL:QWBB': 'WL:QWBB',
  'WL:TCLJ': 'WL:TCLJ',
  'WL:TCSH': 'WL:TCSH',
  'WL:MBLJ': 'WL:MBLJ',
  'WL:MBSH': 'WL:MBSH',
  'WL:ZJLJ': 'WL:ZJLJ',
  'WL:NMLJ': 'WL:NMLJ',
  'WL:NMSH': 'WL:NMSH',
  'WL:KHLJ': 'WL:KHLJ',
  'WL:CHLJ': 'WL:CHLJ',
  'WL:SHLJ': 'WL:SHLJ',
  'WL:QHLJ': 'WL:QHLJ',
  'WL:CPL': 'WL:CPL',
  'WL:CS': 'WL:CS',
  'WL:CMT': 'WL:CMT',
  'WL:CGMT': 'WL:CGMT',
  'WL:CDQC': 'WL:CDQC',
  'WL:CNH': 'WL:CNH',
};

/** A carrier's status is passed on unchanged. */
const statusOf = (code: string): string => statuses[code as ScreeningStatus] ?? code;

/** A refusal in this dialect's own codes, before the core is asked. */
class Denied extends Error {
  readonly code: Code;
  constructor(code: Code, detail: string) {
    super(detail);
    this.code = code;
  }
}

const failureBody = (code: Code, detail: string): string => JSON.stringify({ code, msg: `${texts[code]}: ${detail}` });

const problems: Readonly<Record<Problem, readonly [Code, string]>> = {
  not_found: [10001, '没有这个接口'],
  method_not_allowed: [10001, '此接口不支持该请求方法'],
  too_large: [10001, '请求体超过大小限制'],
  malformed: [10001, '请求无法解析'],
  forbidden_host: [10001, '只接受发往本机地址的请求'],
  too_many: [10000, '来自此地址的请求或凭证错误过多，请稍后再试'],
  unavailable: [10000, '服务正在启动、停止或繁忙，请重试'],
  fault: [10000, '可以安全重试，请求编号'],
};

// ── the part ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function createAim3yit({ directory, submit, pullReports, pullReplies, balance, clock, count }: DialectDeps): HttpPart {
  const failures = createFailureLimiter({ clock, perMinute: () => directory.settings().failuresPerMinute });

  /**
   * Finds the caller's account and subscription, or refuses the request; the checks are in the documented order. Reads only sp_id and the
   * credential, because a stranger must not make us work or learn whether an account is locked.
   */
  function authenticate(request: FastifyRequest, form: Form): Tenancy {
    const { method, clientAddress: address } = request;
    const spId = form.get('sp_id')?.value ?? '';
    const signature = form.get('signature')?.value ?? '';
    const password = form.get('password')?.value ?? '';
    if (spId === '') throw new Denied(10001, '缺少参数 sp_id');
    if (signature === '' && password === '') throw new Denied(10001, '缺少参数 signature 或 password');
    const tenancy = /^\d{1,18}$/.test(spId) ? directory.bySpId(BigInt(spId)) : undefined;
    if (!tenancy) {
      request.countFailure();
      throw new Denied(10001, '没有这个 sp_id');
    }
    const { account, subscription } = tenancy;
    if (account.ipAllowList.length > 0 && !isListed(account.ipAllowList, address)) throw new Denied(10101, `请求来自 ${address}`);

    const code = signature === '' ? 10102 : 10100;
    // Counted by the id, because an sp_id may also be written with leading zeros.
    const subject = String(subscription.id);
    if (failures.isBlocked(address, subject)) throw new Denied(code, '失败次数过多，请一分钟后再试');
    const proven =
      tenancy.password !== null &&
      (signature === ''
        ? isMd5Of(password, tenancy.password)
        : isSignature(signature, `${method}&%2F&${canonicalForm(form, ['signature'])}`, tenancy.password));
    if (!proven) {
      failures.failed(address, subject);
      request.countFailure();
      throw new Denied(
        code,
        signature === '' ? 'password 应为产品密码的 32 位 md5' : `签名与收到的 ${form.size - 1} 个参数不符（请求方法 ${method}）`,
      );
    }

    if (account.locked) throw new Denied(10008, '账号已锁定');
    if (!subscription.enabled) throw new Denied(10008, '此 sp_id 已停用');
    for (const [name, { broken }] of form) if (broken !== null) throw new Denied(10001, `参数 ${JSON.stringify(name)} ${broken}`);
    return tenancy;
  }

  function refusal(code: Code, detail: string): string {
    count('refused', 1, { dialect: 'aim', code: String(code) });
    return failureBody(code, detail);
  }

  /** Wraps an endpoint: authenticates, and turns refusals into answers. The listener handles every other error. */
  function endpoint(work: (tenancy: Tenancy, form: Form, request: FastifyRequest) => Promise<string>) {
    return async (request: FastifyRequest, reply: FastifyReply): Promise<string> => {
      reply.header('content-type', jsonType);
      try {
        const form = formOf(request);
        return await work(authenticate(request, form), form, request);
      } catch (error) {
        if (error instanceof Denied) return refusal(error.code, error.message);
        if (error instanceof Refusal) return refusal(refusals[error.code], error.detail);
        throw error;
      }
    };
  }

  const send = endpoint(async (tenancy, form, request) => {
    const receipt = await submit(tenancy, readSubmission(directory, tenancy, form, request));
    return `{"code":0,"msg":"success","msg_id":"${receipt.batchId}","failed_data":${failedData(receipt)}}`;
  });

  const report = endpoint(async (tenancy) => {
    const rows = await pullReports(tenancy, dialectName, directory.settings().rowsPerPull);
    count(
      'pulled',
      rows.reduce((sum, { mobiles }) => sum + mobiles.length, 0),
    );
    return success(reportRows(rows));
  });
  const reply = endpoint(async (tenancy) => {
    const rows = await pullReplies(tenancy, dialectName, directory.settings().rowsPerPull);
    count('pulled', rows.length);
    return success(rows.map(pulledReply).join('|'));
  });
  const getBalance = endpoint(async ({ subscription }) => success({ balance: yuan(await balance(subscription)) }));

  return {
    prefix: '/api',
    routes(server) {
      // Clients send any Content-Type or none, so the body is always read as a form.
      server.removeAllContentTypeParsers();
      server.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
      server.addHook('onRequest', (request, _reply, done) => {
        if (request.headers['content-type'] !== undefined) request.headers['content-type'] = 'application/x-www-form-urlencoded';
        done();
      });
      server.route({ method: 'POST', url: '/api/send-aim', bodyLimit, handler: send });
      server.route({ method: ['GET', 'POST'], url: '/api/report', handler: report });
      server.route({ method: ['GET', 'POST'], url: '/api/get-reply', handler: reply });
      server.route({ method: ['GET', 'POST'], url: '/api/balance', handler: getBalance });
    },
    failure(problem, requestId) {
      const [code, detail] = problems[problem];
      // An answer with a vendor code has status 200. The listener's own answers keep theirs, except for a malformed body and a fault.
      const status = problem === 'malformed' || problem === 'fault' ? 200 : problemStatus[problem];
      return { status, contentType: jsonType, body: failureBody(code, problem === 'fault' ? `${detail} ${requestId}` : detail) };
    },
  };
}

const success = (data: unknown): string => JSON.stringify({ code: 0, msg: 'success', data });

/** The parameters of query and body together; the body wins. */
function formOf({ raw, body }: FastifyRequest): Form {
  const url = raw.url ?? '';
  const question = url.indexOf('?');
  const query = question === -1 ? '' : url.slice(question + 1);
  try {
    return Buffer.isBuffer(body) ? parseForm(query, body) : parseForm(query);
  } catch (error) {
    if (error instanceof TooManyParameters) throw new Denied(10001, '参数过多');
    throw error;
  }
}

// ── send-aim ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The checks that need no template and no money, in the documented order. */
function readSubmission(directory: Directory, tenancy: Tenancy, form: Form, httpRequest: FastifyRequest): Submission {
  const {
    mobiles = '',
    content = '',
    template_id: templateId = '',
  } = Object.fromEntries([...form].map(([name, { value }]) => [name, value]));
  for (const [name, value] of Object.entries({ mobiles, content, template_id: templateId })) {
    if (value === '') throw new Denied(10001, `缺少参数 ${name}`);
  }
  const ext = form.get('ext')?.value ?? '';
  if (!/^\d*$/.test(ext)) throw new Denied(10001, 'ext 只能是数字');
  const sourceDigits = Math.max(ext.length, sourceNumberLength(directory, tenancy, ext));
  if (sourceDigits > maxSourceDigits) throw new Denied(10001, `加上 ext 后主叫号码有 ${sourceDigits} 位，超过 ${maxSourceDigits} 位`);
  const recipients = readRecipients(mobiles);
  if (recipients.kind === 'too_many') throw new Denied(10001, `mobiles 有 ${recipients.entries} 项，一次最多 ${maxEntries} 项`);
  // Counted as a person counts: a character outside the basic plane (two UTF-16 units) is one.
  if (content.length > maxContentLength && Array.from(content).length > maxContentLength)
    throw new Denied(10001, `content 超过 ${maxContentLength} 个字符`);
  if (content.includes('\0')) throw new Denied(10001, 'content 含有空字符');
  const request = readIdempotencyKey(form, httpRequest);
  if (tenancy.product.medium !== 'aim') throw new Denied(10701, `产品 ${tenancy.product.name} 不是 aim 产品`);
  if (tenancy.subscription.dialect !== dialectName) throw new Denied(10701, '此 sp_id 已改用其他接口发送');
  if (recipients.kind === 'malformed') throw new Denied(10705, recipients.reason);
  if (!/^\d{1,18}$/.test(templateId)) throw new Denied(10702, `没有模版 ${JSON.stringify(templateId.slice(0, 32))}`);
  return {
    recipients: recipients.recipients,
    content: { kind: 'card', text: content, templateId: BigInt(templateId) },
    ext,
    sendAt: null,
    request,
  };
}

/** The `Idempotency-Key`, which is ours and not the vendor's. A repeat with another credential is still the same request. */
function readIdempotencyKey(form: Form, { headers }: FastifyRequest): Submission['request'] {
  const header = headers['idempotency-key'];
  if (header === undefined || header === '') return null;
  if (typeof header !== 'string' || !/^[\x20-\x7e]{1,128}$/.test(header))
    throw new Denied(10001, 'Idempotency-Key 应为不超过 128 个的可打印 ASCII 字符');
  const digest = createHash('sha256')
    .update(canonicalForm(form, ['signature', 'password']))
    .digest('hex');
  return { key: header, digest };
}

type Recipients =
  | { readonly kind: 'read'; readonly recipients: readonly Recipient[] }
  | { readonly kind: 'too_many'; readonly entries: number }
  | { readonly kind: 'malformed'; readonly reason: string };

/**
 * Reads `mobiles`: `["138…",…]` or `[["138…",["v1",…]],…]`, numbers as strings or integers. The core decides whether a well-formed entry
 * is a valid number; here an entry must only not break the comma-separated reports.
 */
export function readRecipients(text: string): Recipients {
  const { entries, depth } = measure(text);
  if (entries > maxEntries) return { kind: 'too_many', entries };
  if (depth > 3) return malformed('嵌套过深');
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return malformed('不是合法的 JSON');
  }
  if (!Array.isArray(json)) return malformed('不是 JSON 数组');
  if (json.length === 0) return malformed('没有号码');

  const list: readonly unknown[] = json;
  const pairs = Array.isArray(list[0]);
  const recipients: Recipient[] = [];
  for (const [index, entry] of list.entries()) {
    const at = `第 ${index + 1} 项`;
    if (Array.isArray(entry) !== pairs) return malformed(`${at}与第 1 项的形式不同`);
    const pair: readonly unknown[] = Array.isArray(entry) ? entry : [entry, []];
    if (pair.length !== 2) return malformed(`${at}应为 ["手机号",["动参",…]]`);
    const [number, values] = pair;
    const written = typeof number === 'string' ? number : Number.isSafeInteger(number) ? String(number) : null;
    if (written === null) return malformed(`${at}的手机号应为字符串或整数`);
    if (written.length > maxMobileLength) return malformed(`${at}的手机号超过 ${maxMobileLength} 个字符`);
    if (!/^[+0-9 ()-]*$/.test(written)) return malformed(`${at}的手机号含有数字、+、空格、括号和连字符以外的字符`);
    if (!Array.isArray(values)) return malformed(`${at}的动参应为数组`);
    const read = values.map(readValue);
    if (!isComplete(read)) return malformed(`${at}的第 ${read.indexOf(null) + 1} 个动参应为字符串`);
    recipients.push({ written, values: read });
  }
  return { kind: 'read', recipients };
}

const malformed = (reason: string): Recipients => ({ kind: 'malformed', reason });

/** A parameter's value: text, or a number that the client did not quote. Null if it cannot be shown or stored. */
function readValue(value: unknown): string | null {
  if (typeof value === 'number') return String(value);
  return typeof value === 'string' && !/[\0\p{Cs}]/u.test(value) ? value : null;
}

const isComplete = (values: readonly (string | null)[]): values is readonly string[] => !values.includes(null);

/** Counts the entries and levels of a JSON text, so that the parser never makes objects out of megabytes of brackets. */
function measure(text: string): { entries: number; depth: number } {
  let entries = 1;
  let depth = 0;
  let deepest = 0;
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const character = text.charCodeAt(i);
    if (quoted) {
      if (character === 0x5c) i++;
      else if (character === 0x22) quoted = false;
    } else if (character === 0x22) quoted = true;
    else if (character === 0x2c) entries += depth === 1 ? 1 : 0;
    else if (character === 0x5b || character === 0x7b) deepest = Math.max(deepest, ++depth);
    else if (character === 0x5d || character === 0x7d) depth--;
  }
  return { entries, depth: deepest };
}

/** An object number → status; an empty array if no number was intercepted. Made by hand: an object would put `10086` before `138…`. */
function failedData({ intercepted }: Receipt): string {
  if (intercepted.length === 0) return '[]';
  return `{${intercepted.map(({ written, code }) => `${JSON.stringify(written)}:${JSON.stringify(statusOf(code))}`).join(',')}}`;
}

// ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** How events are pushed: once, as raw UTF-8 rows. */
export const aimPush = {
  urls: 'subscription',
  carries: 'many',
  delaysSeconds: () => [],
  isSuccess: ({ status }) => status >= 200 && status < 300,
  audit: null,
  report: (events: readonly ReportEvents[]) => ({ contentType: 'text/plain; charset=utf-8', body: reportRows(events) }),
  reply: (events: readonly ReplyEvent[]) => ({ contentType: 'text/plain; charset=utf-8', body: events.map(pushedReply).join('|') }),
} satisfies PushRules;

/** `ext,msg_id,mobile,status,time,price`, joined by `|`. */
function reportRows(events: readonly ReportEvents[]): string {
  return events
    .flatMap(({ ext, batchId, mobiles, code, at, costE4 }) => {
      const [before, after] = [`${ext},${batchId},`, `,${inRow(statusOf(code))},${wallClock(at)},${formatPrice(costE4)}`];
      return mobiles.map((mobile) => before + mobile + after);
    })
    .join('|');
}

/** `urlencode(content),mobile,msg_id,ext,time`. */
function pulledReply({ content, mobile, batchId, ext, at }: ReplyEvent): string {
  return `${encodeValue(content)},${mobile},${batchId ?? ''},${inRow(ext)},${wallClock(at).replace(/[- :]/g, '')}`;
}

/** As in a pull, but without msg_id: the vendor's push has four fields. */
function pushedReply({ content, mobile, ext, at }: ReplyEvent): string {
  return `${encodeValue(content)},${mobile},${inRow(ext)},${wallClock(at).replace(/[- :]/g, '')}`;
}

/** A carrier's text must not break the row. */
const inRow = (text: string): string => (/[,|\s]/.test(text) ? text.replace(/[,|\s]/g, '_') : text);

/** Yuan without trailing zeros: `0.2`, `0`. */
const formatPrice = (amountE4: bigint): string => yuan(amountE4).replace(/\.?0+$/, '');

/** All the vendor's SMS calls. The sp_id names the product, so the calls for plain SMS belong here too. */
export const yit3: Dialect = {
  name: dialectName,
  credentials: 'sp_id',
  media: ['aim', 'sms'],
  canPull: true,
  push: aimPush,
  refusals,
  statuses,
  parts: (deps) => [createAim3yit(deps)],
};
