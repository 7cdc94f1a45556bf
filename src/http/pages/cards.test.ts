/** Short links as a phone meets them: the page, its JSON, its buttons, and what a stranger gets. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Platform, startAimPlatform } from '../../../test/kit/aim-platform.ts';
import { createLinks, type Links } from '../../core/content/links.ts';
import { change } from '../../core/config/management.ts';
import { chunkIdOf } from '../../core/model/ids.ts';
import { linkSecret } from '../../core/config/settings.ts';
import { approveTemplate, createTemplate, withdrawTemplate } from '../../core/content/templates.ts';

let platform: Platform;
let links: Links;
beforeAll(async () => {
  platform = await startAimPlatform();
  const { db, box } = platform.app.management;
  links = createLinks({ secret: await linkSecret(db, box) });
});
afterAll(() => platform.stop());

/** Each test calls from an address of its own, so that one's misses are not another's. */
let address = 0;
beforeEach(() => {
  address++;
});
const open = (path: string, init: RequestInit = {}) =>
  platform.call(`/m/${path}`, { ...init, headers: { 'x-forwarded-for': `198.51.100.${address}` } });

/** Sends one message and gives the code of its link. */
async function send(template_id: string, values: readonly string[] = []): Promise<string> {
  const mobiles = JSON.stringify([['13800000000', values]]);
  const { json } = await platform.aim('send-aim', { mobiles, template_id, content: '【鸿雁】$url$' });
  const [code] = links.encodeMany(chunkIdOf(BigInt(String(json.msg_id)), 0), 1);
  if (!code) throw new Error('no code');
  return code;
}

async function approve(id: bigint, card: unknown, validUntil?: Date): Promise<void> {
  const { management } = platform.app;
  await change(management, async (sql) => {
    await createTemplate(sql, { id, accountId: 1n, name: 'card', card, ...(validUntil && { validUntil }) });
    await approveTemplate(sql, management.directory.dialects, id, new Date());
  });
}

describe('a card’s page', () => {
  it('shows the card filled with its number’s values, small and by itself', async () => {
    const code = await send('102', ['张三', '1.20']);
    const page = await open(code);
    expect(page.status).toBe(200);
    expect(page.headers.get('content-type')).toBe('text/html; charset=utf-8');
    for (const shown of [
      '<h1>张三，您的账单</h1>',
      '<dt>金额</dt><dd>1.20</dd>',
      `href="/m/${code}/0"`,
      `href="/m/${code}/1"`,
      'data-copy="1.20"',
    ])
      expect(page.text).toContain(shown);
    expect(page.text).not.toContain('bill.example');
    expect(Buffer.byteLength(page.text)).toBeLessThan(30_000);
    expect(page.headers.get('cache-control')).toBe('private, no-store');
  });

  it('runs its own script and style only, and loads its own pictures only', async () => {
    const [notice, imageText] = [await open(await send('102', ['a', 'b'])), await open(await send('101'))];
    const policy = notice.headers.get('content-security-policy') ?? '';
    const nonce = /script-src 'nonce-([^']+)'/.exec(policy)?.[1];
    expect(policy).toMatch(/^default-src 'none'; .*img-src 'none'; /);
    expect(notice.text).toContain(`<script nonce="${nonce}">`);
    expect(notice.text).toContain(`<style nonce="${nonce}">`);
    expect(imageText.headers.get('content-security-policy')).toContain('img-src https://img.example;');
    expect(imageText.headers.get('content-security-policy')).not.toContain(`'nonce-${nonce}'`);
    expect(imageText.text).toContain('<img src="https://img.example/coupon.png"');
    expect(imageText.text).not.toContain('<script');
  });

  it('shows values as text, whatever they try', async () => {
    await approve(201n, {
      layout: 'notice',
      title: '${a}',
      rows: [{ label: '${a}', value: '${a}' }],
      buttons: [
        { label: '${a}', action: 'copy', value: '${a}' },
        { label: 'x', action: 'url', value: '${b}' },
        { label: 'y', action: 'url', value: 'https://shop.example/${a}' },
      ],
    });
    for (const attack of [
      '<script>alert(1)</script>',
      '"><img src=x onerror=alert(1)>',
      "' onclick='alert(1)",
      '</style></title><script>',
      '&lt;script&gt;',
      '${b}',
    ]) {
      const code = await send('201', [attack, 'javascript:alert(1)']);
      const { text } = await open(code);
      const escaped = attack
        .replace(/&/g, '&amp;')
        .replace(/</g, '&lt;')
        .replace(/>/g, '&gt;')
        .replace(/"/g, '&quot;')
        .replace(/'/g, '&#39;');
      expect(text.split(escaped).length - 1, attack).toBe(6);
      expect(text.match(/<script/g)).toHaveLength(1);
      expect(text).not.toContain('javascript:');
      expect(text.replace(/"[^"]*"/g, '""')).not.toMatch(/<[a-z][^>]*(?: on|=[^"])/);
    }
  });

  it('is drawn by a handset from JSON', async () => {
    const answer = await open(`${await send('102', ['张三', '1.20'])}?format=json`);
    expect(answer.headers.get('content-type')).toBe('application/json; charset=utf-8');
    expect(Object.keys(answer.json)).toEqual(['template', 'layout', 'fields', 'media', 'expiresAt']);
    expect(answer.json).toMatchObject({
      template: 102,
      layout: 'notice',
      fields: {
        title: '张三，您的账单',
        rows: [{ label: '金额', value: '1.20' }],
        buttons: [{ action: 'url', value: 'https://bill.example/?who=%E5%BC%A0%E4%B8%89' }, {}, {}],
      },
      media: [],
    });
    expect(new Date(String(answer.json.expiresAt)).getTime() - Date.now()).toBeGreaterThan(29 * 86_400_000);
    expect((await open(`${await send('101')}?format=json`)).json.media).toEqual([{ type: 'image', url: 'https://img.example/coupon.png' }]);
  });

  it('answers HEAD without a body', async () => {
    expect(await open(await send('101'), { method: 'HEAD' })).toMatchObject({ status: 200, text: '' });
    expect(await open('0000000000', { method: 'HEAD' })).toMatchObject({ status: 404, text: '' });
  });
});

