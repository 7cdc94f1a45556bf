/** The routes of the management API for products, pools and channels, and for reports of carriers that match no message. */
import type { SwaggerTransform } from '@fastify/swagger';
import { type Static, type TObject, Type } from 'typebox';
import type { ChannelKind } from '../../channels/channel.ts';
import * as channels from '../../core/catalogue/channels.ts';
import * as pools from '../../core/catalogue/pools.ts';
import * as products from '../../core/catalogue/products.ts';
import { change, mapPage } from '../../core/config/management.ts';
import * as reporting from '../../core/watch/reporting.ts';
import { shanghaiTime } from '../../std/shanghai.ts';
import * as contract from '../../../contract/index.ts';
import { listOf, ref } from '../../../contract/index.ts';
import { type Api, type ConsoleDeps, idOrNull, one, operatorOnly, pageRequest, scopeOf, timeOrNull } from './shared.ts';
import { withExamples } from './openapi.ts';

export function addCatalogue(api: Api, deps: ConsoleDeps): void {
  const { db, channelKinds } = deps;
  const tags = ['products and channels'];

  api.get(
    '/v1/products',
    {
      schema: {
        operationId: 'listProducts',
        summary: 'Products, by id; an account sees those it subscribes to',
        tags,
        querystring: contract.pageQuery,
        response: { 200: listOf(contract.productSchema) },
      },
    },
    async ({ caller, query }) => mapPage(await products.listProducts(db.sql, scopeOf(caller), pageRequest(query)), productView),
  );

  api.get(
    '/v1/products/:id',
    {
      schema: {
        operationId: 'getProduct',
        summary: 'One product',
        tags,
        params: contract.idParams,
        response: { 200: ref(contract.productSchema) },
      },
    },
    async ({ caller, params }) => productView(await products.getProduct(db.sql, scopeOf(caller), BigInt(params.id))),
  );

  api.post(
    '/v1/products',
    {
      config: operatorOnly,
      schema: {
        operationId: 'createProduct',
        summary: 'Make a product',
        tags,
        body: contract.newProduct,
        response: { 201: ref(contract.productSchema) },
      },
    },
    async ({ body }, reply) => {
      const product = await change(deps, (sql) => products.createProduct(sql, withPool(body)));
      reply.code(201);
      return productView(product);
    },
  );

  api.patch(
    '/v1/products/:id',
    {
      config: operatorOnly,
      schema: {
        operationId: 'changeProduct',
        summary: 'Change a product',
        tags,
        params: contract.idParams,
        body: contract.productChange,
        response: { 200: ref(contract.productSchema) },
      },
    },
    async ({ params, body }) => productView(await change(deps, (sql) => products.changeProduct(sql, BigInt(params.id), withPool(body)))),
  );

  api.get(
    '/v1/pools',
    {
      config: operatorOnly,
      schema: {
        operationId: 'listPools',
        summary: 'Pools of channels, by id',
        tags,
        querystring: contract.pageQuery,
        response: { 200: listOf(contract.poolSchema) },
      },
    },
    async ({ query }) => mapPage(await pools.listPools(db.sql, pageRequest(query)), poolView),
  );

  api.post(
    '/v1/pools',
    {
      config: operatorOnly,
      schema: {
        operationId: 'createPool',
        summary: 'Make a pool',
        tags,
        body: contract.newPool,
        response: { 201: ref(contract.poolSchema) },
      },
    },
    async ({ body: { name, channels } }, reply) => {
      const pool = await change(deps, (sql) => pools.createPool(sql, { name, channels: channels.map(memberOf) }));
      reply.code(201);
      return poolView(pool);
    },
  );

  api.patch(
    '/v1/pools/:id',
    {
      config: operatorOnly,
      schema: {
        operationId: 'changePool',
        summary: 'Change a pool; its channels are replaced as a whole',
        tags,
        params: contract.idParams,
        body: contract.poolChange,
        response: { 200: ref(contract.poolSchema) },
      },
    },
    async ({ params, body: { name, channels } }) => {
      const wanted = { ...(name !== undefined && { name }), ...(channels && { channels: channels.map(memberOf) }) };
      return poolView(await change(deps, (sql) => pools.changePool(sql, BigInt(params.id), wanted)));
    },
  );

  /** The channels with their present state. */
  async function channelViews(channels: readonly channels.StoredChannel[]): Promise<Static<typeof contract.channelSchema>[]> {
    const activities = await reporting.channelActivity(
      db.sql,
      channels.map(({ id }) => id),
    );
    return channels.map((channel) => channelView(channel, activities.get(channel.id)));
  }

  api.get(
    '/v1/channel-kinds',
    {
      config: operatorOnly,
      schema: {
        operationId: 'listChannelKinds',
        summary: 'Channel kinds: the protocols and their settings',
        tags,
        response: { 200: Type.Object({ data: Type.Array(ref(contract.channelKindSchema)) }) },
      },
    },
    () => ({ data: channelKinds.map(kindView) }),
  );

  for (const { settings } of channelKinds) api.addSchema(settings);
  /** The core checks a channel's settings, because they depend on its protocol. This schema only documents them. */
  const settings = { oneOf: channelKinds.map((kind) => ref(kind.settings)), description: 'The settings of its protocol.' };
  const documentedAs =
    (body: TObject): SwaggerTransform =>
    ({ schema, url }) => ({ url, schema: withExamples({ ...schema, body: { ...body, properties: { ...body.properties, settings } } }) });

  api.get(
    '/v1/channels',
    {
      config: operatorOnly,
      schema: {
        operationId: 'listChannels',
        summary: 'Channels with the state of their connections and their queues, by id',
        tags,
        querystring: contract.pageQuery,
        response: { 200: listOf(contract.channelSchema) },
      },
    },
    async ({ query }) => {
      const { data, next } = await channels.listChannels(db.sql, pageRequest(query));
      return { data: await channelViews(data), next };
    },
  );

  api.get(
    '/v1/channels/:id',
    {
      config: operatorOnly,
      schema: {
        operationId: 'getChannel',
        summary: 'One channel',
        tags,
        params: contract.idParams,
        response: { 200: ref(contract.channelSchema) },
      },
    },
    async ({ params }) => one(await channelViews([await channels.getChannel(db.sql, BigInt(params.id))])),
  );

  api.post(
    '/v1/channels',
    {
      config: { ...operatorOnly, swaggerTransform: documentedAs(contract.newChannel) },
      schema: {
        operationId: 'createChannel',
        summary: 'Make a channel',
        tags,
        body: contract.newChannel,
        response: { 201: ref(contract.channelSchema) },
      },
    },
    async ({ body }, reply) => {
      const channel = await change(deps, (sql) => channels.createChannel(sql, deps, body));
      reply.code(201);
      return one(await channelViews([channel]));
    },
  );

  api.patch(
    '/v1/channels/:id',
    {
      config: { ...operatorOnly, swaggerTransform: documentedAs(contract.channelChange) },
      schema: {
        operationId: 'changeChannel',
        summary: 'Change a channel; its settings are replaced as a whole',
        tags,
        params: contract.idParams,
        body: contract.channelChange,
        response: { 200: ref(contract.channelSchema) },
      },
    },
    async ({ params, body }) =>
      one(await channelViews([await change(deps, (sql) => channels.changeChannel(sql, deps, BigInt(params.id), body))])),
  );

  api.get(
    '/v1/orphans',
    {
      config: operatorOnly,
      schema: {
        operationId: 'listOrphanReports',
        summary: 'Reports of carriers that match no message (yet)',
        tags,
        querystring: contract.pageQuery,
        response: { 200: listOf(contract.orphanSchema) },
      },
    },
    async ({ query }) => mapPage(await reporting.listOrphans(db.sql, pageRequest(query)), orphanView),
  );
}

const memberOf = <Member extends { channelId: number }>(member: Member) => ({ ...member, channelId: BigInt(member.channelId) });

/** A body with the pool's id in the core's form. A body without a pool does not change the pool. */
const withPool = <Body extends { poolId?: number | null }>({ poolId, ...settings }: Body) => ({
  ...settings,
  ...(poolId !== undefined && { poolId: poolId === null ? null : BigInt(poolId) }),
});

const productView = (product: products.StoredProduct): Static<typeof contract.productSchema> => ({
  ...product,
  id: Number(product.id),
  poolId: idOrNull(product.poolId),
  createdAt: shanghaiTime(product.createdAt),
});

const poolView = ({ id, name, channels }: pools.Pool): Static<typeof contract.poolSchema> => ({
  id: Number(id),
  name,
  channels: channels.map((member) => ({ ...member, channelId: Number(member.channelId) })),
});

const kindView = ({ name, title, settings, secret, door }: ChannelKind): Static<typeof contract.channelKindSchema> => ({
  name,
  title,
  settings: { ...settings },
  secret: { title: secret },
  door: door ? { path: `${door.prefix}/{id}` } : null,
});

const channelView = (
  { id, createdAt, ...channel }: channels.StoredChannel,
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
