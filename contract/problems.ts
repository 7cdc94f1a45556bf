/** How the management API says that something is wrong. */
import { Type } from 'typebox';
import { named } from './bricks.ts';

export const problemSchema = named('Problem', { error: Type.Object({ code: Type.String(), message: Type.String() }) });
