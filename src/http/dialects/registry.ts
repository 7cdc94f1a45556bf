/** Every dialect. Nothing outside this file and a dialect's own folder names a dialect. */
import type { Medium } from '../../core/model/configuration.ts';
import type { Dialects } from '../../core/model/dialect.ts';
import type { Dialect } from './dialect.ts';
import { ihuyiMms } from './ihuyi/mms-v1.ts';
import { yit3 } from './yit3/aim.ts';

/** By name. The names are stored in the database, so they never change. */
const registry = {
  '3yit': yit3,
  'ihuyi-mms': ihuyiMms,
} as const satisfies Readonly<Record<string, Dialect>>;

/** The default dialect of a subscription, by the medium of its product. */
const usual: Readonly<Record<Medium, keyof typeof registry>> = { aim: '3yit', sms: '3yit', mms: 'ihuyi-mms' };

/** All of them, for the listener. */
export const dialectList: readonly Dialect[] = Object.values(registry);
/** The rules of the dialects, for the core and the workers. */
export const dialects: Dialects = { rules: new Map<string, Dialect>(Object.entries(registry)), usual };
