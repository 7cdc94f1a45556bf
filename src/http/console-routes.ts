/**
 * The routes of the management API: for each, what it takes and gives (console-contract.ts), who may call it, and which function of
 * the core does it. How the core's rows become the contract's JSON is at the end. Those of content templates and sensitive words are in
 * console-content-routes.ts.
 *
 * Whose things a request is about is decided by one of two: `scopeOf`, where the operator may mean everybody's, and `accountOf`, where
 * it must be one account. For the token of an account both are that account, and naming another is naming nothing.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyBaseLogger, FastifyInstance, FastifyReply, RawServerDefault } from 'fastify';
import { type Static, Type } from 'typebox';
import * as accounts from '../core/accounts.ts';
import * as blocklists from '../core/blocklists.ts';
import { cancelBatch } from '../core/cancellation.ts';
import * as catalogue from '../core/catalogue.ts';
import type { ContentRules } from '../core/content-rules.ts';
import { yuan } from '../core/ledger.ts';
import type { Management, PageRequest } from '../core/management.ts';
import { change, Denial, found, mapPage } from '../core/management.ts';
import { batchIdOf, type StoredFrame } from '../core/model.ts';
import { parseNumber, usualForm } from '../core/numbers.ts';
import type { NumberPlan, Phone } from '../core/number-plan.ts';
import type { Outbox } from '../core/outbox.ts';
import { findMedia } from '../core/packages.ts';
import { preview } from '../core/preview.ts';
import * as reporting from '../core/reporting.ts';
import * as review from '../core/review.ts';
import { changeSettings } from '../core/settings.ts';
import type { Signals } from '../core/signals.ts';
import * as templates from '../core/templates.ts';
import type { Caller, TokenHolder } from '../core/tokens.ts';
import { addDays, shanghaiDay, shanghaiTime } from '../std/shanghai.ts';
import * as contract from './console-contract.ts';
import { listOf, ref } from './console-contract.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Set before every route that is not for anyone. */
    caller: TokenHolder;
  }
  interface FastifyContextConfig {
    /** Needs no token. */
    forAnyone?: boolean;
    /** The token of an account is not enough. */
    operatorOnly?: boolean;
    /** What the body must be, where it is not JSON. */
    bodyType?: string;
  }
}

/** A Fastify instance that takes the types of its routes from their schemas. */
export type Api = FastifyInstance<RawServerDefault, IncomingMessage, ServerResponse, FastifyBaseLogger, TypeBoxTypeProvider>;

export interface ConsoleDeps extends Management {
  readonly outbox: Pick<Outbox, 'replay'>;
  readonly signals: Pick<Signals, 'emit'>;
  readonly contentRules: Pick<ContentRules, 'judge' | 'refresh'>;
  readonly numberPlan: NumberPlan;
  readonly linkBase: string;
  readonly clock: () => Date;
}

