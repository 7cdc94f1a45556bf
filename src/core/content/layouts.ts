/**
 * Cards: the layout of a smart SMS template, its parameters, and how it is filled with one number's values.
 *
 * A card is JSON with placeholders `${name}` in texts, titles and button values, never in media. Its parameters are the distinct names
 * in order of first appearance, reading the card as a person sees it: title, text or rows (label before value), then the buttons (label
 * before value). The order of keys in the JSON does not count, since PostgreSQL's jsonb does not keep it.
 *
 * Pure: no database, no HTTP. `templates.ts` writes templates; `cards.ts` opens links.
 */
import { type Static, Type } from 'typebox';
import { Compile } from 'typebox/compile';
import type { TLocalizedValidationError } from 'typebox/error';

const buttonSchema = Type.Object(
  {
    label: Type.String({ minLength: 1, maxLength: 20 }),
    action: Type.Enum(['url', 'tel', 'copy'], {
      description: 'url opens an address (http or https), tel dials, copy puts the value on the clipboard',
    }),
    value: Type.String({ minLength: 1, maxLength: 1000 }),
  },
  { additionalProperties: false },
);

const buttonsSchema = Type.Optional(Type.Array(buttonSchema, { maxItems: 4 }));
const titleSchema = Type.String({ minLength: 1, maxLength: 60 });

const imageTextSchema = Type.Object(
  {
    layout: Type.Literal('image_text'),
    title: titleSchema,
    text: Type.Optional(Type.String({ minLength: 1, maxLength: 1000 })),
    media: Type.Optional(
      Type.Array(
        Type.Object(
          {
            type: Type.Literal('image'),
            url: Type.String({ minLength: 1, maxLength: 1000, description: 'http or https, no placeholders' }),
          },
          { additionalProperties: false },
        ),
        { maxItems: 1 },
      ),
    ),
    buttons: buttonsSchema,
  },
  { additionalProperties: false, description: 'A picture with a title and a text' },
);

const noticeSchema = Type.Object(
  {
    layout: Type.Literal('notice'),
    title: titleSchema,
    rows: Type.Array(
      Type.Object(
        { label: Type.String({ minLength: 1, maxLength: 20 }), value: Type.String({ minLength: 1, maxLength: 200 }) },
        { additionalProperties: false },
      ),
      { minItems: 1, maxItems: 20 },
    ),
    buttons: buttonsSchema,
  },
  { additionalProperties: false, description: 'A title above rows of label and value' },
);

/** The JSON schema of every card, for the management API and its OpenAPI document. */
export const cardSchema = Type.Union([imageTextSchema, noticeSchema], {
  description: 'A card; ${name} in texts, titles and button values is a parameter',
});

export type Card = Static<typeof cardSchema>;
export type Button = Static<typeof buttonSchema>;

const anyCard = Compile(cardSchema);
const layouts = { image_text: Compile(imageTextSchema), notice: Compile(noticeSchema) };

const maxParameters = 20;
const placeholder = /\$\{([^{}]*)\}/g;
const parameterName = /^[\p{L}_][\p{L}\p{N}_]{0,31}$/u;
// PostgreSQL stores neither NUL nor half a surrogate pair.
const unstorable = /[\0\p{Cs}]/u;

/** Where a card is wrong (`buttons[0].value`) and why, in Chinese. */
interface CardError {
  readonly error: string;
}

/** Reads a template's card as a customer sent it; reports the first mistake. */
export function validateCard(json: unknown): { readonly card: Card; readonly parameters: readonly string[] } | CardError {
  const layout = typeof json === 'object' && json !== null && 'layout' in json ? json.layout : undefined;
  if (layout !== 'image_text' && layout !== 'notice') return wrong('layout', `必须是 ${Object.keys(layouts).join('、')} 之一`);
  if (!anyCard.Check(json)) {
    // The schema of the one layout: errors of a union would not say what to change.
    const [first] = layouts[layout].Errors(json);
    return first ? wrong(...explain(first)) : wrong('card', '格式不正确');
  }
  const card: Card = json;

  const parameters = new Set<string>();
  for (const { path, text } of texts(card)) {
    if (unstorable.test(text)) return wrong(path, '含有不可用的字符');
    for (const [written, name = ''] of text.matchAll(placeholder)) {
      if (!parameterName.test(name)) return wrong(path, `占位符 ${written} 的名称应为 1 到 32 个字母、汉字、数字或下划线，且不以数字开头`);
      parameters.add(name);
    }
    if (text.replace(placeholder, '').includes('${')) return wrong(path, '占位符 ${ 没有正确结束');
  }
  if (parameters.size > maxParameters) return wrong('card', `参数不得多于 ${maxParameters} 个，现有 ${parameters.size} 个`);

  for (const [index, { url }] of mediaOf(card).entries()) {
    if (url.includes('${')) return wrong(`media[${index}].url`, '媒体地址不支持占位符');
    if (!isWebAddress(url)) return wrong(`media[${index}].url`, '必须是 http 或 https 地址');
  }
  for (const [index, button] of (card.buttons ?? []).entries()) {
    // A value with a placeholder is checked after filling.
    if (!button.value.includes('${') && !isUsable(button)) return wrong(`buttons[${index}].value`, valueRule[button.action]);
  }
  return { card, parameters: [...parameters] };
}

