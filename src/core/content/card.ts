/** Smart SMS: a text in which `$url$` becomes a short link, a different one for each recipient, that opens the card of a template. */
import { Refusal } from '../model/refusals.ts';
import type { CardContent, Recipient } from '../model/submission.ts';
import type { ContentKind } from './kind.ts';
import { linkCodeLength } from './links.ts';
import { unusable } from './templates.ts';
import { segmentsOf } from './text.ts';

const placeholder = '$url$';

export const card: ContentKind<CardContent> = {
  async examine({ findTemplate, clock }, accountId, { templateId, text }, recipients) {
    const template = await findTemplate(accountId, templateId);
    if (!template) throw new Refusal('template_not_found', `模板 ${templateId} 不存在`);
    if (template.state !== 'approved') throw new Refusal('template_not_approved', `模板 ${templateId} ${unusable[template.state]}`);
    if (template.validUntil !== null && template.validUntil <= clock())
      throw new Refusal('template_not_approved', `模板 ${templateId} 已过期`);
    checkParameters(recipients, template.parameters.length);
    const first = text.indexOf(placeholder);
    if (first < 0) throw new Refusal('placeholder_missing', 'content 中没有 $url$');
    if (text.includes(placeholder, first + 1)) throw new Refusal('placeholder_missing', 'content 中 $url$ 只能出现一次');
    return { kind: 'card', templateId, text, package: null };
  },
  words: (content) => content.text,
  // All codes have the same length, so the segments of one text apply to all recipients.
  bill: (content, linkBase) => segmentsOf(content.text.replace(placeholder, () => `${linkBase}/${'0'.repeat(linkCodeLength)}`)),
  async render({ links, linkBase }, { id, phones, content }) {
    const at = content.indexOf(placeholder);
    if (at < 0) return () => content;
    const before = `${content.slice(0, at)}${linkBase}/`;
    const after = content.slice(at + placeholder.length);
    const codes = links.encodeMany(id, phones.length);
    return (index) => before + codes[index] + after;
  },
};

function checkParameters(recipients: readonly Recipient[], wanted: number): void {
  const wrong = recipients.find(({ values }) => values.length !== wanted);
  if (wrong) throw new Refusal('parameters_mismatch', `${wrong.written} 有 ${wrong.values.length} 个动参,模板需要 ${wanted} 个`);
}