/** A request that is refused before the core is asked. */
export class Problem extends Error {
  readonly status: 400 | 401 | 403;
  readonly code: 'invalid' | 'unauthenticated' | 'forbidden';
  constructor(status: Problem['status'], code: Problem['code'], message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export const operatorOnly = { operatorOnly: true };

export function addRoutes(api: Api, deps: ConsoleDeps): void {
  addAccounts(api, deps);
  addSubscriptions(api, deps);
  addCatalogue(api, deps);
  addTemplates(api, deps);
  addBlocklists(api, deps);
  addReviews(api, deps);
  addRecords(api, deps);
  addEvents(api, deps);
  addSettings(api, deps);
}

// ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function addSettings(api: Api, deps: ConsoleDeps): void {
  const tags = ['settings'];
  const settings = () => {
    const { optOutWords, pushDelaysSeconds, foreignNumberCodes, ...others } = deps.directory.settings();
    const lists = { optOutWords: [...optOutWords], pushDelaysSeconds: [...pushDelaysSeconds], foreignNumberCodes: [...foreignNumberCodes] };
    return { ...others, ...lists };
  };

  api.get(
    '/v1/settings',
    { config: operatorOnly, schema: { summary: 'What the platform runs by', tags, response: { 200: ref(contract.settingsSchema) } } },
    async () => settings(),
  );

  api.patch(
    '/v1/settings',
    {
      config: operatorOnly,
      schema: {
        summary: 'Change settings, on every node within a second; null goes back to the default',
        tags,
        body: contract.settingsChange,
        response: { 200: ref(contract.settingsSchema) },
      },
    },
    async ({ body }) => {
      await change(deps, (sql) => changeSettings(sql, body));
      return settings();
    },
  );
}

// ── accounts and subscriptions ───────────────────────────────────────────────────────────────────────────────────────────────────

function addAccounts(api: Api, deps: ConsoleDeps): void {
  const { db, box } = deps;
  const tags = ['accounts'];

  api.get(
    '/v1/accounts',
    { schema: { summary: 'Accounts, by id', tags, querystring: contract.pageQuery, response: { 200: listOf(contract.accountSchema) } } },
    async ({ caller, query }) => mapPage(await accounts.listAccounts(db.sql, scopeOf(caller), pageRequest(query)), accountView),
  );

  api.get(
    '/v1/accounts/:id',
    { schema: { summary: 'One account', tags, params: contract.idParams, response: { 200: ref(contract.accountSchema) } } },
    async ({ caller, params }) => accountView(await accounts.getAccount(db.sql, accountOf(caller, params.id))),
  );

  api.post(
    '/v1/accounts',
    {
      config: operatorOnly,
      schema: { summary: 'Make an account', tags, body: contract.newAccount, response: { 201: ref(contract.createdAccountSchema) } },
    },
    async ({ body }, reply) => {
      const { account, apiKey } = await change(deps, (sql) => accounts.createAccount(sql, box, accountSettingsOf(body)));
      reply.code(201);
      return { ...accountView(account), apiKey };
    },
  );

  api.patch(
    '/v1/accounts/:id',
    {
      schema: {
        summary: 'Change an account; its own token may change its pushUrls',
        tags,
        params: contract.idParams,
        body: contract.accountChange,
        response: { 200: ref(contract.accountSchema) },
      },
    },
    async ({ caller, params, body }) => {
      const id = accountOf(caller, params.id);
      ownPushUrlsOnly(caller, body);
      return accountView(await change(deps, (sql) => accounts.changeAccount(sql, id, accountSettingsOf(body))));
    },
  );

  api.post(
    '/v1/accounts/:id/api-key',
    {
      config: operatorOnly,
      schema: { summary: 'Replace the API key', tags, params: contract.idParams, response: { 200: ref(contract.apiKeySchema) } },
    },
    async ({ params }) => ({ apiKey: await change(deps, (sql) => accounts.rotateApiKey(sql, box, BigInt(params.id))) }),
  );
}

function addSubscriptions(api: Api, deps: ConsoleDeps): void {
  const { db, box, clock } = deps;
  const tags = ['subscriptions'];

  api.get(
    '/v1/subscriptions',
    {
      schema: {
        summary: 'Subscriptions, by id',
        tags,
        querystring: contract.whosePageQuery,
        response: { 200: listOf(contract.subscriptionSchema) },
      },
    },
    async ({ caller, query }) =>
      mapPage(await accounts.listSubscriptions(db.sql, scopeOf(caller, query.accountId), pageRequest(query)), subscriptionView),
  );

  api.get(
    '/v1/subscriptions/:id',
    { schema: { summary: 'One subscription', tags, params: contract.idParams, response: { 200: ref(contract.subscriptionSchema) } } },
    async ({ caller, params }) => subscriptionView(await accounts.getSubscription(db.sql, scopeOf(caller), BigInt(params.id))),
  );

  api.post(
    '/v1/subscriptions',
    {
      config: operatorOnly,
      schema: {
        summary: 'Subscribe an account to a product',
        tags,
        body: contract.newSubscription,
        response: { 201: ref(contract.createdSubscriptionSchema) },
      },
    },
    async ({ body: { price, accountId, productId, spId, ...settings } }, reply) => {
      const wanted = {
        ...settings,
        accountId: BigInt(accountId),
        productId: BigInt(productId),
        priceE4: e4Of('price', price),
        ...(spId !== undefined && { spId: BigInt(spId) }),
      };
      const { subscription, password } = await change(deps, (sql) => accounts.createSubscription(sql, box, wanted));
      reply.code(201);
      return { ...subscriptionView(subscription), password };
    },
  );

  api.patch(
    '/v1/subscriptions/:id',
    {
      schema: {
        summary: 'Change a subscription; its account’s token may change its pushUrls',
        tags,
        params: contract.idParams,
        body: contract.subscriptionChange,
        response: { 200: ref(contract.subscriptionSchema) },
      },
    },
    async ({ caller, params, body }) => {
      const scope = scopeOf(caller);
      await accounts.getSubscription(db.sql, scope, BigInt(params.id));
      ownPushUrlsOnly(caller, body);
      const { price, ...settings } = body;
      const wanted = { ...settings, ...(price !== undefined && { priceE4: e4Of('price', price) }) };
      return subscriptionView(await change(deps, (sql) => accounts.changeSubscription(sql, scope, BigInt(params.id), wanted)));
    },
  );

  api.post(
    '/v1/subscriptions/:id/top-ups',
    {
      config: operatorOnly,
      schema: {
        summary: 'Pay into a subscription’s balance',
        tags,
        params: contract.idParams,
        headers: contract.paymentHeaders,
        body: contract.payment,
        response: { 200: ref(contract.balanceSchema) },
      },
    },
    async ({ params, headers, body }) => {
      const amountE4 = e4Of('amount', body.amount);
      if (amountE4 === 0n) throw new Denial('invalid', 'amount: must be more than 0');
      const payment = { amountE4, note: body.note ?? null, at: clock(), idempotencyKey: headers['idempotency-key'] ?? null };
      return { balance: yuan(await db.transaction((sql) => accounts.payIn(sql, BigInt(params.id), payment))) };
    },
  );

  api.get(
    '/v1/ledger',
    {
      schema: {
        summary: 'What moved a subscription’s balance, newest first',
        tags,
        querystring: contract.ledgerQuery,
        response: { 200: listOf(contract.ledgerEntrySchema) },
      },
    },
    async ({ caller, query }) => {
      const { accountId, id } = await accounts.getSubscription(db.sql, scopeOf(caller), BigInt(query.subscriptionId));
      return mapPage(await reporting.listLedger(db.sql, accountId, id, pageRequest(query)), ledgerView);
    },
  );
}

// ── products, pools, channels ────────────────────────────────────────────────────────────────────────────────────────────────────

function addCatalogue(api: Api, deps: ConsoleDeps): void {
  const { db, box } = deps;
  const tags = ['products and channels'];

  api.get(
    '/v1/products',
    {
      schema: {
        summary: 'Products, by id; for an account those it subscribes to',
        tags,
        querystring: contract.pageQuery,
        response: { 200: listOf(contract.productSchema) },
      },
    },
    async ({ caller, query }) => mapPage(await catalogue.listProducts(db.sql, scopeOf(caller), pageRequest(query)), productView),
  );

  api.get(
    '/v1/products/:id',
    { schema: { summary: 'One product', tags, params: contract.idParams, response: { 200: ref(contract.productSchema) } } },
    async ({ caller, params }) => productView(await catalogue.getProduct(db.sql, scopeOf(caller), BigInt(params.id))),
  );

  api.post(
    '/v1/products',
    {
      config: operatorOnly,
      schema: { summary: 'Make a product', tags, body: contract.newProduct, response: { 201: ref(contract.productSchema) } },
    },
    async ({ body }, reply) => {
      const product = await change(deps, (sql) => catalogue.createProduct(sql, withPool(body)));
      reply.code(201);
      return productView(product);
    },
  );

  api.patch(
    '/v1/products/:id',
    {
      config: operatorOnly,
      schema: {
        summary: 'Change a product',
        tags,
        params: contract.idParams,
        body: contract.productChange,
        response: { 200: ref(contract.productSchema) },
      },
    },
    async ({ params, body }) => productView(await change(deps, (sql) => catalogue.changeProduct(sql, BigInt(params.id), withPool(body)))),
  );

  api.get(
    '/v1/pools',
    {
      config: operatorOnly,
      schema: {
        summary: 'Pools of channels, by id',
        tags,
        querystring: contract.pageQuery,
        response: { 200: listOf(contract.poolSchema) },
      },
    },
    async ({ query }) => mapPage(await catalogue.listPools(db.sql, pageRequest(query)), poolView),
  );

  api.post(
    '/v1/pools',
    { config: operatorOnly, schema: { summary: 'Make a pool', tags, body: contract.newPool, response: { 201: ref(contract.poolSchema) } } },
    async ({ body: { name, channels } }, reply) => {
      const pool = await change(deps, (sql) => catalogue.createPool(sql, { name, channels: channels.map(memberOf) }));
      reply.code(201);
      return poolView(pool);
    },
  );

  api.patch(
    '/v1/pools/:id',
    {
      config: operatorOnly,
      schema: {
        summary: 'Change a pool; its channels are replaced as a whole',
        tags,
        params: contract.idParams,
        body: contract.poolChange,
        response: { 200: ref(contract.poolSchema) },
      },
    },
    async ({ params, body: { name, channels } }) => {
      const wanted = { ...(name !== undefined && { name }), ...(channels && { channels: channels.map(memberOf) }) };
      return poolView(await change(deps, (sql) => catalogue.changePool(sql, BigInt(params.id), wanted)));
    },
  );

  /** With what the channels are doing at this moment. */
  async function channelViews(channels: readonly catalogue.StoredChannel[]): Promise<Static<typeof contract.channelSchema>[]> {
    const activities = await reporting.channelActivity(
      db.sql,
      channels.map(({ id }) => id),
    );
    return channels.map((channel) => channelView(channel, activities.get(channel.id)));
  }

  api.get(
    '/v1/channels',
    {
      config: operatorOnly,
      schema: {
        summary: 'Channels with the state of their connections and their queues, by id',
        tags,
        querystring: contract.pageQuery,
        response: { 200: listOf(contract.channelSchema) },
      },
    },
    async ({ query }) => {
      const { data, next } = await catalogue.listChannels(db.sql, pageRequest(query));
      return { data: await channelViews(data), next };
    },
  );

  api.get(
    '/v1/channels/:id',
    {
      config: operatorOnly,
      schema: { summary: 'One channel', tags, params: contract.idParams, response: { 200: ref(contract.channelSchema) } },
    },
    async ({ params }) => one(await channelViews([await catalogue.getChannel(db.sql, BigInt(params.id))])),
  );

  api.post(
    '/v1/channels',
    {
      config: operatorOnly,
      schema: { summary: 'Make a channel', tags, body: contract.newChannel, response: { 201: ref(contract.channelSchema) } },
    },
    async ({ body }, reply) => {
      const channel = await change(deps, (sql) => catalogue.createChannel(sql, box, body));
      reply.code(201);
      return one(await channelViews([channel]));
    },
  );

  api.patch(
    '/v1/channels/:id',
    {
      config: operatorOnly,
      schema: {
        summary: 'Change a channel; its settings are replaced as a whole',
        tags,
        params: contract.idParams,
        body: contract.channelChange,
        response: { 200: ref(contract.channelSchema) },
      },
    },
    async ({ params, body }) =>
      one(await channelViews([await change(deps, (sql) => catalogue.changeChannel(sql, box, BigInt(params.id), body))])),
  );

  api.get(
    '/v1/orphans',
    {
      config: operatorOnly,
      schema: {
        summary: 'Reports of carriers that match no message (yet)',
        tags,
        querystring: contract.pageQuery,
        response: { 200: listOf(contract.orphanSchema) },
      },
    },
    async ({ query }) => mapPage(await reporting.listOrphans(db.sql, pageRequest(query)), orphanView),
  );
}

// ── templates and signatures ─────────────────────────────────────────────────────────────────────────────────────────────────────

function addTemplates(api: Api, deps: ConsoleDeps): void {
  const { db, clock, signals } = deps;
  const tags = ['templates and signatures'];
  const answer = { params: contract.idParams, response: { 200: ref(contract.templateSchema) } };
  const decided = (template: templates.StoredTemplate) => {
    signals.emit('push'); // its owner may want to be told
    return templateView(template);
  };

  api.get(
    '/v1/templates',
    {
      schema: {
        summary: 'Templates, newest first',
        tags,
        querystring: contract.templateQuery,
        response: { 200: listOf(contract.templateSchema) },
      },
    },
    async ({ caller, query }) =>
      mapPage(
        await templates.listTemplates(
          db.sql,
          scopeOf(caller, query.accountId),
          { state: query.state ?? null, medium: query.medium ?? null },
          pageRequest(query),
        ),
        templateView,
      ),
  );

  api.get('/v1/templates/:id', { schema: { summary: 'One template', tags, ...answer } }, async ({ caller, params }) =>
    templateView(await templates.getTemplate(db.sql, scopeOf(caller), BigInt(params.id))),
  );

  api.get(
    '/v1/templates/:id/media/:sha256',
    { schema: { summary: 'A medium of a multimedia template', tags, params: contract.mediaParams, response: { 200: Type.Unknown() } } },
    async ({ caller, params }, reply) => {
      const { accountId, frames } = await templates.getTemplate(db.sql, scopeOf(caller), BigInt(params.id));
      return sendMedia(deps, reply, accountId, frames ?? [], params.sha256);
    },
  );

  api.post(
    '/v1/templates',
    {
      schema: {
        summary: 'Submit a template for approval',
        tags,
        body: contract.newTemplate,
        response: { 201: ref(contract.templateSchema) },
      },
    },
    async ({ caller, body: { accountId, validUntil, ...template } }, reply) => {
      const wanted = {
        ...template,
        accountId: accountOf(caller, accountId),
        ...(validUntil !== undefined && { validUntil: futureOf('validUntil', validUntil, clock()) }),
      };
      const created = await change(deps, (sql) => templates.createTemplate(sql, wanted));
      reply.code(201);
      return templateView(created);
    },
  );

  api.post(
    '/v1/templates/:id/approve',
    { config: operatorOnly, schema: { summary: 'Approve a template', tags, ...answer } },
    async ({ params }) => decided(await change(deps, (sql) => templates.approveTemplate(sql, BigInt(params.id), clock()))),
  );

  api.post(
    '/v1/templates/:id/reject',
    { config: operatorOnly, schema: { summary: 'Reject a template', tags, body: contract.rejection, ...answer } },
    async ({ params, body: { reason } }) =>
      decided(await change(deps, (sql) => templates.rejectTemplate(sql, BigInt(params.id), reason, clock()))),
  );

  api.post('/v1/templates/:id/withdraw', { schema: { summary: 'Withdraw a template', tags, ...answer } }, async ({ caller, params }) =>
    templateView(await change(deps, (sql) => templates.withdrawTemplate(sql, scopeOf(caller), BigInt(params.id), clock()))),
  );

  api.get(
    '/v1/signatures',
    {
      schema: {
        summary: 'Signatures, by id',
        tags,
        querystring: contract.whosePageQuery,
        response: { 200: listOf(contract.signatureSchema) },
      },
    },
    async ({ caller, query }) =>
      mapPage(await templates.listSignatures(db.sql, scopeOf(caller, query.accountId), pageRequest(query)), signatureView),
  );

  api.post(
    '/v1/signatures',
    {
      config: operatorOnly,
      schema: {
        summary: 'Register a signature for an account',
        tags,
        body: contract.newSignature,
        response: { 201: ref(contract.signatureSchema) },
      },
    },
    async ({ body: { accountId, name, registrations = {} } }, reply) => {
      const signature = await change(deps, (sql) => templates.createSignature(sql, { accountId: BigInt(accountId), name, registrations }));
      reply.code(201);
      return signatureView(signature);
    },
  );

  api.patch(
    '/v1/signatures/:id',
    {
      config: operatorOnly,
      schema: {
        summary: 'Note how far carriers are with a signature; null forgets one',
        tags,
        params: contract.idParams,
        body: contract.signatureChange,
        response: { 200: ref(contract.signatureSchema) },
      },
    },
    async ({ params, body: { registrations } }) =>
      signatureView(await change(deps, (sql) => templates.changeRegistrations(sql, BigInt(params.id), registrations))),
  );
}

// ── blocklists ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function addBlocklists(api: Api, deps: ConsoleDeps): void {
  const { db, clock } = deps;
  const tags = ['blocklists'];

