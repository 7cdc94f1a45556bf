/** Multimedia messages: every recipient gets the same package. `frames.ts` checks the frames, `media.ts` stores their bytes. */
import { batchIdOf, messageIdOf } from '../model/ids.ts';
import type { PackageContent } from '../model/submission.ts';
import { textOf } from './frames.ts';
import type { ContentKind } from './kind.ts';

export const packageKind: ContentKind<PackageContent> = {
  // The dialect has read and checked the frames, since an error names their place in the request.
  async examine(_deps, _accountId, { package: stored, templateId }) {
    return { kind: 'package', templateId, text: textOf(stored.frames), package: stored };
  },
  words: (content) => `${content.package?.subject ?? ''}\n${content.text}`,
  // A package is billed as one, whatever its size.
  bill: () => ({ mainland: 1, foreign: 1 }),
  async render({ packages }, chunk) {
    if (!chunk.package) throw new Error(`chunk ${chunk.id} is of a multimedia message and has no package`);
    const loaded = await packages.load(chunk.accountId, batchIdOf(messageIdOf(chunk.id, 0)), chunk.package);
    return () => loaded;
  },
};
