/**
 * The rules for texts: content templates and lists of sensitive words. Stores and changes them, and holds them in memory ready for use.
 * The only writer of `content_templates`, `word_lists` and `words`.
 *
 * A content template belongs to the platform and applies to every account, or belongs to one account and applies to it alone. The
 * operator decides about texts that match: they pass, are reviewed, or are intercepted. An account may propose templates of its own; they
 * have no verdict and do nothing until the operator gives them one. Only the operator keeps word lists; they apply to every account.
 *
 * If several rules fire for a text, the most severe verdict counts: intercept, then review, then pass. Among equal verdicts the order is:
 * the platform's templates, the account's, words.
 *
 * Each node holds all rules compiled in memory (`createContentRules`). When the directory sees another content version, the node loads the
 * rules again while the old ones stay in force. `content-templates.ts` and `sensitive-words.ts` match the texts.
 */
import { type Db, isUniqueViolation, type Sql } from '../../db/db.ts';
import { groupBy } from '../../std/group.ts';
import { inSlices } from '../../std/slices.ts';
import { buildTemplateIndex, charactersOf, parsePattern, type Pattern, subjectOf, type TemplateIndex } from './content-templates.ts';
import { type Directory, raiseContentVersion } from '../config/directory.ts';
import { createFollower, type Follower } from '../config/follower.ts';
import type { Page, PageRequest } from '../config/management.ts';
import { afterId, belowId, checkAccount, Denial, found, keyOf, nextConfigId, pageOf } from '../config/management.ts';
import { buildSensitiveWords, fold, type SensitiveWords } from './sensitive-words.ts';

/** The verdicts on a text, the most severe first. */
const gravity = ['intercept', 'review', 'pass'] as const;
export type ContentVerdict = (typeof gravity)[number];
/** A word never lets a text pass. */
export type WordVerdict = Exclude<ContentVerdict, 'pass'>;

// ── content templates ────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface StoredContentTemplate {
  readonly id: bigint;
  /** Null: the platform's. */
  readonly accountId: bigint | null;
  readonly text: string;
  /** Null: proposed by an account, not yet decided by the operator. */
  readonly verdict: ContentVerdict | null;
  readonly enabled: boolean;
  readonly note: string;
  readonly createdAt: Date;
}

/** Per owner. */
const maxTemplates = 20_000;
/** The contract has the same limit and counts the same way. */
const templateCharacters = 2000;

export interface NewContentTemplate {
  readonly accountId: bigint | null;
  readonly text: string;
  readonly note: string;
  /** Null: proposed. */
  readonly verdict: ContentVerdict | null;
  readonly enabled: boolean;
}

export async function createContentTemplate(sql: Sql, template: NewContentTemplate): Promise<StoredContentTemplate> {
  const { accountId, text, verdict, enabled, note } = template;
  checkText(text);
  checkDecided(verdict, enabled);
  if (accountId !== null) await checkAccount(sql, accountId);
  const [others] = await sql<
    [{ n: bigint }]
  >`select count(*) as n from content_templates where coalesce(account_id, 0) = ${accountId ?? 0n}`;
  if (others.n >= maxTemplates) throw new Denial('conflict', `there are ${maxTemplates} content templates already`);
  const [created] = await sql<StoredContentTemplate[]>`
    insert into content_templates (id, account_id, text, verdict, enabled, note)
    values (${await nextConfigId(sql)}, ${accountId}, ${text}, ${verdict}, ${enabled}, ${note})
    on conflict do nothing
    returning ${templateColumns(sql)}`;
  if (!created) throw new Denial('conflict', sameText);
  if (enabled) await raiseContentVersion(sql);
  return created;
}

/** `undefined` leaves a field as it is. */
export interface ContentTemplateChange {
  readonly text?: string;
  readonly note?: string;
  readonly verdict?: ContentVerdict;
  readonly enabled?: boolean;
}

/**
 * Changes a template. An account (`accountId`; null is the operator) may change only text and note, and no template by which the operator
 * reviews or intercepts its texts. After a change of its text, an account's template needs the operator's decision again.
 */
