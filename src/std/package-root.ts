// Finds the shipped files that are not code (SQL, migrations), both from the sources and from dist/.
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

let found: string | undefined;

/** The folder that holds our package.json. */
export function packageRoot(): string {
  found ??= search(path.dirname(fileURLToPath(import.meta.url)));
  return found;
}

function search(from: string): string {
  for (let folder = from; ; folder = path.dirname(folder)) {
    const file = path.join(folder, 'package.json');
    const { name }: { name?: string } = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {};
    if (name === 'hongyan') return folder;
    if (folder === path.dirname(folder)) throw new Error(`no package.json of hongyan above ${from}`);
  }
}
