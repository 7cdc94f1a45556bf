import { setImmediate as turn } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { startManagement, type TestManagement } from '../../../test/kit/management.ts';
import { until } from '../../../test/kit/platform.ts';
import { createAccount } from '../catalogue/accounts.ts';
import {
  addWords,
  changeContentTemplate,
  changeWordList,
  type ContentFinding,
  type ContentRules,
  type ContentVerdict,
  createContentRules,
  createContentTemplate,
  createWordList,
  deleteContentTemplate,
  deleteWordList,
  foldWords,
  removeWords,
  type WordVerdict,
} from './content-rules.ts';
import { createDirectory } from '../config/directory.ts';
import { change } from '../config/management.ts';

let management: TestManagement;
let rules: ContentRules;
const accounts: bigint[] = [];
const failures: unknown[] = [];

beforeAll(async () => {
  management = await startManagement();
  for (const name of ['one', 'two'])
    accounts.push((await change(management, (sql) => createAccount(sql, management.box, { name }))).account.id);
  rules = createContentRules({ ...management, onFailure: (error) => failures.push(error) });
  await rules.start();
});
afterAll(async () => {
  await rules.stop();
  await management.stop();
});
beforeEach(async () => {
  const { sql } = management.db;
  await sql`delete from words`;
  await sql`delete from word_lists`;
  await sql`delete from content_templates`;
  await sql`update config_version set content_version = content_version + 1`;
  await management.directory.refresh();
  await rules.refresh();
});

/** As the management API changes them. */
async function changed<Result>(work: Parameters<typeof change<Result>>[1]): Promise<Result> {
  const result = await change(management, work);
  await rules.refresh();
  return result;
}
const template = (text: string, verdict: ContentVerdict | null, accountId: bigint | null = null) =>
  changed((sql) => createContentTemplate(sql, { accountId, text, verdict, enabled: verdict !== null, note: '' }));
const list = (verdict: WordVerdict) => changed((sql) => createWordList(sql, { name: verdict, verdict, enabled: true }));
const add = async (listId: bigint, words: readonly string[]) => {
  const folded = await foldWords(words, (at) => `words[${at}]`);
  return changed((sql) => addWords(sql, listId, folded));
};
const judge = (text: string, account = 0): ContentFinding | null => rules.judge(accounts[account] ?? 0n, text);

test('the gravest of all that fires decides, and says what it is', async () => {
  expect(judge('【鸿雁】您的验证码是123456')).toBeNull();
  const passing = await template('【鸿雁】您的验证码是{6}', 'pass');
  expect(judge('【鸿雁】您的验证码是123456')).toEqual({ verdict: 'pass', entry: { template: String(passing.id) } });
  expect(judge('【鸿雁】您的验证码是1234567')).toBeNull();

  const reviewed = await list('review');
  await add(reviewed.id, ['验证码']);
  expect(judge('【鸿雁】您的验证码是123456')).toEqual({ verdict: 'review', entry: { list: String(reviewed.id), word: '验证码' } });
  const reviewing = await template('【鸿雁】{}码是{6}', 'review');
  expect(judge('【鸿雁】您的验证码是123456')).toEqual({ verdict: 'review', entry: { template: String(reviewing.id) } });

  const intercepted = await list('intercept');
  await add(intercepted.id, ['Ｃode', '您的']);
  expect(judge('【鸿雁】您的验证码是123456')).toEqual({ verdict: 'intercept', entry: { list: String(intercepted.id), word: '您的' } });
  expect(judge('c-o-d-e')).toEqual({ verdict: 'intercept', entry: { list: String(intercepted.id), word: 'Ｃode' } });
  const intercepting = await template('【鸿雁】{35}', 'intercept');
  expect(judge('【鸿雁】您的验证码是123456')).toEqual({ verdict: 'intercept', entry: { template: String(intercepting.id) } });
});

