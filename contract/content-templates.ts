/** Content templates: patterns of texts that pass, are intercepted, or go to review. */
import { Type } from 'typebox';
import { configId, named, nullable, optional, page, strict, time, whose } from './bricks.ts';

const contentVerdict = Type.Enum(['intercept', 'review', 'pass']);
const templateText = Type.String({
  minLength: 1,
  maxLength: 2000,
  description: 'Pattern of a whole text; the wildcards {N}, {name:N}, ${name:N}, $name:N$ stand for 1…N characters, 35 without N.',
  examples: ['【鸿雁】您的验证码是{6}，{:10}内有效。'],
});
const note = Type.String({ maxLength: 500 });
export const contentTemplateSchema = named('ContentTemplate', {
  id: configId,
  accountId: nullable(Type.Integer({ description: 'Null: a template of the platform, for every account.' })),
  text: Type.String(),
  verdict: nullable(
    Type.Enum(['intercept', 'review', 'pass'], { description: 'Null: an account’s template on which the operator has not decided.' }),
  ),
  enabled: Type.Boolean(),
  note: Type.String(),
  createdAt: time,
});
const contentTemplateSettings = { note, verdict: contentVerdict, enabled: Type.Boolean() };
export const newContentTemplate = strict({ text: templateText, ...optional({ ...contentTemplateSettings, accountId: configId }) });
export const contentTemplateChange = strict(optional({ text: templateText, ...contentTemplateSettings }));
export const contentTemplateQuery = strict({
  ...whose,
  ...page,
  ...optional({
    owner: Type.Enum(['platform', 'accounts']),
    state: Type.Enum(['pending', 'enabled', 'disabled'], { description: 'pending: the operator has not decided.' }),
    verdict: contentVerdict,
  }),
});
