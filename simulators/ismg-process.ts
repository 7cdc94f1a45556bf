/**
 * The simulated ISMG as a process of its own, for benchmarks:
 *
 *   node ismg-process.js [port] [spId] [secret] [reportDelayMs] [recording|counting] [window]
 *
 * It prints one line of JSON, `{"port":…}`, once it listens, and one with its counters when it is told to end (SIGTERM or SIGINT).
 */
import { createIsmg } from './ismg.ts';

const [port = '0', spId = '901234', secret = '1qaz2wsx', reportDelayMs = '1000', mode = 'counting', window = '1000'] =
  process.argv.slice(2);

const ismg = createIsmg({
  port: Number(port),
  accounts: [{ spId, secret, accessNumbers: [''], maxConnections: 100 }],
  reportDelayMs: Number(reportDelayMs),
  // Reports are acknowledged after a commit, so at full speed hundreds are on their way.
  window: Number(window),
  recording: mode === 'recording',
});

async function end(): Promise<void> {
  await ismg.stop();
  process.stdout.write(`${JSON.stringify({ counters: ismg.counters, cpu: process.cpuUsage() })}\n`);
  process.exit(0);
}

process.once('SIGTERM', () => void end());
process.once('SIGINT', () => void end());

await ismg.start();
process.stdout.write(`${JSON.stringify({ port: ismg.port })}\n`);