export async function changeContentTemplate(
  sql: Sql,
  accountId: bigint | null,
  id: bigint,
  wanted: ContentTemplateChange,
): Promise<StoredContentTemplate> {
  const before = await lockTemplate(sql, accountId, id);
  const { text = before.text, note = before.note } = wanted;
  checkText(text);
  const isUndecided = accountId !== null && text !== before.text;
  const verdict = isUndecided ? null : (wanted.verdict ?? before.verdict);
  const enabled = isUndecided ? false : (wanted.enabled ?? before.enabled);
  checkDecided(verdict, enabled);
  const [changed] = await sql<StoredContentTemplate[]>`
    update content_templates set text = ${text}, verdict = ${verdict}, enabled = ${enabled}, note = ${note} where id = ${id}
    returning ${templateColumns(sql)}`.catch((error: unknown) => {
    throw isUniqueViolation(error) ? new Denial('conflict', sameText) : error;
  });
  const isJudgedOtherwise = text !== before.text || verdict !== before.verdict || enabled !== before.enabled;
  if ((before.enabled || enabled) && isJudgedOtherwise) await raiseContentVersion(sql);
  return found(changed, 'content template');
}

/** Deletes a template and returns it as it was; an account may delete what it may change. */
export async function deleteContentTemplate(sql: Sql, accountId: bigint | null, id: bigint): Promise<StoredContentTemplate> {
  const before = await lockTemplate(sql, accountId, id);
  await sql`delete from content_templates where id = ${id}`;
  if (before.enabled) await raiseContentVersion(sql);
  return before;
}

/** One template; for an account, only if it is its own. */
export async function getContentTemplate(sql: Sql, accountId: bigint | null, id: bigint): Promise<StoredContentTemplate> {
  const [template] = await sql<StoredContentTemplate[]>`
    select ${templateColumns(sql)} from content_templates
    where id = ${id} and (${accountId}::bigint is null or account_id = ${accountId})`;
  return found(template, 'content template');
}

async function lockTemplate(sql: Sql, accountId: bigint | null, id: bigint): Promise<StoredContentTemplate> {
  const [locked] = await sql<StoredContentTemplate[]>`
    select ${templateColumns(sql)} from content_templates
    where id = ${id} and (${accountId}::bigint is null or account_id = ${accountId}) for update`;
  const template = found(locked, 'content template');
  if (accountId !== null && template.verdict !== null && template.verdict !== 'pass')
    throw new Denial('conflict', 'the operator has texts like this reviewed or intercepted');
  return template;
}

export interface ContentTemplateFilter {
  readonly owner: 'platform' | 'accounts' | null;
  /** `pending`: without a verdict. */
  readonly state: 'pending' | 'enabled' | 'disabled' | null;
  readonly verdict: ContentVerdict | null;
}

/** Templates, newest first: the account's own, or all for the operator (`accountId` null). */
export async function listContentTemplates(
  sql: Sql,
  accountId: bigint | null,
  { owner, state, verdict }: ContentTemplateFilter,
  page: PageRequest,
): Promise<Page<StoredContentTemplate>> {
  const rows = await sql<StoredContentTemplate[]>`
    select ${templateColumns(sql)} from content_templates
    where id < ${belowId(page)} and (${accountId}::bigint is null or account_id = ${accountId})
      and (${owner}::text is null or (account_id is null) = (${owner} = 'platform'))
      and (${state}::text is null or ${state} = case when verdict is null then 'pending' when enabled then 'enabled' else 'disabled' end)
      and (${verdict}::text is null or verdict = ${verdict})
    order by id desc limit ${page.limit + 1}`;
  return pageOf(rows, page, ({ id }) => [id]);
}

const templateColumns = (sql: Sql) => sql`id, account_id as "accountId", text, verdict, enabled, note, created_at as "createdAt"`;
const sameText = 'there is a content template with this text already';

