// Who names what: protocols and dialects at home only, machines and package registries nowhere.
import { isIn, isTest, type Parsed, type Source } from './source.ts';

/** A name, and the files and folders that may write it in a text of the program. */
export interface Owned {
  readonly name: string;
  readonly homes: readonly string[];
}

/** Texts that name a protocol or a dialect: only the lists of them and what belongs to one know it. */
export function checkNames({ file, texts }: Parsed, owned: readonly Owned[]): string[] {
  if (isTest(file)) return [];
  return owned
    .filter(({ homes }) => !homes.some((home) => isIn(file, home)))
    .flatMap(({ name }) => {
      const named = new RegExp(`(?<![\\w-])${name}(?![\\w-])`, 'i');
      return texts.filter((text) => named.test(text)).map((text) => `${file} names ${name}: "${text.slice(0, 60)}"`);
    });
}

export function checkPlaces({ file, text }: Source): string[] {
  return text
    .split('\n')
    .flatMap((line, at) => [
      ...(machinePath.test(line) ? [`${file}:${at + 1} names a path of somebody's machine: ${line.trim().slice(0, 80)}`] : []),
      ...(registry.test(line) ? [`${file}:${at + 1} names a package registry: that is for the installer to choose`] : []),
    ]);
}

/** Folders that exist on the machine of an author, not of a reader. */
const machinePath = /(?<![\w.~/-])\/(?:work|root|workspace|home\/\w+|Users\/\w+)\/[\w.-]/;
const registry = /^(?:@[\w-]+:)?registry\s*=|"resolved":\s*"https?:/i;
