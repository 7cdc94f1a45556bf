/** The runs of `--against`, with two revisions of a package that measures nothing and says so at once. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { measureAgainst } from './against.ts';
import type { Comparison } from './comparison.ts';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hongyan-test-against-'));
const root = path.join(folder, 'checkout');
const temporary = path.join(folder, 'tmp');
/** Every run adds a line: which revision ran, and its arguments. */
const journal = path.join(folder, 'journal');

const program = (revision: string, rate: number): string => `
  const fs = require('node:fs');
  const [, , , , scenario, ...args] = process.argv;
  fs.appendFileSync(${JSON.stringify(journal)}, [${JSON.stringify(revision)}, scenario, ...args].join(' ') + '\\n');
  fs.mkdtempSync(require('node:os').tmpdir() + '/left-behind-');
  if (scenario === 'later' && ${JSON.stringify(revision)} === 'first') throw new Error('no scenario later; there is quick');
  if (scenario === 'broken') throw new Error('it broke');
  if (scenario === 'endless') setTimeout(() => {}, 60_000);
  else console.log(JSON.stringify({ scenario, callsPerSecond: ${rate} }));`;

const git = (...args: string[]): string =>
  execFileSync('git', ['-c', 'user.name=test', '-c', 'user.email=test@localhost', ...args], { cwd: root, encoding: 'utf8' });

function write(files: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(files)) fs.writeFileSync(path.join(root, name), text);
}

async function measure(scenarios: readonly string[], options: Partial<Parameters<typeof measureAgainst>[0]> = {}) {
  const found: Comparison[] = [];
  let names = {};
  await measureAgainst({
    root,
    revision: 'HEAD',
    pairs: 1,
    scenarios,
    args: ['--seconds=3'],
    say: () => {},
    began: (described) => (names = described),
    found: (comparison) => found.push(comparison),
    ...options,
  });
  return { found, names, runs: fs.readFileSync(journal, 'utf8').trim().split('\n') };
}

function expectNothingLeft(): void {
  expect(git('worktree', 'list').trim().split('\n')).toHaveLength(1);
  expect(fs.readdirSync(temporary)).toEqual([]);
}

beforeAll(() => {
  // A folder of this test alone, so that what is left behind is ours.
  fs.mkdirSync(temporary);
  vi.stubEnv('TMPDIR', temporary);
  fs.mkdirSync(root);
  git('init', '--quiet');
  write({
    'package.json': JSON.stringify({ name: 'x', version: '1.0.0', scripts: { build: 'node --version', bench: 'node bench.cjs' } }),
    'package-lock.json': JSON.stringify({
      name: 'x',
      version: '1.0.0',
      lockfileVersion: 3,
      packages: { '': { name: 'x', version: '1.0.0' } },
    }),
    'bench.cjs': program('first', 100),
  });
  git('add', '.');
  git('commit', '--quiet', '-m', 'Measure slowly');
  write({ 'bench.cjs': program('second', 110) });
});
beforeEach(() => fs.rmSync(journal, { force: true }));
afterAll(() => {
  vi.unstubAllEnvs();
  fs.rmSync(folder, { recursive: true, force: true });
});

describe('measuring against a revision', () => {
  it('runs both in turns with the same arguments, and leaves nothing behind', async () => {
    const { found, names, runs } = await measure(['quick'], { pairs: 2 });
    expect(runs).toEqual(['first', 'second', 'second', 'first'].map((revision) => `${revision} quick --seconds=3`));
    expect(found).toMatchObject([{ scenario: 'quick', figures: [{ name: 'callsPerSecond', old: 100, new: 110, ratio: 1.1 }] }]);
    expect(names).toEqual({
      old: expect.stringMatching(/^[0-9a-f]{7,} Measure slowly$/),
      new: expect.stringMatching(/^this tree, [0-9a-f]{7,} Measure slowly, with changes$/),
    });
    expectNothingLeft();
  });

  it('leaves out a scenario that the other revision does not know', async () => {
    const said: string[] = [];
    const { found } = await measure(['later', 'quick'], { say: (line) => said.push(line) });
    expect(found.map(({ scenario }) => scenario)).toEqual(['quick']);
    expect(said).toContain('later is left out: HEAD does not know it');
  });

  it('says why a run failed, and leaves nothing behind', async () => {
    await expect(measure(['broken'])).rejects.toThrow(/failed in [\s\S]*it broke/);
    expectNothingLeft();
  });

  it('ends at a signal, and leaves nothing behind', async () => {
    const measuring = measure(['endless']);
    const ended = expect(measuring).rejects.toThrow('stopped by SIGHUP');
    await expect.poll(() => fs.existsSync(journal), { timeout: 15_000 }).toBe(true);
    process.kill(process.pid, 'SIGHUP');
    await ended;
    expectNothingLeft();
  });

  it('refuses a revision that does not exist', async () => {
    await expect(measure(['quick'], { revision: 'nowhere' })).rejects.toThrow(/^--against: there is no revision nowhere in this checkout$/);
    await expect(measure(['quick'], { revision: '--all' })).rejects.toThrow('there is no revision --all');
  });

  it('refuses a folder that is no checkout', async () => {
    await expect(measure(['quick'], { root: folder })).rejects.toThrow(`--against needs a git checkout, and ${folder} is none`);
  });
});
