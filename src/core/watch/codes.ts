/**
 * Explains every code that a customer can meet: what it means, why it comes, what to do. The page /codes/{code}, docs/codes.md, and the
 * words of MMS reports come from here. The vendors give the bare codes (their documents' tables); the rest is ours.
 */

export type CodeKind = 'status' | 'carrier' | 'aim' | 'mms';

interface Words {
  readonly meaning: string;
  readonly cause: string;
  readonly remedy: string;
}

export interface CodeEntry {
  /** As it is on the wire; `MA:*` stands for all codes with this beginning. */
  readonly code: string;
  /** Our status of a message, a carrier's status, or the answer to a request in one of the dialects. */
  readonly kind: CodeKind;
  /** For screening's statuses: the rule's number. */
  readonly rule: number | null;
  readonly zh: Words;
  readonly en: Words;
}

type Row = readonly [code: string, zh: readonly [string, string, string], en: readonly [string, string, string]];

const words = ([meaning, cause, remedy]: readonly [string, string, string]): Words => ({ meaning, cause, remedy });
const entries = (kind: CodeKind, rows: readonly Row[]): CodeEntry[] =>
  rows.map(([code, zh, en]) => ({ code, kind, rule: null, zh: words(zh), en: words(en) }));

/** Screening's codes, by the number of the rule. */
const intercepted: readonly (readonly [rule: number, ...Row])[] = [
  [
    1,
    'WL:CWHM',
    ['号码错误', '不是有效的手机号码：位数、国家码或号段不对', '核对号码后重新提交'],
    ['not a valid number', 'wrong length, country code, or a range that is not allocated', 'correct the number and submit it again'],
  ],
  [
    2,
    'WL:MQM',
    ['没有签名', '产品要求签名，而内容的开头或结尾没有【2 到 20 个字符】', '在内容开头加上已报备的签名，如【鸿雁】'],
    [
      'no signature',
      'the product requires one, and the text neither begins nor ends with 【2 to 20 characters】',
      'put a registered signature in front of the text',
    ],
  ],
  [
    3,
    'WL:QWBB',
    ['签名未报备', '签名没有在本账户报备，或（严格模式的产品）没有在该号码的运营商报备', '联系运营方报备签名，或改用已报备的签名'],
    [
      'signature not registered',
      'the signature is not registered for the account or, for a strict product, not with the carrier of the number',
      'have the signature registered, or use a registered one',
    ],
  ],
  [
    4,
    'WL:TCLJ',
    ['不在发送时间段', '计划的发送时间在产品或账户的可发送时段之外', '在时段内提交，或指定时段内的发送时间'],
    [
      'outside the sending window',
      'the planned time of sending is outside the hours that the product or subscription allows',
      'submit within these hours, or set a send time within them',
    ],
  ],
  [
    4,
    'WL:TCSH',
    ['不在发送时间段，待审核', '同上，但产品设为由人工审核；审核未通过或 72 小时无人处理时以此状态结束', '等待审核，或在时段内重新提交'],
    [
      'outside the sending window, needs review',
      'as WL:TCLJ, but a reviewer decides; the message ends so if it is rejected, or if nobody decides within 72 hours',
      'wait for the decision, or submit within the allowed hours',
    ],
  ],
  [
    5,
    'WL:MBLJ',
    ['内容命中拦截模板', '内容匹配了拦截类的内容模板或敏感词', '修改内容后重新提交'],
    [
      'content intercepted',
      'the text matches a content template of type intercept, or contains a word of that type',
      'change the text and submit it again',
    ],
  ],
  [
    6,
    'WL:MBSH',
    ['内容命中审核模板', '内容匹配了审核类的内容模板或敏感词；审核未通过或过期时以此状态结束', '等待审核，或修改内容'],
    [
      'content needs review',
      'the text matches a content template of type review, or contains a word of that type; the message ends so if it is rejected or the review expires',
      'wait for the decision, or change the text',
    ],
  ],
  [
    7,
    'WL:ZJLJ',
    ['不匹配任何模板', '产品只允许按内容模板发送，而内容没有匹配到模板', '按已有的内容模板发送，或申请新的模板'],
    [
      'no template matches',
      'the product sends only texts that match a content template, and none matches',
      'use the text of a content template, or apply for a new one',
    ],
  ],
  [
    8,
    'WL:NMLJ',
    ['没有匹配到模板', '账户设为未匹配到内容模板即拦截', '按已有的内容模板发送，或请运营方调整'],
    [
      'no template matches',
      'the subscription intercepts texts that match no content template',
      'use the text of a content template, or ask the operator to change the mode',
    ],
  ],
  [
    9,
    'WL:NMSH',
    ['没有匹配到模板，待审核', '账户设为未匹配到内容模板即审核；审核未通过或过期时以此状态结束', '等待审核'],
    [
      'no template matches, needs review',
      'the subscription sends texts that match no content template to review; the message ends so if it is rejected or the review expires',
      'wait for the decision',
    ],
  ],
  [
    10,
    'WL:KHLJ',
    ['空号', '号码在平台的空号库中', '从名单中去掉此号码；若确认是误判，请运营方移出'],
    [
      'empty number',
      'the number is on the platform’s list of numbers that are not in use',
      'remove it from your list; if it is in use, ask the operator to take it off the platform’s list',
    ],
  ],
  [
    11,
    'WL:CHLJ',
    ['产品黑名单', '号码在系统或产品的黑名单中', '不要再向此号码发送'],
    ['product blocklist', 'the number is on the system’s or the product’s blocklist', 'do not send to it'],
  ],
  [
    12,
    'WL:SHLJ',
    ['账户黑名单或已退订', '号码在此 sp_id（账户产品）的黑名单中，通常因为用户回复了退订', '不要再向此号码发送'],
    [
      'subscription blocklist, or opted out',
      'the number is on the sp_id’s blocklist, usually because its owner has opted out',
      'do not send to it',
    ],
  ],
  [
    13,
    'WL:QHLJ',
    ['签名黑名单', '号码在所用签名的黑名单中', '不要再以此签名向该号码发送'],
    ['signature blocklist', 'the number is on the blocklist of the signature', 'do not send to it under this signature'],
  ],
  [
    14,
    'WL:CPL',
    ['超过频次限制', '此号码在规定的时段内（每分钟、每小时、每天或 24 小时）已收到足够多的消息', '等时段过去后再发'],
    [
      'frequency cap',
      'the number has already received as many messages as the cap allows in its period',
      'send again when the period is over',
    ],
  ],
  [
    15,
    'WL:CS',
    ['超过限速', '账户每秒可提交的号码数已用完，本批后面的号码被拦截', '放慢提交，把被拦截的号码再交一次'],
    [
      'rate limit',
      'the subscription had used up its rate, so the remaining numbers of the batch were intercepted',
      'submit more slowly, and submit these numbers again',
    ],
  ],
  [
    16,
    'WL:CMT',
    ['产品没有通道', '产品没有配置通道池', '联系运营方'],
    ['the product has no channels', 'no channel pool is configured for the product', 'ask the operator'],
  ],
  [
    17,
    'WL:CGMT',
    ['没有该运营商的通道', '产品的通道池中没有支持该号码运营商的通道', '联系运营方'],
    ['no channel for this carrier', 'the product’s pool has no channel for the carrier of the number', 'ask the operator'],
  ],
  [
    18,
    'WL:CDQC',
    ['通道不支持该地区', '支持该运营商的通道都不服务号码所在的省份', '联系运营方'],
    ['no channel for this province', 'none of the carrier’s channels serves the province of the number', 'ask the operator'],
  ],
  [
    19,
    'WL:CNH',
    ['通道不健康', '能发送此号码的通道当前都不可用', '稍后再交；持续出现请联系运营方'],
    [
      'no healthy channel',
      'all channels that could carry the message are unhealthy at present',
      'submit again later; ask the operator if this continues',
    ],
  ],
];

