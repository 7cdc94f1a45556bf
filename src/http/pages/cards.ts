/**
 * The page that a short link opens: the card as a small page without a framework. Handsets that draw the card themselves get it as JSON
 * (docs/api/aim.md).
 *
 * A page trusts none of its content: every text is escaped, scripts and styles run only with the page's own nonce, and a click leaves
 * through `/<code>/<index of the button>`, never through an address in a parameter. An unknown code gets a plain 404; an address that
 * asks for many unknown codes is told to wait.
 */
import { randomBytes } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Cards, OpenedCard } from '../../core/content/opened-card.ts';
import type { Button, Card } from '../../core/content/layouts.ts';
import { createFailureLimiter } from '../auth.ts';
import { type HttpPart, jsonType, problemStatus } from '../part.ts';

interface CardPagesDeps {
  readonly cards: Cards;
  readonly clock: () => Date;
  /** The URL that links begin with, e.g. `https://example.com/m`. The pages are served under its path. */
  readonly linkBase: string;
  /** How many unknown codes an address may ask for per minute. Many phones share one address of their carrier. */
  readonly missesPerMinute?: number;
}

export function createCardPages({ cards, clock, linkBase, missesPerMinute = 100 }: CardPagesDeps): HttpPart {
  const prefix = new URL(linkBase).pathname.replace(/\/+$/, '');
  const misses = createFailureLimiter({ clock, perMinute: () => missesPerMinute });

  /** The card of the code in the path. If there is none, sends the answer and returns null. */
  async function find(request: FastifyRequest<{ Params: { code: string } }>, reply: FastifyReply): Promise<OpenedCard | null> {
    const { clientAddress, params } = request;
    if (misses.isBlocked(clientAddress, '')) {
      await sendPage(reply.code(429).header('retry-after', '60'), tooManyPage());
      return null;
    }
    const opened = await cards.open(params.code);
    if (!opened) {
      misses.failed(clientAddress, '');
      await sendPage(reply.code(404), notFoundPage());
    }
    return opened;
  }

  return {
    prefix: prefix === '' ? '/' : prefix,
    routes(server) {
      server.addHook('onRequest', (_request, reply, done) => {
        // A card belongs to one person: nobody may cache it, and the pages behind its buttons must not see its address.
        reply.headers({
          'cache-control': 'private, no-store',
          'referrer-policy': 'no-referrer',
          'x-content-type-options': 'nosniff',
          'x-robots-tag': 'noindex',
        });
        done();
      });
      server.route<{ Params: { code: string } }>({
        method: ['GET', 'HEAD'],
        url: `${prefix}/:code`,
        async handler(request, reply) {
          const opened = await find(request, reply);
          if (!opened) return reply;
          if (new URLSearchParams((request.raw.url ?? '').split('?')[1]).get('format') === 'json') {
            return reply.header('content-type', jsonType).header('access-control-allow-origin', '*').send(cardJson(opened));
          }
          return sendPage(reply, cardPage(opened, `${prefix}/${request.params.code}`));
        },
      });
      server.route<{ Params: { code: string; index: string } }>({
        method: ['GET', 'HEAD'],
        url: `${prefix}/:code/:index`,
        async handler(request, reply) {
          const opened = await find(request, reply);
          if (!opened) return reply;
          const { index } = request.params;
          const button = /^\d$/.test(index) ? opened.buttons[Number(index)] : undefined;
          const target = button && targetOf(button);
          if (target === undefined) return sendPage(reply.code(404), notFoundPage());
          return reply.code(302).header('location', target).send('');
        },
      });
    },
    failure(problem) {
      const text =
        problem === 'not_found' ? notFoundPage() : problem === 'too_many' ? tooManyPage() : messagePage('暂时无法打开', '请稍后再试。');
      return { status: problemStatus[problem], contentType: htmlType, body: render(text, '') };
    },
  };
}

const htmlType = 'text/html; charset=utf-8';

/** The URL of a button; undefined for a copy button, which works on the page itself. */
function targetOf({ action, value }: Button): string | undefined {
  if (action === 'copy') return undefined;
  return action === 'url' ? value : `tel:${value.replace(/[ -]/g, '')}`;
}

/** The JSON for handsets that draw the card themselves, with its keys in the documented order. */
function cardJson({ template, card, media, expiresAt }: OpenedCard): string {
  const { layout, ...rest } = card;
  const fields = Object.fromEntries(Object.entries(rest).filter(([name]) => name !== 'media'));
  return JSON.stringify({ template: Number(template), layout, fields, media, expiresAt: expiresAt.toISOString() });
}