describe('a button', () => {
  it('leads to its address, filled in and encoded; never to one that a parameter names', async () => {
    const code = await send('102', ['张三 &x', '1']);
    const url = await open(`${code}/0?url=https://evil.example`);
    expect(url.status).toBe(302);
    expect(url.headers.get('location')).toBe('https://bill.example/?who=%E5%BC%A0%E4%B8%89%20&x');
    expect((await open(`${code}/1`)).headers.get('location')).toBe('tel:4001234567');
    for (const nowhere of ['2', '3', '-1', '00', 'x', '0/0', '__proto__'])
      expect((await open(`${code}/${nowhere}`)).status, nowhere).toBe(404);
  });

  it('whose value became no web address is not there', async () => {
    await approve(202n, { layout: 'image_text', title: 'x', buttons: [{ label: 'go', action: 'url', value: '${a}' }] });
    for (const value of ['javascript:alert(1)', '//evil.example', 'data:text/html,x', 'https://a\r\nSet-Cookie: x', '']) {
      const code = await send('202', [value]);
      expect((await open(code)).text).not.toContain('<nav>');
      expect((await open(`${code}/0`)).status, value).toBe(404);
    }
  });
});

describe('a code that opens nothing', () => {
  it('gets a plain page: unknown, malformed, of a refused number, beyond its chunk', async () => {
    const { json } = await platform.aim('send-aim', {
      mobiles: '["13800000021","13800000000"]',
      template_id: '101',
      content: '【鸿雁】$url$',
    });
    const batch = BigInt(String(json.msg_id));
    const codes = [0, 1].map((chunk) => links.encodeMany(chunkIdOf(batch, chunk), [0, 1]));
    const statuses = await Promise.all(codes.flat().map(async (code) => (await open(code)).status));
    // One chunk holds the number that was sent to, one the number that was refused; neither has a second.
    expect(statuses.toSorted((a, b) => a - b)).toEqual([200, 404, 404, 404]);
    for (const path of ['0000000000', 'short', 'x'.repeat(300), '%E5%BC%A0', '..%2f..', '%zz']) {
      const { status, headers, text } = await open(path);
      expect([status, headers.get('content-type')], path).toEqual([404, 'text/html; charset=utf-8']);
      expect(text).toContain('链接不存在或已过期');
    }
  });

  it('is one whose days are over, or whose template’s time is', async () => {
    const [lasting, ending] = [await send('101'), await send('106')];
    await approve(203n, { layout: 'image_text', title: 'x' });
    const withdrawn = await send('203');
    const { management } = platform.app;
    await change(management, (sql) => withdrawTemplate(sql, 1n, 203n, new Date()));
    expect((await open(ending)).status).toBe(200);
    // What was sent with a template still opens after it is withdrawn.
    expect((await open(withdrawn)).status).toBe(200);
    platform.advance(2 * 3600_000);
    expect((await open(ending)).status).toBe(404);
    expect((await open(lasting)).status).toBe(200);
    platform.advance(30 * 86_400_000);
    expect((await open(lasting)).status).toBe(404);
  });

  it('asked for too often lets its caller wait, and nobody else', async () => {
    const code = await send('101');
    for (let i = 0; i < 100; i++) expect((await open('0000000000')).status).toBe(404);
    const answer = await open(code);
    expect(answer.status).toBe(429);
    expect(answer.text).toContain('访问过于频繁');
    address++;
    expect((await open(code)).status).toBe(200);
  });
});
