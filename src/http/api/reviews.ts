/** The routes of the management API for batches in review, and for previews of submissions. */
import type { Static } from 'typebox';
import * as accounts from '../../core/catalogue/accounts.ts';
import { yuan } from '../../core/money/ledger.ts';
import { found, mapPage } from '../../core/config/management.ts';
import { preview } from '../../core/intake/preview.ts';
import * as review from '../../core/intake/review.ts';
import { shanghaiTime } from '../../std/shanghai.ts';
import * as contract from '../../../contract/index.ts';
import { listOf, ref } from '../../../contract/index.ts';
import { type Api, type ConsoleDeps, futureOf, idOrNull, operatorOnly, pageRequest, placeView, scopeOf, timeOrNull } from './shared.ts';

export function addReviews(api: Api, deps: ConsoleDeps): void {
  const { db, clock, signals } = deps;
  const tags = ['review'];
  const answer = { params: contract.batchParams, response: { 200: ref(contract.reviewSchema) } };
  const decided = (item: review.ReviewItem) => {
    signals.emit('queue');
    signals.emit('push');
    return reviewView(item);
  };

  api.post(
    '/v1/screening/preview',
    {
      bodyLimit: 4 << 20,
      schema: {
        operationId: 'previewScreening',
        summary: 'Preview a submission: each rule’s verdict and the price; stores and counts nothing',
        tags,
        body: contract.wouldBe,
        response: { 200: ref(contract.previewSchema) },
      },
    },
    async ({ caller, body: { subscriptionId, sendAt, title = '', ...wouldBe } }) => {
      const { id } = await accounts.getSubscription(db.sql, scopeOf(caller), BigInt(subscriptionId));
      const tenancy = found(deps.directory.subscription(id), 'subscription');
      const at = sendAt === undefined ? clock() : futureOf('sendAt', sendAt, clock());
      const { priceE4, ...seen } = await preview(deps, tenancy, { ...wouldBe, title, sendAt: at });
      const recipients = seen.recipients.map(({ phone, ...said }) => ({ ...said, ...placeView(phone) }));
      return { ...seen, rules: [...seen.rules], recipients, price: yuan(priceE4) };
    },
  );

  api.get(
    '/v1/reviews',
    {
      schema: {
        operationId: 'listReviews',
        summary: 'Batches that are or were in review, newest first',
        tags,
        querystring: contract.reviewQuery,
        response: { 200: listOf(contract.reviewSchema) },
      },
    },
    async ({ caller, query }) =>
      mapPage(await review.listReviews(db.sql, scopeOf(caller, query.accountId), query.state ?? null, pageRequest(query)), reviewView),
  );

  api.get(
    '/v1/reviews/:id',
    { schema: { operationId: 'getReview', summary: 'One review item', tags, ...answer } },
    async ({ caller, params }) => reviewView(await review.getReview(db.sql, scopeOf(caller), BigInt(params.id))),
  );

  api.post(
    '/v1/reviews/:id/approve',
    {
      config: operatorOnly,
      schema: {
        operationId: 'approveReview',
        summary: 'Approve; lists, caps and channels are checked again now. Repeating it changes nothing',
        tags,
        ...answer,
      },
    },
    async ({ caller, params }) => decided(await review.approve(deps, BigInt(params.id), { by: caller.tokenName, at: clock() })),
  );

  api.post(
    '/v1/reviews/:id/reject',
    {
      config: operatorOnly,
      schema: {
        operationId: 'rejectReview',
        summary: 'Reject; its messages end with the code of the rule, and the hold is released',
        tags,
        body: contract.rejection,
        ...answer,
      },
    },
    async ({ caller, params, body: { reason } }) =>
      decided(await review.reject(deps, BigInt(params.id), reason, { by: caller.tokenName, at: clock() })),
  );
}

const reviewView = ({ batchId, heldE4, ...item }: review.ReviewItem): Static<typeof contract.reviewSchema> => ({
  ...item,
  id: String(batchId),
  accountId: Number(item.accountId),
  subscriptionId: Number(item.subscriptionId),
  templateId: idOrNull(item.templateId),
  held: yuan(heldE4),
  createdAt: shanghaiTime(item.createdAt),
  expiresAt: shanghaiTime(item.expiresAt),
  decidedAt: timeOrNull(item.decidedAt),
});
