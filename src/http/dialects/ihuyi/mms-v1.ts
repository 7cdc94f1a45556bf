/**
 * The MMS dialect: the marketing MMS API (v1) of ihuyi, so that a client written against that vendor works by changing its base URL.
 * Three endpoints under /mms/v1, and the pushes of reports, replies and audits.
 *
 * docs/api/mms.md describes what is on the wire: parameters, order of checks, codes, texts, formats. The core decides what happens to a
 * submission.
 *
 * The signature covers an unquoted number with its digits as they were written. JSON.parse rounds beyond 2^53, so the digits are read from
 * the text itself.
 */
import { explain } from '../../../core/watch/codes.ts';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { ApiAccount, Tenancy } from '../../../core/config/directory.ts';
import { type Account, defaultPackageLimits, type ProductLimits } from '../../../core/model/configuration.ts';
import { Refusal, type RefusalCode, RepeatedRequest } from '../../../core/model/refusals.ts';
import type { RequestKey } from '../../../core/model/submission.ts';
import { parseNumber } from '../../../core/model/numbers.ts';
import type { PushRules } from '../../../core/model/dialect.ts';
import type { ScreeningStatus } from '../../../core/model/statuses.ts';
import { checkLimits, type PackageDraft, readPackage, signed } from '../../../core/content/frames.ts';
import { wallClock } from '../../../std/shanghai.ts';
import { createFailureLimiter, isListed, isMd5Of } from '../../auth.ts';
import { type HttpPart, jsonType, type Problem, problemStatus } from '../../part.ts';
import type { Dialect, DialectDeps } from '../dialect.ts';

const dialectName = 'ihuyi-mms';

const bodyBytes = 4 << 20;
const maxDepth = 8;
const maxNumbers = 10_000;
const maxNumberLength = 32;
const maxTitle = 40;
const maxPurpose = 200;
const maxRequestId = 128;
const maxSkewSeconds = 60;
const maxDaysAhead = 30;

// ── codes ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

type Code =
  | 'InputDataInvalid'
  | 'ApiIdInvalid'
  | 'SignatureInvalid'
  | 'TimestampExpired'
  | 'RequestDuplicated'
  | 'IpNotAllowed'
  | 'AccountLocked'
  | 'ProductInvalid'
  | 'PhoneInvalid'
  | 'PhoneTooMany'
  | 'SignNameRequired'
  | 'SignNameNotApproved'
  | 'TitleRequired'
  | 'ContentInvalid'
  | 'ContentTooLarge'
  | 'TemplateNotFound'
  | 'TemplateNotApproved'
  | 'SendTimeInvalid'
  | 'BalanceInsufficient'
  | 'RateLimited'
  | 'SystemBusy';

const refusals: Readonly<Record<RefusalCode, Code>> = {
  invalid: 'InputDataInvalid',
  wrong_product: 'ProductInvalid',
  malformed_recipients: 'PhoneInvalid',
  template_not_found: 'TemplateNotFound',
  template_not_approved: 'TemplateNotApproved',
  // This concerns cards, which this dialect does not have.
  parameters_mismatch: 'ContentInvalid',
  placeholder_missing: 'ContentInvalid',
  content_invalid: 'ContentInvalid',
  content_too_large: 'ContentTooLarge',
  request_repeated: 'RequestDuplicated',
  insufficient_balance: 'BalanceInsufficient',
};

/** The statuses of the vendor's other products; its MMS document lists none. */
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

/** A carrier's status is passed on unchanged, except `DELIVRD`: the vendor's document writes it `DELIVERED`. */
const statusOf = (code: string): string => (code === 'DELIVRD' ? 'DELIVERED' : (statuses[code as ScreeningStatus] ?? code));

/** A refusal in this dialect's own codes. */
class Denied extends Error {
  readonly code: Code;
  constructor(code: Code, message: string) {
    super(message);
    this.code = code;
  }
}

