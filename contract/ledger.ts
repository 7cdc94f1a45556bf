/** What moved the balance of a subscription. */
import { Type } from 'typebox';
import { batchId, configId, named, nullable, page, strict, time } from './bricks.ts';

export const ledgerEntrySchema = named('LedgerEntry', {
  kind: Type.Enum(['top_up', 'hold', 'release', 'settle', 'opening'], {
    description: 'opening: the sum of what a day’s batches moved that are not kept any more.',
  }),
  batchId: nullable(batchId),
  amount: Type.String({ description: 'How it moved the balance, as money.' }),
  held: Type.String({ description: 'How it moved what is held, as money.' }),
  note: nullable(Type.String()),
  at: time,
});
export const ledgerQuery = strict({ subscriptionId: configId, ...page });
