import { assert, property, string } from 'fast-check';
import { expect, it } from 'vitest';
import { createSecretBox, generateKey } from './secret-box.ts';

const [oldKey, newKey] = [generateKey(), generateKey()];
const messageOf = (action: () => unknown) => {
  try {
    action();
  } catch (error) {
    return String(error);
  }
  throw new Error('it should have thrown');
};

it('whatever is sealed opens again, and never looks the same twice', () => {
  const box = createSecretBox(newKey);
  assert(
    property(string({ unit: 'grapheme' }), (text) => {
      const sealed = box.seal(text);
      expect(box.open(sealed)).toBe(text);
      expect(box.seal(text)).not.toBe(sealed);
    }),
  );
});

it('a key may be written in hex, base64 or base64url', () => {
  const bytes = Buffer.from(newKey, 'hex');
  for (const form of [newKey.toUpperCase(), bytes.toString('base64'), bytes.toString('base64url'), ` ${newKey} `]) {
    expect(createSecretBox(form).open(createSecretBox(newKey).seal('x'))).toBe('x');
  }
});

it('keys rotate: the first seals, all open, and what an older one sealed is outdated', () => {
  const sealed = createSecretBox(oldKey).seal('demo');
  const rotated = createSecretBox(`${newKey},${oldKey}`);
  expect(rotated.open(sealed)).toBe('demo');
  expect(rotated.isOutdated(sealed)).toBe(true);
  expect(rotated.isOutdated(rotated.seal('demo'))).toBe(false);
  expect(createSecretBox(newKey).open(rotated.seal('demo'))).toBe('demo');
});

it('what was changed anywhere does not open', () => {
  const box = createSecretBox(newKey);
  const sealed = box.seal('secret text');
  const [id = '', body = ''] = sealed.split('.');
  const bytes = Buffer.from(body, 'base64url');
  for (let at = 0; at < bytes.length; at++) {
    const changed = Buffer.from(bytes);
    changed[at] = (changed[at] ?? 0) ^ 1;
    expect(() => box.open(`${id}.${changed.toString('base64url')}`)).toThrow('does not open');
  }
  for (const cut of [0, 5, 20, bytes.length - 1]) expect(() => box.open(`${id}.${bytes.subarray(0, cut).toString('base64url')}`)).toThrow();
});

it('no error carries a key or a plaintext', () => {
  const sealed = createSecretBox(oldKey).seal('plaintext');
  const messages = [
    messageOf(() => createSecretBox(`${oldKey}0`)),
    messageOf(() => createSecretBox('')),
    messageOf(() => createSecretBox(newKey).open(sealed)),
    messageOf(() => createSecretBox(newKey).open('a password stored in the clear')),
    messageOf(() => createSecretBox(oldKey).open(`${sealed.slice(0, -2)}AA`)),
  ];
  for (const message of messages) {
    expect(message).not.toContain(oldKey.slice(0, 12));
    expect(message).not.toMatch(/plaintext|in the clear/);
  }
});