const missing = (name: string): Denied => new Denied('InputDataInvalid', `${name}: 缺少此参数`);
const malformed = (name: string, reason: string): Denied => new Denied('InputDataInvalid', `${name}: ${reason}`);

const failureBody = (code: Code, message: string, first: Readonly<Record<string, unknown>> = {}): string =>
  JSON.stringify({ code, message, ...first });

const problems: Readonly<Record<Problem, readonly [Code, string]>> = {
  not_found: ['InputDataInvalid', '没有这个接口'],
  method_not_allowed: ['InputDataInvalid', '此接口只支持 POST'],
  too_large: ['ContentTooLarge', '请求体超过大小限制'],
  malformed: ['InputDataInvalid', '请求无法解析'],
  forbidden_host: ['InputDataInvalid', '只接受发往本机地址的请求'],
  too_many: ['RateLimited', '来自此地址的请求或签名错误过多,请稍后再试'],
  unavailable: ['SystemBusy', '服务正在启动、停止或繁忙,请重试'],
  fault: ['SystemBusy', '服务出错,可以用同一个 request_id 安全重试,请求编号'],
};

// ── the part ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function createIhuyiMmsV1(deps: DialectDeps): HttpPart {
  const { directory, submit, checkRequest, usablePackage, createTemplate, balance, clock } = deps;
  const failures = createFailureLimiter({ clock, perMinute: () => directory.settings().failuresPerMinute });

  /** Finds the caller's account, or refuses the request; the checks are in the documented order. */
  function authenticate(body: Body, request: FastifyRequest): Account {
    const address = request.clientAddress;
    const common = readCommon(body);
    const found: ApiAccount | undefined = directory.byApiId(common.apiId);
    if (!found) {
      request.countFailure();
      throw new Denied('ApiIdInvalid', 'api_id: 没有这个 api_id');
    }
    const { account, apiKey } = found;
    if (account.ipAllowList.length > 0 && !isListed(account.ipAllowList, address))
      throw new Denied('IpNotAllowed', `请求来自 ${address},不在白名单内`);

    const subject = `api ${account.id}`;
    if (failures.isBlocked(address, subject)) throw new Denied('SignatureInvalid', 'signature: 失败次数过多,请一分钟后再试');
    const text = `api_id=${common.apiId}&api_key=${apiKey}&request_id=${common.requestId}&timestamp=${common.timestamp}`;
    if (!isMd5Of(common.signature, text)) {
      failures.failed(address, subject);
      request.countFailure();
      throw new Denied('SignatureInvalid', 'signature: 与 api_id、api_key、request_id、timestamp 的 md5 不符');
    }

    const now = Math.floor(clock().getTime() / 1000);
    const skew = Number(common.timestamp) - now;
    if (Math.abs(skew) > maxSkewSeconds)
      throw new Denied('TimestampExpired', `timestamp: 服务器时间为 ${now},相差 ${skew} 秒,最多 ${maxSkewSeconds} 秒`);
    if (account.locked) throw new Denied('AccountLocked', '账号已锁定,请联系管理员');
    return account;
  }

  function refusal(code: Code, message: string, first?: Readonly<Record<string, unknown>>): string {
    deps.count('refused', 1, { dialect: 'mms', code });
    return failureBody(code, message, first);
  }

  /** Wraps an endpoint: reads, authenticates, and turns refusals into answers. The listener handles every other error. */
  function endpoint(work: (account: Account, body: Body) => Promise<string>) {
    return async (request: FastifyRequest, reply: FastifyReply): Promise<string> => {
      reply.header('content-type', jsonType);
      try {
        const read = readBody(request.body);
        return await work(authenticate(read, request), read);
      } catch (error) {
        if (error instanceof Denied) return refusal(error.code, error.message);
        if (error instanceof RepeatedRequest) return refusal('RequestDuplicated', error.detail, subjectOf(error));
        if (error instanceof Refusal) return refusal(refusals[error.code], error.detail);
        throw error;
      }
    };
  }

  /** The account's subscription to this product; throws if there is none that may be used. */
  function productOf(account: Account, productId: bigint): Tenancy {
    const found = mmsOf(account).find(({ product }) => product.id === productId);
    if (!found) throw new Denied('ProductInvalid', `product_id: 没有开通彩信产品 ${productId}`);
    return found;
  }

  const mmsOf = ({ id }: Account): Tenancy[] =>
    directory
      .subscriptionsOf(id)
      .filter(({ product, subscription }) => product.medium === 'mms' && subscription.dialect === dialectName && subscription.enabled);

  function registered(account: Account, name: string): string {
    if (directory.signature(account.id, name) === undefined) throw new Denied('SignNameNotApproved', `sign_name: 签名【${name}】未报备`);
    return name;
  }

  // The shape is checked first, then the request id, then the rest in the order of the table.
  const batchSend = endpoint(async (account, body) => {
    const productId = readProductId(body);
    const written = readNumbers(body);
    const content = body.optional('content', isArray, '应为数组');
    const templateId = readTemplateId(body);
    const name = readSignName(body);
    const title = body.optional('title', isText, '应为字符串')?.trim() ?? '';
    const sendTime = body.optional('send_time', isText, '应为字符串')?.trim() ?? '';
    const hasContent = content !== null && (content.length > 0 || templateId === null);
    if (!hasContent && templateId === null) throw malformed('content', '彩信内容和 template_id 必须传入一个');
    if (Array.from(title).length > maxTitle) throw malformed('title', `不得超过 ${maxTitle} 个字符`);
    const request = requestOf(body);
    await checkRequest(account.id, request);

    const tenancy = productOf(account, productId);
    checkNumbers(written);
    const limits = { ...defaultPackageLimits, ...tenancy.product.limits };
    const draft = hasContent ? await readPackage(account.id, content, limits) : null;
    const template = draft === null && templateId !== null ? await usablePackage(account.id, templateId) : null;
    if (template) checkLimits(template.frames, limits);
    const signature = name === '' ? template?.signature : name;
    if (signature === undefined) throw new Denied('SignNameRequired', 'sign_name: 没有 template_id 时必填');
    registered(account, signature);
    if (draft && title === '') throw new Denied('TitleRequired', 'title: 没有 template_id 时必填');
    const sendAt = readSendTime(sendTime, clock());

    const frames = signed(draft?.frames ?? template?.frames ?? [], signature);
    const { batchId } = await submit(tenancy, {
      recipients: written.map((number) => ({ written: number, values: [] })),
      content: {
        kind: 'package',
        // The title of a template is never sent to a phone.
        package: { subject: title === '' ? signature : title, frames },
        media: draft?.media ?? [],
        templateId: template ? templateId : null,
      },
      ext: '',
      sendAt,
      request,
    });
    return `{"code":"OK","message":"提交成功","task_id":"${batchId}"}`;
  });

  const getBalance = endpoint(async (account) => {
    const data = await Promise.all(
      mmsOf(account).map(async ({ product: { id, name }, subscription }) => {
        return { product_id: Number(id), product_name: name, balance: Number(await balance(subscription)) / 10_000 };
      }),
    );
    return JSON.stringify({ code: 'OK', message: '请求成功', data: data.sort((a, b) => a.product_id - b.product_id) });
  });

  const templateCreate = endpoint(async (account, body) => {
    const title = body.optional('title', isText, '应为字符串')?.trim() ?? '';
    const content = body.optional('content', isArray, '应为数组');
    const purpose = body.optional('purpose', isText, '应为字符串')?.trim() ?? '';
    const name = readSignName(body);
    if (Array.from(title).length > maxTitle) throw malformed('title', `不得超过 ${maxTitle} 个字符`);
    if (content === null) throw missing('content');
    if (purpose === '') throw missing('purpose');
    if (Array.from(purpose).length > maxPurpose) throw malformed('purpose', `不得超过 ${maxPurpose} 个字符`);
    const request = requestOf(body);
    await checkRequest(account.id, request);

    const products = mmsOf(account);
    if (products.length === 0) throw new Denied('ProductInvalid', '没有开通彩信产品');
    if (title === '') throw new Denied('TitleRequired', 'title: 缺少此参数');
    const draft: PackageDraft = await readPackage(account.id, content, widest(products.map(({ product }) => product.limits)));
    if (name === '') throw new Denied('SignNameRequired', 'sign_name: 缺少此参数');
    const signature = registered(account, name);
    const id = await createTemplate({ accountId: account.id, title, draft, purpose, signature, request });
    return `{"code":"OK","message":"提交成功,等待审核","template_id":${id}}`;
  });

  return {
    prefix: '/mms/v1',
    routes(server) {
      // Clients send a wrong Content-Type or none, so the body is always read as JSON.
      server.removeAllContentTypeParsers();
      server.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
      server.addHook('onRequest', (request, _reply, done) => {
        if (request.headers['content-type'] !== undefined) request.headers['content-type'] = 'application/json';
        done();
      });
      const routes = { batchSend, balance: getBalance, templateCreate };
      for (const [name, handler] of Object.entries(routes))
        server.route({ method: 'POST', url: `/mms/v1/${name}`, bodyLimit: bodyBytes, handler });
    },
    failure(problem, requestId) {
      const [code, message] = problems[problem];
      // Every answer has status 200, except those that docs/api/mms.md names.
      const status = problem === 'malformed' || problem === 'fault' ? 200 : problemStatus[problem];
      return { status, contentType: jsonType, body: failureBody(code, problem === 'fault' ? `${message} ${requestId}` : message) };
    },
  };
}

