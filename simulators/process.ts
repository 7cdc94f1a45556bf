/**
 * A simulated carrier as a process of its own, for benchmarks and crash runs:
 *
 *   node process.js <kind> <options> [journal]
 *
 * The kind is the name of a file beside this one (`cmpp`); the options are those of its `create`, as JSON. The journal is a file with the
 * messages that phones got and everything owed to the platform, so that the process may be killed and started again.
 *
 * Its input takes lines: `drop` breaks every connection; `call URL` changes the door that the carrier calls; `faults {…}` sets the faults
 * (docs/sandbox.md), and the answer is a line of JSON, `{"faults":…}` or `{"problem":…}`. The process prints the line `{"port":…}` once it
 * listens, and a line with its counters when SIGTERM or SIGINT ends it. With a journal it also ends at the end of its input, so that it does not
 * outlive the process that started it.
 */
import { createInterface } from 'node:readline';
import { readFaults } from './faults.ts';
import { openJournal } from './journal.ts';
import type { SimulatorKind, SimulatorOptions } from './simulator.ts';

const [name = '', options = '{}', journal] = process.argv.slice(2);
const { simulatorKind: kind } = (await import(`./${name}.ts`)) as { simulatorKind: SimulatorKind };

const simulator = kind.create({
  ...(JSON.parse(options) as SimulatorOptions),
  ...(journal !== undefined && { journal: openJournal(journal) }),
});
const say = (what: object): void => void process.stdout.write(`${JSON.stringify(what)}\n`);

async function end(): Promise<void> {
  await simulator.stop();
  say({ counters: simulator.counters, cpu: process.cpuUsage() });
  process.exit(0);
}

function setFaults(json: string): void {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    say({ problem: 'no JSON' });
    return;
  }
  const read = readFaults([kind], kind.name, value);
  if ('faults' in read) simulator.faults = read.faults;
  say(read);
}

process.once('SIGTERM', () => void end());
process.once('SIGINT', () => void end());
createInterface({ input: process.stdin })
  .on('line', (line) => {
    if (line === 'drop') simulator.dropConnections();
    else if (line.startsWith('call ')) kind.callAt?.(simulator, line.slice(5));
    else if (line.startsWith('faults ')) setFaults(line.slice(7));
  })
  .on('close', () => {
    if (journal !== undefined) void end();
  });

await simulator.start();
say({ port: simulator.port });