test('an account’s templates are for itself, the platform’s for all', async () => {
  const own = await template('甲{}', 'review', accounts[0]);
  const shared = await template('乙{}', 'review');
  expect(judge('甲1', 0)).toMatchObject({ entry: { template: String(own.id) } });
  expect(judge('甲1', 1)).toBeNull();
  for (const account of [0, 1]) expect(judge('乙1', account)).toMatchObject({ entry: { template: String(shared.id) } });
});

test('an account’s wish does nothing until the operator decides, and again after the account has changed it', async () => {
  const [owner = 0n, other = 0n] = accounts;
  const { id, enabled } = await template('甲{}', null, owner);
  expect([enabled, judge('甲1')]).toEqual([false, null]);
  await expect(changed((sql) => changeContentTemplate(sql, null, id, { enabled: true }))).rejects.toThrow('verdict: needed');
  await changed((sql) => changeContentTemplate(sql, null, id, { verdict: 'pass', enabled: true }));
  expect(judge('甲1')).toMatchObject({ verdict: 'pass' });

  await changed((sql) => changeContentTemplate(sql, owner, id, { note: 'mine' }));
  expect(judge('甲1')).toMatchObject({ verdict: 'pass' });
  expect(await changed((sql) => changeContentTemplate(sql, owner, id, { text: '甲乙{}' }))).toMatchObject({
    verdict: null,
    enabled: false,
  });
  expect([judge('甲1'), judge('甲乙1')]).toEqual([null, null]);

  await changed((sql) => changeContentTemplate(sql, null, id, { verdict: 'intercept', enabled: true }));
  expect(judge('甲乙1')).toMatchObject({ verdict: 'intercept' });
  await expect(changed((sql) => changeContentTemplate(sql, owner, id, { text: '丙' }))).rejects.toMatchObject({ code: 'conflict' });
  await expect(changed((sql) => deleteContentTemplate(sql, owner, id))).rejects.toMatchObject({ code: 'conflict' });
  await expect(changed((sql) => deleteContentTemplate(sql, other, id))).rejects.toMatchObject({ code: 'not_found' });
  expect(judge('甲乙1')).toMatchObject({ verdict: 'intercept' });
  await changed((sql) => deleteContentTemplate(sql, null, id));
  expect(judge('甲乙1')).toBeNull();
});

test('a text is stored once for an owner, and only if it means something', async () => {
  const { id } = await template('甲{}', 'pass');
  await expect(template('甲{}', 'review')).rejects.toMatchObject({ code: 'conflict' });
  const { id: own } = await template('甲{}', 'review', accounts[0]);
  const second = await template('乙', 'pass');
  await expect(changed((sql) => changeContentTemplate(sql, null, second.id, { text: '甲{}' }))).rejects.toMatchObject({ code: 'conflict' });
  for (const text of ['{0}', ' ', '字'.repeat(2001)]) await expect(template(text, 'pass')).rejects.toMatchObject({ code: 'invalid' });
  expect(new Set([id, own]).size).toBe(2);
});

test('lists that change, are switched off or deleted take effect', async () => {
  const { id } = await list('review');
  expect(await add(id, ['赌博', '赌 博', 'Ｂet', '彩票'])).toBe(3);
  expect(await add(id, ['赌博', '新词'])).toBe(1);
  expect(judge('赌.博')).toMatchObject({ verdict: 'review', entry: { word: '赌博' } });
  await changed((sql) => changeWordList(sql, id, { verdict: 'intercept' }));
  expect(judge('bet')).toMatchObject({ verdict: 'intercept', entry: { word: 'Ｂet' } });
  const folded = await foldWords(['B E T', '没有'], String);
  expect(await changed((sql) => removeWords(sql, id, folded))).toBe(1);
  expect([judge('bet'), judge('彩票')]).toMatchObject([null, { entry: { word: '彩票' } }]);
  await changed((sql) => changeWordList(sql, id, { enabled: false }));
  expect(judge('彩票')).toBeNull();
  await changed((sql) => changeWordList(sql, id, { enabled: true }));
  expect(judge('彩票')).not.toBeNull();
  await changed((sql) => deleteWordList(sql, id));
  expect(judge('彩票')).toBeNull();
  await expect(foldWords(['好', '-!-'], (at) => `words[${at}]`)).rejects.toThrow('words[1]: has no letter or digit');
});