/**
 * The card with one number's values in place of its parameters, in the order `validateCard` named them; a missing value becomes empty.
 * A button whose filled-in value must not be followed (an address that is not http or https, not a telephone number) is left out, so that
 * the remaining buttons have the same numbers wherever the card is shown. The address of a button is in its usual form.
 */
export function fillCard(card: Card, values: readonly string[]): Card {
  const numbers = new Map<string, number>();
  for (const { text } of texts(card)) {
    for (const [, name = ''] of text.matchAll(placeholder)) if (!numbers.has(name)) numbers.set(name, numbers.size);
  }
  // One pass, so a value that looks like a placeholder is not replaced again. Cut, so that no value makes a page of megabytes.
  const fill = (text: string): string =>
    text.replace(placeholder, (_, name: string) => (values[numbers.get(name) ?? -1] ?? '').slice(0, maxValueLength));
  const buttons = (card.buttons ?? [])
    .map(({ label, action, value }): Button => ({ label: fill(label), action, value: fill(value).trim() }))
    .filter(isUsable)
    // The parser encodes characters that an address cannot contain, such as a name in a query, and leaves encoded ones as they are.
    .map((button) => (button.action === 'url' ? { ...button, value: new URL(button.value).href } : button));
  if (card.layout === 'notice') {
    return {
      layout: card.layout,
      title: fill(card.title),
      rows: card.rows.map(({ label, value }) => ({ label: fill(label), value: fill(value) })),
      buttons,
    };
  }
  return {
    layout: card.layout,
    title: fill(card.title),
    ...(card.text !== undefined && { text: fill(card.text) }),
    media: mediaOf(card),
    buttons,
  };
}

/** The part of a value that a card shows, in characters. */
const maxValueLength = 500;

export const mediaOf = (card: Card) => (card.layout === 'image_text' ? (card.media ?? []) : []);

/** Every text that may hold placeholders, in the order that numbers the parameters. */
function* texts(card: Card): Generator<{ path: string; text: string }> {
  yield { path: 'title', text: card.title };
  if (card.layout === 'image_text') {
    if (card.text !== undefined) yield { path: 'text', text: card.text };
  } else {
    for (const [index, { label, value }] of card.rows.entries()) {
      yield { path: `rows[${index}].label`, text: label };
      yield { path: `rows[${index}].value`, text: value };
    }
  }
  for (const [index, { label, value }] of (card.buttons ?? []).entries()) {
    yield { path: `buttons[${index}].label`, text: label };
    yield { path: `buttons[${index}].value`, text: value };
  }
}

const valueRule: Readonly<Record<Button['action'], string>> = {
  url: '必须是 http 或 https 地址',
  tel: '必须是电话号码：3 到 20 位数字，可带 +、空格和连字符',
  copy: '不能为空',
};

const isUsableFor: Readonly<Record<Button['action'], (value: string) => boolean>> = {
  url: isWebAddress,
  tel: (value) => /^\+?[0-9 -]{3,24}$/.test(value) && /^\d{3,20}$/.test(value.replace(/[+ -]/g, '')),
  copy: (value) => value !== '',
};

const isUsable = ({ action, value }: Button): boolean => isUsableFor[action](value);

function isWebAddress(text: string): boolean {
  // The pattern first: the URL parser drops tabs and line breaks, and reads `http:evil` as an address.
  if (!/^https?:\/\/[^\s/?#\\]/i.test(text) || /\p{Cc}/u.test(text) || !URL.canParse(text)) return false;
  // The parser allows characters in hosts that have a meaning in the page's Content-Security-Policy, where the page names the hosts.
  return /^(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])$/.test(new URL(text).hostname);
}

const wrong = (path: string, reason: string): CardError => ({ error: `${path}: ${reason}` });

/** `/buttons/0/value` and the keyword that failed → `buttons[0].value` and a sentence. */
function explain(error: TLocalizedValidationError): [path: string, reason: string] {
  const path = error.instancePath
    .split('/')
    .slice(1)
    .reduce((path, part) => (/^\d+$/.test(part) ? `${path}[${part}]` : path === '' ? part : `${path}.${part}`), '');
  const at = (property: string | undefined) => (path === '' ? String(property) : `${path}.${property}`);
  switch (error.keyword) {
    case 'required':
      return [at(error.params.requiredProperties[0]), '缺少此项'];
    case 'additionalProperties':
      return [at(error.params.additionalProperties[0]), '没有这一项'];
    case 'boolean': // typebox's error for the superfluous property itself
      return [path, '没有这一项'];
    case 'type':
      return [path, `类型应为 ${String(error.params.type)}`];
    case 'minLength':
      return [path, '不能为空'];
    case 'maxLength':
      return [path, `不得多于 ${error.params.limit} 个字符`];
    case 'minItems':
      return [path, `不得少于 ${error.params.limit} 项`];
    case 'maxItems':
      return [path, `不得多于 ${error.params.limit} 项`];
    case 'const':
      return [path, `必须是 ${String(error.params.allowedValue)}`];
    case 'enum':
      return [path, `必须是 ${error.params.allowedValues.join('、')} 之一`];
    default:
      return [path, '格式不正确'];
  }
}
