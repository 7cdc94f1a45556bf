/** An operator's script: sets up carriers and customers through the management API, as documented. */

export interface Operator {
  call(method: string, path: string, body?: unknown): Promise<Record<string, unknown>>;
  /** A channel with a pool of its own; returns both ids. */
  channel(channel: Readonly<Record<string, unknown>> & { readonly name: string }): Promise<{ channelId: number; poolId: number }>;
  aimCustomer(wanted: {
    readonly name: string;
    readonly poolId: number;
    readonly product?: Readonly<Record<string, unknown>>;
    readonly subscription?: Readonly<Record<string, unknown>>;
  }): Promise<AimCustomer>;
  mmsCustomer(wanted: {
    readonly name: string;
    readonly poolId: number;
    readonly product?: Readonly<Record<string, unknown>>;
  }): Promise<MmsCustomer>;
}

export interface AimCustomer {
  readonly accountId: number;
  readonly subscriptionId: number;
  readonly spId: string;
  readonly password: string;
  readonly templateId: number;
}

export interface MmsCustomer {
  readonly accountId: number;
  readonly apiId: string;
  readonly apiKey: string;
  readonly productId: number;
  readonly signName: string;
}

/** What every customer has paid in. */
export const paidIn = 10_000_000;
/** In yuan for AIM, in messages for MMS. */
export const prices = { aim: '0.05', mms: '1' } as const;

/** Every customer's, registered. */
const signName = '鸿雁';

export function createOperator(base: string, token: string): Operator {
  async function call(method: string, path: string, body?: unknown): Promise<Record<string, unknown>> {
    const response = await fetch(`${base}/v1${path}`, {
      method,
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    const answer = (await response.json()) as Record<string, unknown>;
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${JSON.stringify(answer)}`);
    return answer;
  }

  /** An account that has paid for one product of its own. */
  async function subscribe(name: string, medium: 'aim' | 'mms', product: object, more: object) {
    const { id: productId } = await call('POST', '/products', { name, medium, unit: medium === 'aim' ? 'yuan' : 'messages', ...product });
    const account = await call('POST', '/accounts', { name });
    const subscription = await call('POST', '/subscriptions', { accountId: account['id'], productId, price: prices[medium], ...more });
    await call('POST', `/subscriptions/${String(subscription['id'])}/top-ups`, { amount: String(paidIn), note: name });
    await call('POST', '/signatures', { accountId: account['id'], name: signName });
    return { productId: Number(productId), account, subscription };
  }

  return {
    call,
    async channel(channel) {
      const { id } = await call('POST', '/channels', { carriers: ['mobile', 'unicom', 'telecom', 'broadcast'], ...channel });
      const pool = await call('POST', '/pools', { name: channel.name, channels: [{ channelId: id, priority: 1, weight: 1 }] });
      return { channelId: Number(id), poolId: Number(pool['id']) };
    },
    async aimCustomer({ name, poolId, product = {}, subscription: wanted = {} }) {
      const { account, subscription } = await subscribe(name, 'aim', { poolId, ...product }, wanted);
      const card = { layout: 'notice', title: '通知', rows: [{ label: '事项', value: '测试' }] };
      const template = await call('POST', '/templates', { accountId: account['id'], name, card });
      await call('POST', `/templates/${String(template['id'])}/approve`, {});
      return {
        accountId: Number(account['id']),
        subscriptionId: Number(subscription['id']),
        spId: String(subscription['spId']),
        password: String(subscription['password']),
        templateId: Number(template['id']),
      };
    },
    async mmsCustomer({ name, poolId, product = {} }) {
      const { account, productId } = await subscribe(name, 'mms', { poolId, ...product }, {});
      return { accountId: Number(account['id']), apiId: String(account['apiId']), apiKey: String(account['apiKey']), productId, signName };
    },
  };
}
