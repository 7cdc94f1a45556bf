/** Pools: the channels that may carry a product’s messages, in their order. */
import { Type } from 'typebox';
import { configId, name, named, optional, strict } from './bricks.ts';

const poolMembers = Type.Array(
  strict({
    channelId: configId,
    priority: Type.Integer({ minimum: 1, maximum: 1000, description: 'Lower goes first.' }),
    weight: Type.Integer({ minimum: 1, maximum: 1000 }),
  }),
  { maxItems: 100 },
);
export const poolSchema = named('Pool', { id: configId, name: Type.String(), channels: poolMembers });
export const newPool = strict({ name, channels: poolMembers });
export const poolChange = strict(optional({ name, channels: poolMembers }));
