/**
 * Tests the promises of `src/channels/channel.ts` on a kind of connection with its simulated carrier. Each test names the rules that it
 * covers. Protocol-specific behaviour is tested next to the protocol.
 *
 * In every test, each message must be settled once, after `send` has returned, with one outcome for each segment that was to be sent
 * (rules 1 and 2).
 */
import { afterEach, describe, expect, test, vi } from 'vitest';
import type {
  CarrierInbound,
  CarrierReport,
  ChannelConnection,
  ConnectionDeps,
  ConnectionState,
  OutboundMessage,
  SegmentOutcome,
} from '../../src/channels/channel.ts';

/** A simulated carrier that listens. It decides by the last four digits of a phone, as all of ours do. */
export interface Carrier {
  /** Takes up its port again after a stop. */
  start(): Promise<void>;
  stop(): Promise<void>;
  /** What is on; assigning replaces everything. */
  faults: { responseDelayMs?: number; unansweredShare?: number; throttleShare?: number; dropShare?: number; seed?: number };
  dropConnections(): void;
  /** A person writes to the number that messages come from. */
  reply(content: string): void;
  counts(): {
    /** That carry messages. */
    readonly requests: number;
    /** Most of them unanswered at once. */
    readonly peak: number;
    readonly throttled: number;
    readonly refusedLogins: number;
    /** Deliveries answered as safe, and as not safe. */
    readonly acknowledged: number;
    readonly refused: number;
  };
  /** Recipients of the messages that phones have shown, as E.164 digits. */
  phones(): readonly string[];
}

export interface Wishes {
  /** Requests unanswered at once. */
  readonly window?: number;
  readonly ratePerSecond?: number;
  readonly responseTimeoutMs?: number;
  readonly throttleTries?: number;
  readonly reconnectMinMs?: number;
  readonly reconnectMaxMs?: number;
  readonly secret?: string;
}

/** A kind of connection. Each message shall be a request of its own. */
export interface Subject {
  readonly name: string;
  /** A carrier that has started, and reports after about 20 ms. */
  carrier(): Promise<Carrier>;
  /** To the carrier; null: to a port where nobody listens. Pauses before reconnecting are short, unless wished otherwise. */
  connect(carrier: Carrier | null, wishes: Wishes, deps: ConnectionDeps): ChannelConnection;
  /** A message of one segment, and one of several where this kind has any. */
  readonly message: Omit<OutboundMessage, 'to'>;
  readonly long?: Omit<OutboundMessage, 'to'>;
  /** What becomes of a message to a phone that the carrier refuses. */
  readonly refusal: SegmentOutcome;
}

/** A connection and everything it has told its owner. */
export interface Wired {
  readonly connection: ChannelConnection;
  readonly states: ConnectionState[];
  readonly reasons: string[];
  readonly reports: CarrierReport[];
  readonly inbound: CarrierInbound[];
  rooms: number;
  /** Messages handed over and not yet settled. */
  open: number;
  send(message: OutboundMessage): Promise<readonly SegmentOutcome[]>;
}

export interface Behaviour {
  readonly mayWrite?: () => boolean;
  /** What is told to the carrier about each report and reply; null: nothing. */
  readonly safe?: () => boolean | null;
  readonly onState?: (state: ConnectionState, connection: ChannelConnection) => void;
}

export const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
export const until = (condition: () => unknown) => vi.waitFor(() => expect(condition()).toBeTruthy(), { timeout: 5000, interval: 5 });
const isUp = (wired: Wired) => until(() => wired.connection.state === 'up');

