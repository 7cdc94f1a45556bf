/** The ledger: every change of a subscription's balance. */
import { Type } from 'typebox';
import { batchId, configId, named, nullable, page, strict, time } from './bricks.ts';

export const ledgerEntrySchema = named('LedgerEntry', {
  kind: Type.Enum(['top_up', 'hold', 'release', 'settle', 'opening'], {
    description: 'opening: one day’s entries of batches that are no longer kept, as a sum.',
  }),
  batchId: nullable(batchId),
  amount: Type.String({ description: 'Change of the balance, as money.' }),
  held: Type.String({ description: 'Change of what is on hold, as money.' }),
  note: nullable(Type.String()),
  at: time,
});
export const ledgerQuery = strict({ subscriptionId: configId, ...page });
