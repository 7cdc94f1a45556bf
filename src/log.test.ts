import { expect, it } from 'vitest';
import { createLog, type Log } from './log.ts';

/** What is written, parsed: a line that is not JSON fails the test. */
function logged(write: (log: Log) => void): Record<string, unknown>[] {
  const lines: string[] = [];
  write(createLog('info', { write: (line) => lines.push(line) }));
  return lines.map((line): Record<string, unknown> => JSON.parse(line));
}

it('masks phone numbers in messages, values, child bindings and errors', () => {
  const lines = logged((log) => {
    log.info('to 13800000021, +8613800000022 and %s', '13800000023');
    log.info({ to: ['13800000021'], phone: 13800000021, msisdn: 8613800000021n, foreign: '+447911123456' }, 'sent');
    log.child({ peer: '13800000021' }).warn('reply');
    log.error(new Error('no route for 13800000021', { cause: new Error('blocked: 13800000022') }));
  });
  const text = JSON.stringify(lines);
  expect(text).not.toMatch(/1380000002|7911123/);
  expect(lines[0]?.msg).toBe('to 138****0021, +86138****0022 and 138****0023');
  expect(lines[1]).toMatchObject({ to: ['138****0021'], phone: '138****0021', msisdn: '86138****0021', foreign: '+447****3456' });
  expect(lines[2]?.peer).toBe('138****0021');
  expect(lines[3]).toMatchObject({ msg: 'no route for 138****0021', err: { message: 'no route for 138****0021' } });
});

it('leaves ids, times and short numbers alone', () => {
  const [line] = logged((log) => log.info({ batchId: 100000001n, messageId: 3276800032768n, ms: 12.5, port: 13800 }, 'batch 100000001'));
  expect(line).toMatchObject({ batchId: '100000001', messageId: '3276800032768', ms: 12.5, port: 13800, msg: 'batch 100000001' });
});

it('censors values under telling names, at any depth and in child bindings', () => {
  const lines = logged((log) => {
    log.info({ password: 'x1', request: { headers: { Authorization: 'x2' }, body: [{ content: 'x3', text: 'x4', api_key: 'x5' }] } });
    log.child({ secret: 'x6', apiKey: 'x7', signature: 'x8' }).info('hello');
  });
  expect(JSON.stringify(lines)).not.toMatch(/x\d/);
  expect(lines[0]?.password).toBe('[censored]');
});

it('shows of an error what names the fault, not the row that PostgreSQL quotes', () => {
  const error = Object.assign(new Error('duplicate key'), { code: '23505', detail: 'Key (text)=(你好) exists', parameters: ['你好'] });
  const [line] = logged((log) => log.error({ err: error }, 'failed'));
  expect(line?.err).toMatchObject({ type: 'Error', message: 'duplicate key', code: '23505' });
  expect(JSON.stringify(line)).not.toContain('你好');
});

it('has bounds: long arrays, deep objects, cycles and bytes are cut short', () => {
  const cycle: Record<string, unknown> = {};
  cycle.self = cycle;
  const [line] = logged((log) => log.info({ cycle, many: Array.from({ length: 1000 }, (_, i) => i), pdu: Buffer.alloc(99) }));
  expect(line?.pdu).toBe('[99 bytes]');
  expect(JSON.stringify(line).length).toBeLessThan(1000);
});