/** After each test of the file or block that calls this, what was to be undone is, and what broke rule 1 or 2 is complained about. */
export function useConnections() {
  const toUndo: (() => Promise<unknown>)[] = [];
  const broken: string[] = [];
  afterEach(async () => {
    for (const undo of toUndo.splice(0).toReversed()) await undo();
    expect(broken.splice(0)).toEqual([]);
  });

  function wire(connect: (deps: ConnectionDeps) => ChannelConnection, behaviour: Behaviour = {}): Wired {
    const safe = behaviour.safe ?? (() => true);
    const answer = (acknowledge: (isSafe: boolean) => void) => {
      const isSafe = safe();
      if (isSafe !== null) setTimeout(() => acknowledge(isSafe), 1);
    };
    const wired: Omit<Wired, 'connection'> = {
      states: [],
      reasons: [],
      reports: [],
      inbound: [],
      rooms: 0,
      open: 0,
      send: (message) =>
        new Promise((resolve) => {
          let settled = 0;
          const { content, only } = message;
          const wanted = only?.length ?? (typeof content === 'string' ? connection.segmentsOf(content) : 1);
          wired.open += 1;
          connection.send(message, (outcomes) => {
            settled += 1;
            if (settled > 1) broken.push(`a message was settled ${settled} times`);
            else wired.open -= 1;
            if (outcomes.length !== wanted) broken.push(`${outcomes.length} outcomes of ${wanted} segments`);
            resolve(outcomes);
          });
          if (settled > 0) broken.push('a message was settled before send returned');
        }),
    };
    const connection = connect({
      events: {
        onState(state, reason) {
          wired.states.push(state);
          wired.reasons.push(reason);
          behaviour.onState?.(state, connection);
        },
        onRoom() {
          wired.rooms += 1;
        },
        onReport(report, acknowledge) {
          wired.reports.push(report);
          answer(acknowledge);
        },
        onReadReply() {},
        onInbound(inbound, acknowledge) {
          wired.inbound.push(inbound);
          answer(acknowledge);
        },
      },
      mayWrite: behaviour.mayWrite ?? (() => true),
    });
    toUndo.push(async () => {
      await connection.stop(0);
      if (wired.open > 0) broken.push(`${wired.open} messages were never settled`);
    });
    connection.start();
    return Object.assign(wired, { connection });
  }

  return {
    wire,
    afterwards(undo: () => Promise<unknown>): void {
      toUndo.push(undo);
    },
  };
}

/** Numbers without a fate of their own. */
const phone = (index: number): string => String(8613800010000 + index * 10_000 + 5555);
const kinds = (outcomes: readonly (readonly SegmentOutcome[])[]) => [...new Set(outcomes.flat().map(({ kind }) => kind))].toSorted();

