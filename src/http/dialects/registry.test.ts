import { expect, it } from 'vitest';
import { dialectList, dialects } from './registry.ts';

it('a dialect is found by the name that it gives to what it owes', () => {
  for (const [name, rules] of dialects.rules) expect(rules.name).toBe(name);
});

it('every medium is spoken by its usual dialect', () => {
  for (const [medium, name] of Object.entries(dialects.usual)) expect(dialects.rules.get(name)?.media).toContain(medium);
});

it('no two dialects have a call in common', () => {
  const called = new Set<string>();
  for (const { name, parts } of dialectList)
    for (const { prefix } of parts({} as Parameters<typeof parts>[0])) {
      expect(called.has(prefix), `${name} ${prefix}`).toBe(false);
      called.add(prefix);
    }
});
