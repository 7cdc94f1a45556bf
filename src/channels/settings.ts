/**
 * How the settings of a channel kind are declared: once, as a JSON schema. From it come the check when settings are stored, their types,
 * their defaults, the pages docs/channels*.md, and the forms of whoever configures channels.
 *
 * Every setting has a title in the words of the carriers' own sheets, so that an operator finds there what to fill in, and one line of
 * meaning, both in Chinese and English. What more than one kind has is declared here.
 */
import { type Static, type TObject, type TOptional, type TSchema, Type } from 'typebox';

/** JSON Schema has one title and one description: the title is the carriers' word, the description English; the others have names of their own. */
type Annotations = {
  readonly title: string;
  readonly 'x-title-en': string;
  readonly description: string;
  readonly 'x-description-zh': string;
};

export const words = (titleZh: string, titleEn: string, descriptionZh: string, descriptionEn: string): Annotations => ({
  title: titleZh,
  'x-title-en': titleEn,
  description: descriptionEn,
  'x-description-zh': descriptionZh,
});

type Defaulted<Schema extends TSchema> = TOptional<Schema> & { default: Static<Schema> };

/** A setting that may be left out, and is this then. */
export function byDefault<Schema extends TSchema>(value: Static<Schema>, schema: Schema): Defaulted<Schema> {
  return Object.assign(Type.Optional(schema) as TOptional<Schema>, { default: value });
}

/** The settings with those defaults that were left out. */
export type Settled<Settings extends TObject> = Static<Settings> & {
  [Name in keyof Settings['properties'] as Settings['properties'][Name] extends { default: unknown } ? Name : never]: Static<
    Settings['properties'][Name]
  >;
};

export function withDefaults<Settings extends TObject, Given extends Static<Settings>>(
  schema: Settings,
  given: Given,
): Given & Settled<Settings> {
  const defaults = Object.entries(schema.properties).flatMap(([name, setting]) => ('default' in setting ? [[name, setting.default]] : []));
  return { ...Object.fromEntries(defaults), ...given };
}

/** Printable, without blanks. */
export const ascii = (least: number, most: number, annotations: Annotations) =>
  Type.String({ pattern: `^[!-~]{${least},${most}}$`, ...annotations });

export const milliseconds = (least: number, most: number, annotations: Annotations) =>
  Type.Integer({ minimum: least, maximum: most, ...annotations });

/** How fast, in the unit that the carrier counts. */
export const ratePerSecond = (unitZh: string, unitEn: string) =>
  Type.Number({
    exclusiveMinimum: 0,
    maximum: 100_000,
    ...words('流速', 'Rate', `每条连接每秒${unitZh}的上限。`, `${unitEn} per second, at most, on each connection.`),
  });

/** How long is waited for what; the same words for every protocol, whatever it calls the request. */
export const waiting = {
  responseTimeoutMs: byDefault(
    60_000,
    milliseconds(
      100,
      600_000,
      words(
        '响应超时',
        'Response time-out',
        '提交后等待应答的毫秒数；逾时的消息结果未知。',
        'Milliseconds until the answer to a submit; of a message without one nobody knows whether it was taken.',
      ),
    ),
  ),
  loginTimeoutMs: byDefault(
    15_000,
    milliseconds(
      100,
      600_000,
      words(
        '登录超时',
        'Login time-out',
        '从开始连接到登录成功的最长毫秒数。',
        'Milliseconds from the beginning of a connection until the carrier has let us in.',
      ),
    ),
  ),
  reconnectMinMs: byDefault(
    500,
    milliseconds(
      100,
      600_000,
      words(
        '最短重连间隔',
        'Shortest reconnect pause',
        '断开后第一次重连前等待的毫秒数；每次失败加倍，并有随机抖动。',
        'Milliseconds before the first try to reconnect; doubled each time it fails, with jitter.',
      ),
    ),
  ),
  reconnectMaxMs: byDefault(
    30_000,
    milliseconds(
      100,
      3_600_000,
      words('最长重连间隔', 'Longest reconnect pause', '重连间隔加倍的上限，毫秒。', 'Milliseconds up to which that pause is doubled.'),
    ),
  ),
  refusedMinMs: byDefault(
    5_000,
    milliseconds(
      1000,
      3_600_000,
      words(
        '拒绝后重连间隔',
        'Pause after a refusal',
        '登录被拒绝后至少等待的毫秒数；运营商会封禁频繁重试的账号。',
        'Milliseconds, at least, before the next try after a refused login: carriers block accounts that hammer.',
      ),
    ),
  ),
} as const;

export const throttling = {
  throttleBackoffMs: byDefault(
    500,
    milliseconds(
      1,
      600_000,
      words(
        '超流速重发间隔',
        'Throttling pause',
        '运营商以“流速过快”拒绝后，再次提交前等待的毫秒数；每次加倍。',
        'Milliseconds before what the carrier refused as too fast goes out again; doubled each time.',
      ),
    ),
  ),
  throttleTries: byDefault(
    5,
    Type.Integer({
      minimum: 1,
      maximum: 20,
      ...words(
        '超流速提交次数',
        'Throttling tries',
        '遇到“流速过快”时总共提交的次数；仍被拒绝则放回队列。',
        'How often it is submitted in all; refused once more, it goes back into the queue.',
      ),
    }),
  ),
} as const;