/** Registers the tests. */
export function keepsPromises({ name, carrier: startCarrier, connect, message, long = message, refusal }: Subject): void {
  const { wire, afterwards } = useConnections();
  const to = (number: string): OutboundMessage => ({ ...message, to: number });
  const sendMany = (wired: Wired, count: number) => Array.from({ length: count }, (_, index) => wired.send(to(phone(index))));

  async function carried(): Promise<Carrier> {
    const carrier = await startCarrier();
    afterwards(() => carrier.stop());
    return carrier;
  }

  const wireTo = (carrier: Carrier | null, wishes: Wishes = {}, behaviour: Behaviour = {}) =>
    wire((deps) => connect(carrier, wishes, deps), behaviour);

  async function connected(wishes: Wishes = {}, behaviour: Behaviour = {}) {
    const carrier = await carried();
    const wired = wireTo(carrier, wishes, behaviour);
    await isUp(wired);
    return { carrier, wired };
  }

  describe(`${name} keeps its promises`, () => {
    test('1: send takes whatever it is given, in any state', async () => {
      const odd: Partial<OutboundMessage>[] = [
        { to: '' },
        { to: 'somebody' },
        { to: '1'.repeat(50) },
        { from: '1'.repeat(50) },
        { content: '' },
        { content: '\0'.repeat(20_000) },
        { content: { subject: '', frames: [] } },
        { from: '\0', content: { subject: '\0\ud800', frames: [{ text: '\0\ud800', media: null, mediaFirst: true }] } },
        { only: [] },
        { only: [7, 8] },
      ];
      const all = (wired: Wired) => Promise.all(odd.map((wrong) => wired.send({ ...to(phone(1)), ...wrong })));
      const nobody = wireTo(null);
      await until(() => nobody.states.includes('down'));
      expect(kinds(await all(nobody))).not.toContain('accepted');
      const { wired } = await connected();
      await all(wired);
      expect(wired.connection.state).toBe('up');
      expect(kinds([await wired.send(to(phone(2)))])).toEqual(['accepted']);
      await wired.connection.stop(100);
      expect(kinds(await all(wired))).not.toContain('accepted');
    });

    test('2: every message is settled once, whatever happens to it', async () => {
      const { carrier, wired } = await connected({ window: 8, responseTimeoutMs: 60, throttleTries: 2 });
      carrier.faults = { responseDelayMs: 3, unansweredShare: 0.05, throttleShare: 0.1, dropShare: 0.03, seed: 7 };
      const sent: Promise<readonly SegmentOutcome[]>[] = [];
      for (let index = 0; index < 300; index += 1) {
        sent.push(wired.send({ ...(index % 3 === 0 ? long : message), to: phone(index) }));
        if (index % 10 === 0) await pause(2);
        if (index === 150) {
          await carrier.stop();
          await carrier.start();
        }
      }
      await wired.connection.stop(50);
      expect(wired.open).toBe(0);
      expect(kinds(await Promise.all(sent))).toContain('accepted');
    });

    test('3: there are never more requests unanswered than the window, and it is used', async () => {
      const { carrier, wired } = await connected({ window: 4 });
      carrier.faults = { responseDelayMs: 40 };
      expect(kinds(await Promise.all(sendMany(wired, 40)))).toEqual(['accepted']);
      expect(carrier.counts().peak).toBe(4);
    });

    test('4: segments are never faster than the rate', async () => {
      const { carrier, wired } = await connected({ ratePerSecond: 50, window: 20 });
      const began = performance.now();
      const outcomes = Promise.all(sendMany(wired, 20));
      await pause(100);
      const soon = carrier.counts().requests;
      expect(soon).toBeLessThanOrEqual(6 + (performance.now() - began) / 20);
      await outcomes;
      expect(performance.now() - began).toBeGreaterThan(250);
    });

    test('5: what may not be written is unsent', async () => {
      let mayWrite = false;
      const { carrier, wired } = await connected({}, { mayWrite: () => mayWrite });
      expect(kinds(await Promise.all(sendMany(wired, 5)))).toEqual(['unsent']);
      expect(carrier.counts().requests).toBe(0);
      mayWrite = true;
      expect(kinds(await Promise.all(sendMany(wired, 5)))).toEqual(['accepted']);
    });

    test('6: accepted is what the carrier took, under the id that its report names', async () => {
      const { carrier, wired } = await connected();
      const outcomes = await Promise.all(sendMany(wired, 3));
      const ids = outcomes.flat().map((outcome) => (outcome.kind === 'accepted' ? outcome.carrierId : outcome.kind));
      await until(() => wired.reports.length === 3);
      expect(wired.reports.map(({ carrierId }) => carrierId).toSorted()).toEqual(ids.toSorted());
      expect(wired.reports).toMatchObject(Array.from({ length: 3 }, () => ({ status: 'DELIVRD', delivered: true })));
      expect(carrier.phones().toSorted()).toEqual([phone(0), phone(1), phone(2)].toSorted());
    });

    test('6: rejected is what the carrier refuses, with its code', async () => {
      const { wired } = await connected();
      expect(await wired.send(to('8613800130005'))).toEqual([refusal]);
    });

    test('6: what is never answered is unknown when its time is over, and its place is free again', async () => {
      const { carrier, wired } = await connected({ responseTimeoutMs: 60, window: 2 });
      carrier.faults = { unansweredShare: 1 };
      expect(kinds(await Promise.all(sendMany(wired, 2)))).toEqual(['unknown']);
      expect(carrier.counts().requests).toBe(2);
      expect(wired.connection.state).toBe('up');
      carrier.faults = {};
      await until(() => wired.connection.room() > 0);
      expect(kinds([await wired.send(to(phone(2)))])).toEqual(['accepted']);
      expect(wired.states).not.toContain('down');
    });

    test('6: on a broken connection what was written is unknown, and is not written again', async () => {
      const { carrier, wired } = await connected({ window: 2 });
      carrier.faults = { unansweredShare: 1 };
      const outcomes = sendMany(wired, 5);
      await until(() => carrier.counts().requests === 2);
      carrier.faults = {};
      carrier.dropConnections();
      const [first, second, ...rest] = await Promise.all(outcomes);
      expect([first, second]).toEqual([[{ kind: 'unknown', isCut: true }], [{ kind: 'unknown', isCut: true }]]);
      const taken = rest.filter(([outcome]) => outcome?.kind === 'accepted').length;
      expect(rest.filter(([outcome]) => outcome?.kind === 'unsent')).toHaveLength(rest.length - taken);
      expect(carrier.counts().requests).toBe(2 + taken);
      await until(() => wired.connection.state === 'up' && wired.connection.room() > 0);
      expect(kinds([await wired.send(to(phone(9)))])).toEqual(['accepted']);
    });

    test('6: what is handed over without a connection is unsent', async () => {
      const wired = wireTo(null);
      expect(wired.connection.room()).toBe(0);
      expect(kinds(await Promise.all(sendMany(wired, 3)))).toEqual(['unsent']);
    });

    test('7: what the carrier refused as too fast goes out again by itself', async () => {
      const { carrier, wired } = await connected();
      const outcomes = await Promise.all([wired.send(to('8613800130006')), wired.send(to(phone(2)))]);
      expect(kinds(outcomes)).toEqual(['accepted']);
      expect(carrier.counts()).toMatchObject({ throttled: 1, requests: 3 });
      expect(carrier.phones().toSorted()).toEqual(['8613800130006', phone(2)].toSorted());
    });

    test('7: a carrier that keeps saying "too fast" is believed after some tries', async () => {
      const { carrier, wired } = await connected({ throttleTries: 3 });
      carrier.faults = { throttleShare: 1 };
      expect(await wired.send(to(phone(1)))).toEqual([{ kind: 'throttled' }]);
      expect(carrier.counts()).toMatchObject({ throttled: 3, requests: 3 });
      expect(carrier.phones()).toEqual([]);
    });

    test('8: the owner is told when there is room again after there was none, and only then', async () => {
      const { carrier, wired } = await connected({ window: 2 });
      expect(wired.rooms).toBe(1);
      carrier.faults = { responseDelayMs: 30 };
      const room = wired.connection.room();
      expect(room).toBeGreaterThan(2);
      const outcomes = sendMany(wired, room);
      expect(wired.connection.room()).toBe(0);
      expect(wired.rooms).toBe(1);
      expect(kinds(await Promise.all(outcomes))).toEqual(['accepted']);
      expect(wired.rooms).toBe(2);
      expect(wired.connection.room()).toBe(room);
    });

    test('8: at a low rate the owner is told as well', async () => {
      const { wired } = await connected({ ratePerSecond: 20 });
      let sent = 0;
      while (sent < 6) {
        const { rooms } = wired;
        while (wired.connection.room() > 0 && sent < 6) {
          sent += 1;
          void wired.send(to(phone(sent)));
        }
        if (sent < 6) await until(() => wired.rooms > rooms);
      }
      await until(() => wired.reports.length === 6);
    });

    test('9: the carrier gets no answer to what it delivers before that is safe', async () => {
      let isSafe: boolean | null = null;
      const { carrier, wired } = await connected({}, { safe: () => isSafe });
      await wired.send(to(phone(1)));
      carrier.reply('hello');
      await until(() => wired.reports.length === 1 && wired.inbound.length === 1);
      await pause(30);
      expect(carrier.counts()).toMatchObject({ acknowledged: 0, refused: 0 });
      // What the connection broke over comes again.
      isSafe = true;
      carrier.dropConnections();
      await until(() => carrier.counts().acknowledged === 2);
      expect(wired.reports[1]).toEqual(wired.reports[0]);
      expect(wired.inbound[1]).toEqual(wired.inbound[0]);
    });

    test('9: what is not safe comes again until it is', async () => {
      let tries = 0;
      const { carrier, wired } = await connected({}, { safe: () => (tries += 1) > 2 });
      await wired.send(to(phone(1)));
      await until(() => carrier.counts().acknowledged === 1);
      expect(carrier.counts().refused).toBe(2);
      expect(wired.reports).toHaveLength(3);
      expect(new Set(wired.reports.map(({ carrierId }) => carrierId)).size).toBe(1);
      tries = 0;
      carrier.reply('hello');
      await until(() => carrier.counts().acknowledged === 2);
      expect(wired.inbound).toHaveLength(3);
      expect(new Set(wired.inbound.map(({ carrierId }) => carrierId)).size).toBe(1);
    });

    test('10: a carrier that is not there is tried again later and later, up to a limit', async () => {
      const wired = wireTo(null, { reconnectMinMs: 10, reconnectMaxMs: 80 });
      await pause(400);
      // Pauses of 5–10, 10–20 and 20–40 ms, then 40–80 ms each; without backoff there would be 40 and more.
      const tries = wired.states.filter((state) => state === 'connecting').length;
      expect(tries).toBeGreaterThanOrEqual(4);
      expect(tries).toBeLessThanOrEqual(14);
    });

    test('10: when the carrier comes back it is used again', async () => {
      const { carrier, wired } = await connected();
      await carrier.stop();
      for (let index = 0; wired.connection.state === 'up'; index += 1) await wired.send(to(phone(index)));
      await until(() => wired.states.filter((state) => state === 'connecting').length >= 3);
      expect(wired.connection.room()).toBe(0);
      const { rooms } = wired;
      await carrier.start();
      await isUp(wired);
      await until(() => wired.rooms > rooms);
      expect(kinds([await wired.send(to(phone(1)))])).toEqual(['accepted']);
    });

    test('10: a login that is refused is tried again, but not soon', async () => {
      const carrier = await carried();
      const wired = wireTo(carrier, { secret: 'wrong', reconnectMinMs: 1 });
      await until(() => carrier.counts().refusedLogins >= 3);
      expect(wired.states.slice(0, 4)).toEqual(['connecting', 'refused', 'connecting', 'refused']);
      expect(wired.connection.room()).toBe(0);
      expect(kinds([await wired.send(to(phone(1)))])).toEqual(['unsent']);
      const before = carrier.counts().refusedLogins;
      await pause(100);
      expect(carrier.counts().refusedLogins - before).toBeLessThanOrEqual(2);
    });

    test('11: a stop waits for the answers owed, and sends nothing that had not begun', async () => {
      const { carrier, wired } = await connected({ window: 1 });
      carrier.faults = { responseDelayMs: 100 };
      const [begun, ...waiting] = sendMany(wired, 3);
      await until(() => carrier.counts().requests === 1);
      const stopping = wired.connection.stop(3000);
      expect(wired.connection.state).toBe('draining');
      expect(wired.connection.room()).toBe(0);
      expect(kinds([await wired.send(to(phone(7)))])).toEqual(['unsent']);
      await stopping;
      expect(wired.open).toBe(0);
      expect(kinds([await begun!])).toEqual(['accepted']);
      expect(kinds(await Promise.all(waiting))).toEqual(['unsent']);
      expect(carrier.counts().requests).toBe(1);
      expect(wired.states.slice(-2)).toEqual(['draining', 'stopped']);
    });

    test('11: a stop does not wait longer than it is told', async () => {
      const { carrier, wired } = await connected({ window: 1 });
      carrier.faults = { unansweredShare: 1 };
      const outcomes = wired.send({ ...long, to: phone(1) });
      await until(() => carrier.counts().requests === 1);
      const began = performance.now();
      await wired.connection.stop(50);
      expect(performance.now() - began).toBeLessThan(1000);
      expect(wired.open).toBe(0);
      const [written, ...rest] = await outcomes;
      expect(written).toEqual({ kind: 'unknown', isCut: true });
      expect(rest.filter(({ kind }) => kind !== 'unsent')).toEqual([]);
    });

    test('11: a stop ends at once when there is no connection, and for ever', async () => {
      const wired = wireTo(null);
      await until(() => wired.states.includes('down'));
      const stopping = wired.connection.stop(1000);
      expect(wired.connection.stop(1)).toBe(stopping);
      await stopping;
      const seen = wired.states.length;
      wired.connection.start();
      await pause(100);
      expect(wired.states).toHaveLength(seen);
      expect(wired.connection.state).toBe('stopped');
    });

    test.each(['connecting', 'up', 'down', 'refused'] as const)(
      '11: its owner may stop it while being told that it is %s',
      async (when) => {
        let stopping: Promise<void> | undefined;
        const wishes: Wishes = when === 'refused' ? { secret: 'wrong' } : {};
        const wired: Wired = wireTo(when === 'down' ? null : await carried(), wishes, {
          onState(state, connection) {
            if (state === when) stopping ??= connection.stop(100);
          },
        });
        await until(() => stopping);
        await stopping;
        expect(wired.states.at(-1)).toBe('stopped');
      },
    );

    test('12: what is delivered while it drains is passed on and answered', async () => {
      const { carrier, wired } = await connected();
      carrier.faults = { responseDelayMs: 200 };
      // Of a number whose report never comes.
      const outcome = wired.send(to('8613800130007'));
      await until(() => carrier.counts().requests === 1);
      const stopping = wired.connection.stop(3000);
      carrier.reply('hello');
      await until(() => carrier.counts().acknowledged === 1);
      expect(wired.connection.state).toBe('draining');
      expect(wired.inbound).toHaveLength(1);
      await stopping;
      expect(kinds([await outcome])).toEqual(['accepted']);
    });
  });
}
