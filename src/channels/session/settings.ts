/** The settings of a session, for every protocol with its own TCP connection. */
import { type TObject, Type } from 'typebox';
import { byDefault, milliseconds, type Settled, waiting, words } from '../settings.ts';

/** Where the carrier listens. */
export const address = {
  host: Type.String({
    pattern: '^[A-Za-z0-9._:-]{1,253}$',
    ...words('网关地址', 'Gateway address', '运营商网关的 IP 地址或主机名。', 'IP address or host name of the carrier’s gateway.'),
  }),
  port: Type.Integer({
    minimum: 1,
    maximum: 65_535,
    ...words('网关端口', 'Gateway port', '运营商网关的 TCP 端口。', 'TCP port of the carrier’s gateway.'),
  }),
} as const;

export const sessionSettings = {
  window: byDefault(
    16,
    Type.Integer({
      minimum: 1,
      maximum: 1024,
      ...words(
        '滑动窗口',
        'Window',
        '每条连接上已发送而未应答的请求数上限。',
        'Most requests that are sent and not yet answered on each connection.',
      ),
    }),
  ),
  ...waiting,
  keepAliveMs: byDefault(
    180_000,
    milliseconds(
      100,
      3_600_000,
      words(
        '链路检测间隔',
        'Keep-alive interval',
        '连接静默多少毫秒后发送链路检测包。',
        'Milliseconds of silence after which we send a keep-alive request.',
      ),
    ),
  ),
  keepAliveTries: byDefault(
    3,
    Type.Integer({
      minimum: 1,
      maximum: 20,
      ...words(
        '链路检测次数',
        'Keep-alive tries',
        '连续多少次链路检测没有应答（每次等待响应超时）即断开重连。',
        'Keep-alive requests in a row without an answer, each within the response time-out, after which the connection counts as dead.',
      ),
    }),
  ),
} as const;

export type SessionSettings = Settled<TObject<typeof address & typeof sessionSettings>>;
