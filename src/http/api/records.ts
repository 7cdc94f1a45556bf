/** The routes of the management API for records: batches, messages, replies, events and pushes. */
import type { Static } from 'typebox';
import * as accounts from '../../core/catalogue/accounts.ts';
import { cancelBatch } from '../../core/intake/cancellation.ts';
import { yuan } from '../../core/money/ledger.ts';
import { mapPage } from '../../core/config/management.ts';
import { batchIdOf } from '../../core/model/ids.ts';
import * as history from '../../core/events/history.ts';
import * as reporting from '../../core/watch/reporting.ts';
import type { Caller } from '../../core/config/tokens.ts';
import { shanghaiTime } from '../../std/shanghai.ts';
import * as contract from '../../../contract/index.ts';
import { listOf, ref } from '../../../contract/index.ts';
import {
  accountOf,
  type Api,
  type ConsoleDeps,
  dayRange,
  framesView,
  idOrNull,
  moneyOrNull,
  operatorOnly,
  optionalId,
  optionalPhone,
  pageRequest,
  phoneOf,
  scopeOf,
  mediaResponse,
  sendMedia,
  textOrNull,
  timeOrNull,
} from './shared.ts';

export function addRecords(api: Api, deps: ConsoleDeps): void {
  const { db, clock, directory, signals } = deps;
  const tags = ['messages'];

  /** The account of a batch. An account's token reaches only its own batches; the operator may name any batch. */
  const accountOfBatch = async (caller: Caller, batchId: bigint): Promise<bigint> =>
    caller.role === 'account' ? caller.accountId : reporting.accountOfBatch(db.sql, batchId);

  api.get(
    '/v1/batches',
    {
      schema: {
        operationId: 'listBatches',
        summary: 'Batches of an account, newest first; by default, of the last 3 days',
        tags,
        querystring: contract.batchQuery,
        response: { 200: listOf(contract.batchSchema) },
      },
    },
    async ({ caller, query }) => {
      const filter = { ...dayRange(query, clock()), subscriptionId: optionalId(query.subscriptionId) };
      return mapPage(await reporting.listBatches(db.sql, accountOf(caller, query.accountId), filter, pageRequest(query)), batchView);
    },
  );

  api.get(
    '/v1/batches/:id',
    {
      schema: {
        operationId: 'getBatch',
        summary: 'One batch with its totals',
        tags,
        params: contract.batchParams,
        response: { 200: ref(contract.batchDetailSchema) },
      },
    },
    async ({ caller, params }) => {
      const id = BigInt(params.id);
      return batchDetailView(await reporting.getBatch(db.sql, await accountOfBatch(caller, id), id));
    },
  );

  api.get(
    '/v1/batches/:id/media/:sha256',
    {
      schema: {
        operationId: 'getBatchMedium',
        summary: 'One media file of a multimedia batch',
        tags,
        params: contract.batchMediaParams,
        response: mediaResponse,
      },
    },
    async ({ caller, params }, reply) => {
      const id = BigInt(params.id);
      const accountId = await accountOfBatch(caller, id);
      const { package: stored } = await reporting.getBatch(db.sql, accountId, id);
      return sendMedia(deps, reply, accountId, stored?.frames ?? [], params.sha256);
    },
  );

  api.post(
    '/v1/batches/:id/cancel',
    {
      schema: {
        operationId: 'cancelBatch',
        summary: 'Cancel a planned batch that has not begun; its messages end as CANCELED and cost nothing',
        tags,
        params: contract.batchParams,
        response: { 200: ref(contract.batchDetailSchema) },
      },
    },
    async ({ caller, params }) => {
      const id = BigInt(params.id);
      const accountId = await accountOfBatch(caller, id);
      await db.transaction((sql) => cancelBatch(sql, directory, accountId, id, clock()));
      signals.emit('push');
      return batchDetailView(await reporting.getBatch(db.sql, accountId, id));
    },
  );

  api.get(
    '/v1/messages',
    {
      schema: {
        operationId: 'listMessages',
        summary: 'An account’s messages to a number, newest first; by default, of the last 3 days',
        tags,
        querystring: contract.messageQuery,
        response: { 200: listOf(contract.messageSchema) },
      },
    },
    async ({ caller, query }) => {
      const filter = { ...dayRange(query, clock()), phone: query.phone };
      return mapPage(await reporting.searchMessages(db.sql, accountOf(caller, query.accountId), filter, pageRequest(query)), messageView);
    },
  );

  api.get(
    '/v1/messages/:id',
    {
      schema: {
        operationId: 'getMessage',
        summary: 'One message with everything known about it',
        tags,
        params: contract.messageParams,
        response: { 200: ref(contract.messageDetailSchema) },
      },
    },
    async ({ caller, params }) => {
      const id = BigInt(params.id);
      const { carrierId, parts, verdict, timeline, ...message } = await reporting.getMessage(
        db.sql,
        await accountOfBatch(caller, batchIdOf(id)),
        id,
      );
      return {
        ...messageView(message),
        carrierId,
        parts: parts.map((part) => ({ ...part, channelId: Number(part.channelId) })),
        verdict,
        timeline: timeline.map((moment) => ({ ...moment, at: shanghaiTime(moment.at) })),
      };
    },
  );

  api.get(
    '/v1/replies',
    {
      schema: {
        operationId: 'listReplies',
        summary: 'Replies to an account, newest first',
        tags,
        querystring: contract.replyQuery,
        response: { 200: listOf(contract.replySchema) },
      },
    },
    async ({ caller, query }) => {
      const filter = { subscriptionId: optionalId(query.subscriptionId), phone: optionalPhone(query.phone) };
      return mapPage(await reporting.listReplies(db.sql, accountOf(caller, query.accountId), filter, pageRequest(query)), replyView);
    },
  );

  api.get(
    '/v1/replies/unassigned',
    {
      config: operatorOnly,
      schema: {
        operationId: 'listUnassignedReplies',
        summary: 'Replies that belong to no subscription, newest first',
        tags,
        querystring: contract.pageQuery,
        response: { 200: listOf(contract.replySchema) },
      },
    },
    async ({ query }) =>
      mapPage(
        await reporting.listReplies(db.sql, reporting.unassigned, { subscriptionId: null, phone: null }, pageRequest(query)),
        replyView,
      ),
  );
}

