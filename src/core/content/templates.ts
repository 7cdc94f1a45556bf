/**
 * Customers' templates, which need an approval. The only writer of `templates`.
 *
 * A template is `pending` until the operator approves or rejects it. Its owner or the operator may withdraw it while it is pending or
 * approved. Rejected and withdrawn are final: for another text the customer makes another template. Repeating a decision changes nothing,
 * so two operators at two screens, or a repeated request, do no harm.
 */
import type { Db, Sql } from '../../db/db.ts';
import { shanghaiDay } from '../../std/shanghai.ts';
import { findRequestId, reserveRequestId } from '../queue/batches.ts';
import type { Card } from './layouts.ts';
import { validateCard } from './layouts.ts';
import { type Directory, raiseVersion } from '../config/directory.ts';
import type { Page, PageRequest } from '../config/management.ts';
import { belowId, checkAccount, Denial, found, nextConfigId, pageOf } from '../config/management.ts';
import type { TemplateState } from '../model/configuration.ts';
import type { Dialects } from '../model/dialect.ts';
import { Refusal } from '../model/refusals.ts';
import type { RequestKey, StoredFrame } from '../model/submission.ts';
import { insertAudit } from '../events/owed.ts';
import type { PackageDraft } from './frames.ts';
import { storeMedia } from './media.ts';

export interface StoredTemplate {
  readonly id: bigint;
  readonly accountId: bigint;
  readonly medium: 'aim' | 'mms';
  readonly name: string;
  /** Of aim. */
  readonly card: Card | null;
  /** Of mms, as the three that follow: what is sent, without the signature; what for; by whom. */
  readonly frames: readonly StoredFrame[] | null;
  readonly purpose: string | null;
  readonly signature: string | null;
  /** Distinct placeholder names in order of first appearance; a submission gives its values in this order. */
  readonly parameters: readonly string[];
  readonly state: TemplateState;
  /** Why it was rejected. */
  readonly reason: string | null;
  /** From then on it cannot be used any more. */
  readonly validUntil: Date | null;
  /** How long a short link made from it opens. */
  readonly linkDays: number;
  readonly createdAt: Date;
  readonly decidedAt: Date | null;
}

export interface NewTemplate {
  readonly id?: bigint;
  readonly accountId: bigint;
  readonly name: string;
  /** What the customer sent; checked here. */
  readonly card: unknown;
  readonly validUntil?: Date;
  readonly linkDays?: number;
}

/** Stores a template for the operator to decide on. Ids are unique among all accounts, so the operator needs no account to name one. */
export async function createTemplate(sql: Sql, template: NewTemplate): Promise<StoredTemplate> {
  await raiseVersion(sql);
  const validated = validateCard(template.card);
  if ('error' in validated) throw new Denial('invalid', `card.${validated.error}`);
  await checkAccount(sql, template.accountId);
  const id = template.id ?? (await nextConfigId(sql));
  const [taken] = await sql`select 1 from templates where id = ${id}`;
  if (taken) throw new Denial('conflict', 'there is a template with this id already');
  await sql`
    insert into templates (account_id, id, medium, name, card, parameters, valid_until, link_days)
    values (${template.accountId}, ${id}, 'aim', ${template.name}, ${sql.json(validated.card)}, ${validated.parameters}::text[],
            ${template.validUntil ?? null}, ${template.linkDays ?? 30})`;
  return getTemplate(sql, template.accountId, id);
}

export interface NewPackageTemplate {
  readonly id?: bigint;
  readonly accountId: bigint;
  readonly title: string;
  readonly draft: PackageDraft;
  readonly purpose: string;
  /** The registered name, without brackets. */
  readonly signature: string;
  /** The customer's own id of the request; null if it has none. */
  readonly request: RequestKey | null;
  readonly at: Date;
}

/** Stores a multimedia template for the operator to decide on. If its request id is taken, it stores nothing and refuses. */
export async function createPackageTemplate(sql: Sql, template: NewPackageTemplate): Promise<StoredTemplate> {
  await raiseVersion(sql);
  const { accountId, draft, request, at } = template;
  const id = template.id ?? (await nextConfigId(sql));
  if (request && !(await reserveRequestId(sql, accountId, { ...request, subject: { kind: 'template', id } }, at))) {
    await findRequestId(sql, accountId, request, at); // refuses and says what the id was used for
    throw new Refusal('request_repeated', 'request_id 已被使用');
  }
  await storeMedia(sql, accountId, draft.media, at);
  await sql`
    insert into templates (account_id, id, medium, name, frames, purpose, signature, parameters)
    values (${accountId}, ${id}, 'mms', ${template.title}, ${sql.json(draft.frames)}, ${template.purpose}, ${template.signature}, '{}')`;
  return getTemplate(sql, accountId, id);
}

