/** The settings of an MM7 channel: how we post to the MMSC, and how it may post to us. */
import { type Static, Type } from 'typebox';
import { defaultStyle } from '../../protocols/mm7/smil.ts';
import { ascii, byDefault, milliseconds, ratePerSecond, throttling, waiting, words } from '../settings.ts';

/** Who may post reports and replies to us. */
const callbacks = {
  allowedAddresses: Type.Optional(
    Type.Array(ascii(2, 50, words('回调地址', 'Address', 'IP 地址或 CIDR 网段。', 'An IP address or a CIDR range.')), {
      minItems: 1,
      maxItems: 100,
      ...words(
        '回调白名单',
        'Callback addresses',
        '允许推送状态报告与上行的 IP 地址或网段；不填则凭回调用户名。两者都不填则不接收。',
        'Addresses and ranges that may post reports and replies; any, if left out, that knows the callback user. Nobody if there is neither.',
      ),
    }),
  ),
  callbackUsername: Type.Optional(
    ascii(
      1,
      100,
      words(
        '回调用户名',
        'Callback user',
        '彩信中心推送时使用的用户名（Basic 认证）；密码为通道密码。',
        'What the MMSC authenticates with when it posts (Basic); the password is the channel’s secret.',
      ),
    ),
  ),
} as const;

