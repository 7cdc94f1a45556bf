/** The protocols that channels may speak. Only this module lists them; everything else reads this list. */
import { Type } from 'typebox';
import { Compile } from 'typebox/compile';
import { explain } from '../std/explain.ts';
import type { ChannelKind } from './channel.ts';
import { cmppKind } from './cmpp.ts';
import { mm7Kind } from './mm7/kind.ts';

export const channelKinds = { cmpp: cmppKind, mm7: mm7Kind } as const;

const byName: ReadonlyMap<string, ChannelKind> = new Map(Object.entries(channelKinds));
const names = [...byName.keys()];

/** The kind of a stored channel. Throws for a kind that only a later version knows. */
export function kindOf(protocol: string): ChannelKind {
  const kind = byName.get(protocol);
  if (!kind) throw new Error(`this version knows no protocol "${protocol}"`);
  return kind;
}

const checks = new Map([...byName].map(([name, { settings }]) => [name, Compile(Type.Object({ settings }))]));

/** What the catalogue knows of the kinds. The protocol selects the schema, so only that schema reports errors. */
export const kindRules = {
  names,
  /** What is wrong with a channel's protocol or settings, preceded by its path; null if nothing is. */
  problemOf(protocol: string, settings: unknown): string | null {
    const check = checks.get(protocol);
    if (!check) return `protocol: must be one of ${names.join(', ')}`;
    const value = { settings };
    return check.Check(value) ? null : explain(check.Errors(value), 'settings');
  },
} as const;