/** The batch or the template that the first request with this request id made. */
const subjectOf = ({ first: { kind, id } }: RepeatedRequest): Record<string, unknown> =>
  kind === 'batch' ? { task_id: String(id) } : { template_id: Number(id) };

/** The widest limits of all the products, because a template may be used with any of them. */
function widest(limits: readonly ProductLimits[]): Required<ProductLimits> {
  const of = (name: keyof ProductLimits): number => Math.max(...limits.map((limit) => limit[name] ?? defaultPackageLimits[name]));
  return { packageKiB: of('packageKiB'), frames: of('frames'), textCharacters: of('textCharacters') };
}

// ── the body ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Body {
  /** The value of a parameter; undefined if it is missing. */
  value(name: string): unknown;
  /** The digits of an unquoted number, as they were written. */
  literal(name: string): string | undefined;
  /** A parameter that may be left out or empty; null, "" and 0 count as empty. */
  optional<T>(name: string, check: (value: unknown) => value is T, rule: string): T | null;
}

const utf8 = new TextDecoder('utf-8', { fatal: true });
const isText = (value: unknown): value is string => typeof value === 'string' && !/[\0\p{Cs}]/u.test(value);
const isArray = (value: unknown): value is readonly unknown[] => Array.isArray(value);

function readBody(bytes: unknown): Body {
  let text: string;
  try {
    text = Buffer.isBuffer(bytes) ? utf8.decode(bytes) : '';
  } catch {
    throw new Denied('InputDataInvalid', '请求体不是 UTF-8 编码');
  }
  const { depth, literals } = scan(text);
  if (depth > maxDepth) throw new Denied('InputDataInvalid', `请求体嵌套超过 ${maxDepth} 层`);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new Denied('InputDataInvalid', '请求体不是合法的 JSON');
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw new Denied('InputDataInvalid', '请求体应为 JSON 对象');
  const values = new Map<string, unknown>(Object.entries(json));
  const value = (name: string): unknown => values.get(name);
  return {
    value,
    literal: (name) => (typeof value(name) === 'number' ? literals.get(name) : undefined),
    optional(name, check, rule) {
      const given = value(name);
      if (given === undefined || given === null || given === '' || given === 0) return null;
      if (!check(given)) throw malformed(name, rule);
      return given;
    },
  };
}