test('another node judges by a change without being told by this one', async () => {
  const directory = createDirectory({ ...management, dialects: management.directory.dialects });
  await directory.start();
  const elsewhere = createContentRules({ db: management.db, directory, onFailure: (error) => failures.push(error) });
  await elsewhere.start();
  try {
    const { sql } = management.db;
    // Committed past `change`, so that nobody is notified: polling alone has to do.
    const { id } = await management.db.transaction((sql) =>
      createContentTemplate(sql, { accountId: null, text: '甲{}', verdict: 'review', enabled: true, note: '' }),
    );
    await until('the other node intercepts', () => elsewhere.judge(1n, '甲1')?.entry['template'] === String(id));
    await changed((sql) => deleteContentTemplate(sql, null, id));
    await until('the other node lets it pass', () => elsewhere.judge(1n, '甲1') === null);
    const { id: listId } = await management.db.transaction((sql) => createWordList(sql, { name: 'x', verdict: 'review', enabled: true }));
    const words = await foldWords(['赌博'], String);
    await management.db.transaction((sql) => addWords(sql, listId, words));
    await until('the other node knows the word', () => elsewhere.judge(1n, '赌博')?.entry['list'] === String(listId));
    expect(await sql`select 1 from words`).toHaveLength(1);
  } finally {
    await elsewhere.stop();
    await directory.stop();
  }
});

test('the configuration is loaded anew for its own changes only, and the content rules for theirs', async () => {
  const versions = () => [management.directory.version(), management.directory.contentVersion()] as const;
  const before = versions();
  await template('甲{}', 'pass');
  expect(versions()).toEqual([before[0], before[1] + 1n]);
  await template('乙{}', null, accounts[0]); // a wish
  expect(versions()).toEqual([before[0], before[1] + 1n]);
  await change(management, (sql) => createAccount(sql, management.box, { name: 'three' }));
  expect(versions()).toEqual([before[0] + 1n, before[1] + 1n]);
});

test('a hundred thousand words are loaded while others have their turns and the old rules judge', async () => {
  const { id } = await list('review');
  await add(id, ['旧词']);
  const words = await foldWords(
    Array.from({ length: 100_000 }, (_, n) => `词${n.toString(36)}汇${(n * 7919) % 100_003}`),
    String,
  );
  await management.db.transaction((sql) => addWords(sql, id, words));
  let turns = 0;
  let isLoaded = false;
  const watching = (async () => {
    for (; !isLoaded; turns++) {
      expect(judge('旧词')).not.toBeNull();
      await turn();
    }
  })();
  await management.directory.refresh();
  await rules.refresh();
  isLoaded = true;
  await watching;
  expect(turns).toBeGreaterThan(50);
  for (const { word } of [words[0], words[50_000], words[99_999]].flatMap((found) => found ?? []))
    expect(judge(`你好，${word.toUpperCase().split('').join(' ')}！`)).toMatchObject({ entry: { list: String(id), word } });
}, 60_000);

test('when the rules cannot be loaded the old ones stay in force, until it succeeds', async () => {
  const { sql, transaction } = management.db;
  await template('甲{}', 'review');
  expect(failures).toEqual([]);
  await sql`alter table word_lists rename to word_lists_away`;
  try {
    await transaction((sql) => createContentTemplate(sql, { accountId: null, text: '乙{}', verdict: 'review', enabled: true, note: '' }));
    await until('loading has failed twice', () => failures.length > 1);
    expect([judge('甲1'), judge('乙1')]).toMatchObject([{ verdict: 'review' }, null]);
  } finally {
    await sql`alter table word_lists_away rename to word_lists`;
  }
  await until('the rules are loaded', () => judge('乙1') !== null);
});
