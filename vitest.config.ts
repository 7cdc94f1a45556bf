import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['src', 'test', 'simulators', 'sandbox', 'tools', 'bench', 'crash'].map((folder) => `${folder}/**/*.test.ts`),
    globalSetup: ['test/postgres-server.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 20_000,
    hookTimeout: 30_000,
    teardownTimeout: 40_000,
  },
});
