/**
 * The audit of a finished run. It compares the answers that customers got with the events handed over to them, the messages on phones and
 * the charges, and all of these with the platform's rows. Pure: facts in, violations out.
 */
import type { ReplyRow, ReportRow } from '../kit/customers.ts';
import { groupBy } from '../../src/std/group.ts';
import type { Diary, Request } from './traffic.ts';

/** Everything that is known of one customer at the end. Money is in ten-thousandths. */
export interface CustomerFacts {
  readonly name: string;
  readonly medium: 'aim' | 'mms';
  readonly inDoubt: 'resend' | 'give_up';
  readonly chargeOn: 'delivered' | 'accepted';
  readonly priceE4: bigint;
  readonly paidInE4: bigint;
  readonly balanceE4: bigint;
  readonly diary: Diary;
  /** In the order in which they came in. */
  readonly pushes: readonly Push[];
  readonly rows: Rows;
  /** Messages whose report had failed for good, and got new tries from the operator. */
  readonly replayed: ReadonlySet<string>;
}

/** One POST that the customer's server has got. */
export interface Push {
  readonly reports: readonly PushedReport[];
  readonly replies: readonly Pick<ReplyRow, 'mobile' | 'content'>[];
}

/** MMS is not told what a message has cost. */
export type PushedReport = Pick<ReportRow, 'msgId' | 'mobile' | 'status'> & { readonly price: string | null };

/** What the platform has stored of a customer. */
export interface Rows {
  readonly messages: readonly MessageRow[];
  readonly events: readonly EventRow[];
  /** Events that still wait, of any kind. */
  readonly waiting: number;
  /** Tries to push that failed, or whose process was lost. */
  readonly failedPushes: number;
}

export interface MessageRow {
  readonly taskId: string;
  readonly mobile: string;
  readonly isFinal: boolean;
  readonly code: string;
  readonly costE4: bigint;
}

export interface EventRow {
  readonly kind: 'report' | 'reply';
  /** Null for a reply to nothing in particular. */
  readonly taskId: string | null;
  readonly mobile: string;
  /** Milliseconds since 1970. */
  readonly handedAt: number;
  readonly isPushed: boolean;
}

/** What phones got of one medium, and what people wrote back. */
export interface PhoneFacts {
  /** By number: how many whole copies of its message the carrier took. */
  readonly copies: ReadonlyMap<string, number>;
  /** By number: replies that the carrier has delivered to the platform. */
  readonly replies: ReadonlyMap<string, number>;
  /** Reports and replies that the carrier still owes. */
  readonly owed: number;
}

export interface Facts {
  readonly customers: readonly CustomerFacts[];
  readonly phones: Readonly<Record<'aim' | 'mms', PhoneFacts>>;
  /** What `hongyan audit` said, and whether it found nothing. */
  readonly audit: { readonly isClean: boolean; readonly output: string };
  /** Chunks that still lie in the queue. */
  readonly queued: number;
  /** Stored reports that nobody has matched although their message is there and waits for one. */
  readonly forgottenReports: number;
  /** Messages in doubt by the platform's own counter, and how many more a killed process may have counted and lost. */
  readonly inDoubt: { readonly counted: number; readonly uncounted: number };
  /** Processes that ended by themselves, or would not stop. */
  readonly mishaps: readonly string[];
}

export interface Judgement {
  /** Broken promises; empty when all is well. */
  readonly violations: readonly string[];
  readonly figures: Readonly<Record<string, number>>;
}

/** Final states by the last four digits, see the simulators; everything else is delivered. */
const fates: Readonly<Record<'aim' | 'mms', Readonly<Record<string, string>>>> = {
  aim: { '0001': 'UNDELIV', '0002': 'EXPIRED', '0003': 'REJECTD', '0004': 'MK:0001', '0005': 'ER:0013', '0007': 'EXPIRED' },
  mms: { '0001': 'UNDELIV', '0003': 'REJECTD', '0007': 'EXPIRED' },
};
const delivered = { aim: 'DELIVRD', mms: 'DELIVERED' } as const;
/** What the push of MMS calls it differs from what is stored. */
const toldOf = (medium: 'aim' | 'mms', code: string): string => (medium === 'mms' && code === 'DELIVRD' ? delivered.mms : code);
/** Tries of one event that is pushed until it is taken. */
const mmsTries = 3;
/** How long after its customer has given up a pull may still be handed over: a node may have slept over it. */
const pullLagMs = 60_000;
/** Complaints of one kind that are shown. */
const mostShown = 5;

