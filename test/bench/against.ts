/**
 * `--against REV`: measures this tree and another revision in turns. The other revision is built in a temporary worktree. Both run through
 * the `bench` script of their own package.json, in separate processes, so that both are measured alike and this file need not know how the
 * other is built. `comparison.ts` evaluates the figures.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Comparison, compare, figuresOf, orderOf, type Pair, type Run, type Side } from './comparison.ts';

export interface Against {
  /** The folder of this tree's package.json, which must be a git checkout. */
  readonly root: string;
  /** Whatever git understands as a commit. */
  readonly revision: string;
  /** How often each side runs each scenario. */
  readonly pairs: number;
  readonly scenarios: readonly string[];
  /** Further arguments for both sides, such as `--seconds=3`. */
  readonly args: readonly string[];
  /** Is told what is going on. */
  say(line: string): void;
  /** Is told once what is compared, before anything runs. */
  began(names: Readonly<Record<Side, string>>): void;
  /** Is told of each scenario as soon as all its pairs have run. */
  found(comparison: Comparison): void;
}

/**
 * Runs all pairs of one scenario after the other. The error of a run that failed holds all that the run said. However this ends, by a
 * signal too, the worktree and everything that the runs left behind are gone.
 */
export async function measureAgainst({ root, revision, pairs, scenarios, args, say, began, found }: Against): Promise<void> {
  const commit = commitOf(root, revision);
  began({ old: described(root, commit), new: `this tree, ${described(root, 'HEAD')}${isChanged(root) ? ', with changes' : ''}` });
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hongyan-against-'));
  const [tree, temporary] = [path.join(folder, 'tree'), path.join(folder, 'tmp')];
  fs.mkdirSync(temporary);
  // PostgreSQL, which runs as another user if we are root, must be able to enter.
  for (const each of [folder, temporary]) fs.chmodSync(each, 0o755);
  const programs = createPrograms(temporary);
  try {
    execFileSync('git', ['worktree', 'add', '--quiet', '--detach', tree, commit], { cwd: root });
    const start = performance.now();
    await programs.run(tree, ['ci', '--loglevel=error', '--no-audit', '--no-fund']);
    await programs.run(tree, ['run', '--silent', 'build']);
    say(`built ${revision} in ${((performance.now() - start) / 1000).toFixed(0)} s`);

    const trees = { old: tree, new: root };
    for (const scenario of scenarios) {
      const measured: Pair[] = [];
      try {
        for (let pair = 0; pair < pairs; pair++) {
          const runs: Partial<Record<Side, Run>> = {};
          for (const side of orderOf(pair)) {
            say(`${scenario}, pair ${pair + 1} of ${pairs}: ${side}`);
            const output = await programs.run(trees[side], ['run', '--silent', 'bench', '--', '--json', '--scenario', scenario, ...args]);
            runs[side] = figuresIn(output, scenario);
          }
          measured.push(runs as Pair);
        }
      } catch (error) {
        if (!String(error).includes(`no scenario ${scenario}`)) throw error;
        say(`${scenario} is left out: ${revision} does not know it`);
        continue;
      }
      found(compare(scenario, measured));
    }
  } finally {
    await programs.end();
    // There may be none yet; and what went wrong before is what the user must read.
    spawnSync('git', ['worktree', 'remove', '--force', tree], { cwd: root });
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

/** The full name of the commit that a revision means in the checkout at `root`; an error with one sentence for the user if there is none. */
function commitOf(root: string, revision: string): string {
  // A package unpacked inside somebody else's checkout has no revisions.
  if (!fs.existsSync(path.join(root, '.git'))) throw new Error(`--against needs a git checkout, and ${root} is none`);
  const { error, stdout } = spawnSync('git', ['rev-parse', '--verify', '--quiet', '--end-of-options', `${revision}^{commit}`], {
    cwd: root,
    encoding: 'utf8',
  });
  if (error) throw error;
  const commit = stdout.trim();
  if (commit === '') throw new Error(`--against: there is no revision ${revision} in this checkout`);
  return commit;
}

/** The short name and the subject of a commit. */
const described = (root: string, commit: string): string =>
  execFileSync('git', ['log', '-1', '--format=%h %s', commit], { cwd: root, encoding: 'utf8' }).trim();

const isChanged = (root: string): boolean => execFileSync('git', ['status', '--porcelain'], { cwd: root, encoding: 'utf8' }) !== '';

function figuresIn(output: string, scenario: string): Run {
  const line = output.split('\n').find((each) => each.startsWith('{'));
  if (line === undefined) throw new Error(`no figures of ${scenario} in what its run said:\n${output}`);
  return figuresOf(JSON.parse(line) as Record<string, unknown>);
}

/**
 * Runs npm, one program at a time. Each is the head of a process group of its own, so that a signal reaches everything it started: npm
 * does not hand signals on to all of that. A signal that ends us ends the run first; the platform takes a second signal for an order to
 * leave its PostgreSQL behind, so it gets only one.
 */
function createPrograms(temporaryFolder: string) {
  let running: ChildProcess | undefined;
  let stoppedBy: NodeJS.Signals | undefined;
  const onSignal = (signal: NodeJS.Signals): void => {
    if (stoppedBy === undefined && running?.pid !== undefined) signalGroup(running.pid, 'SIGTERM');
    stoppedBy ??= signal;
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, onSignal);

  return {
    /** Returns what npm printed in the folder. A run that fails is an error that holds what it printed and complained. */
    async run(folder: string, args: readonly string[]): Promise<string> {
      refuseIfStopped();
      // Whatever a run leaves behind when it is stopped is in the temporary folder.
      const environment = { ...process.env, TMPDIR: temporaryFolder };
      const child = spawn('npm', args, { cwd: folder, env: environment, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
      running = child;
      let [output, complaints] = ['', ''];
      child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
      child.stderr.on('data', (chunk: Buffer) => (complaints += chunk.toString()));
      const closed = new Promise((resolve) => child.once('close', resolve));
      const exitCode = await new Promise<number | null>((resolve, reject) => {
        child.once('exit', resolve);
        child.once('error', reject);
      });
      if (child.pid !== undefined) await endGroup(child.pid, stoppedBy !== undefined);
      await closed;
      running = undefined;
      refuseIfStopped();
      if (exitCode !== 0) throw new Error(`npm ${args.join(' ')} failed in ${folder}:\n${output}${complaints}`);
      process.stderr.write(complaints);
      return output;
    },

    /** From now on a signal ends us at once again. */
    async end(): Promise<void> {
      if (running?.pid !== undefined) await endGroup(running.pid, stoppedBy !== undefined);
      for (const signal of signals) process.off(signal, onSignal);
    },
  };

  function refuseIfStopped(): void {
    if (stoppedBy !== undefined) throw new Error(`stopped by ${stoppedBy}`);
  }
}

/** Sends a signal to a process group; 0 only asks. Returns whether there was anybody. */
function signalGroup(group: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(-group, signal);
  } catch {
    return false;
  }
}

/** Returns once nobody of a process group is left; whoever takes longer than 20 s is killed. */
async function endGroup(group: number, isTold: boolean): Promise<void> {
  if (!isTold) signalGroup(group, 'SIGTERM');
  for (let n = 0; n < 200; n++) {
    if (!signalGroup(group, 0)) return;
    await sleep(100);
  }
  signalGroup(group, 'SIGKILL');
}
