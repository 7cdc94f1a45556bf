/**
 * A dialect is the API a customer uses, usually that of a vendor against which the customer's programs were written. It gives the core its
 * rules as data (`DialectRules`), has a code for every refusal and every interception of the core, and brings its routes. registry.ts lists
 * the dialects.
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
  /** The code in the answer to a refusal. */
  readonly refusals: Readonly<Record<RefusalCode, string | number>>;
  /** The status that a customer sees for a number that screening intercepted. */
  readonly statuses: Readonly<Record<ScreeningStatus, string>>;
  /** The routes of its calls. */
  parts(deps: DialectDeps): readonly HttpPart[];
}

/** The functions of the core that a dialect's calls may use. */
export interface DialectDeps extends Pulls {
  readonly directory: Directory;
  submit(tenancy: Tenancy, submission: Submission): Promise<Receipt>;
  /** Refuses a request id that has been used before. */
  checkRequest(accountId: bigint, request: RequestKey): Promise<void>;
  usablePackage(accountId: bigint, templateId: bigint): Promise<{ frames: readonly StoredFrame[]; signature: string }>;
  createTemplate(template: Omit<NewPackageTemplate, 'at'>): Promise<bigint>;
  balance(subscription: Subscription): Promise<bigint>;
  readonly clock: () => Date;
  /** Counts for the metrics. */
  count(what: 'refused' | 'pulled', n: number, labels?: Readonly<Record<string, string>>): void;
}