function checkText(text: string): void {
  const pattern = parsePattern(text);
  if ('error' in pattern) throw new Denial('invalid', `text: ${pattern.error}`);
  if (text.trim() === '') throw new Denial('invalid', 'text: says nothing');
  if (text.length > 2 * templateCharacters || charactersOf(text) > templateCharacters)
    throw new Denial('invalid', `text: at most ${templateCharacters} characters`);
}

function checkDecided(verdict: ContentVerdict | null, enabled: boolean): void {
  if (enabled && verdict === null) throw new Denial('invalid', 'verdict: needed before it can be enabled');
}

// ── lists of words ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface WordList {
  readonly id: bigint;
  readonly name: string;
  readonly verdict: WordVerdict;
  readonly enabled: boolean;
  /** How many words are on it. */
  readonly words: bigint;
  readonly createdAt: Date;
}

export interface Word {
  /** As the operator wrote it. */
  readonly word: string;
  /** The folded form that is searched for. */
  readonly folded: string;
}

const wordCharacters = 100;
/** For all words on all lists: at this size they take some 150 MB of a node's memory. */
const maxLetters = 4_000_000;
/** Words in one statement. */
const wordsAtOnce = 5000;

export async function createWordList(sql: Sql, list: Pick<WordList, 'name' | 'verdict' | 'enabled'>): Promise<WordList> {
  const id = await nextConfigId(sql);
  await sql`insert into word_lists (id, name, verdict, enabled) values (${id}, ${list.name}, ${list.verdict}, ${list.enabled})`;
  return getWordList(sql, id); // The list is still empty, so no verdict changes.
}

export async function changeWordList(
  sql: Sql,
  id: bigint,
  { name, verdict, enabled }: Partial<Pick<WordList, 'name' | 'verdict' | 'enabled'>>,
): Promise<WordList> {
  await sql`
    update word_lists set name = coalesce(${name ?? null}, name), verdict = coalesce(${verdict ?? null}, verdict),
           enabled = coalesce(${enabled ?? null}, enabled)
    where id = ${id}`;
  const list = await getWordList(sql, id);
  await raiseContentVersion(sql);
  return list;
}

/** Deletes a list with all its words and returns it as it was. */
export async function deleteWordList(sql: Sql, id: bigint): Promise<WordList> {
  await sql`select 1 from word_lists where id = ${id} for update`;
  const list = await getWordList(sql, id);
  await sql`delete from words where list_id = ${id}`;
  await sql`delete from word_lists where id = ${id}`;
  await raiseContentVersion(sql);
  return list;
}

export async function getWordList(sql: Sql, id: bigint): Promise<WordList> {
  const [list] = await sql<WordList[]>`${wordLists(sql)} where l.id = ${id}`;
  return found(list, 'word list');
}

export async function listWordLists(sql: Sql, page: PageRequest): Promise<Page<WordList>> {
  const rows = await sql<WordList[]>`${wordLists(sql)} where l.id > ${afterId(page)} order by l.id limit ${page.limit + 1}`;
  return pageOf(rows, page, ({ id }) => [id]);
}

const wordLists = (sql: Sql) => sql`
  select l.id, l.name, l.verdict, l.enabled, l.created_at as "createdAt", (select count(*) from words w where w.list_id = l.id) as words
  from word_lists l`;

/** Words that are ready to be stored or deleted. */
export type FoldedWords = readonly Word[];

/** Folds words; `pathOf` names the one in the refusal that cannot be a word. Many words take a while, so it works in slices. */
export async function foldWords(written: readonly string[], pathOf: (at: number) => string): Promise<FoldedWords> {
  return inSlices(
    (function* () {
      const words: Word[] = [];
      for (const [at, word] of written.entries()) {
        const folded = fold(word);
        if (folded === '') throw new Denial('invalid', `${pathOf(at)}: has no letter or digit`);
        if (word.length > wordCharacters || folded.length > wordCharacters)
          throw new Denial('invalid', `${pathOf(at)}: at most ${wordCharacters} letters`);
        words.push({ word, folded });
        if (at % 100 === 0) yield;
      }
      return words;
    })(),
  );
}

