/**
 * What a dialect is: a customer's way to speak to us, usually that of a vendor whose API its programs were written against. It says as data
 * what the core must know (`DialectRules`), has a code for whatever the core may refuse or stop, and brings its routes. Which there are is told
 * in registry.ts alone.
 */
import type { Directory, Tenancy } from '../../core/config/directory.ts';
import type { NewPackageTemplate } from '../../core/content/templates.ts';
import type { Pulls } from '../../core/events/owed.ts';
import type { Subscription } from '../../core/model/configuration.ts';
import type { DialectRules } from '../../core/model/dialect.ts';
import type { RefusalCode } from '../../core/model/refusals.ts';
import type { ScreeningStatus } from '../../core/model/statuses.ts';
import type { Receipt, RequestKey, StoredFrame, Submission } from '../../core/model/submission.ts';
import type { HttpPart } from '../part.ts';

export interface Dialect extends DialectRules {
  /** What answers a refusal. */
  readonly refusals: Readonly<Record<RefusalCode, string | number>>;
  /** What a customer reads where screening stopped a number. */
  readonly statuses: Readonly<Record<ScreeningStatus, string>>;
  /** Its calls. */
  parts(deps: DialectDeps): readonly HttpPart[];
}

/** What the calls of any dialect may need of the core. */
export interface DialectDeps extends Pulls {
  readonly directory: Directory;
  submit(tenancy: Tenancy, submission: Submission): Promise<Receipt>;
  /** Refuses a request id that has been used. */
  checkRequest(accountId: bigint, request: RequestKey): Promise<void>;
  usablePackage(accountId: bigint, templateId: bigint): Promise<{ frames: readonly StoredFrame[]; signature: string }>;
  createTemplate(template: Omit<NewPackageTemplate, 'at'>): Promise<bigint>;
  balance(subscription: Subscription): Promise<bigint>;
  readonly clock: () => Date;
  /** Counts for the operator. */
  count(what: 'refused' | 'pulled', n: number, labels?: Readonly<Record<string, string>>): void;
}