// ── pages ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** HTML made by `html`, already escaped. */
class Html {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

const entities: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/** Fills a template. Every value that is not `Html` is escaped, for text and for quoted attributes. */
function html(strings: TemplateStringsArray, ...values: readonly (string | Html | readonly Html[])[]): Html {
  const written = values.map((value) => {
    if (value instanceof Html) return value.text;
    if (typeof value === 'string') return value.replace(/[&<>"']/g, (character) => entities[character] ?? '');
    return value.map(({ text }) => text).join('');
  });
  return new Html(String.raw({ raw: strings }, ...written));
}

interface Page {
  readonly title: string;
  readonly body: Html;
  /** The sources that pictures may come from, as a CSP source list. */
  readonly imageSources: string;
  readonly hasCopy: boolean;
}

const messagePage = (title: string, text: string): Page => ({
  title,
  body: html`<main class="message"><h1>${title}</h1><p>${text}</p></main>`,
  imageSources: "'none'",
  hasCopy: false,
});
const tooManyPage = (): Page => messagePage('访问过于频繁', '请一分钟后再试。');
const notFoundPage = (): Page => messagePage('链接不存在或已过期', '请核对短信中的链接，或联系发送方。');

function cardPage({ card, buttons, media }: OpenedCard, path: string): Page {
  return {
    title: card.title,
    body: html`<main class="card">${media.map(({ url }) => html`<img src="${url}" alt="">`)}<div class="content"><h1>${card.title}</h1>${contentOf(card)}</div>${
      buttons.length > 0 ? html`<nav>${buttons.map((button, index) => buttonOf(button, `${path}/${index}`))}</nav>` : ''
    }</main>`,
    imageSources: media.length > 0 ? media.map(({ url }) => new URL(url).origin).join(' ') : "'none'",
    hasCopy: buttons.some(({ action }) => action === 'copy'),
  };
}

function contentOf(card: Card): Html | string {
  if (card.layout === 'notice') {
    return html`<dl>${card.rows.map(({ label, value }) => html`<div><dt>${label}</dt><dd>${value}</dd></div>`)}</dl>`;
  }
  return card.text === undefined ? '' : html`<p class="text">${card.text}</p>`;
}

function buttonOf({ label, action, value }: Button, path: string): Html {
  if (action === 'copy') return html`<button type="button" data-copy="${value}">${label}</button>`;
  return html`<a href="${path}" rel="noopener noreferrer nofollow">${label}</a>`;
}

const style = `
*{box-sizing:border-box}
body{margin:0;min-height:100vh;padding:24px 16px;background:#f2f4f7;color:#1d2129;font:16px/1.6 -apple-system,BlinkMacSystemFont,"PingFang SC","HarmonyOS Sans SC","Microsoft YaHei","Noto Sans CJK SC",sans-serif;-webkit-text-size-adjust:100%}
main{max-width:480px;margin:0 auto;background:#fff;border-radius:16px;overflow:hidden;box-shadow:0 1px 2px rgba(0,0,0,.04),0 8px 24px rgba(0,0,0,.06)}
img{display:block;width:100%;height:auto;max-height:70vh;object-fit:cover;background:#e5e8ef}
.content{padding:20px 20px 16px}
h1{margin:0;font-size:20px;line-height:1.4;font-weight:600;overflow-wrap:anywhere}
.text{margin:12px 0 0;color:#4e5969;white-space:pre-line;overflow-wrap:anywhere}
dl{margin:12px 0 0}
dl div{display:flex;gap:16px;justify-content:space-between;padding:12px 0;border-top:1px solid #f0f1f5}
dt{flex:none;max-width:40%;color:#86909c}
dd{margin:0;text-align:right;overflow-wrap:anywhere}
nav{display:flex;flex-direction:column;gap:10px;padding:4px 20px 20px}
nav a,nav button{display:block;width:100%;min-height:46px;padding:11px 16px;border:1px solid #d5dbe6;border-radius:10px;background:#fff;color:#1f5eff;font:inherit;font-weight:500;line-height:22px;text-align:center;text-decoration:none;overflow-wrap:anywhere;cursor:pointer}
nav :first-child{border-color:#1f5eff;background:#1f5eff;color:#fff}
nav a:active,nav button:active{opacity:.8}
:focus-visible{outline:3px solid #9dbbff;outline-offset:2px}
.message{padding:48px 24px;text-align:center}
.message p{margin:8px 0 0;color:#86909c}
@media(prefers-color-scheme:dark){body{background:#17181c;color:#e8eaef}main{background:#232529;box-shadow:none}.text{color:#b4bac5}dl div{border-color:#33363c}nav a,nav button{background:#2b2e34;border-color:#3b3f47;color:#8fb0ff}nav :first-child{background:#2f6bff;border-color:#2f6bff;color:#fff}}`;

/** Copies a button's value. Without the clipboard API (old browsers, no TLS) it copies a selection, or at least shows the value. */
const script = `
document.querySelectorAll('[data-copy]').forEach(function(b){var label=b.textContent;b.addEventListener('click',function(){
var v=b.getAttribute('data-copy');function done(ok){b.textContent=ok?'已复制':v;setTimeout(function(){b.textContent=label},ok?1500:6000)}
function old(){var t=document.createElement('textarea');t.value=v;t.readOnly=true;document.body.appendChild(t);t.select();var ok=false;try{ok=document.execCommand('copy')}catch(e){}t.remove();done(ok)}
if(navigator.clipboard&&window.isSecureContext)navigator.clipboard.writeText(v).then(function(){done(true)},old);else old()})});`;

function render({ title, body, hasCopy }: Page, nonce: string): string {
  return html`<!doctype html>
<html lang="zh-CN"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><meta name="format-detection" content="telephone=no"><title>${title}</title><style nonce="${nonce}">${new Html(style)}</style></head>
<body>${body}${hasCopy ? html`<script nonce="${nonce}">${new Html(script)}</script>` : ''}</body></html>
`.text;
}

function sendPage(reply: FastifyReply, page: Page): FastifyReply {
  const nonce = randomBytes(16).toString('base64');
  const policy = `default-src 'none'; style-src 'nonce-${nonce}'; script-src 'nonce-${nonce}'; img-src ${page.imageSources}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`;
  return reply.header('content-type', htmlType).header('content-security-policy', policy).send(render(page, nonce));
}
