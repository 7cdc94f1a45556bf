// Seals small secrets (API keys, passwords of channels) for storage with AES-256-GCM, so a sealed text that was changed does not open.
//
// The sealed text names its key, so keys can be rotated: put a new key in front, seal everything again, drop the old key.
// No error contains a key or a plaintext.
import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';

export interface SecretBox {
  /** Seals with the first key. The same text sealed twice gives different results. */
  seal(plaintext: string): string;
  /** Opens a text that any of the keys has sealed. Throws if none of them has, or if the text was changed. */
  open(sealed: string): string;
  /** True if the text was sealed with a key that is not the first one now. */
  isOutdated(sealed: string): boolean;
}

const keyBytes = 32;
const ivBytes = 12;
const tagBytes = 16;

/** Takes one or several keys of 32 bytes, in hex or base64, separated by commas. The first key seals, all keys open. */
export function createSecretBox(keys: string): SecretBox {
  const ring = new Map(
    keys
      .split(',')
      .map((text) => parseKey(text.trim()))
      .map((key) => [idOf(key), key]),
  );
  const [first] = ring;
  if (!first) throw new Error('no key');
  const [sealingId, sealingKey] = first;

  return {
    seal(plaintext) {
      const iv = randomBytes(ivBytes);
      const cipher = createCipheriv('aes-256-gcm', sealingKey, iv).setAAD(Buffer.from(sealingId));
      const ciphertext = Buffer.concat([cipher.update(plaintext, 'utf8'), cipher.final()]);
      return `${sealingId}.${Buffer.concat([iv, ciphertext, cipher.getAuthTag()]).toString('base64url')}`;
    },
    open(sealed) {
      const [id = '', body = ''] = sealed.split('.');
      const key = ring.get(id);
      if (!key)
        throw new Error(/^[0-9a-f]{8}$/.test(id) ? `a secret was sealed with key ${id}, which is not configured` : 'not a sealed secret');
      const bytes = Buffer.from(body, 'base64url');
      try {
        const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, ivBytes), { authTagLength: tagBytes });
        decipher.setAAD(Buffer.from(id)).setAuthTag(bytes.subarray(-tagBytes));
        return Buffer.concat([decipher.update(bytes.subarray(ivBytes, -tagBytes)), decipher.final()]).toString('utf8');
      } catch {
        throw new Error(`a secret sealed with key ${id} was changed and does not open`);
      }
    },
    isOutdated: (sealed) => !sealed.startsWith(`${sealingId}.`),
  };
}

/** Makes a key in the form that createSecretBox takes. */
export function generateKey(): string {
  return randomBytes(keyBytes).toString('hex');
}

function parseKey(text: string): Buffer {
  const key = /^[0-9a-f]{64}$/i.test(text) ? Buffer.from(text, 'hex') : Buffer.from(text, 'base64');
  // Buffer.from skips characters that are not base64; encoding the result again shows whether it did.
  const isExact = text.length === 64 || key.toString('base64url') === text.replace(/=+$/, '').replaceAll('+', '-').replaceAll('/', '_');
  if (key.length !== keyBytes || !isExact)
    throw new Error('a key must be 32 bytes in hex or base64, for example from: openssl rand -hex 32');
  return key;
}

/** An id that distinguishes keys and reveals nothing about them. */
function idOf(key: Buffer): string {
  return createHash('sha256').update('hongyan key id').update(key).digest('hex').slice(0, 8);
}
