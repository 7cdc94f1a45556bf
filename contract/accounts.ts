/** Accounts: customers, with their credentials and push URLs. */
import { Type } from 'typebox';
import { configId, name, named, optional, phone, pushUrl, strict, time } from './bricks.ts';

export const accountSchema = named('Account', {
  id: configId,
  name: Type.String(),
  apiId: Type.String(),
  ipAllowList: Type.Array(Type.String(), { description: 'Addresses or CIDR ranges; empty: every address is allowed.' }),
  locked: Type.Boolean(),
  pushUrls: Type.Record(Type.String(), Type.String()),
  exemptNumbers: Type.Array(Type.String(), { description: 'Numbers to which no blocklist and no cap applies.' }),
  createdAt: time,
});
const accountSettings = {
  exemptNumbers: Type.Array(phone, { maxItems: 300 }),
  ipAllowList: Type.Array(Type.String({ maxLength: 50 }), { maxItems: 100 }),
  locked: Type.Boolean(),
  pushUrls: strict(optional({ report: pushUrl, reply: pushUrl, template: pushUrl })),
};
export const newAccount = strict({ name, ...optional(accountSettings) });
export const accountChange = strict(optional({ name, ...accountSettings }));
export const apiKeySchema = named('ApiKey', { apiKey: Type.String({ description: 'Shown only in this answer.' }) });
export const createdAccountSchema = named('CreatedAccount', { ...accountSchema.properties, ...apiKeySchema.properties });