const statuses: readonly Row[] = [
  [
    'DELIVRD',
    ['已送达', '运营商报告用户已收到', '无需处理'],
    ['delivered', 'the carrier reports that the phone has received the message', 'nothing'],
  ],
  ['DELIVERED', ['用户接收成功', '彩信的推送中的 DELIVRD', '无需处理'], ['delivered', 'the name of DELIVRD in MMS pushes', 'nothing']],
  [
    'EXPIRED',
    ['超时', '在有效期内未能送达或未能发出，或 72 小时内没有回执', '手机可能关机或不在服务区，可稍后再发'],
    [
      'expired',
      'the message was not sent or not delivered within its time to live, or no report came within 72 hours',
      'the phone may be off; send again later',
    ],
  ],
  [
    'UNKNOWN',
    ['结果未知', '运营商没有应答，无法确定是否收到，产品设为不重发', '费用已退回；确有需要可再发，用户可能收到两条'],
    [
      'unknown',
      'the carrier did not answer whether it accepted the message, and the product does not send again',
      'the message cost nothing; if you send it again, the phone may get it twice',
    ],
  ],
  [
    'CANCELED',
    ['已取消', '定时批次在开始前被取消', '无需处理'],
    ['cancelled', 'the batch was planned for later and was cancelled before it began', 'nothing'],
  ],
];

