/**
 * `npm run crash`: kills everything at random while customers work, then audits. What it does and what it proves is in test/crash/README.md.
 * Exits 1 if anything was promised and not kept; the data and logs of that run are left behind.
 */
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { run } from './run.ts';

const { values: options } = parseArgs({
  options: {
    minutes: { type: 'string' },
    seconds: { type: 'string' },
    seed: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
});

const print = (line: string): void => void process.stdout.write(`${line}\n`);
const seed = Number(options.seed ?? randomInt(1_000_000));
const seconds = Number(options.seconds ?? Number(options.minutes ?? 1) * 60);
if (!Number.isSafeInteger(seed) || !(seconds >= 1)) throw new Error('--seed is a whole number; --minutes or --seconds say how long');

const tell = options.json ? () => {} : print;
tell(`seed ${seed}, ${seconds} s`);
const result = await run({ seed, lastingMs: seconds * 1000, tell });
const { violations, figures, faults, folder } = result;
if (options.json) print(JSON.stringify(result));
else {
  print('');
  for (const [name, count] of Object.entries({ ...faults, ...figures })) print(`${name.padEnd(44)}${String(count).padStart(10)}`);
  print(`\n${result.seconds.faults} s of faults, settled and audited in ${result.seconds.settling} s`);
  for (const violation of violations) print(`\nVIOLATED: ${violation}`);
  print(
    violations.length === 0 ? '\nall promises were kept' : `\nto be repeated with --seed ${seed}; data and logs are in ${folder ?? ''}`,
  );
}
process.exit(violations.length === 0 ? 0 : 1);
