/** The audit of a crash run accepts a correct run, and finds each thing that may go wrong. */
import { describe, expect, it } from 'vitest';
import type { ReplyRow } from '../kit/customers.ts';
import { type CustomerFacts, type EventRow, type Facts, judge, type MessageRow } from './judge.ts';
import type { Pull, Request } from './traffic.ts';

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

const priceE4 = 500n;
const mobiles = ['13500001000', '13500001001', '13500000001'] as const;
const [first, second, failing] = mobiles;

const request = (numbers: readonly string[], rest: Partial<Request> = {}): Request => ({
  numbers,
  segments: 1,
  outcome: 'accepted',
  taskId: '7',
  said: 'success',
  ...rest,
});
const message = (mobile: string, rest: Partial<MessageRow> = {}): MessageRow => ({
  taskId: '7',
  mobile,
  isFinal: true,
  code: mobile === failing ? 'UNDELIV' : 'DELIVRD',
  costE4: mobile === failing ? 0n : priceE4,
  ...rest,
});
const event = (mobile: string, rest: Partial<EventRow> = {}): EventRow => ({
  kind: 'report',
  taskId: '7',
  mobile,
  handedAt: 1000,
  isPushed: false,
  ...rest,
});
const row = (mobile: string) => ({
  ext: '',
  msgId: '7',
  mobile,
  status: mobile === failing ? 'UNDELIV' : 'DELIVRD',
  time: '',
  price: mobile === failing ? '0' : '0.05',
});
const pull = (rest: Partial<Pull>): Pull => ({
  kind: 'report',
  from: 990,
  to: 1010,
  outcome: 'answered',
  reports: [],
  replies: [],
  ...rest,
});

/** One customer, one request to three phones, all of them told in one pull. */
function customer(rest: Partial<CustomerFacts> = {}): Mutable<CustomerFacts> {
  return {
    name: 'customer',
    medium: 'aim',
    inDoubt: 'resend',
    chargeOn: 'delivered',
    priceE4,
    paidInE4: 10_000n,
    balanceE4: 10_000n - 2n * priceE4,
    diary: { requests: [request(mobiles)], pulls: [pull({ reports: mobiles.map(row) })] },
    pushes: [],
    rows: {
      messages: mobiles.map((mobile) => message(mobile)),
      events: mobiles.map((mobile) => event(mobile)),
      waiting: 0,
      failedPushes: 0,
    },
    replayed: new Set(),
    ...rest,
  };
}

const noPhones = { copies: new Map<string, number>(), replies: new Map<string, number>(), owed: 0 };
const copies = new Map<string, number>(mobiles.map((mobile) => [mobile, 1]));

function facts(one: CustomerFacts, rest: Partial<Facts> = {}): Facts {
  return {
    customers: [one],
    phones: one.medium === 'aim' ? { aim: { ...noPhones, copies }, mms: noPhones } : { aim: noPhones, mms: { ...noPhones, copies } },
    audit: { isClean: true, output: '' },
    queued: 0,
    forgottenReports: 0,
    inDoubt: { counted: 0, uncounted: 0 },
    mishaps: [],
    ...rest,
  };
}

const violated = (of: Facts): string[] => judge(of).violations.map((violation) => violation.split(':')[0] ?? '');

/** The same customer, who is pushed what the other one pulls. */
const pushedTo = (rest: Partial<CustomerFacts> = {}): Mutable<CustomerFacts> => {
  const one = customer();
  return {
    ...one,
    diary: { ...one.diary, pulls: [] },
    pushes: [{ reports: mobiles.map(row), replies: [] }],
    rows: { ...one.rows, events: mobiles.map((mobile) => event(mobile, { isPushed: true })) },
    ...rest,
  };
};