  api.get(
    '/v1/blocklists',
    {
      schema: {
        summary: 'Blocklists, by id; for an account those of its subscriptions and signatures',
        tags,
        querystring: contract.whosePageQuery,
        response: { 200: listOf(contract.blocklistSchema) },
      },
    },
    async ({ caller, query }) =>
      mapPage(await blocklists.listBlocklists(db.sql, scopeOf(caller, query.accountId), pageRequest(query)), blocklistView),
  );

  api.post(
    '/v1/blocklists',
    {
      config: operatorOnly,
      schema: {
        summary: 'The list of this kind for this subject, made if there is none; empty and system have no subject',
        tags,
        body: contract.newBlocklist,
        response: { 200: ref(contract.blocklistSchema) },
      },
    },
    async ({ body: { kind, subjectId } }) =>
      blocklistView(
        await change(deps, async (sql) => {
          const id = await blocklists.ensureBlocklist(sql, kind, BigInt(subjectId ?? 0));
          return blocklists.getBlocklist(sql, null, id);
        }),
      ),
  );

  api.get(
    '/v1/blocklists/:id/numbers',
    {
      schema: {
        summary: 'Numbers on a list, or whether one is on it',
        tags,
        params: contract.idParams,
        querystring: contract.blockedNumberQuery,
        response: { 200: listOf(contract.blockedNumberSchema) },
      },
    },
    async ({ caller, params, query }) => {
      const { id } = await blocklists.getBlocklist(db.sql, scopeOf(caller), BigInt(params.id));
      return mapPage(await blocklists.listNumbers(db.sql, id, optionalPhone(query.phone), pageRequest(query)), blockedNumberView);
    },
  );