/**
 * Finds the depth of a JSON text, so that the parser never makes objects out of megabytes of brackets, and the numbers of its outermost
 * object as they are written. For a text that is not JSON the result means nothing.
 */
function scan(text: string): { depth: number; literals: Map<string, string> } {
  const literals = new Map<string, string>();
  let depth = 0;
  let deepest = 0;
  let key: string | null = null;
  for (let at = 0; at < text.length; at++) {
    const character = text.charCodeAt(at);
    if (character === 0x22) {
      const from = at++;
      while (at < text.length && text.charCodeAt(at) !== 0x22) at += text.charCodeAt(at) === 0x5c ? 2 : 1;
      if (depth === 1) key = text.slice(from + 1, at);
    } else if (character === 0x5b || character === 0x7b) {
      deepest = Math.max(deepest, ++depth);
      key = null;
    } else if (character === 0x5d || character === 0x7d) depth--;
    else if (depth === 1 && key !== null && (character === 0x2d || (character >= 0x30 && character <= 0x39))) {
      const [literal = ''] = /^[-+.\deE]+/.exec(text.slice(at, at + 400)) ?? [];
      literals.set(key, literal);
      key = null;
      at += literal.length - 1;
    }
  }
  return { depth: deepest, literals };
}

// ── parameters ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Common {
  readonly apiId: string;
  readonly signature: string;
  readonly timestamp: string;
  readonly requestId: string;
}