export function judge(facts: Facts): Judgement {
  const complaints = new Map<string, string[]>();
  const complain = (promise: string, detail: string): void => {
    const own = complaints.get(promise);
    if (own) own.push(detail);
    else complaints.set(promise, [detail]);
  };
  const figures: Record<string, number> = {};
  const add = (name: string, n: number): void => {
    figures[name] = (figures[name] ?? 0) + n;
  };
  for (const name of figureNames) figures[name] = 0;

  for (const customer of facts.customers) judgeCustomer(customer, facts.phones[customer.medium], complain, add);
  const submitted = (medium: 'aim' | 'mms') =>
    new Set(facts.customers.filter((c) => c.medium === medium).flatMap((c) => c.diary.requests.flatMap(({ numbers }) => numbers)));
  for (const medium of ['aim', 'mms'] as const) {
    const { copies, owed } = facts.phones[medium];
    const known = submitted(medium);
    for (const to of copies.keys()) if (!known.has(to)) complain('a phone gets only what was submitted', `${medium} ${to}`);
    if (owed > 0) complain('every report and reply is taken from the carrier', `${medium}: ${owed} are still owed`);
  }
  const { counted, uncounted } = facts.inDoubt;
  figures['in doubt, counted by the platform'] = counted;
  if ((figures['repeats on phones'] ?? 0) > counted + uncounted)
    complain(
      'a phone gets a message twice only if it was in doubt',
      `${figures['repeats on phones']} repeats, ${counted} counted in doubt`,
    );
  if ((figures['ended as UNKNOWN'] ?? 0) > counted + uncounted)
    complain('a message ends as UNKNOWN only if it was in doubt', `${figures['ended as UNKNOWN']} UNKNOWN, ${counted} counted in doubt`);
  if (!facts.audit.isClean) complain('hongyan audit finds nothing', facts.audit.output.trim().split('\n').slice(0, 10).join('\n    '));
  if (facts.queued > 0) complain('the queue is empty in the end', `${facts.queued} chunks`);
  if (facts.forgottenReports > 0) complain('no report is forgotten', `${facts.forgottenReports} match a message that waits for one`);
  for (const mishap of facts.mishaps) complain('a process runs until it is killed, and stops when it is told to', mishap);

  const violations = [...complaints].map(([promise, details]) => {
    const shown = details.slice(0, mostShown).map((detail) => `\n    ${detail}`);
    return `${promise}: ${details.length} times not${shown.join('')}${details.length > mostShown ? '\n    …' : ''}`;
  });
  return { violations, figures };
}

/** All figures, in the order of the table. */
const figureNames = [
  'requests accepted',
  'requests refused',
  'answers lost: accepted',
  'answers lost: not accepted',
  'messages accepted',
  'ended as DELIVRD',
  'ended as UNKNOWN',
  'ended otherwise',
  'events pulled',
  'events pushed',
  'events pushed more than once',
  'events pushed and pulled',
  'pulls whose answer was lost',
  'events in answers that were lost',
  'replies',
  'repeats on phones',
  'in doubt, counted by the platform',
  'lost',
];

type Complain = (promise: string, detail: string) => void;

const keyOf = ({ msgId, mobile }: { readonly msgId: string; readonly mobile: string }): string => `${msgId}/${mobile}`;