describe('the audit of a crash run', () => {
  it('finds nothing where everything was accepted, sent, reported and charged once', () => {
    expect(judge(facts(customer()))).toMatchObject({
      violations: [],
      figures: { 'messages accepted': 3, 'ended as DELIVRD': 2, 'ended otherwise': 1, 'events pulled': 3, lost: 0 },
    });
    expect(violated(facts(pushedTo()))).toEqual([]);
  });

  it('finds an event that never came, and forgives it only if an answer was lost that carried it, and nothing else', () => {
    const { rows, diary } = customer();
    const unheard = customer({ diary: { ...diary, pulls: [] } });
    expect(judge(facts(unheard)).figures).toMatchObject({ lost: 3 });
    expect(violated(facts(unheard))).toEqual(['events are handed over only to who asked', 'every accepted message is reported']);
    const lost = pull({ outcome: 'lost' });
    const forgiven = judge(facts(customer({ diary: { ...diary, pulls: [lost] } })));
    expect(forgiven).toMatchObject({
      violations: [],
      figures: { 'events in answers that were lost': 3, 'pulls whose answer was lost': 1 },
    });
    // An answer with an error has carried nothing.
    expect(violated(facts(customer({ diary: { ...diary, pulls: [pull({ outcome: 'refused' })] } })))).not.toEqual([]);
    // Two hand-overs are not one lost answer.
    const twice = { ...rows, events: mobiles.map((mobile, i) => event(mobile, { handedAt: i === 0 ? 1001 : 1000 })) };
    expect(violated(facts(customer({ diary: { ...diary, pulls: [lost] }, rows: twice })))).toContain('every accepted message is reported');
    // Half of an answer is not lost.
    const half = customer({ diary: { ...diary, pulls: [lost, pull({ reports: [row(first)] })] } });
    expect(violated(facts(half))).toEqual(['an answer is lost whole']);
    // Before it asked, it was handed nothing.
    const later = pull({ outcome: 'lost', from: 1001 });
    expect(violated(facts(customer({ diary: { ...diary, pulls: [later] } })))).toContain('every accepted message is reported');
  });

  it('finds what is handed over twice: pulled, pushed, or pushed and pulled without a reason', () => {
    const { diary } = customer();
    const pulls = [...diary.pulls, pull({ reports: [row(first)] })];
    expect(violated(facts(customer({ diary: { ...diary, pulls } })))).toEqual(['an event is pulled once']);
    const push = { reports: mobiles.map(row), replies: [] };
    expect(violated(facts(pushedTo({ pushes: [push, push] })))).toEqual(['an AIM event is pushed once']);
    const both = pushedTo({ diary });
    expect(violated(facts(both))).toEqual(['only a push that may have failed is repeated by pull']);
    expect(violated(facts({ ...both, rows: { ...both.rows, failedPushes: 1 } }))).toEqual([]);
  });

  it('allows three tries of an MMS push, and three more after the operator has replayed it', () => {
    const report = { msgId: '7', mobile: first, status: 'DELIVERED', price: null };
    const rows = { messages: [message(first)], events: [event(first, { isPushed: true })], waiting: 0, failedPushes: 3 };
    const pushes = (times: number) => Array.from({ length: times }, () => ({ reports: [report], replies: [] }));
    const mms = customer({ medium: 'mms', diary: { requests: [request([first])], pulls: [] }, rows, balanceE4: 9500n, inDoubt: 'give_up' });
    const phones = { aim: noPhones, mms: { ...noPhones, copies: new Map([[first, 1]]) } };
    expect(violated(facts({ ...mms, pushes: pushes(3) }, { phones }))).toEqual([]);
    expect(violated(facts({ ...mms, pushes: pushes(4) }, { phones }))).toEqual(['an MMS event is pushed at most three times']);
    expect(violated(facts({ ...mms, pushes: pushes(4), replayed: new Set([`7/${first}`]) }, { phones }))).toEqual([]);
  });

  it('holds a request whose answer was lost to all or nothing, and one that was refused to nothing', () => {
    const { diary, rows } = customer();
    const unknown = { ...diary, requests: [request(mobiles, { outcome: 'unknown', taskId: null })] };
    expect(judge(facts(customer({ diary: unknown })))).toMatchObject({ violations: [], figures: { 'answers lost: accepted': 1 } });
    const nothing = { messages: [], events: [], waiting: 0, failedPushes: 0 };
    const none = customer({ diary: { ...unknown, pulls: [] }, rows: nothing, balanceE4: 10_000n });
    expect(violated(facts(none, { phones: { aim: noPhones, mms: noPhones } }))).toEqual([]);
    const part = { ...rows, messages: rows.messages.slice(1), events: rows.events.slice(1) };
    expect(violated(facts(customer({ diary: unknown, rows: part })))).toContain('a request is accepted whole or not at all');
    const refused = { ...diary, requests: [request(mobiles, { outcome: 'refused', taskId: null })] };
    expect(violated(facts(customer({ diary: refused })))).toContain('what was refused is not accepted');
    const again = { ...rows, messages: [...rows.messages, ...mobiles.map((mobile) => message(mobile, { taskId: '8' }))] };
    expect(violated(facts(customer({ rows: again })))).toContain('a request is accepted once');
  });

  it.for<[string, Partial<MessageRow>]>([
    ['every message ends', { isFinal: false }],
    ['a message ends as its carrier says', { code: 'EXPIRED', costE4: 0n }],
    ['a message costs what its end costs', { costE4: 0n }],
    ['a message costs what its end costs', { costE4: 2n * priceE4 }],
    ['a message ends as UNKNOWN only if it was in doubt', { code: 'UNKNOWN', costE4: 0n }],
  ])('finds that it is not true that %s', ([promise, changed]) => {
    const { rows } = customer();
    const messages = [message(first, changed), ...rows.messages.slice(1)];
    expect(violated(facts(customer({ rows: { ...rows, messages } })))).toContain(promise);
  });

  it('finds repeats on phones that nothing explains, and any of what is given up', () => {
    const phones = { aim: { ...noPhones, copies: new Map(copies).set(second, 3) }, mms: noPhones };
    expect(violated(facts(customer(), { phones }))).toEqual(['a phone gets a message twice only if it was in doubt']);
    expect(violated(facts(customer(), { phones, inDoubt: { counted: 2, uncounted: 0 } }))).toEqual([]);
    const careful = customer({ inDoubt: 'give_up' });
    expect(violated(facts(careful, { phones, inDoubt: { counted: 2, uncounted: 0 } }))).toEqual(['what is given up is not repeated']);
  });

  it('finds a message that was reported and never sent, and a phone that got what nobody submitted', () => {
    const { copies: _, ...rest } = noPhones;
    expect(violated(facts(customer(), { phones: { aim: { ...rest, copies: new Map() }, mms: noPhones } }))).toEqual([
      'what has been reported has been sent',
    ]);
    const strange = new Map<string, number>(copies).set('13999999999', 1);
    expect(violated(facts(customer(), { phones: { aim: { ...rest, copies: strange }, mms: noPhones } }))).toEqual([
      'a phone gets only what was submitted',
    ]);
  });

  it('finds a reply that was lost, doubled, or given to another', () => {
    const phones = { aim: { ...noPhones, copies, replies: new Map([[first, 1]]) }, mms: noPhones };
    const { diary, rows } = customer();
    const reply = { content: '你好', mobile: first, msgId: '7', ext: '' };
    const heard = (replies: readonly ReplyRow[], stored = 1) =>
      customer({
        diary: { ...diary, pulls: [...diary.pulls, pull({ kind: 'reply', replies })] },
        rows: {
          ...rows,
          events: [...rows.events, ...Array.from({ length: stored }, () => event(first, { kind: 'reply', handedAt: 2000 }))],
        },
      });
    expect(violated(facts(heard([reply]), { phones }))).toEqual([]);
    expect(violated(facts(heard([]), { phones }))).toContain('every reply reaches its customer');
    expect(violated(facts(heard([reply, reply]), { phones }))).toContain('a reply is pulled once');
    expect(violated(facts(heard([reply, reply], 2), { phones }))).toContain('a reply is stored once');
    expect(violated(facts(heard([{ ...reply, mobile: '13999999999' }]), { phones }))).toContain('a reply goes to whom it is for');
  });

  it.for<[string, Partial<Facts>]>([
    ['hongyan audit finds nothing', { audit: { isClean: false, output: 'batch 7 …' } }],
    ['the queue is empty in the end', { queued: 1 }],
    ['no report is forgotten', { forgottenReports: 1 }],
    ['a process runs until it is killed, and stops when it is told to', { mishaps: ['node 1 ended by itself'] }],
  ])('finds that it is not true that %s', ([promise, changed]) => {
    expect(violated(facts(customer(), changed))).toEqual([promise]);
  });

  it('finds a balance that is not what was paid in less what was spent, and what still waits', () => {
    expect(violated(facts(customer({ balanceE4: 9001n })))).toEqual(['the balance is what was paid in less what messages cost']);
    const { rows } = customer();
    expect(violated(facts(customer({ rows: { ...rows, waiting: 1 } })))).toEqual(['no event waits in the end']);
  });
});
