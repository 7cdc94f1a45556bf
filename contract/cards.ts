/** The card of a smart SMS template. The platform itself checks what a schema cannot, such as placeholders. */
import { Type } from 'typebox';

const buttonSchema = Type.Object(
  {
    label: Type.String({ minLength: 1, maxLength: 20 }),
    action: Type.Enum(['url', 'tel', 'copy'], {
      description: 'url opens an address (http or https), tel dials, copy puts the value on the clipboard',
    }),
    value: Type.String({ minLength: 1, maxLength: 1000 }),
  },
  { additionalProperties: false },
);

const buttonsSchema = Type.Optional(Type.Array(buttonSchema, { maxItems: 4 }));
const titleSchema = Type.String({ minLength: 1, maxLength: 60 });

const imageTextSchema = Type.Object(
  {
    layout: Type.Literal('image_text'),
    title: titleSchema,
    text: Type.Optional(Type.String({ minLength: 1, maxLength: 1000 })),
    media: Type.Optional(
      Type.Array(
        Type.Object(
          {
            type: Type.Literal('image'),
            url: Type.String({ minLength: 1, maxLength: 1000, description: 'http or https, no placeholders' }),
          },
          { additionalProperties: false },
        ),
        { maxItems: 1 },
      ),
    ),
    buttons: buttonsSchema,
  },
  { additionalProperties: false, description: 'A picture with a title and a text' },
);

const noticeSchema = Type.Object(
  {
    layout: Type.Literal('notice'),
    title: titleSchema,
    rows: Type.Array(
      Type.Object(
        { label: Type.String({ minLength: 1, maxLength: 20 }), value: Type.String({ minLength: 1, maxLength: 200 }) },
        { additionalProperties: false },
      ),
      { minItems: 1, maxItems: 20 },
    ),
    buttons: buttonsSchema,
  },
  { additionalProperties: false, description: 'A title above rows of label and value' },
);

export const cardSchema = Type.Union([imageTextSchema, noticeSchema], {
  description: 'A card; ${name} in texts, titles and button values is a parameter',
});