export const mm7Settings = Type.Object(
  {
    url: Type.String({
      pattern: '^https?://[!-~]{1,500}$',
      ...words('接口地址', 'URL', '彩信中心（MMSC）的 MM7 提交地址。', 'Where the MMSC takes messages.'),
    }),
    vaspId: ascii(1, 100, words('企业代码', 'VASPID', '运营商分配的企业代码（SP 代码）。', 'Who we are, given by the carrier.')),
    vasId: ascii(
      1,
      100,
      words('服务代码', 'VASID', '运营商分配的服务代码，通常即接入号。', 'The service, given by the carrier; often the access number.'),
    ),
    ratePerSecond: ratePerSecond('提交号码数', 'Recipients'),
    serviceCode: byDefault(
      '',
      ascii(0, 100, words('业务代码', 'ServiceCode', '运营商登记的业务代码；空则不写。', 'For charging; empty leaves it out.')),
    ),
    authentication: Type.Optional(
      Type.Enum(
        ['none', 'basic', 'digest'],
        words(
          '认证方式',
          'Authentication',
          'HTTP 认证方式；不填时，有用户名用 basic，没有则不认证。',
          'Of HTTP. Left out: basic where there is a user, else none.',
        ),
      ),
    ),
    username: byDefault(
      '',
      ascii(
        0,
        100,
        words('用户名', 'User', 'HTTP 认证的用户名；密码为通道密码。', 'For HTTP authentication; the password is the channel’s secret.'),
      ),
    ),
    version: byDefault(
      '6.8.0',
      ascii(
        1,
        20,
        words(
          '协议版本',
          'MM7Version',
          '消息中的 MM7Version；不符时彩信中心可能以 4002 拒绝。',
          'What MM7Version says; the MMSC may refuse others with 4002.',
        ),
      ),
    ),
    namespace: byDefault(
      'REL-6-MM7-1-4',
      ascii(
        1,
        200,
        words('命名空间', 'Namespace', 'XML 命名空间的最后一段，或完整的 URI。', 'The last part of the XML namespace, or a whole URI.'),
      ),
    ),
    prefixes: byDefault(
      'default',
      Type.Enum(
        ['default', 'prefixed'],
        words(
          '命名空间前缀',
          'Prefixes',
          '元素用默认命名空间（default）或都带前缀（prefixed）。',
          'Elements in the default namespace, or all with a prefix.',
        ),
      ),
    ),
    senderStyle: byDefault(
      'shortCode',
      Type.Enum(
        ['shortCode', 'number', 'text', 'none'],
        words(
          '发送方写法',
          'Sender style',
          'SenderAddress 的写法：ShortCode 元素、Number 元素、纯文本（中国移动 API），或不写。',
          'How SenderAddress is written: as a ShortCode or Number inside of it, as text (China Mobile’s API), or not at all.',
        ),
      ),
    ),
    numberStyle: byDefault(
      'plus',
      Type.Enum(
        ['plus', 'e164', 'national'],
        words(
          '号码写法',
          'Number style',
          '+86138…（plus）、86138…（e164）或 138…（national，其他国家前加 00）。',
          '+86138… (plus), 86138… (e164), or 138… (national; other countries with 00 in front).',
        ),
      ),
    ),
    sourceStyle: byDefault(
      'location',
      Type.Enum(
        ['location', 'cid'],
        words(
          'SMIL 引用方式',
          'Source style',
          'SMIL 按文件名（location）或 Content-ID（cid）引用附件。',
          'How SMIL names its parts: by file name or by Content-ID.',
        ),
      ),
    ),
    soapAction: byDefault(
      '""',
      Type.String({
        pattern: '^[ -~]{0,100}$',
        ...words(
          'SOAPAction',
          'SOAPAction',
          '该 HTTP 头的值，连同引号；有的平台要求 "Submit"。',
          'The header’s value with its quotes; some want "Submit".',
        ),
      }),
    ),
    messageClass: byDefault(
      'Informational',
      Type.Enum(
        ['Personal', 'Advertisement', 'Informational', 'Auto'],
        words('消息类别', 'MessageClass', '个人、广告、资讯或自动。', 'Personal, advertisement, informational or automatic.'),
      ),
    ),
    priority: byDefault(
      'Normal',
      Type.Enum(
        ['Normal', 'High', 'Low'],
        words('优先级', 'Priority', '消息的优先级，由运营商解释。', 'Priority of messages; what it means, the carrier says.'),
      ),
    ),
    chargedParty: byDefault(
      'Sender',
      Type.Enum(
        ['Sender', 'Recipient', 'Both', 'Neither', 'ThirdParty'],
        words(
          '计费类型',
          'ChargedParty',
          '付费方：发送方、接收方、双方、免费或第三方。',
          'Who pays: the sender, the recipient, both, neither, or somebody else.',
        ),
      ),
    ),
    readReply: byDefault(
      false,
      Type.Boolean(words('阅读报告', 'ReadReply', '要求彩信中心告知消息已被阅读。', 'Ask to be told when a message has been read.')),
    ),
    validityHours: byDefault(
      0,
      Type.Integer({
        minimum: 0,
        maximum: 168,
        ...words('有效期', 'Validity', '彩信中心尝试送达的小时数；0 由其自定。', 'Hours until the MMSC gives up; 0: its own default.'),
      }),
    ),
    frameMs: byDefault(
      defaultStyle.frameMs,
      milliseconds(1000, 600_000, words('每帧时长', 'Frame duration', '每一帧显示的毫秒数。', 'Milliseconds that each frame is shown.')),
    ),
    recipientsPerRequest: byDefault(
      100,
      Type.Integer({
        minimum: 1,
        maximum: 1000,
        ...words('每次提交号码数', 'Recipients per request', '一次提交最多携带的号码数。', 'Recipients of one request, at most.'),
      }),
    ),
    concurrency: byDefault(
      4,
      Type.Integer({
        minimum: 1,
        maximum: 64,
        ...words(
          '并发请求数',
          'Concurrency',
          '每条连接同时进行的请求数上限。',
          'Requests under way at once, at most, for each connection.',
        ),
      }),
    ),
    gatherMs: byDefault(
      20,
      milliseconds(
        0,
        10_000,
        words(
          '凑批等待',
          'Gathering',
          '号码未满一次提交时等待更多号码的毫秒数。',
          'Milliseconds that a request which is not full waits for more recipients of the same package.',
        ),
      ),
    ),
    ...waiting,
    connectTimeoutMs: byDefault(
      10_000,
      milliseconds(
        100,
        600_000,
        words(
          '连接超时',
          'Connect time-out',
          '建立 TCP（及 TLS）连接的最长毫秒数。',
          'Milliseconds until a TCP (and TLS) connection stands.',
        ),
      ),
    ),
    probe: byDefault(
      'post',
      Type.Enum(
        ['post', 'connect'],
        words(
          '探测方式',
          'Probe',
          '如何得知彩信中心可用：空的 POST（也能验证账号），或只建立 TCP 连接。',
          'How it is found out whether the MMSC is there: an empty POST, which also tells whether we are let in, or a TCP connection.',
        ),
      ),
    ),
    failuresUntilDown: byDefault(
      3,
      Type.Integer({
        minimum: 1,
        maximum: 100,
        ...words(
          '判定断开次数',
          'Failures until down',
          '连续多少次请求没有应答即判定断开。',
          'Requests in a row without an answer until the connection counts as down.',
        ),
      }),
    ),
    ...throttling,
    ...callbacks,
  },
  { $id: 'Mm7Settings', additionalProperties: false },
);

export type Mm7ChannelSettings = Static<typeof mm7Settings>;
