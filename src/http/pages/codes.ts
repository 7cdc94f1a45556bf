/**
 * The meaning of codes: `/codes` lists all of them, `/codes/{code}` explains one, as a page for people, or as JSON on request. The pages
 * are public and the same for everybody; docs/codes.md is made from the same table.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type CodeEntry, type CodeKind, codes, explain } from '../../core/watch/codes.ts';
import { type HttpPart, jsonType, plainFailure } from '../part.ts';

const kinds: Readonly<Record<CodeKind, { readonly zh: string; readonly en: string }>> = {
  status: { zh: '消息状态', en: 'Statuses of messages' },
  carrier: { zh: '运营商状态', en: 'Statuses of carriers' },
  aim: { zh: 'AIM 接口返回码', en: 'Codes of the AIM API' },
  mms: { zh: '彩信接口返回码', en: 'Codes of the MMS API' },
};

/** Longer than any code; a longer text is not looked up. */
const maxLength = 40;

export function createCodePages(): HttpPart {
  return {
    prefix: '/codes',
    routes(server) {
      server.get('/codes', (request, reply) => answer(request, reply, codes));
      server.get<{ Params: { code: string } }>('/codes/:code', (request, reply) => {
        const { code } = request.params;
        const entry = code.length <= maxLength ? explain(code) : undefined;
        if (entry) return answer(request, reply, [entry]);
        if (wantsJson(request)) return reply.code(404).header('content-type', jsonType).send(plainFailure('not_found', request.id).body);
        return sendPage(reply.code(404), '没有这个代码', '<p>没有找到这个代码的说明。 <a href="/codes">全部代码</a></p>');
      });
    },
    failure: plainFailure,
  };
}

const wantsJson = ({ headers }: FastifyRequest): boolean => /\bapplication\/json\b/.test(headers.accept ?? '');

function answer(request: FastifyRequest, reply: FastifyReply, entries: readonly CodeEntry[]): FastifyReply {
  const [only, ...others] = entries;
  if (wantsJson(request)) {
    const body = only && others.length === 0 ? only : { data: entries };
    return reply.header('content-type', jsonType).header('vary', 'accept').send(JSON.stringify(body));
  }
  return sendPage(reply, only && others.length === 0 ? `${only.code} ${only.zh.meaning}` : '代码说明', entries.map(section).join(''));
}

const section = ({ code, kind, rule, zh, en }: CodeEntry): string => `
<section id="${escapeHtml(code)}">
<h2>${escapeHtml(code)} <small>${kinds[kind].zh}${rule === null ? '' : ` · 规则 ${rule}`}</small></h2>
<p><b>${escapeHtml(zh.meaning)}</b><br>原因：${escapeHtml(zh.cause)}<br>处理：${escapeHtml(zh.remedy)}</p>
<p lang="en"><b>${escapeHtml(en.meaning)}</b><br>Cause: ${escapeHtml(en.cause)}<br>What to do: ${escapeHtml(en.remedy)}</p>
</section>`;

const style =
  'body{font:16px/1.6 system-ui,sans-serif;max-width:42rem;margin:2rem auto;padding:0 1rem;color:#222}h2{margin:2rem 0 0}small{color:#777;font-weight:400}';

const sendPage = (reply: FastifyReply, title: string, content: string): FastifyReply =>
  reply
    .headers({
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'",
      'x-content-type-options': 'nosniff',
      vary: 'accept',
    })
    .send(
      `<!doctype html><html lang="zh-CN"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">` +
        `<title>${escapeHtml(title)}</title><style>${style}</style></head><body><h1>${escapeHtml(title)}</h1>${content}</body></html>`,
    );

const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (character) => `&#${character.codePointAt(0)};`);

/** docs/codes.md, made from the table; `magicOf` says how to produce a code in the sandbox. */
export function codesPage(magicOf: (code: string, language: 'zh' | 'en') => string): string {
  const cell = (text: string): string => text.replaceAll('|', '\\|');
  const table = (kind: CodeKind, language: 'zh' | 'en', [code = '', rule = '', sandbox = '', ...rest]: readonly string[]): string => {
    const isStatus = kind === 'status' || kind === 'carrier';
    const columns = [code, ...(kind === 'status' ? [rule] : []), ...rest, ...(isStatus ? [sandbox] : [])];
    const rows = codes
      .filter((entry) => entry.kind === kind)
      .map(({ code, rule, [language]: { meaning, cause, remedy } }) => [
        `\`${code}\``,
        ...(kind === 'status' ? [String(rule ?? '')] : []),
        ...[meaning, cause, remedy].map(cell),
        ...(isStatus ? [magicOf(code, language)] : []),
      ]);
    return [columns, columns.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
  };
  const sections = (language: 'zh' | 'en', columns: readonly string[]): string =>
    (Object.keys(kinds) as CodeKind[]).map((kind) => `## ${kinds[kind][language]}\n\n${table(kind, language, columns)}\n`).join('\n');
  return `# 代码说明 · Codes

客户会遇到的每个代码：含义、原因与处理。运行中的平台在 \`/codes/{代码}\` 给出同样的说明。“沙箱”一列是在[沙箱](sandbox.md#statuses)里怎样遇到它。本页由 \`src/core/watch/codes.ts\` 与 \`sandbox/magic.ts\` 生成。

${sections('zh', ['代码', '规则', '沙箱', '含义', '原因', '处理'])}
# Codes, in English

Every code that a customer can meet. A running platform explains each code at \`/codes/{code}\`. \`MK:*\` stands for all codes that begin with
\`MK:\`. Screening applies its rules in the order of their numbers; if several rules match, the rule with the lowest number decides. The last
column says how to get the code in the [sandbox](sandbox.md#statuses).

${sections('en', ['code', 'rule', 'in the sandbox', 'meaning', 'cause', 'what to do'])}`;
}
