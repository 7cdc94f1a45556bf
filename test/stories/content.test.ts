/** What phones show for each kind of content. mms.test.ts has the stories of multimedia packages. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createSignals } from '../../src/core/config/signals.ts';
import { createSubmit, type Submit } from '../../src/core/intake/submit.ts';
import type { SubmittedContent } from '../../src/core/model/submission.ts';
import { createNumberPlan } from '../../src/core/numbers/number-plan.ts';
import { createContentRules } from '../../src/core/screening/content-rules.ts';
import { type Customer, type Platform, plainNumbers, startPlatform, until } from '../kit/platform.ts';

const linkBase = 'http://links.example/m';

let platform: Platform;
let submit: Submit;

beforeAll(async () => {
  platform = await startPlatform();
  await platform.startApp({ linkBase });
  const { db, directory } = platform.management;
  const rooms = { db, directory, onFailure: (error: unknown) => expect.fail(String(error)) };
  const [contentRules, numberPlan] = [createContentRules(rooms), createNumberPlan(rooms)];
  await Promise.all([contentRules.start(), numberPlan.start()]);
  submit = createSubmit({
    db,
    directory,
    signals: createSignals({ db }),
    contentRules,
    numberPlan,
    clock: () => new Date(),
    linkBase,
    count() {},
  });
});

afterAll(async () => {
  expect(await platform.audit()).toEqual([]);
  await platform.stop();
});

/** What the phone of one number shows of a submission, in the order of its parts. */
async function shownOf({ subscriptionId }: Customer, content: SubmittedContent, number: string, sendAt: Date | null = null) {
  const { directory } = platform.management;
  await directory.refresh();
  const tenancy = directory.subscription(subscriptionId);
  if (!tenancy) throw new Error('no such subscription');
  const { batchId } = await submit(tenancy, { recipients: [{ written: number, values: [] }], content, ext: '', sendAt, request: null });
  return {
    batchId,
    async text() {
      const shown = () => platform.shown.find(({ to }) => to.endsWith(number));
      await until('the phone has the message', () => shown() !== undefined);
      return shown()?.text;
    },
  };
}

it('a plain text reaches the phone as it was written, also where it looks like a placeholder', async () => {
  const customer = await platform.customer({ medium: 'sms' });
  const [number = ''] = plainNumbers(1, 1);
  const { text } = await shownOf(customer, { kind: 'text', text: '【鸿雁】请回复 $url$ 或 $url$' }, number);
  expect(await text()).toBe('【鸿雁】请回复 $url$ 或 $url$');
});

it('a card gives each phone a link of its own', async () => {
  const customer = await platform.customer();
  const content = { kind: 'card', templateId: customer.templateId, text: '【鸿雁】请看 $url$' } as const;
  const [one = '', other = ''] = plainNumbers(2, 2);
  const texts = [await (await shownOf(customer, content, one)).text(), await (await shownOf(customer, content, other)).text()];
  for (const text of texts) expect(text).toMatch(/^【鸿雁】请看 http:\/\/links\.example\/m\/[0-9A-Za-z]{10}$/);
  expect(texts[0]).not.toBe(texts[1]);
});

it('what a node of the version before has accepted is sent as what that version knew', async () => {
  const customer = await platform.customer();
  const [number = ''] = plainNumbers(1, 3);
  const content = { kind: 'card', templateId: customer.templateId, text: '【鸿雁】请看 $url$' } as const;
  const { batchId, text } = await shownOf(customer, content, number, new Date(Date.now() + 2000));
  await platform.management.db.sql`update batches set kind = null where account_id = ${customer.accountId} and id = ${batchId}`;
  expect(await text()).toMatch(/http:\/\/links\.example\/m\//);
});
