/**
 * Switches on every screening rule that a product, a subscription, a signature or the platform may have, with lists of the greatest
 * length. None of them stops the messages of the benchmark, so every rule is checked for every number.
 */
import { performance } from 'node:perf_hooks';
import { createDb } from '../../src/db/db.ts';
import { runScript } from './growth.ts';
import type { Customer, Platform } from './platform.ts';

interface Lists {
  readonly blocked: number;
  readonly templates: number;
  readonly words: number;
}

const carriers = ['mobile', 'unicom', 'telecom', 'broadcast', 'international'];

export async function switchRulesOn(platform: Platform, { blocked, templates, words }: Lists, say: (line: string) => void): Promise<void> {
  const { manage, databaseUrl } = platform;
  const db = createDb(databaseUrl, { max: 1, statementTimeoutMs: 0 });
  try {
    const lists = [await listOf('system', undefined), await listOf('empty', undefined)];
    for (const customer of [platform.sending, platform.queueing]) lists.push(...(await policyOf(customer)));
    // All lists are asked; the first is the long one.
    await runScript(db, say, 'growth-blocked.sql', { list: lists[0] ?? 0, blocked });
    await runScript(db, say, 'rules.sql', { templates });
    const list = await manage('POST', '/word-lists', { name: 'bench', verdict: 'intercept' });
    const started = performance.now();
    for (let from = 0; from < words; from += 1000)
      await manage('POST', `/word-lists/${Number(list['id'])}/words`, {
        words: Array.from({ length: Math.min(1000, words - from) }, (_, n) => word(from + n)),
      });
    // The API tells every node to read its rules anew, the templates with them.
    await manage('POST', '/content-templates', { text: '本条最后写入{…}', verdict: 'pass', note: 'bench' });
    say(`words: ${((performance.now() - started) / 1000).toFixed(0)} s`);
    await expectCodes('13500000000', `【鸿雁】${word(words - 1)}`, ['WL:MBLJ', 'WL:CHLJ']);
    await expectCodes('13500001000', '【商家1】尊敬的客户，您的第1号订单将于今晚送达，请留意短信退订回R', ['WL:MBSH']);
  } finally {
    await db.end();
  }

  /** What was fast because a rule was not in force would be no figure. */
  async function expectCodes(number: string, content: string, codes: readonly string[]): Promise<void> {
    const { subscriptionId } = platform.sending;
    const { rules } = await manage('POST', '/screening/preview', { subscriptionId, numbers: [number], content });
    const found = (rules as { code: string }[]).map(({ code }) => code);
    const missing = codes.filter((code) => !found.includes(code));
    if (missing.length > 0) throw new Error(`not in force: ${missing.join(', ')}; the preview says ${found.join(', ')}`);
  }

  async function listOf(kind: string, subjectId: number | undefined): Promise<number> {
    return Number((await manage('POST', '/blocklists', { kind, ...(subjectId !== undefined && { subjectId }) }))['id']);
  }

  /** Returns the lists of the customer's product, subscription and signature. */
  async function policyOf({ accountId, subscriptionId }: Customer): Promise<number[]> {
    const { productId } = await manage('GET', `/subscriptions/${subscriptionId}`);
    const signatures = (await manage('GET', `/signatures?accountId=${accountId}`))['data'] as { id: number }[];
    const signatureId = signatures[0]?.id ?? 0;
    const sendingWindow = { from: '00:00', to: '23:59', mode: 'review' };
    await manage('PATCH', `/products/${String(productId)}`, { signatureRequired: true, strictSignatures: true, sendingWindow });
    await manage('PATCH', `/subscriptions/${subscriptionId}`, {
      sendingWindow,
      unmatched: 'pass',
      rateLimit: { perSecond: 100_000, burst: 1_000_000 },
    });
    await manage('PATCH', `/signatures/${signatureId}`, {
      registrations: Object.fromEntries(carriers.map((carrier) => [carrier, 'registered'])),
    });
    await manage('PATCH', `/accounts/${accountId}`, { exemptNumbers: Array.from({ length: 300 }, (_, n) => `1340000${String(1000 + n)}`) });
    const subjects = { product: Number(productId), subscription: subscriptionId, signature: signatureId };
    for (const [scope, subjectId] of Object.entries(subjects))
      await manage('POST', '/caps', { scope, subjectId, period: 'day', count: 100 });
    const lists: number[] = [];
    for (const [kind, subjectId] of Object.entries(subjects)) lists.push(await listOf(kind, subjectId));
    return lists;
  }
}

/** A word of five to seven Chinese characters, none twice, none that the benchmark sends. */
function word(n: number): string {
  let rest = n;
  let written = '';
  for (let at = 0; at < 4; at++) {
    written += String.fromCharCode(0x4e00 + ((rest % 19) * 211 + at * 37));
    rest = Math.floor(rest / 19);
  }
  return written + String.fromCharCode(0x7a00 + (n % 997)).repeat(1 + (n % 3));
}
