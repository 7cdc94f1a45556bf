/** `/sandbox/v1/faults` of a sandbox: the values it accepts, its messages about those it refuses, and the effect on the carriers. */
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { faultNames } from '../simulators/faults.ts';
import { packageRoot } from '../src/std/package-root.ts';
import { until } from '../test/kit/platform.ts';
import { startTestSandbox, type TestSandbox } from '../test/kit/sandbox.ts';

let sandbox: TestSandbox;

beforeAll(async () => {
  sandbox = await startTestSandbox();
}, 60_000);
afterAll(() => sandbox.stop());

async function faults(body?: string, contentType = 'application/json') {
  const request = body === undefined ? {} : { method: 'PUT', headers: { 'content-type': contentType }, body };
  const response = await fetch(`${sandbox.base}/sandbox/v1/faults`, request);
  return { status: response.status, body: await response.json() };
}
const put = (value: unknown) => faults(JSON.stringify(value));

/** The final status of one message, as its customer pulls it. */
async function statusOf(phone: string): Promise<string> {
  const password = 'e9fc3f64a01b954d0cfc5cb6fa554e0e';
  const form = { sp_id: '500001', password, template_id: '101', content: '【鸿雁】试一试 $url$', mobiles: JSON.stringify([phone]) };
  await fetch(`${sandbox.base}/api/send-aim`, { method: 'POST', body: new URLSearchParams(form) });
  let status = '';
  await until('the report is pulled', async () => {
    const { data } = (await (await fetch(`${sandbox.base}/api/report?sp_id=500001&password=${password}`)).json()) as { data: string };
    const row = data.split('|').find((one) => one.includes(phone));
    if (row) status = row.split(',')[3] ?? '';
    return row !== undefined;
  });
  return status;
}

it('what is put is shown, and does what it says until nothing is put', async () => {
  expect(await faults()).toEqual({ status: 200, body: {} });
  const wanted = { all: { reportDelayMs: 30, seed: 4 }, cmpp: { rejectShare: 1, rejectCode: 9 } };
  expect(await put(wanted)).toEqual({ status: 200, body: wanted });
  expect(await faults()).toEqual({ status: 200, body: wanted });
  expect(await statusOf('13800005001')).toBe('ER:0009');
  expect(await statusOf('13000005001')).toBe('ER:0009'); // the gateway of CMPP 2.0
  expect(await put({})).toEqual({ status: 200, body: {} });
  expect(await statusOf('13800005002')).toBe('DELIVRD');
});

it.each([
  [[], 'a JSON object is expected'],
  [{ smpp: {} }, 'smpp: no simulator; there are all, cmpp, mm7'],
  [{ cmpp: 1 }, 'cmpp: a JSON object is expected'],
  [{ cmpp: { lostReportShare: 1.5 } }, 'cmpp.lostReportShare: a number from 0 to 1'],
  [{ cmpp: { lostReportShare: '1' } }, 'cmpp.lostReportShare: a number from 0 to 1'],
  [{ all: { halfOpenMs: -1 } }, 'all.halfOpenMs: milliseconds from 0 to 600000'],
  [{ all: { halfOpen: 1 } }, 'all.halfOpen: true or false'],
  [{ mm7: { dropEvery: 0.5 } }, 'mm7.dropEvery: a whole number from 1 to 1000000'],
  [{ cmpp: { rejectCode: 0 } }, 'cmpp.rejectCode: a whole number from 1 to 255'],
  [{ mm7: { rejectCode: 1000 } }, 'mm7.rejectCode: a StatusCode of MM7 from 2000 to 9999, or a status of HTTP from 200 to 599'],
  [{ all: { rejectCode: 9 } }, 'all.rejectCode: differs between cmpp and mm7 and must be set there'],
  [{ cmpp: { rejectText: 'x' } }, 'cmpp.rejectText: exists for mm7 alone'],
  [{ cmpp: { toString: 1 } }, `cmpp.toString: no fault; there are ${faultNames.join(', ')}`],
])('%j is answered with 400, and changes nothing', async (body, message) => {
  await put({ mm7: { seed: 5 } });
  expect(await put(body)).toEqual({ status: 400, body: { error: { code: 'invalid', message } } });
  expect(await faults()).toEqual({ status: 200, body: { mm7: { seed: 5 } } });
});

it('what is no JSON is answered with 400', async () => {
  expect(await faults('{')).toMatchObject({ status: 400, body: { error: { code: 'malformed' } } });
});

it('docs/sandbox.md has every fault', () => {
  const page = fs.readFileSync(path.join(packageRoot(), 'docs/sandbox.md'), 'utf8');
  const listed = [...page.slice(page.indexOf('\n## Faults')).matchAll(/^\| `(\w+)`/gm)].map(([, name]) => name);
  expect(listed).toEqual(faultNames);
});
