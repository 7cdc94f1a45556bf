/** The protocols that channels speak, and what each of them wants to know. The schemas of settings themselves belong to the program. */
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
    Type.Object({ path: Type.String() }, { description: 'Where the carrier posts reports and replies to; {id} is the channel’s.' }),
  ),
});