/** Puts words onto a list, all or none; returns how many were new, comparing folded forms. */
export async function addWords(sql: Sql, listId: bigint, words: FoldedWords): Promise<number> {
  await raiseListVersion(sql, listId);
  let added = 0;
  for (let at = 0; at < words.length; at += wordsAtOnce) {
    const some = words.slice(at, at + wordsAtOnce);
    const [row] = await sql<[{ n: bigint }]>`
      with added as (
        insert into words (list_id, folded, word)
        select ${listId}, folded, word
        from unnest(${some.map(({ folded }) => folded)}::text[], ${some.map(({ word }) => word)}::text[]) as t (folded, word)
        on conflict do nothing
        returning 1)
      select count(*) as n from added`;
    added += Number(row.n);
  }
  const [all] = await sql<[{ letters: bigint }]>`select coalesce(sum(length(folded)), 0)::bigint as letters from words`;
  if (all.letters > maxLetters) throw new Denial('conflict', `all lists together can hold ${maxLetters} letters`);
  await raiseContentVersion(sql);
  return added;
}

/** Takes words off a list, comparing folded forms; returns how many were on it. */
export async function removeWords(sql: Sql, listId: bigint, words: FoldedWords): Promise<number> {
  await raiseListVersion(sql, listId);
  const removed =
    await sql`delete from words where list_id = ${listId} and folded = any(${words.map(({ folded }) => folded)}::text[]) returning 1`;
  await raiseContentVersion(sql);
  return removed.length;
}

/** The words of a list in the order of their folded forms; with `part`, only those whose folded form contains the folded `part`. */
export async function listWords(sql: Sql, listId: bigint, part: string | null, page: PageRequest): Promise<Page<Word>> {
  const after = keyOf(page, ['text'])?.[0] ?? '';
  const rows = await sql<Word[]>`
    select word, folded from words
    where list_id = ${listId} and folded > ${after} and (${part}::text is null or position(${part} in folded) > 0)
    order by folded limit ${page.limit + 1}`;
  return pageOf(rows, page, ({ folded }) => [folded]);
}

/** Also locks the list until the end of the transaction. */
async function raiseListVersion(sql: Sql, listId: bigint): Promise<void> {
  const [list] = await sql`update word_lists set version = version + 1 where id = ${listId} returning 1`;
  found(list, 'word list');
}

// ── the rules in force ───────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface ContentFinding {
  readonly verdict: ContentVerdict;
  /** The rule that fired: a template, or a word as written with its list. */
  readonly entry: Readonly<Record<string, string | number>>;
}

export interface ContentRules extends Follower {
  /** The verdict on a text of this account; null if nothing fires. */
  judge(accountId: bigint, text: string): ContentFinding | null;
}

export interface ContentRulesDeps {
  readonly db: Db;
  readonly directory: Pick<Directory, 'contentVersion' | 'onContentChange'>;
  /** Called when the rules could not be loaded. The old ones stay in force, and the node tries again. */
  onFailure(error: unknown): void;
}

export function createContentRules({ db, directory, onFailure }: ContentRulesDeps): ContentRules {
  let rules: Rules | undefined;
  const follower = createFollower({
    isCurrent: () => rules !== undefined && rules.version >= directory.contentVersion(),
    load: async () => {
      rules = await load(db, rules);
    },
    onChange: directory.onContentChange,
    onFailure,
  });

  return {
    ...follower,
    judge(accountId, text) {
      if (!rules) throw new Error('the content rules were asked before they were started');
      const subject = subjectOf(text);
      const findings = [rules.templates.get(0n), rules.templates.get(accountId)].map((owned) => owned?.find(subject) ?? null);
      return gravest([...findings, rules.words.find(text)]);
    },
  };
}

/** The most severe finding; the first of equal ones. */
function gravest(findings: readonly (ContentFinding | null)[]): ContentFinding | null {
  for (const verdict of gravity) {
    const found = findings.find((finding) => finding?.verdict === verdict);
    if (found) return found;
  }
  return null;
}

interface Rules {
  readonly version: bigint;
  /** By account; 0 is the platform. */
  readonly templates: ReadonlyMap<bigint, { find(subject: ReturnType<typeof subjectOf>): ContentFinding | null }>;
  readonly words: { readonly key: string; find(text: string): ContentFinding | null };
}

