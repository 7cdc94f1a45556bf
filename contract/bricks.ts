/** Parts that several schemas share: ids, money, times, pages, and the account of a thing. */
import { type Static, type TProperties, type TSchema, Type } from 'typebox';

export const strict = <Properties extends TProperties>(properties: Properties) => Type.Object(properties, { additionalProperties: false });
/** The same properties, none of them required. */
export const optional = <Properties extends TProperties>(properties: Properties) => Type.Partial(Type.Object(properties)).properties;
export const nullable = <Schema extends TSchema>(schema: Schema) => Type.Union([schema, Type.Null()]);
export const named = <Properties extends TProperties>($id: string, properties: Properties) => Type.Object(properties, { $id });

/** Refers to a schema by its name, so that the OpenAPI document describes it once. */
export const ref = <Schema extends TSchema>(schema: Schema & { $id?: string }) => Type.Unsafe<Static<Schema>>(Type.Ref(`${schema.$id}#`));

/** One page of a list of such things. */
export const listOf = <Schema extends TSchema>(schema: Schema) =>
  Type.Object({
    data: Type.Array(ref(schema)),
    next: nullable(Type.String({ description: 'The cursor of the next page; null on the last one.' })),
  });

export const configId = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER });
export const recordId = Type.String({ pattern: '^[0-9]{1,18}$' });
/** Shorter than `recordId`, because a message's id is its batch's id times 32,768 and more. */
export const batchId = Type.String({ pattern: '^[0-9]{1,14}$' });
export const money = Type.String({
  description: 'In the unit of the product; two decimals, up to four where they are not zero.',
  examples: ['99999.95'],
});
export const moneyWritten = Type.Union(
  [Type.String({ pattern: '^[0-9]{1,12}(\\.[0-9]{1,4})?$' }), Type.Number({ minimum: 0, maximum: 999_999_999_999 })],
  {
    description: 'In the unit of the product, with at most four decimals.',
  },
);
export const time = Type.String({ format: 'date-time', examples: ['2026-07-16T09:30:05.000+08:00'] });
export const day = Type.String({ pattern: '^2[0-9]{3}-[0-9]{2}-[0-9]{2}$', description: 'A calendar day in Asia/Shanghai, YYYY-MM-DD.' });
export const name = Type.String({ minLength: 1, maxLength: 100 });
export const phone = Type.String({ minLength: 1, maxLength: 32, description: 'In any usual form.' });
export const digits = (maxLength: number) => Type.String({ pattern: `^[0-9]{1,${maxLength}}$` });
export const pushUrl = nullable(Type.String({ maxLength: 2000, description: 'http or https; null or empty removes it.' }));

/** Times of day in Asia/Shanghai. */
const timeOfDay = Type.String({ pattern: '^([01][0-9]|2[0-3]):[0-5][0-9]$' });
export const sendingWindow = nullable(
  Type.Object(
    { from: timeOfDay, to: timeOfDay, mode: Type.Enum(['intercept', 'review']) },
    {
      additionalProperties: false,
      description: 'When batches may be sent, in Asia/Shanghai, and what happens to them at other times; null: always.',
    },
  ),
);

/** The place of a number: its carrier, province and city. */
export const place = {
  carriers: Type.Array(Type.Enum(['mobile', 'unicom', 'telecom', 'broadcast', 'international']), {
    description: 'Its carrier; several if the number was ported and its new carrier is not known.',
  }),
  province: nullable(Type.String({ examples: ['广东'] })),
  city: nullable(Type.String({ examples: ['广州'] })),
};

export const page = {
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 500, description: 'Rows per page; 50 if left out.' })),
  cursor: Type.Optional(Type.String({ maxLength: 500, description: 'The `next` of the previous page.' })),
};
export const whose = {
  accountId: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: Number.MAX_SAFE_INTEGER,
      description: 'For the operator; an account’s token sees only its own.',
    }),
  ),
};
export const ofSubscription = { subscriptionId: Type.Optional(configId) };
export const days = { from: Type.Optional(day), to: Type.Optional(day) };

export const idParams = Type.Object({ id: configId });
export const messageParams = Type.Object({ id: recordId });
export const batchParams = Type.Object({ id: batchId });
export const pageQuery = strict(page);
export const whosePageQuery = strict({ ...whose, ...page });

export const medium = { medium: Type.Enum(['aim', 'mms', 'sms']), unit: Type.Enum(['yuan', 'messages']) };

/** Files are streamed and checked line by line. */
export const file = (description: string) => Type.Unsafe<unknown>(Type.String({ description }));

/** A number by which a list can be filtered. */
export const optionalPhone = { phone: Type.Optional(phone) };