export function addEvents(api: Api, { db, directory, clock, outbox, signals }: ConsoleDeps): void {
  const tags = ['events'];

  api.get(
    '/v1/events',
    {
      schema: {
        operationId: 'listEvents',
        summary: 'Reports, replies or audits for an account, waiting or handed over, newest first; by default, of the last 3 days',
        tags,
        querystring: contract.eventQuery,
        response: { 200: listOf(contract.eventSchema) },
      },
    },
    async ({ caller, query }) => {
      const filter = {
        ...dayRange(query, clock()),
        kind: query.kind ?? 'report',
        state: query.state ?? null,
        subscriptionId: optionalId(query.subscriptionId),
        phone: optionalPhone(query.phone),
        batchId: optionalId(query.batchId),
      };
      return mapPage(
        await history.searchEvents(db.sql, directory.dialects, accountOf(caller, query.accountId), filter, pageRequest(query)),
        eventView,
      );
    },
  );

  api.post(
    '/v1/events/replay',
    {
      schema: {
        operationId: 'replayEvents',
        summary: 'Replay events that were handed over, have failed or were kept; they are pushed if there is a URL, otherwise pulled',
        tags,
        body: contract.replayFilter,
        response: { 200: ref(contract.replayedSchema) },
      },
    },
    async ({ caller, body }) => {
      const { phone, batchId, ids } = body;
      const scope = scopeOf(caller, body.accountId);
      const subscription =
        body.subscriptionId === undefined ? null : await accounts.getSubscription(db.sql, scope, BigInt(body.subscriptionId));
      const accountId = subscription?.accountId ?? accountOf(caller, body.accountId);
      const filter = {
        ...dayRange(body, clock()),
        kind: body.kind,
        state: body.state ?? 'any',
        subscriptionId: subscription?.id ?? null,
        ...(phone !== undefined && { phone: phoneOf('phone', phone) }),
        ...(batchId !== undefined && { batchId: BigInt(batchId) }),
        ...(ids && { ids: ids.map(BigInt) }),
      };
      const replayed = await outbox.replay(accountId, filter);
      if (replayed > 0) signals.emit('push');
      return { replayed };
    },
  );

  api.get(
    '/v1/pushes',
    {
      schema: {
        operationId: 'listPushes',
        summary: 'Pushes to an account, newest first, with the answers of its server',
        tags,
        querystring: contract.pushQuery,
        response: { 200: listOf(contract.pushSchema) },
      },
    },
    async ({ caller, query }) => {
      const filter = {
        subscriptionId: optionalId(query.subscriptionId),
        kind: query.kind ?? null,
        state: query.state ?? null,
        eventId: optionalId(query.eventId),
      };
      return mapPage(await reporting.listPushes(db.sql, accountOf(caller, query.accountId), filter, pageRequest(query)), pushView);
    },
  );
}

