/**
 * How the settings of a channel kind are declared: once, as a JSON schema. The check on storing, the types, the defaults, the pages
 * docs/channels*.md and the configuration forms come from it.
 *
 * Every setting has a title in the words of the carriers' own sheets, so that an operator finds there what to fill in, and a one-line
 * description, both in Chinese and English. Settings that several kinds share are declared here.
 */
import { type Static, type TObject, type TOptional, type TSchema, Type } from 'typebox';

/**
 * JSON Schema has one title and one description: the title is the carriers' word, the description is English. The others have their own
 * names.
 */
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

/** A setting that may be left out, with its default. */
export function byDefault<Schema extends TSchema>(value: Static<Schema>, schema: Schema): Defaulted<Schema> {
  return Object.assign(Type.Optional(schema) as TOptional<Schema>, { default: value });
}

/** The settings, with defaults for those that were left out. */
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

/** The rate, in the unit that the carrier counts. */
export const ratePerSecond = (unitZh: string, unitEn: string) =>
  Type.Number({
    exclusiveMinimum: 0,
    maximum: 100_000,
    ...words('流速', 'Rate', `每条连接每秒${unitZh}的上限。`, `Most ${unitEn.toLowerCase()} per second on each connection.`),
  });

/** Time-outs, described in the same words for every protocol, whatever it calls the request. */
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
        'Milliseconds to wait for the answer to a submit; without an answer, the outcome of the message is unknown.',
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
        'Milliseconds from the start of a connection until the login has succeeded.',
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
        'Milliseconds before the first attempt to reconnect; doubled after each failure, with jitter.',
      ),
    ),
  ),
  reconnectMaxMs: byDefault(
    30_000,
    milliseconds(
      100,
      3_600_000,
      words('最长重连间隔', 'Longest reconnect pause', '重连间隔加倍的上限，毫秒。', 'Upper limit of this pause in milliseconds.'),
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
        'Least milliseconds before the next attempt after a refused login; carriers block accounts that try too often.',
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
        'Milliseconds before a message that the carrier rejected as too fast is sent again; doubled each time.',
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
        'How often such a message is submitted in all; after one more rejection it goes back into the queue.',
      ),
    }),
  ),
} as const;