function judgeCustomer(customer: CustomerFacts, phones: PhoneFacts, complain: Complain, add: (name: string, n: number) => void): void {
  const { name, medium, diary, rows } = customer;
  const at = (key: string): string => `${name} ${key}`;
  const owed = acceptedOf(customer, complain, add);

  // ── what was handed over ─────────────────────────────────────────────────────────────────────────────────────────────────────────
  const pulled = new Map<string, ReportRow>();
  for (const row of diary.pulls.flatMap(({ reports }) => reports)) {
    const key = keyOf(row);
    if (pulled.has(key)) complain('an event is pulled once', at(key));
    pulled.set(key, row);
  }
  const pushed = new Map<string, PushedReport[]>();
  for (const { reports } of customer.pushes) for (const row of reports) pushed.set(keyOf(row), [...(pushed.get(keyOf(row)) ?? []), row]);
  for (const [key, tries] of pushed) {
    if (tries.length > 1) add('events pushed more than once', 1);
    if (medium === 'aim' && tries.length > 1) complain('an AIM event is pushed once', at(`${key}: ${tries.length} times`));
    if (tries.length > mmsTries * (customer.replayed.has(key) ? 2 : 1))
      complain('an MMS event is pushed at most three times', at(`${key}: ${tries.length} times`));
  }
  judgePushedAndPulled(customer, pulled, complain, add);
  add('events pulled', pulled.size);
  add('events pushed', pushed.size);
  for (const key of [...pulled.keys(), ...pushed.keys()])
    if (!owed.has(key)) complain('an event is of a message that was accepted', at(key));

  const missing = [...owed.keys()].filter((key) => !pulled.has(key) && !pushed.has(key));
  const lostInAnswers = judgeLostPulls(customer, 'report', new Set(missing), complain, add);
  for (const key of missing) {
    if (lostInAnswers.has(key)) continue;
    add('lost', 1);
    complain('every accepted message is reported', at(key));
  }

  // ── each message ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────
  const stored = new Map(rows.messages.map((row) => [`${row.taskId}/${row.mobile}`, row]));
  const eventsOf = new Map<string, number>();
  for (const { kind, taskId, mobile } of rows.events)
    if (kind === 'report') eventsOf.set(`${taskId ?? ''}/${mobile}`, (eventsOf.get(`${taskId ?? ''}/${mobile}`) ?? 0) + 1);
  let spentE4 = 0n;
  for (const [key, { segments }] of owed) {
    const row = stored.get(key);
    if (!row) {
      complain('every accepted message has a row', at(key));
      continue;
    }
    if (!row.isFinal) complain('every message ends', at(`${key}: ${row.code}`));
    if (eventsOf.get(key) !== 1) complain('every message has one event in the history', at(`${key}: ${eventsOf.get(key) ?? 0}`));
    const told = [pulled.get(key), ...(pushed.get(key) ?? [])].filter((one) => one !== undefined);
    for (const { status, price } of told) {
      if (status !== toldOf(medium, row.code)) complain('what is reported is what is stored', at(`${key}: ${status}, not ${row.code}`));
      if (price !== null && e4Of(price) !== row.costE4) complain('what is reported to cost is what is stored', at(`${key}: ${price}`));
    }
    judgeEnd(customer, key, row, segments, phones, complain, add);
    spentE4 += row.costE4;
  }
  for (const key of stored.keys()) if (!owed.has(key)) complain('every row is of a message that was accepted', at(key));
  if (customer.balanceE4 !== customer.paidInE4 - spentE4)
    complain('the balance is what was paid in less what messages cost', at(`${customer.balanceE4}, not ${customer.paidInE4 - spentE4}`));
  if (rows.waiting > 0) complain('no event waits in the end', at(`${rows.waiting}`));

  judgeReplies(customer, phones, complain, add);
}

