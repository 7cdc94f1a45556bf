import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['src', 'test', 'simulators', 'sandbox', 'tools'].map((folder) => `${folder}/**/*.test.ts`),
    globalSetup: ['test/kit/postgres-server.ts'],
    pool: 'forks',
    maxWorkers: 2,
    // Stories measure real processes on whatever machine CI has; at home a failure is a failure at once.
    retry: process.env['CI'] === 'true' ? 1 : 0,
    testTimeout: 20_000,
    hookTimeout: 30_000,
    teardownTimeout: 40_000,
  },
});
