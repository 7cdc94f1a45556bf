/**
 * What README.md and its neighbours say is true: the commands that are shown are run, in order, against a real sandbox, and what they
 * print is compared with what is shown (`…` stands for what changes); the tables of the sandbox are tried row by row; and no document
 * names a file, a setting, a script or a code that does not exist.
 *
 * Blocks to be run are marked in their first line: ```sh run, ```ts run; the block ```text output that follows is what they print.
 */
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import ts from 'typescript';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../src/std/package-root.ts';
import { freePort, until } from './kit/platform.ts';
import { startTestSandbox, type TestSandbox } from './kit/sandbox.ts';

const run = promisify(execFile);
const read = (file: string): string => readFileSync(path.join(packageRoot(), file), 'utf8');

/** Files of a folder of the package with this ending. */
const filesIn = (folder: string, ending: string, recursive = false): string[] =>
  readdirSync(path.join(packageRoot(), folder), { recursive, encoding: 'utf8' })
    .filter((file) => file.endsWith(ending))
    .map((file) => path.posix.join(folder, file))
    .sort();

// ── reading Markdown ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Block {
  /** Everything behind the three backticks: `sh run`. */
  readonly info: string;
  readonly text: string;
}

const blocksOf = (markdown: string): Block[] =>
  [...markdown.matchAll(/^```(.*)\n([\s\S]*?)^```$/gm)].map(([, info = '', text = '']) => ({ info, text }));

const withoutBlocks = (markdown: string): string => markdown.replace(/^```.*\n[\s\S]*?^```$/gm, '');

/** The rows of the tables whose first column has this title, without their heads; cells trimmed. */
function tableRows(markdown: string, title: string): string[][] {
  const tables = markdown.split(/\n(?!\|)/).map((part) => part.split('\n').filter((line) => line.startsWith('|')));
  const cells = (line: string) =>
    line
      .split(/(?<!\\)\|/)
      .slice(1, -1)
      .map((cell) => cell.trim());
  const found = tables.map((lines) => lines.map(cells)).filter(([head]) => head?.[0] === title);
  expect(found, `tables that begin with "${title}"`).toHaveLength(1);
  return found[0]?.slice(2) ?? [];
}

const codesOf = (cell = ''): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, code = '']) => code.replaceAll('\\|', '|'));

const readme = read('README.md');
const chinese = read('README.zh-CN.md');

// ── the sandbox ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const passwordHash = 'e9fc3f64a01b954d0cfc5cb6fa554e0e';

let sandbox: TestSandbox;
let base: string;

beforeAll(async () => {
  const port = await freePort();
  base = `http://127.0.0.1:${port}`;
  sandbox = await startTestSandbox({ port, linkBase: `${base}/m`, reportDelayMs: 50 });
  // A newcomer types slower than the simulated carriers let us log in; a test does not.
  await until('every connection is up', async () => {
    const response = await fetch(`${base}/v1/channels`, { headers: { authorization: 'Bearer sandbox-operator-token' } });
    const { data } = (await response.json()) as { data: { connections: number; states: { state: string }[] }[] };
    return data.every(({ states }) => states.some(({ state }) => state === 'up'));
  });
});

afterAll(() => sandbox.stop());

/** The port of the documents, moved to where this sandbox is. */
const here = (text: string): string => text.replaceAll('http://127.0.0.1:8080', base);

interface SendAnswer {
  readonly code: number;
  readonly msg_id: string;
  readonly failed_data: Readonly<Record<string, string>> | readonly [];
}

async function send(spId: string, templateId: string, mobiles: readonly string[]): Promise<SendAnswer> {
  const body = new URLSearchParams({
    sp_id: spId,
    password: passwordHash,
    template_id: templateId,
    content: '【鸿雁】试一试 $url$',
    mobiles: JSON.stringify(mobiles),
  });
  return (await (await fetch(`${base}/api/send-aim`, { method: 'POST', body })).json()) as SendAnswer;
}

// ── what is shown is run ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Rows that ended in the same moment come in any order. */
const inOrder = (text: string): string =>
  text.replace(/"data":"([^"]*)"/g, (_, rows: string) => {
    const phoneIn = (row: string): string => /\b1\d{10}\b/.exec(row)?.[0] ?? '';
    const sorted = rows.split('|').sort((a, b) => phoneIn(a).localeCompare(phoneIn(b)));
    return `"data":"${sorted.join('|')}"`;
  });

function expectShown(printed: string, shown: string): void {
  const pattern = inOrder(here(shown).trimEnd())
    .split('…')
    .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
    .join('[^|]*?');
  if (!new RegExp(`^${pattern}$`).test(inOrder(printed.trimEnd()))) expect(printed).toBe(shown);
}

/** Pairs of what is run and what it prints. */
function shownIn(markdown: string, info: string): { text: string; output: string }[] {
  const blocks = blocksOf(markdown);
  return blocks.flatMap((block, index) => {
    if (block.info !== info) return [];
    const next = blocks[index + 1];
    expect(next?.info, `what follows the block\n${block.text}`).toBe('text output');
    return [{ text: block.text, output: next?.text ?? '' }];
  });
}

const mark = '\u001e';