/** Every message that must have been accepted, by task and number; those of lost answers as the platform decided, whole or not at all. */
function acceptedOf(
  { name, diary, rows }: CustomerFacts,
  complain: Complain,
  add: (name: string, n: number) => void,
): Map<string, Request> {
  const owed = new Map<string, Request>();
  const toldTasks = new Set<string>();
  const requestOf = new Map<string, Request>();
  for (const request of diary.requests) {
    for (const number of request.numbers) requestOf.set(number, request);
    if (request.outcome === 'refused') add('requests refused', 1);
    if (request.outcome !== 'accepted') continue;
    add('requests accepted', 1);
    const taskId = request.taskId ?? '';
    if (toldTasks.has(taskId)) complain('a task id is given once', `${name} ${taskId}`);
    toldTasks.add(taskId);
    for (const number of request.numbers) owed.set(`${taskId}/${number}`, request);
  }
  const found = new Set<Request>();
  const untold = [...groupBy(rows.messages, ({ taskId }) => taskId)].filter(([taskId]) => !toldTasks.has(taskId));
  for (const [taskId, messages] of untold) {
    const requests = new Set(messages.map(({ mobile }) => requestOf.get(mobile)));
    const [request] = requests;
    if (requests.size !== 1 || !request) complain('a task holds the numbers of one request', `${name} ${taskId}`);
    else if (request.outcome === 'refused') complain('what was refused is not accepted', `${name} ${taskId}: ${request.said}`);
    else if (request.outcome === 'accepted') complain('a request is accepted once', `${name} ${request.taskId ?? ''} and ${taskId}`);
    else {
      if (found.has(request)) complain('a request is accepted once', `${name} ${taskId}: ${request.said}`);
      found.add(request);
      if (messages.length !== request.numbers.length)
        complain('a request is accepted whole or not at all', `${name} ${taskId}: ${messages.length} of ${request.numbers.length} numbers`);
      for (const number of request.numbers) owed.set(`${taskId}/${number}`, request);
    }
  }
  add('answers lost: accepted', found.size);
  add('answers lost: not accepted', diary.requests.filter(({ outcome }) => outcome === 'unknown').length - found.size);
  add('messages accepted', owed.size);
  return owed;
}

/** What was pushed and pulled as well: only what a push carried whose end the platform could not know. */
function judgePushedAndPulled(
  { name, pushes, rows }: CustomerFacts,
  pulled: ReadonlyMap<string, ReportRow>,
  complain: Complain,
  add: (name: string, n: number) => void,
): void {
  let lost = 0;
  for (const { reports } of pushes) {
    const again = reports.filter((row) => pulled.has(keyOf(row))).length;
    if (again === 0) continue;
    lost += 1;
    add('events pushed and pulled', again);
    if (again !== reports.length)
      complain('a push is repeated by pull whole or not at all', `${name}: ${again} of ${reports.length}, ${keyOf(reports[0] ?? noRow)}`);
  }
  if (lost > rows.failedPushes)
    complain('only a push that may have failed is repeated by pull', `${name}: ${lost} pushes, of which ${rows.failedPushes} failed`);
}
const noRow = { msgId: '', mobile: '' };

/**
 * Events that the customer never saw and the history says were handed over: to pulls whose answer was lost on the way. Each hand-over must
 * be such a pull's, and have been lost as a whole. Returns the keys that are explained so.
 */
function judgeLostPulls(
  { name, diary, rows }: CustomerFacts,
  kind: 'report' | 'reply',
  missing: ReadonlySet<string>,
  complain: Complain,
  add: (name: string, n: number) => void,
): ReadonlySet<string> {
  const lost = diary.pulls.filter((pull) => pull.kind === kind && pull.outcome === 'lost').sort((a, b) => a.from - b.from);
  add('pulls whose answer was lost', lost.length);
  const explained = new Set<string>();
  const handedOver = groupBy(
    rows.events.filter((event) => event.kind === kind && !event.isPushed),
    ({ handedAt }) => handedAt,
  );
  const unused = [...lost];
  for (const [handedAt, events] of [...handedOver].sort(([a], [b]) => a - b)) {
    const keys = events.map(({ taskId, mobile }) => (kind === 'report' ? `${taskId ?? ''}/${mobile}` : mobile));
    const unseen = keys.filter((key) => missing.has(key));
    if (unseen.length === 0) continue;
    // Two programs' pulls may share a millisecond; a customer's own are one after the other.
    if (unseen.length !== keys.length) complain('an answer is lost whole', `${name}: ${unseen.length} of ${keys.length} at ${handedAt}`);
    const index = unused.findIndex(({ from, to }) => from <= handedAt && handedAt <= to + pullLagMs);
    if (index < 0) {
      complain('events are handed over only to who asked', `${name}: ${unseen.length} ${kind}s at ${handedAt}, such as ${unseen[0] ?? ''}`);
      continue;
    }
    unused.splice(index, 1);
    add('events in answers that were lost', unseen.length);
    for (const key of unseen) explained.add(key);
  }
  return explained;
}

