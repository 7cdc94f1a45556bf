/** The form of an error in the management API. */
import { Type } from 'typebox';
import { named } from './bricks.ts';

export const problemSchema = named('Problem', { error: Type.Object({ code: Type.String(), message: Type.String() }) });
