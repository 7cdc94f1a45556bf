/** The channel kinds: protocols with their settings. The schemas of the settings themselves belong to the channels' code. */
import { Type } from 'typebox';
import { named, nullable } from './bricks.ts';

const words = Type.Object({ zh: Type.String(), en: Type.String() });

export const channelKindSchema = named('ChannelKind', {
  name: Type.String({ description: 'The `protocol` of its channels.' }),
  title: words,
  settings: Type.Record(Type.String(), Type.Unknown(), {
    description:
      'JSON schema of a channel’s `settings`: `title` and `x-description-zh` in Chinese, `x-title-en` and `description` in English, `default` where a setting may be left out.',
  }),
  secret: Type.Object({ title: words }, { description: 'What the carrier calls the `secret` of a channel.' }),
  door: nullable(
    Type.Object(
      { path: Type.String() },
      { description: 'The path to which the carrier posts reports and replies; {id} is the channel’s id.' },
    ),
  ),
});
