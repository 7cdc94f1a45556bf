/** The routes of the management API for accounts and their subscriptions: prices, payments, ledgers, passwords and keys. */
import type { Static } from 'typebox';
import * as accounts from '../../core/catalogue/accounts.ts';
import { yuan } from '../../core/money/ledger.ts';
import { change, Denial, mapPage } from '../../core/config/management.ts';
import { usualForm } from '../../core/model/numbers.ts';
import * as reporting from '../../core/watch/reporting.ts';
import type { Caller } from '../../core/config/tokens.ts';
import { shanghaiTime } from '../../std/shanghai.ts';
import * as contract from '../../../contract/index.ts';
import { listOf, ref } from '../../../contract/index.ts';
import {
  accountOf,
  type Api,
  type ConsoleDeps,
  e4Of,
  idOrNull,
  operatorOnly,
  pageRequest,
  phoneOf,
  RequestError,
  scopeOf,
  textOrNull,
} from './shared.ts';

export function addAccounts(api: Api, deps: ConsoleDeps): void {
  const { db, box } = deps;
  const tags = ['accounts'];

  api.get(
    '/v1/accounts',
    {
      schema: {
        operationId: 'listAccounts',
        summary: 'Accounts, by id',
        tags,
        querystring: contract.pageQuery,
        response: { 200: listOf(contract.accountSchema) },
      },
    },
    async ({ caller, query }) => mapPage(await accounts.listAccounts(db.sql, scopeOf(caller), pageRequest(query)), accountView),
  );

  api.get(
    '/v1/accounts/:id',
    {
      schema: {
        operationId: 'getAccount',
        summary: 'One account',
        tags,
        params: contract.idParams,
        response: { 200: ref(contract.accountSchema) },
      },
    },
    async ({ caller, params }) => accountView(await accounts.getAccount(db.sql, accountOf(caller, params.id))),
  );

  api.post(
    '/v1/accounts',
    {
      config: operatorOnly,
      schema: {
        operationId: 'createAccount',
        summary: 'Make an account',
        tags,
        body: contract.newAccount,
        response: { 201: ref(contract.createdAccountSchema) },
      },
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
        operationId: 'changeAccount',
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
      schema: {
        operationId: 'rotateApiKey',
        summary: 'Replace the API key',
        tags,
        params: contract.idParams,
        response: { 200: ref(contract.apiKeySchema) },
      },
    },
    async ({ params }) => ({ apiKey: await change(deps, (sql) => accounts.rotateApiKey(sql, box, BigInt(params.id))) }),
  );
}

export function addSubscriptions(api: Api, deps: ConsoleDeps): void {
  const { db, directory, clock } = deps;
  const tags = ['subscriptions'];

  api.get(
    '/v1/subscriptions',
    {
      schema: {
        operationId: 'listSubscriptions',
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
    {
      schema: {
        operationId: 'getSubscription',
        summary: 'One subscription',
        tags,
        params: contract.idParams,
        response: { 200: ref(contract.subscriptionSchema) },
      },
    },
    async ({ caller, params }) => subscriptionView(await accounts.getSubscription(db.sql, scopeOf(caller), BigInt(params.id))),
  );

  api.post(
    '/v1/subscriptions',
    {
      config: operatorOnly,
      schema: {
        operationId: 'createSubscription',
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
      const { subscription, password } = await change(deps, (sql) => accounts.createSubscription(sql, deps, wanted));
      reply.code(201);
      return { ...subscriptionView(subscription), password };
    },
  );

  api.patch(
    '/v1/subscriptions/:id',
    {
      schema: {
        operationId: 'changeSubscription',
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
      const { price, dialect, ...settings } = body;
      const id = BigInt(params.id);
      const wanted = { ...settings, ...(price !== undefined && { priceE4: e4Of('price', price) }) };
      const changed = await change(deps, async (sql) => {
        if (dialect !== undefined) await accounts.changeDialect(sql, directory.dialects, id, dialect);
        return accounts.changeSubscription(sql, scope, id, wanted);
      });
      return subscriptionView(changed);
    },
  );

  api.post(
    '/v1/subscriptions/:id/top-ups',
    {
      config: operatorOnly,
      schema: {
        operationId: 'topUpSubscription',
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
        operationId: 'listLedgerEntries',
        summary: 'Ledger entries of a subscription, newest first',
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

/** An account may change only its own push URLs. */
function ownPushUrlsOnly(caller: Caller, body: object): void {
  const others = Object.keys(body).filter((setting) => setting !== 'pushUrls');
  if (caller.role === 'account' && others.length > 0)
    throw new RequestError(403, 'forbidden', `${others.join(', ')}: for the operator only`);
}

/** The settings of a request, with the numbers in the core's form. */
const accountSettingsOf = <Body extends { exemptNumbers?: string[] }>({ exemptNumbers, ...settings }: Body) => ({
  ...settings,
  ...(exemptNumbers && { exemptNumbers: exemptNumbers.map((written, at) => phoneOf(`exemptNumbers[${at}]`, written)) }),
});

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
