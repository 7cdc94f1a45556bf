/** The pages docs/channels.md and docs/channels.zh-CN.md, made from the kinds of channels. */
import type { ChannelKind, Words } from '../src/channels/channel.ts';

export type Language = keyof Words;

const texts = {
  title: { en: 'Channels', zh: '通道' },
  other: { en: '[中文](channels.zh-CN.md)', zh: '[English](channels.md)' },
  intro: {
    en: `A channel is our connection to a carrier. It is made with \`POST /v1/channels\` and changed with \`PATCH /v1/channels/{id}\`
([management API](api/management.md#products-pools-channels)); a change reaches every node within a second. \`GET /v1/channel-kinds\`
gives the tables below as JSON schemas. The titles are the words of the carriers’ own sheets, so that what a sheet says can be copied
here line by line.`,
    zh: `通道是平台到运营商的连接，用 \`POST /v1/channels\` 建立，用 \`PATCH /v1/channels/{id}\` 修改（[管理 API](api/management.md#products-pools-channels)），
修改在一秒内到达每个节点。\`GET /v1/channel-kinds\` 以 JSON schema 给出下面各表。名称用运营商开通单上的说法，可以逐项照填。`,
  },
  common: { en: 'Every channel', zh: '所有通道' },
  head: { en: ['setting', 'name', 'default', 'allowed', 'meaning'], zh: ['设置', '名称', '默认', '取值', '含义'] },
  required: { en: 'required', zh: '必填' },
  characters: { en: 'ASCII characters', zh: '个 ASCII 字符' },
  digits: { en: 'digits', zh: '位数字' },
  listOf: { en: 'a list of', zh: '列表，每项' },
  above: { en: 'above', zh: '大于' },
  settings: {
    en: (name: string) =>
      `\`"protocol": "${name}"\`. Its \`settings\`; what is left out has its default, and they are replaced as a whole.`,
    zh: (name: string) => `\`"protocol": "${name}"\`。\`settings\` 的内容如下；不填的取默认值，修改时整体替换。`,
  },
  secret: {
    en: (title: string) => `Its \`secret\`: ${title}.`,
    zh: (title: string) => `\`secret\`：${title}。`,
  },
  door: {
    en: (path: string) => ` The carrier posts reports and replies to \`${path}\`.`,
    zh: (path: string) => `运营商把状态报告与上行推送到 \`${path}\`。`,
  },
  empty: { en: 'empty', zh: '空' },
} as const;

/** What a channel has whatever it speaks: name, words, meaning. */
const common: readonly (readonly [string, Words, Words])[] = [
  [
    'protocol',
    { en: 'Protocol', zh: '协议' },
    { en: 'Which of the tables below its `settings` follow; it cannot be changed.', zh: '`settings` 按下面哪张表填写；建立后不能修改。' },
  ],
  [
    'accessNumber',
    { en: 'Access number', zh: '接入号' },
    {
      en: 'The number that messages come from (srcId, 服务代码); extension and the customer’s own digits follow it.',
      zh: '下发号码（服务代码），其后接扩展号与客户自己的号码。',
    },
  ],
  ['secret', { en: 'Password', zh: '密码' }, { en: 'Kept sealed and never shown.', zh: '加密保存，不再显示。' }],
  [
    'connections',
    { en: 'Connections', zh: '连接数' },
    {
      en: 'How many connections the carrier permits, over all nodes; window and rate are those of each.',
      zh: '运营商允许的连接总数，由各节点分担；滑动窗口与流速按每条连接计。',
    },
  ],
  [
    'carriers',
    { en: 'Carriers', zh: '运营商' },
    {
      en: 'Whose numbers it serves: `mobile`, `unicom`, `telecom`, `broadcast`, `international`.',
      zh: '可发送的号码归属：`mobile` 移动、`unicom` 联通、`telecom` 电信、`broadcast` 广电、`international` 国际。',
    },
  ],
  [
    'provinces',
    { en: 'Provinces', zh: '省份' },
    { en: 'Only numbers of these, as 广东; `null`: all.', zh: '只发送这些省份的号码，如 广东；`null` 为全国。' },
  ],
];

/** The page in one language. */
export function settingsPage(kinds: readonly ChannelKind[], language: Language): string {
  const of = <Text>(text: Readonly<Record<Language, Text>>): Text => text[language];
  const [setting = '', name = '', fallback = '', allowed = '', meaning = ''] = of<readonly string[]>(texts.head);
  return [
    `# ${of(texts.title)}`,
    '<!-- Made from src/channels/kinds.ts; to refresh it: npx vitest run src/channels/kinds.test.ts -u -->',
    of(texts.other),
    of(texts.intro),
    `## ${of(texts.common)}`,
    table(
      [setting, name, meaning],
      common.map(([field, title, text]) => [`\`${field}\``, of(title), of(text)]),
    ),
    ...kinds.flatMap((kind) => [
      `## ${of(kind.title)}`,
      of(texts.settings)(kind.name),
      table(
        [setting, name, fallback, allowed, meaning],
        settingsOf(kind).map(([field, setting, isRequired]) => rowOf(field, setting, isRequired, language)),
      ),
      of(texts.secret)(of(kind.secret)).concat(kind.door ? of(texts.door)(`${kind.door.prefix}/{id}`) : ''),
    ]),
  ]
    .join('\n\n')
    .concat('\n');
}

function settingsOf({ settings }: ChannelKind): readonly (readonly [string, Setting, boolean])[] {
  const { properties, required }: { properties: Record<string, Setting>; required: string[] } = JSON.parse(JSON.stringify(settings));
  return Object.entries(properties).map(([field, setting]) => [field, setting, required.includes(field)] as const);
}

/** A setting as JSON Schema has it; src/channels/settings.ts says what the words are. */
interface Setting {
  readonly title: string;
  readonly 'x-title-en': string;
  readonly description: string;
  readonly 'x-description-zh': string;
  readonly default?: unknown;
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly pattern?: string;
  readonly minimum?: number;
  readonly exclusiveMinimum?: number;
  readonly maximum?: number;
  readonly items?: Setting;
}

function rowOf(field: string, setting: Setting, isRequired: boolean, language: Language): readonly string[] {
  const [title, meaning] = language === 'zh' ? [setting.title, setting['x-description-zh']] : [setting['x-title-en'], setting.description];
  const fallback = isRequired
    ? texts.required[language]
    : !('default' in setting)
      ? ''
      : setting.default === ''
        ? texts.empty[language]
        : code(setting.default);
  return [`\`${field}\``, title, fallback, allowedOf(setting, language), meaning];
}

const code = (value: unknown): string => `\`${typeof value === 'string' ? value : JSON.stringify(value)}\``;

function allowedOf({ type, enum: values, pattern, minimum, exclusiveMinimum, maximum, items }: Setting, language: Language): string {
  if (values) return values.map(code).join(' · ');
  if (type === 'boolean') return [true, false].map(code).join(' · ');
  if (items) return `${texts.listOf[language]} ${allowedOf(items, language)}`;
  if (pattern !== undefined) {
    const [, set, least, most] = /^\^\[(!-~|0-9)\]\{(\d+),(\d+)\}\$$/.exec(pattern) ?? [];
    if (set === undefined) return `\`${pattern}\``;
    return `${least === most ? most : `${least}…${most}`} ${(set === '0-9' ? texts.digits : texts.characters)[language]}`;
  }
  return exclusiveMinimum === undefined ? `${minimum}…${maximum}` : `${texts.above[language]} ${exclusiveMinimum}…${maximum}`;
}

const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`).join('\n');