/** Checks the shape of the parameters that every request has, in the order of the documented table. */
function readCommon(body: Body): Common {
  const apiId = body.value('api_id');
  if (apiId === undefined || apiId === null || apiId === '') throw missing('api_id');
  if (!isText(apiId)) throw malformed('api_id', '应为字符串');
  const timestamp = textOrDigits(body, 'timestamp');
  if (!/^\d{1,18}$/.test(timestamp)) throw malformed('timestamp', '应为 10 位 Unix 时间戳(秒)');
  const requestId = textOrDigits(body, 'request_id');
  if (requestId.length > maxRequestId) throw malformed('request_id', `不得超过 ${maxRequestId} 个字符`);
  const signature = body.value('signature');
  if (signature === undefined || signature === null || signature === '') throw missing('signature');
  if (!isText(signature)) throw malformed('signature', '应为字符串');
  return { apiId, signature, timestamp, requestId };
}

function textOrDigits(body: Body, name: string): string {
  const value = body.value(name);
  if (value === undefined || value === null || value === '') throw missing(name);
  const digits = body.literal(name);
  if (digits !== undefined) {
    if (!/^\d+$/.test(digits)) throw malformed(name, '应为字符串或整数');
    return digits;
  }
  if (!isText(value)) throw malformed(name, '应为字符串或整数');
  return value;
}

/** All calls of an account share one namespace of request ids. */
const requestOf = (body: Body): RequestKey => ({ key: `mms:${textOrDigits(body, 'request_id')}`, digest: null });

function readProductId(body: Body): bigint {
  const digits = textOrDigits(body, 'product_id');
  if (!/^\d{1,18}$/.test(digits)) throw malformed('product_id', '应为整数');
  return BigInt(digits);
}

function readTemplateId(body: Body): bigint | null {
  const value = body.value('template_id');
  if (value === undefined || value === null || value === '' || value === 0 || value === '0') return null;
  const digits = textOrDigits(body, 'template_id');
  if (!/^\d{1,18}$/.test(digits)) throw malformed('template_id', '应为整数');
  return BigInt(digits);
}

const readSignName = (body: Body): string =>
  (body.optional('sign_name', isText, '应为字符串') ?? '')
    .trim()
    .replace(/^【(.*)】$/u, '$1')
    .trim();

