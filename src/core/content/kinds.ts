/** Every kind of content, by the name that is stored with a batch; the only place that lists them. */
import type { Medium } from '../model/configuration.ts';
import type { ContentKindName, Submission, SubmittedContent } from '../model/submission.ts';
import { card } from './card.ts';
import type { ContentKind, ExamineDeps, StoredContent } from './kind.ts';
import { packageKind } from './package.ts';
import { text } from './text.ts';

export const contentKinds: { readonly [Name in ContentKindName]: ContentKind<Extract<SubmittedContent, { kind: Name }>> } = {
  text,
  card,
  package: packageKind,
};

/** The kinds that can be sent over products of a medium. */
export const kindOfMedium: Readonly<Record<Medium, ContentKindName>> = { sms: 'text', aim: 'card', mms: 'package' };

/** Examines a submission by its own kind. Throws a `Refusal`. */
export function examine<Name extends ContentKindName>(
  deps: ExamineDeps,
  accountId: bigint,
  { content, recipients }: Submission & { readonly content: Extract<SubmittedContent, { kind: Name }> },
): Promise<StoredContent> {
  const kind: ContentKind<typeof content> = contentKinds[content.kind];
  return kind.examine(deps, accountId, content, recipients);
}
