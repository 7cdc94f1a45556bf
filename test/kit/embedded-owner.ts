// A process that owns an embedded PostgreSQL, for tests that kill it: prints {"pid", "url"} once the server is ready, stops
// cleanly when its input ends. Arguments: data folder, umask in octal.
import { startEmbeddedPostgres } from '../../src/db/embedded.ts';

const [dataDir = '', umask = '022'] = process.argv.slice(2);
process.umask(Number.parseInt(umask, 8));
try {
  const server = await startEmbeddedPostgres({
    dataDir,
    log: (message) => process.stderr.write(`${message}\n`),
    settings: { shared_buffers: '32MB' },
  });
  process.stdout.write(`${JSON.stringify({ pid: server.pid, url: server.url('postgres') })}\n`);
  process.stdin.on('end', () => void server.stop().then(() => process.exit(0))).resume();
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
