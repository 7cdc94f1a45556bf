/**
 * `npm run bench`: starts the platform and measures it as a customer sees it. Prints a table, and with --json one line of JSON for each
 * scenario. With --against it compares this tree with another revision instead. What the figures mean is in test/bench/README.md.
 */
import os from 'node:os';
import { parseArgs } from 'node:util';
import { packageRoot } from '../../src/std/package-root.ts';
import { measureAgainst } from './against.ts';
import { table } from './comparison.ts';
import { hangUp } from './customer.ts';
import { written } from './measure.ts';
import { startPlatform } from './platform.ts';
import { longScenarios, type Scenario, scenarios } from './scenarios.ts';

const { values: options, tokens } = parseArgs({
  tokens: true,
  options: {
    scenario: { type: 'string', multiple: true },
    seconds: { type: 'string', default: '10' },
    messages: { type: 'string' },
    stored: { type: 'string', default: '5000000' },
    blocked: { type: 'string', default: '5000000' },
    templates: { type: 'string', default: '10000' },
    words: { type: 'string', default: '100000' },
    json: { type: 'boolean', default: false },
    profile: { type: 'boolean', default: false },
    against: { type: 'string' },
    pairs: { type: 'string', default: '3' },
  },
});

const all: Readonly<Record<string, Scenario>> = { ...scenarios, ...longScenarios };
const wanted = options.scenario ?? Object.keys(scenarios);
const unknown = wanted.filter((name) => !(name in all));
if (unknown.length > 0) throw new Error(`no scenario ${unknown.join(', ')}; there are ${Object.keys(all).join(', ')}`);

const print = (line: string): void => void process.stdout.write(`${line}\n`);
const say = (line: string): void => void process.stderr.write(`${line}\n`);
const machine = `${os.cpus().length} × ${os.cpus()[0]?.model ?? 'unknown'}, ${Math.round(os.totalmem() / 2 ** 30)} GiB, Node ${process.version}`;
if (options.against === undefined) await measureScenarios();
else
  await compareWith(options.against).catch((error: unknown) => {
    say(error instanceof Error ? error.message : String(error));
    process.exitCode = 1;
  });

async function measureScenarios(): Promise<void> {
  if (!options.json) print(machine);
  for (const name of wanted) {
    const size = {
      seconds: Number(options.seconds),
      messages: Number(options.messages ?? (name === 'soak' ? 1_000_000 : 300_000)),
      stored: Number(options.stored),
      blocked: Number(options.blocked),
      templates: Number(options.templates),
      words: Number(options.words),
    };
    const platform = await startPlatform({ profile: options.profile });
    try {
      const figures = (await all[name]?.(platform, size, say)) ?? {};
      print(options.json ? JSON.stringify({ scenario: name, machine, at: new Date().toISOString(), ...figures }) : written(name, figures));
    } finally {
      await platform.stop();
    }
  }
  hangUp();
}

/** Both sides are given the sizes that were asked for, and have their own defaults for the others. */
async function compareWith(revision: string): Promise<void> {
  const pairs = Number(options.pairs);
  if (!Number.isInteger(pairs) || pairs < 1) throw new Error(`--pairs ${options.pairs} is no number of pairs`);
  if (options.profile) throw new Error('--profile is for a run of one tree, not for --against');
  const sizes = ['seconds', 'messages', 'stored', 'blocked', 'templates', 'words'];
  let names = {};
  await measureAgainst({
    root: packageRoot(),
    revision,
    pairs,
    scenarios: wanted,
    args: tokens.flatMap((token) => (token.kind === 'option' && sizes.includes(token.name) ? [`--${token.name}=${token.value}`] : [])),
    say,
    began(described) {
      names = described;
      if (!options.json) print(`${machine}\nold: ${described.old}\nnew: ${described.new}`);
    },
    found(comparison) {
      print(options.json ? JSON.stringify({ machine, at: new Date().toISOString(), ...names, ...comparison }) : `\n${table(comparison)}`);
    },
  });
}
