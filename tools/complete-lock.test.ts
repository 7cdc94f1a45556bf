import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { packageRoot } from '../src/std/package-root.ts';
import { completed, type Lock } from './complete-lock.ts';

it('the lock file has every platform’s packages, so that npm ci passes on all of them', () => {
  const lock = JSON.parse(readFileSync(path.join(packageRoot(), 'package-lock.json'), 'utf8')) as Lock;
  expect(Object.keys(completed(lock).packages), 'refresh it with: npm run lock').toEqual(Object.keys(lock.packages).sort());
});

it('a missing platform package gets its version, system and processor', () => {
  const lock = {
    packages: { '': {}, 'node_modules/a': { version: '1.0.0', dev: true, optionalDependencies: { '@a/win32-x64-msvc': '1.0.0' } } },
  };
  expect(completed(lock).packages['node_modules/@a/win32-x64-msvc']).toEqual({
    version: '1.0.0',
    cpu: ['x64'],
    dev: true,
    optional: true,
    os: ['win32'],
  });
});
