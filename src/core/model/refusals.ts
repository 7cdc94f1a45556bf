/** The reasons for which a submission is refused. */

/** Why a submission is refused. Each dialect maps every reason to its own code. */
export type RefusalCode =
  | 'invalid' // a parameter is missing or malformed
  | 'wrong_product' // the subscription's product is of another medium
  | 'malformed_recipients'
  | 'template_not_found'
  | 'template_not_approved'
  | 'parameters_mismatch'
  | 'placeholder_missing'
  | 'content_invalid'
  | 'content_too_large'
  | 'request_repeated' // thrown as RepeatedRequest
  | 'insufficient_balance';

/** A submission is refused. Thrown before or inside the transaction, which it rolls back: nothing is stored, nothing charged. */
export class Refusal extends Error {
  readonly code: RefusalCode;
  /** Chinese, says what and where; the customer sees it after the code's own text. */
  readonly detail: string;
  constructor(code: RefusalCode, detail: string) {
    super(`${code}: ${detail}`);
    this.code = code;
    this.detail = detail;
  }
}

/** The request that first used a request id. */
export interface RequestSubject {
  readonly kind: 'batch' | 'template';
  readonly id: bigint;
}

/** This request id has been used within its window. */
export class RepeatedRequest extends Refusal {
  readonly first: RequestSubject;
  constructor(first: RequestSubject) {
    super('request_repeated', '两小时内已收到过相同的 request_id,本次没有执行');
    this.first = first;
  }
}
