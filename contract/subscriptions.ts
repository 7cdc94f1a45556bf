/** Subscriptions of accounts to products, and payments into their balances. */
import { Type } from 'typebox';
import {
  configId,
  digits,
  medium,
  money,
  moneyWritten,
  named,
  nullable,
  optional,
  pushUrl,
  sendingWindow,
  strict,
  time,
} from './bricks.ts';

const rateLimit = strict({
  perSecond: Type.Integer({ minimum: 1, maximum: 100_000, description: 'Recipients per second, on average.' }),
  burst: Type.Integer({ minimum: 1, maximum: 1_000_000, description: 'Recipients that may be sent at once after a pause.' }),
});
const dialect = Type.String({
  maxLength: 50,
  description:
    'The API that the customer uses, and the form of its reports and replies. If a new subscription leaves it out, it gets the default of the medium.',
});
export const subscriptionSchema = named('Subscription', {
  id: configId,
  accountId: configId,
  productId: configId,
  ...medium,
  dialect,
  spId: nullable(configId),
  price: money,
  balance: money,
  extension: Type.String(),
  class: Type.Integer({ description: 'Priority: 0 is served before 1.' }),
  pushUrls: Type.Record(Type.String(), Type.String()),
  enabled: Type.Boolean(),
  sendingWindow,
  unmatched: Type.Enum(['pass', 'intercept', 'review']),
  rateLimit: nullable(rateLimit),
  createdAt: time,
});
const subscriptionSettings = {
  dialect,
  sendingWindow,
  unmatched: Type.Enum(['pass', 'intercept', 'review'], {
    description: 'What happens to a text that no content template and no word list matches.',
  }),
  class: Type.Enum([0, 1]),
  pushUrls: strict(optional({ report: pushUrl, reply: pushUrl })),
  enabled: Type.Boolean(),
  rateLimit: nullable(rateLimit),
};
export const newSubscription = strict({
  accountId: configId,
  productId: configId,
  price: moneyWritten,
  ...optional({ spId: configId, password: Type.String({ minLength: 8, maxLength: 100 }), extension: digits(12), ...subscriptionSettings }),
});
export const subscriptionChange = strict(optional({ price: moneyWritten, ...subscriptionSettings }));
export const createdSubscriptionSchema = named('CreatedSubscription', {
  ...subscriptionSchema.properties,
  password: nullable(Type.String({ description: 'Shown only in this answer; null if the product has none.' })),
});
export const payment = strict({ amount: moneyWritten, note: Type.Optional(Type.String({ maxLength: 500 })) });
export const paymentHeaders = Type.Object({
  'idempotency-key': Type.Optional(Type.String({ pattern: '^[ -~]{1,128}$', description: 'The same key pays only once.' })),
});
export const balanceSchema = named('Balance', { balance: money });