const batchView = (batch: reporting.BatchSummary): Static<typeof contract.batchSchema> => ({
  ...batch,
  id: String(batch.id),
  accountId: Number(batch.accountId),
  subscriptionId: Number(batch.subscriptionId),
  templateId: idOrNull(batch.templateId),
  package: batch.package && { subject: batch.package.subject, frames: framesView(batch.package.frames) },
  createdAt: shanghaiTime(batch.createdAt),
  sendAt: timeOrNull(batch.sendAt),
  cancelledAt: timeOrNull(batch.cancelledAt),
  purgedAt: timeOrNull(batch.purgedAt),
});

const batchDetailView = ({ totals, costE4, ...batch }: reporting.BatchDetail): Static<typeof contract.batchDetailSchema> => ({
  ...batchView(batch),
  totals,
  cost: yuan(costE4),
});

const messageView = ({ priceE4, costE4, ...message }: reporting.MessageSummary): Static<typeof contract.messageSchema> => ({
  ...message,
  id: String(message.id),
  batchId: String(batchIdOf(message.id)),
  accountId: Number(message.accountId),
  subscriptionId: Number(message.subscriptionId),
  channelId: idOrNull(message.channelId),
  price: yuan(priceE4),
  cost: moneyOrNull(costE4),
  sentAt: timeOrNull(message.sentAt),
  finalAt: timeOrNull(message.finalAt),
});

const eventView = ({ costE4, ...event }: history.Event): Static<typeof contract.eventSchema> => ({
  ...event,
  id: String(event.id),
  batchId: event.kind === 'report' ? String(batchIdOf(event.id)) : null,
  subscriptionId: event.subscriptionId === 0n ? null : Number(event.subscriptionId),
  pushId: textOrNull(event.pushId),
  cost: moneyOrNull(costE4),
  at: shanghaiTime(event.at),
  dueAt: timeOrNull(event.dueAt),
  handedAt: timeOrNull(event.handedAt),
});

const replyView = (reply: reporting.Reply): Static<typeof contract.replySchema> => ({
  ...reply,
  id: String(reply.id),
  subscriptionId: idOrNull(reply.subscriptionId),
  channelId: Number(reply.channelId),
  batchId: textOrNull(reply.batchId),
  receivedAt: shanghaiTime(reply.receivedAt),
});

const pushView = (push: reporting.PushAttempt): Static<typeof contract.pushSchema> => ({
  ...push,
  id: String(push.id),
  subscriptionId: push.subscriptionId === 0n ? null : Number(push.subscriptionId),
  eventId: textOrNull(push.eventId),
  startedAt: shanghaiTime(push.startedAt),
  finishedAt: timeOrNull(push.finishedAt),
});