/** The numbers as they were written. Whether they are valid is checked later. */
function readNumbers(body: Body): string[] {
  const phone = body.value('phone');
  if (phone === undefined || phone === null || phone === '') throw missing('phone');
  if (!Array.isArray(phone)) throw malformed('phone', '应为数组');
  return phone.map((number: unknown, index) => {
    const written = typeof number === 'string' ? number : Number.isSafeInteger(number) ? String(number) : null;
    if (written === null) throw malformed(`phone[${index}]`, '应为字符串或整数');
    if (written.length > maxNumberLength) throw malformed(`phone[${index}]`, `不得超过 ${maxNumberLength} 个字符`);
    if (!isText(written)) throw malformed(`phone[${index}]`, '含有不可用的字符');
    return written;
  });
}

function checkNumbers(written: readonly string[]): void {
  if (written.length > maxNumbers) throw new Denied('PhoneTooMany', `phone: 有 ${written.length} 个号码,最多 ${maxNumbers} 个`);
  if (!written.some((number) => parseNumber(number) !== null)) throw new Denied('PhoneInvalid', 'phone: 没有一个可用的号码');
}

/** Reads `YYYY-MM-DD HH:mm:ss` in Asia/Shanghai; null means now. */
function readSendTime(text: string, now: Date): Date | null {
  if (text === '') return null;
  const at = /^\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}$/.test(text) ? new Date(`${text.replace(' ', 'T')}+08:00`) : null;
  // `Date` turns a day that does not exist, such as 02-30, into another one.
  if (!at || Number.isNaN(at.getTime()) || wallClock(at) !== text)
    throw new Denied('SendTimeInvalid', 'send_time: 应为 YYYY-MM-DD HH:mm:ss,且日期存在');
  if (at.getTime() > now.getTime() + maxDaysAhead * 86_400_000)
    throw new Denied('SendTimeInvalid', `send_time: 最多提前 ${maxDaysAhead} 天`);
  return at > now ? at : null;
}

// ── pushes ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const pushBody = (fields: Readonly<Record<string, unknown>>) => ({ contentType: jsonType, body: JSON.stringify(fields) });

/** How events are pushed: one event per POST, until the answer is `success` or no tries are left. */
const mmsPush: PushRules = {
  urls: 'account',
  carries: 'one',
  delaysSeconds: ({ pushDelaysSeconds }) => pushDelaysSeconds,
  isSuccess: ({ status, text }) => status >= 200 && status < 300 && text.trim() === 'success',
  report([report]) {
    if (!report) throw new Error('a push without an event');
    const [phone] = report.mobiles;
    const code = statusOf(report.code);
    return pushBody({
      task_id: String(report.batchId),
      phone,
      code,
      message: messageOf(code),
      send_time: wallClock(report.sentAt),
      report_time: wallClock(report.at),
    });
  },
  reply([reply]) {
    if (!reply) throw new Error('a push without an event');
    return pushBody({
      task_id: reply.batchId === null ? '' : String(reply.batchId),
      phone: reply.mobile,
      content: reply.content,
      dest_code: reply.ext,
      send_time: wallClock(reply.at),
      receive_time: wallClock(reply.at),
    });
  },
  audit: ({ templateId, approved, reason }) =>
    pushBody({
      template_id: Number(templateId),
      code: approved ? 'SUCCESS' : 'FAIL',
      message: reason ?? (approved ? '审核通过' : '审核未通过'),
    }),
};

function messageOf(code: string): string {
  const known = explain(code);
  if (!known) return `发送失败(${code})`;
  return known.code === code ? known.zh.meaning : `${known.zh.meaning}(${code.slice(3)})`;
}

export const ihuyiMms: Dialect = {
  name: dialectName,
  credentials: 'api_id',
  media: ['mms'],
  canPull: false,
  push: mmsPush,
  refusals,
  statuses,
  parts: (deps) => [createIhuyiMmsV1(deps)],
};