const carriers: readonly Row[] = [
  [
    'UNDELIV',
    ['未能送达', '号码停机、空号、关机过久或用户拒收', '核对号码'],
    [
      'undeliverable',
      'the number is out of service or does not exist, the phone was off too long, or its owner refused',
      'check the number',
    ],
  ],
  [
    'REJECTD',
    ['被拒绝', '运营商拒绝了这条消息：内容、号码或通道的限制', '修改内容，或联系运营方'],
    ['rejected', 'the carrier rejected the message because of its text, number or channel', 'change the text, or ask the operator'],
  ],
  [
    'DELETED',
    ['被删除', '消息在短信中心被删除', '联系运营方'],
    ['deleted', 'the message was deleted in the message centre', 'ask the operator'],
  ],
  [
    'ER:*',
    ['运营商拒绝提交', '运营商在提交时即拒绝，后四位是其协议的结果码', '由运营方按结果码处理'],
    [
      'submit rejected',
      'the carrier rejected the submit; the four digits are the result code of its protocol',
      'the operator looks up the result code',
    ],
  ],
  [
    'MA:*',
    ['短信中心无应答', '下一级短信中心没有应答', '稍后再发'],
    ['no answer from the message centre', 'the SMSC did not answer', 'send again later'],
  ],
  [
    'MB:*',
    ['短信中心报错', '短信中心返回错误，后四位是错误码', '核对号码，或联系运营方'],
    ['message centre error', 'the SMSC answered with an error; the four digits are its code', 'check the number, or ask the operator'],
  ],
  [
    'MC:*',
    ['短信中心无回执', '短信中心在规定时间内没有状态报告', '稍后再发'],
    ['no report from the message centre', 'the SMSC sent no report in time', 'send again later'],
  ],
  [
    'MI:*',
    ['短信中心内部错误', '多为用户不可达', '稍后再发'],
    ['internal error of the message centre', 'usually the phone cannot be reached', 'send again later'],
  ],
  [
    'MK:*',
    ['手机侧错误', '多为空号、停机、信号不好或短信箱满', '核对号码，稍后再发'],
    [
      'error at the phone',
      'usually the number does not exist or is out of service, there is no signal, or the inbox is full',
      'check the number; send again later',
    ],
  ],
  [
    'MN:*',
    ['网络侧错误', '多为号码不存在或关机', '核对号码'],
    ['error in the network', 'usually the number does not exist, or the phone is off', 'check the number'],
  ],
  [
    'CA:*',
    ['业务控制点无应答', '计费或智能网没有应答', '稍后再发'],
    ['no answer from the service control point', 'the SCP (charging, intelligent network) did not answer', 'send again later'],
  ],
  [
    'CB:*',
    ['业务控制点报错', '多为用户欠费或业务受限', '联系用户'],
    ['service control point error', 'usually the person owes money to the carrier, or the service is restricted', 'ask the person'],
  ],
  [
    'DA:*',
    ['业务平台无应答', '数据业务平台没有应答', '稍后再发'],
    ['no answer from the service platform', 'the DSMP (data services) did not answer', 'send again later'],
  ],
  [
    'DB:*',
    ['业务平台报错', '多为用户在运营商黑名单中或业务被限制', '不要再向此号码发送'],
    ['service platform error', 'usually the number is on the carrier’s own blocklist, or the service is restricted', 'do not send to it'],
  ],
  [
    'SA:*',
    ['服务提供方无应答', '对端没有应答', '联系运营方'],
    ['no answer from the service provider', 'the SP did not answer', 'ask the operator'],
  ],
  [
    'SB:*',
    ['服务提供方报错', '对端返回错误', '联系运营方'],
    ['service provider error', 'the SP answered with an error', 'ask the operator'],
  ],
  [
    'IA:*',
    ['下一网关无应答', '网关之间没有应答', '稍后再发'],
    ['no answer from the next gateway', 'one gateway did not answer another', 'send again later'],
  ],
  [
    'IB:*',
    ['下一网关报错', '网关返回错误，常见于流量或内容限制', '联系运营方'],
    ['next gateway error', 'the gateway answered with an error, often because of limits on rate or content', 'ask the operator'],
  ],
  [
    'IC:*',
    ['下一网关无回执', '网关在规定时间内没有状态报告', '稍后再发'],
    ['no report from the next gateway', 'the gateway sent no report in time', 'send again later'],
  ],
  [
    'ID:*',
    ['网关拦截', '网关的黑名单、内容或频次限制', '修改内容，或联系运营方'],
    [
      'intercepted by the gateway',
      'the gateway’s own blocklist, or its limits on content or frequency',
      'change the text, or ask the operator',
    ],
  ],
];