interface TemplateRow {
  readonly id: bigint;
  readonly owner: bigint;
  readonly text: string;
  readonly verdict: ContentVerdict;
}

interface ListRow {
  readonly id: bigint;
  readonly verdict: WordVerdict;
  readonly version: bigint;
}

const rowsAtOnce = 2000;

/** Reads everything from one snapshot, in pages so as not to block the event loop; then compiles it. Unchanged words are reused. */
async function load(db: Db, old: Rules | undefined): Promise<Rules> {
  const stored = await db.transaction(async (sql) => {
    await sql`set transaction isolation level repeatable read, read only`;
    const [row] = await sql<{ version: bigint }[]>`select content_version as version from config_version where id = 1`;
    const templates = await readPages<TemplateRow>(
      (last) => sql<TemplateRow[]>`
        select id, coalesce(account_id, 0) as owner, text, verdict from content_templates
        where enabled and id > ${last?.id ?? 0n} order by id limit ${rowsAtOnce}`,
    );
    const lists = await sql<ListRow[]>`
      select id, verdict, version from word_lists where enabled order by (verdict = 'intercept') desc, id`;
    const key = JSON.stringify(lists, (_name, value: unknown) => (typeof value === 'bigint' ? String(value) : value));
    const words: (Word & { readonly list: ListRow })[] = [];
    for (const list of key === old?.words.key ? [] : lists) {
      const onList = await readPages<Word>(
        (last) => sql<Word[]>`
          select folded, word from words where list_id = ${list.id} and folded > ${last?.folded ?? ''} order by folded limit ${rowsAtOnce}`,
      );
      for (const word of onList) words.push({ ...word, list });
    }
    return { version: row?.version ?? 0n, templates, key, words };
  });
  return {
    version: stored.version,
    templates: await inSlices(compileTemplates(stored.templates)),
    words: old?.words.key === stored.key ? old.words : await inSlices(compileWords(stored.key, stored.words)),
  };
}

async function readPages<Row>(read: (last: Row | undefined) => PromiseLike<readonly Row[]>): Promise<Row[]> {
  const rows: Row[] = [];
  for (;;) {
    const page = await read(rows.at(-1));
    for (const row of page) rows.push(row);
    if (page.length < rowsAtOnce) return rows;
  }
}

function* compileTemplates(rows: readonly TemplateRow[]): Generator<void, Rules['templates']> {
  const compiled = new Map<bigint, { find(subject: ReturnType<typeof subjectOf>): ContentFinding | null }>();
  for (const [owner, owned] of groupBy(rows, (row) => row.owner)) {
    const inOrder = gravity.flatMap((verdict) => owned.filter((row) => row.verdict === verdict));
    const patterns: Pattern[] = [];
    for (const { id, text } of inOrder) {
      const pattern = parsePattern(text);
      if ('error' in pattern) throw new Error(`content template ${id} cannot be read: ${pattern.error}`);
      patterns.push(pattern);
      if (patterns.length % 100 === 0) yield;
    }
    const index: TemplateIndex = yield* buildTemplateIndex(patterns);
    compiled.set(owner, {
      find(subject) {
        const row = inOrder[index.find(subject)];
        return row ? { verdict: row.verdict, entry: { template: String(row.id) } } : null;
      },
    });
  }
  return compiled;
}

/** `words`: sorted, those of the most severe lists first. */
function* compileWords(key: string, words: readonly (Word & { readonly list: ListRow })[]): Generator<void, Rules['words']> {
  const matcher: SensitiveWords = yield* buildSensitiveWords(words.map(({ folded }) => folded));
  const written = words.map(({ word }) => word);
  const lists = words.map(({ list }) => list);
  return {
    key,
    find(text) {
      const at = matcher.find(text);
      const [word, list] = [written[at], lists[at]];
      return word !== undefined && list ? { verdict: list.verdict, entry: { list: String(list.id), word } } : null;
    },
  };
}