  api.post(
    '/v1/blocklists/:id/numbers',
    {
      schema: {
        summary: 'Put numbers onto a list',
        tags,
        params: contract.idParams,
        body: contract.blockedNumbers,
        response: { 200: ref(contract.addedSchema) },
      },
    },
    async ({ caller, params, body }) => {
      const { id } = await blocklists.getBlocklist(db.sql, scopeOf(caller), BigInt(params.id));
      return { added: await blocklists.addNumbers(db.sql, id, phonesOf(body.numbers), caller.role, clock()) };
    },
  );

  api.delete(
    '/v1/blocklists/:id/numbers',
    {
      schema: {
        summary: 'Take numbers off a list',
        tags,
        params: contract.idParams,
        body: contract.blockedNumbers,
        response: { 200: ref(contract.removedSchema) },
      },
    },
    async ({ caller, params, body }) => {
      const { id } = await blocklists.getBlocklist(db.sql, scopeOf(caller), BigInt(params.id));
      return { removed: await blocklists.removeNumbers(db.sql, id, phonesOf(body.numbers)) };
    },
  );
}

// ── review ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function addReviews(api: Api, deps: ConsoleDeps): void {
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
        summary: 'What would become of a submission: each rule’s verdict and the price; stores and counts nothing',
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
        summary: 'Batches of which something waits, or has waited, for a person; newest first',
        tags,
        querystring: contract.reviewQuery,
        response: { 200: listOf(contract.reviewSchema) },
      },
    },
    async ({ caller, query }) =>
      mapPage(await review.listReviews(db.sql, scopeOf(caller, query.accountId), query.state ?? null, pageRequest(query)), reviewView),
  );

  api.get('/v1/reviews/:id', { schema: { summary: 'One review item', tags, ...answer } }, async ({ caller, params }) =>
    reviewView(await review.getReview(db.sql, scopeOf(caller), BigInt(params.id))),
  );

  api.post(
    '/v1/reviews/:id/approve',
    {
      config: operatorOnly,
      schema: { summary: 'Let it pass, as far as lists, caps and channels let it now; again changes nothing', tags, ...answer },
    },
    async ({ caller, params }) => decided(await review.approve(deps, BigInt(params.id), { by: caller.tokenName, at: clock() })),
  );

  api.post(
    '/v1/reviews/:id/reject',
    {
      config: operatorOnly,
      schema: { summary: 'End its messages with the code that held them; the money goes back', tags, body: contract.rejection, ...answer },
    },
    async ({ caller, params, body: { reason } }) =>
      decided(await review.reject(deps, BigInt(params.id), reason, { by: caller.tokenName, at: clock() })),
  );
}

