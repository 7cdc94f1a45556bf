/**
 * Completes package-lock.json after `npm install`: adds the packages of other platforms that optionalDependencies name and the registry
 * at hand could not describe. Without them `npm ci` calls the lock file out of step, on every platform; with them it passes over those
 * that are not for the machine. Run by `npm run lock`.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { packageRoot } from '../src/std/package-root.ts';

interface Entry {
  readonly version?: string;
  readonly dev?: boolean;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly [field: string]: unknown;
}
export type Lock = Readonly<{ packages: Readonly<Record<string, Entry>> }>;

/** The same lock with an entry for each platform package that was missing; those have no integrity until the registry tells one. */
export function completed(lock: Lock): Lock {
  const packages: Record<string, Entry> = { ...lock.packages };
  for (const [where, { optionalDependencies = {}, dev }] of Object.entries(lock.packages))
    for (const [name, version] of Object.entries(optionalDependencies)) {
      const isThere = packages[`node_modules/${name}`] ?? packages[`${where}/node_modules/${name}`];
      if (isThere || !/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version)) continue;
      const os = /android|darwin|freebsd|linux|openharmony|win32/.exec(name)?.[0];
      const cpu = /arm64|ppc64|riscv64|s390x|ia32|x64|arm/.exec(name.split('/').at(-1) ?? '')?.[0];
      if (os === undefined || cpu === undefined) continue;
      const libc = /musl|gnu/.exec(name)?.[0];
      packages[`node_modules/${name}`] = {
        version,
        cpu: [cpu],
        ...(dev && { dev }),
        ...(libc !== undefined && { libc: [libc === 'musl' ? 'musl' : 'glibc'] }),
        optional: true,
        os: [os],
      };
    }
  const sorted = Object.entries(packages).sort(([a], [b]) => (a < b ? -1 : 1));
  return { ...lock, packages: Object.fromEntries(sorted) };
}

if (process.argv[1] !== undefined && path.resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const file = path.join(packageRoot(), 'package-lock.json');
  writeFileSync(file, `${JSON.stringify(completed(JSON.parse(readFileSync(file, 'utf8')) as Lock), null, 2)}\n`);
}