describe('README.md', () => {
  it('the shell blocks print what is shown', async () => {
    const shown = shownIn(readme, 'sh run');
    expect(shown.length).toBeGreaterThan(5);
    const script = shown.map(({ text }) => `${here(text)}\nprintf '${mark}'`).join('\n');
    const { stdout, stderr } = await run('bash', ['-c', script], { cwd: sandbox.dataDir, timeout: 60_000 });
    expect(stderr).toBe('');
    const printed = stdout.split(mark);
    for (const [index, { output }] of shown.entries()) expectShown(printed[index] ?? '', output);
  }, 60_000);

  it('the TypeScript example prints what is shown', async () => {
    for (const { text, output } of shownIn(readme, 'ts run')) {
      const { outputText, diagnostics } = ts.transpileModule(here(text), {
        compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2023, erasableSyntaxOnly: true },
        reportDiagnostics: true,
      });
      expect(diagnostics).toEqual([]);
      const file = path.join(sandbox.dataDir, 'send.mjs');
      writeFileSync(file, outputText);
      const { stdout } = await run(process.execPath, [file], { timeout: 30_000 });
      expectShown(stdout, output);
    }
  }, 30_000);

  it('an sp_id and a template are answered as the tables say', async () => {
    for (const [spId = '', , , answer] of tableRows(readme, '`sp_id`'))
      expect([spId, (await send(spId, '101', ['13700000000'])).code]).toEqual([spId, Number(codesOf(answer)[0])]);
    for (const [templateId = '', , answer] of tableRows(readme, 'template'))
      expect([templateId, (await send('500001', templateId, ['13700000000'])).code]).toEqual([templateId, Number(codesOf(answer)[0])]);
  });
});

describe('README.zh-CN.md', () => {
  it('shows the same blocks', () => expect(blocksOf(chinese)).toEqual(blocksOf(readme)));

  it('has the same sections, tables and links', () => {
    const outline = (markdown: string) => {
      const lines = withoutBlocks(markdown).split('\n');
      return {
        sections: lines.filter((line) => line.startsWith('#')).map((line) => line.replace(/[^#].*/, '')),
        rows: lines
          .filter((line) => line.startsWith('|') && !line.includes('---'))
          .map((line) => ({ codes: codesOf(line), numbers: line.match(/\d{3,}/g) })),
        links: [...markdown.matchAll(/\]\(([^)]+)\)/g)].map(([, target]) => target).slice(1), // all but that to the other language
      };
    };
    expect(outline(chinese)).toEqual(outline(readme));
  });
});

// ── no document names what is not there ──────────────────────────────────────────────────────────────────────────────────────────

const documents = [...filesIn('.', '.md'), ...filesIn('docs', '.md', true), ...filesIn('test', '.md', true)];

describe('the documents', () => {
  it('every relative link leads somewhere', () => {
    const slug = (heading: string): string =>
      heading
        .toLowerCase()
        .replace(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-');
    const broken = documents.flatMap((document) =>
      [...withoutBlocks(read(document)).matchAll(/\]\((?!https?:)([^)\s]*)\)/g)].flatMap(([, target = '']) => {
        const [file = '', anchor] = target.split('#');
        const where = path.join(path.dirname(document), file);
        const page = file === '' ? document : where;
        if (!existsSync(path.join(packageRoot(), page))) return [`${document}: ${target}`];
        if (anchor === undefined) return [];
        const headings = [...withoutBlocks(read(page)).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => slug(heading));
        return headings.includes(anchor) ? [] : [`${document}: ${target}`];
      }),
    );
    expect(broken).toEqual([]);
  });

  it('every setting, npm script and command that is named exists', () => {
    const settings = new Set(read('docs/configuration.md').match(/\bHONGYAN_[A-Z_]+[A-Z]/g));
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
    const commands = new Set([...read('src/main.ts').matchAll(/\.command\('(\w+)'\)/g)].map(([, name]) => name));
    const unknown = documents.flatMap((document) => {
      const text = read(document);
      return [
        ...(text.match(/\bHONGYAN_[A-Z_]+[A-Z]/g) ?? []).filter((name) => !settings.has(name)),
        ...[...text.matchAll(/\bnpm run ([\w:]+)/g)].map(([, name = '']) => name).filter((name) => !(name in scripts)),
        ...[...text.matchAll(/(?:npx |`)hongyan (\w+)/g)].map(([, name = '']) => name).filter((name) => !commands.has(name)),
      ].map((name) => `${document}: ${name}`);
    });
    expect(unknown).toEqual([]);
    const contributing = read('CONTRIBUTING.md');
    expect(Object.keys(scripts).filter((name) => !new RegExp(`\`npm (run )?${name}\``).test(contributing))).toEqual([]);
  });

  it('docs/api/aim.md has every code with its text, and every status of ours', () => {
    const page = read('docs/api/aim.md');
    const texts = [...read('src/http/dialects/yit3/aim.ts').matchAll(/^ {2}(\d{5}): '(.+)',$/gm)].map(([, code, text]) => [code, text]);
    expect(texts.length).toBeGreaterThan(10);
    const shown = tableRows(page, '`code`').map(([code, text]) => [codesOf(code)[0], codesOf(text)[0]]);
    expect(shown).toEqual([['0', 'success'], ...texts]);

    const sources = ['src/core', 'src/workers'].flatMap((room) => filesIn(room, '.ts', true)).filter((file) => !file.endsWith('.test.ts'));
    const statuses = new Set(sources.flatMap((file) => read(file).match(/\bWL:[A-Z]+/g) ?? []));
    const listed = new Set(
      tableRows(page, '状态')
        .flatMap(([status]) => codesOf(status))
        .filter((status) => status.startsWith('WL:')),
    );
    expect([...listed].sort()).toEqual([...statuses].sort());
  });
});