const aim: readonly Row[] = [
  ['0', ['成功', '请求已接受', '无需处理'], ['success', 'the request is accepted', 'nothing']],
  ['10000', ['服务出错', '平台的故障或繁忙', '可以安全重试'], ['our fault', 'the platform has a fault or is busy', 'retry; this is safe']],
  [
    '10001',
    ['参数错误', '缺少参数、格式不对或超过上限，msg 指明是哪一个', '按 msg 修改'],
    ['bad parameter', 'a parameter is missing, malformed or over its limit; msg says which', 'correct the parameter that msg names'],
  ],
  [
    '10008',
    ['账号被锁定', '账户被锁定，或产品未启用', '联系运营方'],
    ['account locked', 'the account is locked, or the subscription is disabled', 'ask the operator'],
  ],
  [
    '10011',
    ['余额不足', '可用余额不够这一批', '充值后重试'],
    ['balance too low', 'the balance does not cover the batch', 'top up and retry'],
  ],
  [
    '10100',
    ['签名校验失败', 'signature 与参数或密码不符，或失败过多', '核对签名算法与产品密码'],
    [
      'signature wrong',
      'the signature does not match the parameters or the password, or there were too many failures',
      'check how you compute the signature, and the product’s password',
    ],
  ],
  [
    '10101',
    ['IP 不在白名单', '请求来自白名单以外的地址', '把服务器的出口地址加入白名单'],
    ['address not allowed', 'the request comes from outside the allow-list', 'have your address added'],
  ],
  [
    '10102',
    ['密码错误', 'password 不是产品密码的 MD5，或失败过多', '核对产品密码'],
    ['password wrong', 'password is not the MD5 of the product’s password, or there were too many failures', 'check the password'],
  ],
  [
    '10700',
    ['模版未报备通过', '模板待审核、未通过、已过期或已撤回', '等待审核，或换一个模板'],
    ['template not approved', 'the template is pending, rejected, expired or withdrawn', 'wait for approval, or use another template'],
  ],
  [
    '10701',
    ['请使用 aim 产品', 'sp_id 的产品不是 AIM', '换用 AIM 产品的 sp_id'],
    ['not an AIM product', 'the product of this sp_id is not AIM', 'use the sp_id of an AIM product'],
  ],
  [
    '10702',
    ['模版不存在', '本账户没有这个模板', '核对 template_id'],
    ['no such template', 'this account has no template with this id', 'check template_id'],
  ],
  [
    '10703',
    ['动参个数不正确', '某个号码的动参比模板的多或少', '按模板的参数个数填写'],
    ['wrong number of values', 'a number has more or fewer values than the template has parameters', 'give one value for each parameter'],
  ],
  [
    '10704',
    ['缺少占位符', '内容里没有 $url$，或不止一个', '恰好写一个 $url$'],
    ['placeholder missing', 'the text must contain $url$ exactly once', 'write $url$ once'],
  ],
  [
    '10705',
    ['mobiles 格式不对', '不是文档规定的两种 JSON 之一', '按文档的格式填写'],
    ['mobiles malformed', 'mobiles is in neither of the two documented JSON forms', 'write mobiles as documented'],
  ],
];

