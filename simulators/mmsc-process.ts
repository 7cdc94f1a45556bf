/**
 * The simulated MMSC as a process of its own, for benchmarks and crash runs:
 *
 *   node mmsc-process.js [port] [vaspUrl] [vaspId] [accessNumber] [user] [password] [reportDelayMs] [recording|counting] [connections] [journal]
 *
 * With a journal (a file) it remembers over its own death what phones got and what it owes.
 *
 * Lines on its input are obeyed: `drop` breaks every connection, `url …` posts to another URL from now on, `faults {…}` sets its faults
 * (docs/sandbox.md) and is answered with a line of JSON, `{"faults":…}` or `{"problem":…}`. With a journal it ends at the end of its input,
 * so that it does not outlive who started it.
 *
 * User and password serve both directions (Basic). It prints one line of JSON, `{"port":…,"url":…}`, once it listens, and one with its
 * counters when it is told to end (SIGTERM or SIGINT).
 */
import { createInterface } from 'node:readline';
import { setFaults } from './carrier.ts';
import { openJournal } from './journal.ts';
import { createMmsc } from './mmsc.ts';

const [
  port = '0',
  vaspUrl = '',
  vaspId = '800001',
  accessNumber = '10690001',
  user = 'vasp',
  password = 'vasp-password',
  reportDelayMs = '1000',
  mode = 'counting',
  connections = '64',
  journal,
] = process.argv.slice(2);

const mmsc = createMmsc({
  port: Number(port),
  vaspId,
  accessNumber,
  username: user,
  password,
  vaspUrl: vaspUrl === '' ? null : vaspUrl,
  vaspUsername: user,
  vaspPassword: password,
  // Reports are acknowledged after a commit, so at full speed dozens are on their way.
  vaspConnections: Number(connections),
  reportDelayMs: Number(reportDelayMs),
  recording: mode === 'recording',
  ...(journal !== undefined && { journal: openJournal(journal) }),
});

async function end(): Promise<void> {
  await mmsc.stop();
  process.stdout.write(`${JSON.stringify({ counters: mmsc.counters, cpu: process.cpuUsage() })}\n`);
  process.exit(0);
}

process.once('SIGTERM', () => void end());
process.once('SIGINT', () => void end());
createInterface({ input: process.stdin })
  .on('line', (line) => {
    if (line === 'drop') mmsc.dropConnections();
    else if (line.startsWith('url ')) mmsc.vaspUrl = line.slice(4);
    else if (line.startsWith('faults ')) process.stdout.write(`${setFaults(mmsc, 'mm7', line.slice(7))}\n`);
  })
  .on('close', () => {
    if (journal !== undefined) void end();
  });

await mmsc.start();
process.stdout.write(`${JSON.stringify({ port: mmsc.port, url: mmsc.url })}\n`);
