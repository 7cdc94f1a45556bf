// A process that does nothing but drop old days and purge what they leave, again and again, for tests that kill it. Arguments: database
// URL, days ahead of the clock, and how long to keep what (JSON). Prints a line after each round.
import { createRetention, type KeepFor } from '../../src/core/watch/retention.ts';
import { createDb } from '../../src/db/db.ts';
import { dialects } from '../../src/http/dialects/registry.ts';

const [url = '', daysAhead = '0', keepFor = '{}'] = process.argv.slice(2);
const db = createDb(url, { max: 2 });
const retention = createRetention({ db, dialects, clock: () => new Date(Date.now() + Number(daysAhead) * 86_400_000) });
for (;;) {
  const { dropped } = await retention.dropDays(JSON.parse(keepFor) as KeepFor, () => false);
  const purged = await retention.purge(JSON.parse(keepFor) as KeepFor, () => false);
  process.stdout.write(`${JSON.stringify({ dropped, purged })}\n`);
}
