/** What a customer submits, in any dialect, and the answer. */
/** One number of a submission, as the customer wrote it. */
export interface Recipient {
  readonly written: string;
  /** Values for the template's parameters, in its order; empty for a template without any. */
  readonly values: readonly string[];
}

/** What a dialect passes to the core, its shape already checked. */
export interface Submission {
  readonly recipients: readonly Recipient[];
  readonly content: SubmittedContent;
  /** The customer's own digits after the access number; empty if none. */
  readonly ext: string;
  /** When to send; null: now. */
  readonly sendAt: Date | null;
  readonly request: RequestKey | null;
}

export type SubmittedContent = TextContent | CardContent | PackageContent;
/** The name under which the kind of a batch's content is stored. */
export type ContentKindName = SubmittedContent['kind'];

/** A plain text, with the signature in place. */
export interface TextContent {
  readonly kind: 'text';
  readonly text: string;
}

/** A smart SMS: its text with the signature in front, holding `$url$`, and the template that the link opens. */
export interface CardContent {
  readonly kind: 'card';
  readonly text: string;
  readonly templateId: bigint;
}

/** A multimedia message, checked and with its signature in place. */
export interface PackageContent {
  readonly kind: 'package';
  readonly package: StoredPackage;
  /** The media that the package names; some may not be stored yet. */
  readonly media: readonly MediaFile[];
  readonly templateId: bigint | null;
}

/** A customer's own id of a request. */
export interface RequestKey {
  readonly key: string;
  /** The digest of the parameters: a repeat with the same digest gets the first answer again. Null: every repeat is refused. */
  readonly digest: string | null;
}

/** A picture, a sound or a film, identified by its hash. */
export interface MediaFile {
  /** Hex. */
  readonly sha256: string;
  /** `image/jpeg` */
  readonly type: string;
  /** `jpg` */
  readonly extension: string;
  readonly bytes: Buffer;
}

/** A medium in a stored frame, without its bytes. */
export type MediaReference = Omit<MediaFile, 'bytes'> & { readonly size: number };

/** A text, a medium, or both. */
export interface StoredFrame {
  readonly text: string | null;
  readonly media: MediaReference | null;
  /** The medium is shown above the text. */
  readonly mediaFirst: boolean;
}

export interface StoredPackage {
  readonly subject: string;
  readonly frames: readonly StoredFrame[];
}

/** The customer's answer once everything is committed. */
export interface Receipt {
  readonly batchId: bigint;
  /** Numbers that screening intercepted, as the customer wrote them, with their status, in the order of submission. */
  readonly intercepted: readonly { readonly written: string; readonly code: string }[];
}
