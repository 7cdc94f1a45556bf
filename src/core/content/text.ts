/** Plain texts: every recipient gets the text as submitted, even if a part looks like a placeholder. */
import { billedSegments } from '../../protocols/text.ts';
import { Refusal } from '../model/refusals.ts';
import type { TextContent } from '../model/submission.ts';
import type { ContentKind, Segments } from './kind.ts';

export const text: ContentKind<TextContent> = {
  async examine(_deps, _accountId, content) {
    if (content.text.trim() === '') throw new Refusal('content_invalid', '内容为空');
    return { kind: 'text', templateId: null, text: content.text, package: null };
  },
  words: (content) => content.text,
  bill: (content) => segmentsOf(content.text),
  render: async (_deps, chunk) => () => chunk.content,
};

/** The billed segments of a text as the phone shows it. */
export const segmentsOf = (shown: string): Segments => ({ mainland: billedSegments(shown, true), foreign: billedSegments(shown, false) });