/** How a message ended, by what its number says, what its phone got and what the platform may do with what is in doubt. */
function judgeEnd(
  { name, medium, inDoubt, chargeOn, priceE4 }: CustomerFacts,
  key: string,
  { mobile, code, costE4 }: MessageRow,
  segments: number,
  { copies }: PhoneFacts,
  complain: Complain,
  add: (name: string, n: number) => void,
): void {
  const fate = mobile.slice(-4);
  const expected = fates[medium][fate] ?? 'DELIVRD';
  const got = copies.get(mobile) ?? 0;
  const isGivenUp = code === 'UNKNOWN';
  // Whoever opted out while his message was in doubt is not sent it again.
  const isOptedOut = code === 'WL:SHLJ' && fate === '0011' && got > 0;
  add(`ended ${code === 'DELIVRD' ? 'as DELIVRD' : isGivenUp ? 'as UNKNOWN' : 'otherwise'}`, 1);
  if (code !== expected && !isGivenUp && !isOptedOut)
    complain('a message ends as its carrier says', `${name} ${key}: ${code}, not ${expected}`);
  if (code === expected && !code.startsWith('ER:') && got === 0)
    complain('what has been reported has been sent', `${name} ${key}: ${code}`);
  if (got > 1) {
    add('repeats on phones', got - 1);
    if (inDoubt === 'give_up') complain('what is given up is not repeated', `${name} ${key}: ${got} copies`);
  }
  const isPaid = chargeOn === 'accepted' ? !isGivenUp && !isOptedOut && !code.startsWith('ER:') : code === 'DELIVRD';
  const cost = isPaid ? priceE4 * BigInt(segments) : 0n;
  if (costE4 !== cost) complain('a message costs what its end costs', `${name} ${key}: ${code} for ${costE4}, not ${cost}`);
}

/** Each reply that the carrier delivered reaches the customer once. */
function judgeReplies(customer: CustomerFacts, { replies }: PhoneFacts, complain: Complain, add: (name: string, n: number) => void): void {
  const { name, medium, diary, pushes } = customer;
  const pulled = countOf(diary.pulls.flatMap((pull) => pull.replies.map(({ mobile }) => mobile)));
  const pushed = countOf(pushes.flatMap((push) => push.replies.map(({ mobile }) => mobile)));
  const stored = countOf(customer.rows.events.filter(({ kind }) => kind === 'reply').map(({ mobile }) => mobile));
  const mine = new Set(diary.requests.flatMap(({ numbers }) => numbers));
  for (const mobile of [...pulled.keys(), ...pushed.keys()])
    if (!mine.has(mobile)) complain('a reply goes to whom it is for', `${name} ${mobile}`);
  const missing = new Set<string>();
  const failed = customer.rows.failedPushes > 0;
  for (const [mobile, written] of replies) {
    if (!mine.has(mobile)) continue;
    add('replies', written);
    if (stored.get(mobile) !== written) complain('a reply is stored once', `${name} ${mobile}: ${stored.get(mobile) ?? 0}, not ${written}`);
    const [byPull, byPush] = [pulled.get(mobile) ?? 0, pushed.get(mobile) ?? 0];
    const mostPushes = medium === 'mms' ? written * mmsTries * 2 : written;
    if (byPull > written) complain('a reply is pulled once', `${name} ${mobile}: ${byPull}, not ${written}`);
    if (byPush > mostPushes) complain('a reply is pushed no more often than it may be', `${name} ${mobile}: ${byPush}`);
    if (byPull + byPush > written && (byPush === 0 || !failed)) complain('a reply reaches its customer once', `${name} ${mobile}`);
    if (byPull + byPush < written) missing.add(mobile);
  }
  const explained = judgeLostPulls(customer, 'reply', missing, complain, add);
  for (const mobile of missing) if (!explained.has(mobile)) complain('every reply reaches its customer', `${name} ${mobile}`);
}

function countOf(values: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return counts;
}

/** `0.05` in ten-thousandths. */
function e4Of(price: string): bigint {
  const [whole = '0', fraction = ''] = price.split('.');
  return BigInt(whole + fraction.padEnd(4, '0'));
}
