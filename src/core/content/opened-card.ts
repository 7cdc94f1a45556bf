/**
 * The card that a short link opens: that of the template its message was submitted with, filled with the number's values.
 *
 * A code leads to a message's id, the id to the row of its chunk, and the row to everything else; nothing is stored per link. Only reads.
 * Does not check whether the template may still be used: withdrawing one stops new messages, not the cards of messages already sent.
 */
import type { Db } from '../../db/db.ts';
import { type Button, type Card, fillCard, mediaOf } from './layouts.ts';
import type { Links } from './links.ts';
import { batchIdOf, chunkOfMessage, indexOf } from '../model/ids.ts';

export interface OpenedCard {
  readonly template: bigint;
  /** Filled with the number's values, without buttons that must not be followed. */
  readonly card: Card;
  readonly buttons: readonly Button[];
  readonly media: ReturnType<typeof mediaOf>;
  readonly expiresAt: Date;
}

export interface Cards {
  /** The card of a code; null if there is none, if screening intercepted the message, or if its time is over. */
  open(code: string): Promise<OpenedCard | null>;
}

export function createCards({ db, links, clock }: { db: Db; links: Links; clock: () => Date }): Cards {
  return {
    async open(code) {
      const messageId = links.decode(code);
      if (messageId === null) return null;
      // The chunk's row gives the account: a code is all that a phone has. One row by the first column of the primary key.
      const [row] = await db.sql<{ template: bigint; card: Card; values: string[] | null; expiresAt: Date }[]>`
        select t.id as template, t.card, c.parameters -> ${indexOf(messageId)}::int as values,
               least(b.created_at + make_interval(days => t.link_days), t.valid_until) as "expiresAt"
        from chunks c
        join batches b on b.id = ${batchIdOf(messageId)} and b.account_id = c.account_id
        join templates t on t.account_id = c.account_id and t.id = b.template_id
        where c.id = ${chunkOfMessage(messageId)} and not c.intercepted and t.medium = 'aim' and ${indexOf(messageId)}::int < cardinality(c.phones)`;
      if (!row || row.expiresAt <= clock()) return null;
      const card = fillCard(row.card, row.values ?? []);
      return { template: row.template, card, buttons: card.buttons ?? [], media: mediaOf(card), expiresAt: row.expiresAt };
    },
  };
}