const mms: readonly Row[] = [
  ['OK', ['成功', '请求已接受', '无需处理'], ['success', 'the request is accepted', 'nothing']],
  [
    'InputDataInvalid',
    ['参数有误', '不是 JSON、缺少参数、类型不对或过长，message 指明位置', '按 message 修改'],
    [
      'bad input',
      'the body is not JSON, or a parameter is missing, of the wrong type or too long; message says where',
      'correct the place that message names',
    ],
  ],
  ['ApiIdInvalid', ['api_id 不存在', '没有这个 api_id', '核对 api_id'], ['no such api_id', 'no account has this api_id', 'check api_id']],
  [
    'SignatureInvalid',
    ['签名不对', '签名与公共参数或密钥不符，或失败过多', '核对签名算法与 api_key'],
    [
      'signature wrong',
      'the signature does not match the common parameters or the key, or there were too many failures',
      'check how you compute the signature, and api_key',
    ],
  ],
  [
    'TimestampExpired',
    ['时间戳过期', '与服务器相差超过 60 秒', '校准时钟'],
    ['timestamp too far off', 'the timestamp differs from the server’s clock by more than 60 seconds', 'set your clock'],
  ],
  [
    'RequestDuplicated',
    ['重复的请求', 'request_id 两小时内用过；没有再次执行', '用带回的 task_id 查询'],
    [
      'repeated request',
      'the request_id was used within the last two hours; the request was not carried out again',
      'use the task_id or template_id in the answer',
    ],
  ],
  [
    'IpNotAllowed',
    ['IP 不在白名单', '请求来自白名单以外的地址', '把服务器的出口地址加入白名单'],
    ['address not allowed', 'the request comes from outside the allow-list', 'have your address added'],
  ],
  ['AccountLocked', ['账户已锁定', '账户被锁定', '联系运营方'], ['account locked', 'the account is locked', 'ask the operator']],
  [
    'ProductInvalid',
    ['产品不可用', '没有开通这个彩信产品', '核对 product_id'],
    ['no such product', 'the account has no subscription to this MMS product', 'check product_id'],
  ],
  [
    'PhoneInvalid',
    ['没有可用的号码', '号码都不是有效的手机号码', '核对号码'],
    ['no valid number', 'none of the numbers is a valid mobile number', 'check the numbers'],
  ],
  [
    'PhoneTooMany',
    ['号码过多', '一次超过 10,000 个', '分批提交'],
    ['too many numbers', 'the request has more than 10,000 numbers', 'submit them in parts'],
  ],
  [
    'SignNameRequired',
    ['缺少签名', '没有 sign_name', '填写已报备的签名'],
    ['signature missing', 'there is no sign_name', 'give a registered signature'],
  ],
  [
    'SignNameNotApproved',
    ['签名未报备', '签名没有在本账户报备', '联系运营方报备'],
    ['signature not registered', 'the signature is not registered for this account', 'ask the operator to register it'],
  ],
  ['TitleRequired', ['缺少标题', '没有 title', '填写标题'], ['title missing', 'there is no title', 'give a title']],
  [
    'ContentInvalid',
    ['内容有误', '结构、编码或文件不对，message 指明第几帧', '按 message 修改'],
    ['content wrong', 'the structure, the encoding or a file is wrong; message names the frame', 'correct the frame that message names'],
  ],
  [
    'ContentTooLarge',
    ['内容过大', '超过产品的大小、帧数或字数', '压缩或删减'],
    ['content too large', 'the content exceeds the product’s limit of size, frames or characters', 'make it smaller'],
  ],
  [
    'TemplateNotFound',
    ['模板不存在', '本账户没有这个模板', '核对 template_id'],
    ['no such template', 'this account has no template with this id', 'check template_id'],
  ],
  [
    'TemplateNotApproved',
    ['模板不可用', '待审核、未通过或已撤回', '等待审核，或换一个模板'],
    ['template not approved', 'the template is pending, rejected or withdrawn', 'wait for approval, or use another template'],
  ],
  [
    'SendTimeInvalid',
    ['定时时间有误', '格式不对、日期不存在，或提前超过 30 天', '按 YYYY-MM-DD HH:mm:ss 填写'],
    [
      'bad send_time',
      'send_time is malformed, names a day that does not exist, or is more than 30 days ahead',
      'write YYYY-MM-DD HH:mm:ss',
    ],
  ],
  [
    'BalanceInsufficient',
    ['余额不足', '可用余额不够这一批', '充值后重试'],
    ['balance too low', 'the balance does not cover the batch', 'top up and retry'],
  ],
  [
    'RateLimited',
    ['过于频繁', '同一地址的请求过多', '放慢后重试'],
    ['too frequent', 'too many requests from one address', 'slow down and retry'],
  ],
  [
    'SystemBusy',
    ['系统繁忙', '平台的故障或繁忙', '用同一个 request_id 重试'],
    ['busy', 'the platform has a fault or is busy', 'retry with the same request_id'],
  ],
];

/** In display order. */
export const codes: readonly CodeEntry[] = [
  ...intercepted.map(([rule, code, zh, en]): CodeEntry => ({ code, kind: 'status', rule, zh: words(zh), en: words(en) })),
  ...entries('status', statuses),
  ...entries('carrier', carriers),
  ...entries('aim', aim),
  ...entries('mms', mms),
];

const byCode = new Map(codes.map((entry) => [entry.code, entry]));

/** The entry of a code; families such as `MK:0012` by their first letters. Undefined for a carrier's code without an explanation. */
export const explain = (code: string): CodeEntry | undefined => byCode.get(code) ?? byCode.get(`${code.slice(0, code.indexOf(':') + 1)}*`);
