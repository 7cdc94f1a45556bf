/** Every dialect. Nothing else names one, but for its own folder. */
import type { Medium } from '../../core/model/configuration.ts';
import type { Dialects } from '../../core/model/dialect.ts';
import type { Dialect } from './dialect.ts';
import { ihuyiMms } from './ihuyi/mms-v1.ts';
import { yit3 } from './yit3/aim.ts';

/** By the name that is stored, so a name here is for ever. */
const registry = {
  '3yit': yit3,
  'ihuyi-mms': ihuyiMms,
} as const satisfies Readonly<Record<string, Dialect>>;

/** What a subscription speaks unless it is told otherwise, by the medium of its product. */
const usual: Readonly<Record<Medium, keyof typeof registry>> = { aim: '3yit', sms: '3yit', mms: 'ihuyi-mms' };

/** All of them, for the listener. */
export const dialectList: readonly Dialect[] = Object.values(registry);
/** What the core and the workers know of them. */
export const dialects: Dialects = { rules: new Map<string, Dialect>(Object.entries(registry)), usual };
