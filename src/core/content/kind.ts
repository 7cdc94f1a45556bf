/**
 * A kind of content: how it is examined on submission, what the rules look at, what it costs, and what the phone of each recipient gets.
 * `kinds.ts` lists all kinds.
 */
import type { ContentKindName, Recipient, StoredPackage } from '../model/submission.ts';
import type { Links } from './links.ts';
import type { LoadedPackage, PackageLoader } from './media.ts';
import type { TemplateHead } from './templates.ts';

/** Content as it is stored with its batch. */
export interface StoredContent {
  readonly kind: ContentKindName;
  readonly templateId: bigint | null;
  /** Includes the signature; people search in it. For a package: all readable text in its frames. */
  readonly text: string;
  readonly package: StoredPackage | null;
}

/** How many segments a message is billed, at home and abroad. */
export interface Segments {
  readonly mainland: number;
  readonly foreign: number;
}

export interface ExamineDeps {
  /** Null if the account has no such template. */
  findTemplate(accountId: bigint, id: bigint): Promise<TemplateHead | null>;
  clock(): Date;
}

export interface RenderDeps {
  readonly links: Links;
  readonly packages: PackageLoader;
  /** Replaces `$url$`, followed by the code. */
  readonly linkBase: string;
}

/** The part of a chunk that decides what its recipients get. */
export interface RenderedChunk {
  readonly id: bigint;
  readonly accountId: bigint;
  readonly phones: readonly bigint[];
  readonly content: string;
  readonly package: StoredPackage | null;
}

/** `Submitted` is what a dialect hands over; its shape has been checked. */
export interface ContentKind<Submitted> {
  /** Throws a `Refusal` if the account may not send this to these recipients now. Stores nothing. */
  examine(deps: ExamineDeps, accountId: bigint, content: Submitted, recipients: readonly Recipient[]): Promise<StoredContent>;
  /** The words that content templates and word lists are compared with. */
  words(content: Pick<StoredContent, 'text' | 'package'>): string;
  bill(content: Pick<StoredContent, 'text'>, linkBase: string): Segments;
  /** What the recipient at an index of the chunk gets: a text, or a package, which is one object for all recipients. */
  render(deps: RenderDeps, chunk: RenderedChunk): Promise<(index: number) => string | LoadedPackage>;
}
