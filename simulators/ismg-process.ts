/**
 * The simulated ISMG as a process of its own, for benchmarks and crash runs:
 *
 *   node ismg-process.js [port] [spId] [secret] [reportDelayMs] [recording|counting] [window] [journal]
 *
 * With a journal (a file) it remembers over its own death what phones got and what it owes.
 *
 * Lines on its input are obeyed: `drop` breaks every connection, `faults {…}` sets its faults (docs/sandbox.md) and is answered with a
 * line of JSON, `{"faults":…}` or `{"problem":…}`. With a journal it ends at the end of its input, so that it does not outlive who
 * started it. It prints one line of JSON, `{"port":…}`, once it listens, and one with its counters when it is told to end (SIGTERM or
 * SIGINT).
 */
import { createInterface } from 'node:readline';
import { setFaults } from './carrier.ts';
import { createIsmg } from './ismg.ts';
import { openJournal } from './journal.ts';

const [port = '0', spId = '901234', secret = '1qaz2wsx', reportDelayMs = '1000', mode = 'counting', window = '1000', journal] =
  process.argv.slice(2);

const ismg = createIsmg({
  port: Number(port),
  accounts: [{ spId, secret, accessNumbers: [''], maxConnections: 100 }],
  reportDelayMs: Number(reportDelayMs),
  // Reports are acknowledged after a commit, so at full speed hundreds are on their way.
  window: Number(window),
  recording: mode === 'recording',
  ...(journal !== undefined && { journal: openJournal(journal) }),
});

async function end(): Promise<void> {
  await ismg.stop();
  process.stdout.write(`${JSON.stringify({ counters: ismg.counters, cpu: process.cpuUsage() })}\n`);
  process.exit(0);
}

process.once('SIGTERM', () => void end());
process.once('SIGINT', () => void end());
createInterface({ input: process.stdin })
  .on('line', (line) => {
    if (line === 'drop') ismg.dropConnections();
    else if (line.startsWith('faults ')) process.stdout.write(`${setFaults(ismg, 'cmpp', line.slice(7))}\n`);
  })
  .on('close', () => {
    if (journal !== undefined) void end();
  });

await ismg.start();
process.stdout.write(`${JSON.stringify({ port: ismg.port })}\n`);