// ── batches, messages, replies ───────────────────────────────────────────────────────────────────────────────────────────────────

function addRecords(api: Api, deps: ConsoleDeps): void {
  const { db, clock, directory, signals } = deps;
  const tags = ['messages'];

  /** Whose batch: an account's token only ever means its own; the operator knows batches by number. */
  const accountOfBatch = async (caller: Caller, batchId: bigint): Promise<bigint> =>
    caller.role === 'account' ? caller.accountId : reporting.accountOfBatch(db.sql, batchId);

  api.get(
    '/v1/batches',
    {
      schema: {
        summary: 'Accepted requests of an account, newest first; the last 3 days unless told otherwise',
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
    { schema: { summary: 'A medium of a multimedia batch', tags, params: contract.batchMediaParams, response: { 200: Type.Unknown() } } },
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
        summary: 'Cancel a batch that was planned for later and has not begun; its messages end as CANCELED and cost nothing',
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
        summary: 'An account’s messages to a number, newest first; the last 3 days unless told otherwise',
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
        summary: 'Replies that no extension claims, newest first',
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

// ── events and pushes ────────────────────────────────────────────────────────────────────────────────────────────────────────────

function addEvents(api: Api, { db, clock, outbox, signals }: ConsoleDeps): void {
  const tags = ['events'];

  api.get(
    '/v1/events',
    {
      schema: {
        summary:
          'Reports, replies or audits owed to an account, waiting or handed over, newest first; the last 3 days unless told otherwise',
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
      return mapPage(await reporting.searchEvents(db.sql, accountOf(caller, query.accountId), filter, pageRequest(query)), eventView);
    },
  );

  api.post(
    '/v1/events/replay',
    {
      schema: {
        summary: 'Have events wait again that were handed over, have failed or were kept: to be pushed where there is a URL, else pulled',
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
        summary: 'Every try to push to an account, newest first, with what its server said',
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

// ── whose ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The account a request is limited to; null is everybody, which only the operator can mean. */
export function scopeOf(caller: Caller, accountId?: number): bigint | null {
  const named = accountId === undefined ? null : BigInt(accountId);
  if (caller.role === 'operator') return named;
  // No word on whether there is such an account.
  if (named !== null && named !== caller.accountId) throw new Denial('not_found', 'no such account');
  return caller.accountId;
}

/** The one account a request is about. */
function accountOf(caller: Caller, accountId?: number): bigint {
  const account = scopeOf(caller, accountId);
  if (account === null) throw new Problem(400, 'invalid', 'accountId: the operator must say whose');
  return account;
}

/** Of its own settings an account may change where its events are pushed to, nothing else. */
function ownPushUrlsOnly(caller: Caller, body: object): void {
  const others = Object.keys(body).filter((setting) => setting !== 'pushUrls');
  if (caller.role === 'account' && others.length > 0) throw new Problem(403, 'forbidden', `${others.join(', ')}: for the operator only`);
}

/** The bytes of a medium, if these frames name it. */
async function sendMedia(
  { db }: ConsoleDeps,
  reply: FastifyReply,
  accountId: bigint,
  frames: readonly StoredFrame[],
  sha256: string,
): Promise<Buffer> {
  const isNamed = frames.some(({ media }) => media?.sha256 === sha256);
  const { type, bytes } = found((isNamed ? await findMedia(db.sql, accountId, sha256) : null) ?? undefined, 'medium');
  // It is what a customer sent: shown, never run.
  void reply.headers({
    'content-type': type,
    'x-content-type-options': 'nosniff',
    'content-security-policy': "default-src 'none'; sandbox",
  });
  return bytes;
}

// ── from the contract's JSON ─────────────────────────────────────────────────────────────────────────────────────────────────────

export const pageRequest = ({ limit = 50, cursor = null }: { limit?: number; cursor?: string | null }): PageRequest => ({ limit, cursor });
const optionalId = (id: number | string | undefined): bigint | null => (id === undefined ? null : BigInt(id));
export const optionalPhone = (written: string | undefined): bigint | null => (written === undefined ? null : phoneOf('phone', written));
export const phonesOf = (numbers: readonly string[]): bigint[] => numbers.map((written, at) => phoneOf(`numbers[${at}]`, written));
const memberOf = <Member extends { channelId: number }>(member: Member) => ({ ...member, channelId: BigInt(member.channelId) });
/** A body with the id of its pool as the core has it; one that names none changes none. */
const withPool = <Body extends { poolId?: number | null }>({ poolId, ...settings }: Body) => ({
  ...settings,
  ...(poolId !== undefined && { poolId: poolId === null ? null : BigInt(poolId) }),
});

/** Numbers of a request as the core has them. */
const accountSettingsOf = <Body extends { exemptNumbers?: string[] }>({ exemptNumbers, ...settings }: Body) => ({
  ...settings,
  ...(exemptNumbers && { exemptNumbers: exemptNumbers.map((written, at) => phoneOf(`exemptNumbers[${at}]`, written)) }),
});

export function phoneOf(path: string, written: string): bigint {
  const phone = parseNumber(written);
  if (phone === null) throw new Denial('invalid', `${path}: ${JSON.stringify(written)} is no valid number`);
  return phone;
}

/** `"12.5"` or `12.5` → 125000n. */
function e4Of(path: string, written: string | number): bigint {
  const [, whole = '', fraction = ''] = /^(\d{1,12})(?:\.(\d{1,4}))?$/.exec(String(written)) ?? [];
  if (whole === '') throw new Denial('invalid', `${path}: not an amount with at most four decimals`);
  return BigInt(whole + fraction.padEnd(4, '0'));
}

function futureOf(path: string, written: string, now: Date): Date {
  const at = new Date(written);
  if (!(at > now)) throw new Denial('invalid', `${path}: not a time to come`);
  return at;
}

/** The longest range of days one request may look through. */
const maxDays = 31;

/** The days asked for, or the last three. */
function dayRange({ from, to }: { from?: string; to?: string }, now: Date): reporting.DayRange {
  for (const [path, day] of Object.entries({ from, to }))
    if (day !== undefined && !isDay(day)) throw new Problem(400, 'invalid', `${path}: there is no such day`);
  const toDay = to ?? shanghaiDay(now);
  const fromDay = from ?? addDays(toDay, -2);
  if (fromDay > toDay) throw new Problem(400, 'invalid', 'from: comes after to');
  if (addDays(fromDay, maxDays) <= toDay) throw new Problem(400, 'invalid', `from, to: at most ${maxDays} days at once`);
  return { fromDay, toDay };
}

const isDay = (day: string): boolean => !Number.isNaN(Date.parse(`${day}T00:00:00Z`)) && addDays(day, 0) === day;

// ── to the contract's JSON ───────────────────────────────────────────────────────────────────────────────────────────────────────

function one<View>([view]: readonly View[]): View {
  if (view === undefined) throw new Error('a view of one row is missing');
  return view;
}

export const idOrNull = (id: bigint | null): number | null => (id === null ? null : Number(id));
const textOrNull = (id: bigint | null): string | null => (id === null ? null : String(id));
const moneyOrNull = (amountE4: bigint | null): string | null => (amountE4 === null ? null : yuan(amountE4));
const timeOrNull = (at: Date | null): string | null => (at === null ? null : shanghaiTime(at));

const accountView = ({ id, createdAt, ...account }: accounts.StoredAccount): Static<typeof contract.accountSchema> => ({
  ...account,
  id: Number(id),
  ipAllowList: [...account.ipAllowList],
  exemptNumbers: account.exemptNumbers.map(usualForm),
  createdAt: shanghaiTime(createdAt),
});

const subscriptionView = ({
  priceE4,
  balanceE4,
  ...subscription
}: accounts.StoredSubscription): Static<typeof contract.subscriptionSchema> => ({
  ...subscription,
  id: Number(subscription.id),
  accountId: Number(subscription.accountId),
  productId: Number(subscription.productId),
  spId: idOrNull(subscription.spId),
  price: yuan(priceE4),
  balance: yuan(balanceE4),
  pushUrls: { ...subscription.pushUrls },
  createdAt: shanghaiTime(subscription.createdAt),
});

const ledgerView = ({ batchId, amountE4, heldE4, at, ...entry }: reporting.LedgerEntry): Static<typeof contract.ledgerEntrySchema> => ({
  ...entry,
  batchId: textOrNull(batchId),
  amount: yuan(amountE4),
  held: yuan(heldE4),
  at: shanghaiTime(at),
});

const productView = (product: catalogue.StoredProduct): Static<typeof contract.productSchema> => ({
  ...product,
  id: Number(product.id),
  poolId: idOrNull(product.poolId),
  createdAt: shanghaiTime(product.createdAt),
});

const poolView = ({ id, name, channels }: catalogue.Pool): Static<typeof contract.poolSchema> => ({
  id: Number(id),
  name,
  channels: channels.map((member) => ({ ...member, channelId: Number(member.channelId) })),
});

const channelView = (
  { id, createdAt, ...channel }: catalogue.StoredChannel,
  activity: reporting.ChannelActivity | undefined,
): Static<typeof contract.channelSchema> => ({
  ...channel,
  id: Number(id),
  carriers: [...channel.carriers],
  provinces: channel.provinces && [...channel.provinces],
  healthAt: shanghaiTime(channel.healthAt),
  healthProbeAt: timeOrNull(channel.healthProbeAt),
  createdAt: shanghaiTime(createdAt),
  states: (activity?.connections ?? []).map((connection) => ({ ...connection, since: shanghaiTime(connection.since) })),
  queue: { chunks: Number(activity?.queuedChunks ?? 0), messages: Number(activity?.queuedMessages ?? 0) },
});

const orphanView = (orphan: reporting.OrphanReport): Static<typeof contract.orphanSchema> => ({
  ...orphan,
  channelId: Number(orphan.channelId),
  receivedAt: shanghaiTime(orphan.receivedAt),
  nextTryAt: shanghaiTime(orphan.nextTryAt),
});

const templateView = (template: templates.StoredTemplate): Static<typeof contract.templateSchema> => ({
  ...template,
  id: Number(template.id),
  accountId: Number(template.accountId),
  frames: template.frames && framesView(template.frames),
  parameters: [...template.parameters],
  validUntil: timeOrNull(template.validUntil),
  createdAt: shanghaiTime(template.createdAt),
  decidedAt: timeOrNull(template.decidedAt),
});

const framesView = (frames: readonly StoredFrame[]) => frames.map((frame) => ({ ...frame, media: frame.media && { ...frame.media } }));

const signatureView = ({ createdAt, ...signature }: templates.StoredSignature): Static<typeof contract.signatureSchema> => ({
  ...signature,
  id: Number(signature.id),
  accountId: Number(signature.accountId),
  createdAt: shanghaiTime(createdAt),
});

/** Nobody's and nowhere where it is no valid number. */
export const placeView = (phone: Phone | null) => ({
  carriers: [...(phone?.carriers ?? [])],
  province: phone?.province ?? null,
  city: phone?.city ?? null,
});

const blocklistView = ({ id, kind, subjectId, accountId }: blocklists.Blocklist): Static<typeof contract.blocklistSchema> => ({
  id: Number(id),
  kind,
  subjectId: subjectId === 0n ? null : Number(subjectId),
  accountId: idOrNull(accountId),
});

const blockedNumberView = ({ phone, source, addedAt }: blocklists.BlockedNumber): Static<typeof contract.blockedNumberSchema> => ({
  phone: usualForm(phone),
  source,
  addedAt: shanghaiTime(addedAt),
});

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

const eventView = ({ costE4, ...event }: reporting.Event): Static<typeof contract.eventSchema> => ({
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
