/** How an MMSC answered a SubmitReq, in MM7 or only in HTTP. */
import { ProtocolError } from '../../protocols/wire/fields.ts';
import { readRequest, type Status, statusOfFault, statusKindOf } from '../../protocols/mm7/mm7.ts';
import type { SegmentOutcome } from '../channel.ts';
import { rejected } from '../outcomes.ts';
import type { Posted } from './post.ts';

/**
 * - `taken`: `messageId` is null if the answer has none that can be stored.
 * - `busy`: not taken, and may be repeated later.
 * - `single`, `fewer`: not taken because of too many recipients. `single`: at most one is allowed; `fewer`: the limit is not known.
 * - `address`: not taken because one of the numbers is bad.
 * - `rejected`: not taken.
 * - `turnedAway`: this URL is not the MMSC's, or it does not let us in. It has not looked at the request.
 * - `nonsense`: not MM7, from a server that may have passed the request on.
 *
 * `outcome` is for a recipient who is alone in the request. `isMm7`: the MMSC itself has answered.
 */
export type Answer = { readonly isMm7: boolean } & (
  | { readonly kind: 'taken'; readonly messageId: string | null }
  | { readonly kind: 'busy' }
  | { readonly kind: 'single' | 'fewer' | 'address' | 'rejected'; readonly outcome: SegmentOutcome }
  | { readonly kind: 'turnedAway' | 'nonsense'; readonly reason: string }
);

/** Identification, version, operation, service: none of them depends on the message. */
const ourCodes: ReadonlySet<number> = new Set([4001, 4002, 4003, 4005]);
/** Longer than any MessageID known; a longer one counts as missing. */
const maxMessageIdLength = 200;

/** The URL is not the MMSC's, or the MMSC does not let us in. */
export const isTurnedAway = (status: number): boolean => (status >= 300 && status < 400) || [401, 403, 404, 405, 407, 410].includes(status);
const isBusy = (status: number): boolean => [408, 425, 429].includes(status) || (status >= 500 && status !== 502 && status !== 504);

export function readAnswer(posted: Extract<Posted, { kind: 'answer' }>): Answer {
  const said = readMm7(posted);
  if (!said) return { isMm7: false, ...readHttp(posted.status) };
  const { status, messageId } = said;
  const kind = statusKindOf(status);
  if (kind === 'busy') return { isMm7: true, kind };
  if (kind === 'taken')
    return { isMm7: true, kind, messageId: messageId !== '' && messageId.length <= maxMessageIdLength ? messageId : null };
  const code = status.statusCode ?? 3000;
  return { isMm7: true, kind, outcome: rejected(code, ourCodes.has(code)) };
}

function readHttp(status: number) {
  const reason = `HTTP ${status} without MM7 in it`;
  if (isTurnedAway(status)) return { kind: 'turnedAway', reason } as const;
  if (isBusy(status)) return { kind: 'busy' } as const;
  if (status >= 400 && status < 500) return { kind: 'rejected', outcome: rejected(status) } as const;
  // A gateway's time-out, or nonsense with 200: the MMSC may have the message.
  return { kind: 'nonsense', reason } as const;
}

interface Said {
  readonly status: Pick<Status, 'statusCode' | 'statusText'>;
  readonly messageId: string;
}

/** The status in an MM7 answer, whatever the HTTP status is (mm7.md §1); null if the answer is not MM7. */
function readMm7({ contentType, body }: Extract<Posted, { kind: 'answer' }>): Said | null {
  if (body.length === 0) return null;
  try {
    const { message } = readRequest(contentType, body).envelope;
    if (message.name === 'Fault') return { status: statusOfFault(message), messageId: '' };
    if (message.name !== 'SubmitRsp' && message.name !== 'RSErrorRsp') return null;
    const { status } = message.fields;
    if (!status || status.statusCode === null) return null;
    return { status, messageId: message.name === 'SubmitRsp' ? (message.fields.messageId ?? '') : '' };
  } catch (error) {
    if (error instanceof ProtocolError) return null;
    throw error;
  }
}