/** The parts of an approved multimedia template that a submission uses; refuses if there is none, or it may not be used. */
export async function usablePackage(
  sql: Sql,
  accountId: bigint,
  id: bigint,
): Promise<{ frames: readonly StoredFrame[]; signature: string }> {
  const [template] = await sql<{ state: TemplateState; frames: StoredFrame[]; signature: string }[]>`
    select state, frames, signature from templates where account_id = ${accountId} and id = ${id} and medium = 'mms'`;
  if (!template) throw new Refusal('template_not_found', `template_id: 模板 ${id} 不存在`);
  const { state, frames, signature } = template;
  if (state !== 'approved') throw new Refusal('template_not_approved', `template_id: 模板 ${id} ${unusable[state]}`);
  return { frames, signature };
}

/** What a submission needs of a template. */
export interface TemplateHead {
  readonly state: TemplateState;
  readonly parameters: readonly string[];
  readonly validUntil: Date | null;
}

/** Caches what a submission needs of a template until any configuration changes; bounded. */
export function createTemplateHeads(db: Db, directory: Directory) {
  const most = 10_000;
  const cache = new Map<string, TemplateHead>();
  directory.onChange(() => cache.clear());
  return async (accountId: bigint, id: bigint): Promise<TemplateHead | null> => {
    const key = `${accountId}:${id}`;
    const cached = cache.get(key);
    if (cached) return cached;
    const version = directory.version();
    const [row] = await db.sql<TemplateHead[]>`
      select state, parameters, valid_until as "validUntil" from templates
      where account_id = ${accountId} and id = ${id} and medium = 'aim'`;
    if (row && version === directory.version()) {
      if (cache.size >= most) cache.clear();
      cache.set(key, row);
    }
    return row ?? null;
  };
}

/** Why a template may not be used, in the words that customers read. */
export const unusable: Readonly<Record<Exclude<TemplateState, 'approved'>, string>> = {
  pending: '审核中',
  rejected: '审核未通过',
  withdrawn: '已撤回',
};

/** From now on the template may be used. */
export const approveTemplate = (sql: Sql, dialects: Dialects, id: bigint, at: Date): Promise<StoredTemplate> =>
  decide(sql, null, id, { from: ['pending'], to: 'approved', reason: null, at, toldIn: dialects });

/** The template may never be used; its owner reads why. */
export const rejectTemplate = (sql: Sql, dialects: Dialects, id: bigint, reason: string, at: Date): Promise<StoredTemplate> =>
  decide(sql, null, id, { from: ['pending'], to: 'rejected', reason, at, toldIn: dialects });

/** The template may not be used any more; what was accepted with it is still sent, and its links still open. */
export const withdrawTemplate = (sql: Sql, accountId: bigint | null, id: bigint, at: Date): Promise<StoredTemplate> =>
  decide(sql, accountId, id, { from: ['pending', 'approved'], to: 'withdrawn', reason: null, at, toldIn: null });

interface Decision {
  readonly from: readonly TemplateState[];
  readonly to: TemplateState;
  readonly reason: string | null;
  readonly at: Date;
  /** Null: its account gets no event. */
  readonly toldIn: Dialects | null;
}

async function decide(sql: Sql, accountId: bigint | null, id: bigint, { from, to, reason, at, toldIn }: Decision): Promise<StoredTemplate> {
  await raiseVersion(sql);
  const template = await getTemplate(sql, accountId, id);
  if (template.state === to) return template;
  if (!from.includes(template.state)) throw new Denial('conflict', `a template that is ${template.state} cannot become ${to}`);
  await sql`
    update templates set state = ${to}, reason = ${reason}, decided_at = ${at}
    where account_id = ${template.accountId} and id = ${id}`;
  if (toldIn)
    await insertAudit(sql, toldIn, { templateId: id, accountId: template.accountId, medium: template.medium, day: shanghaiDay(at), at });
  return getTemplate(sql, template.accountId, id);
}

/** One template; for an account, only if it is its own. */
export async function getTemplate(sql: Sql, accountId: bigint | null, id: bigint): Promise<StoredTemplate> {
  const [template] = await sql<StoredTemplate[]>`
    select ${templateColumns(sql)} from templates where (${accountId}::bigint is null or account_id = ${accountId}) and id = ${id}`;
  return found(template, 'template');
}

/** Templates, newest first: an account's, or all for the operator (`accountId` null); optionally of one state or medium. */
export async function listTemplates(
  sql: Sql,
  accountId: bigint | null,
  { state, medium }: { state: TemplateState | null; medium: StoredTemplate['medium'] | null },
  page: PageRequest,
): Promise<Page<StoredTemplate>> {
  const rows = await sql<StoredTemplate[]>`
    select ${templateColumns(sql)} from templates
    where (${accountId}::bigint is null or account_id = ${accountId}) and (${state}::text is null or state = ${state})
      and (${medium}::text is null or medium = ${medium})
      and id < ${belowId(page)}
    order by id desc limit ${page.limit + 1}`;
  return pageOf(rows, page, ({ id }) => [id]);
}

const templateColumns = (sql: Sql) => sql`
  id, account_id as "accountId", medium, name, card, frames, purpose, signature, parameters, state, reason, valid_until as "validUntil", link_days as "linkDays",
  created_at as "createdAt", decided_at as "decidedAt"`;
