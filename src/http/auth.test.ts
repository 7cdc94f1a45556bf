/** Credentials, addresses, and the limit on guessing. */
import { describe, expect, it } from 'vitest';
import { clientAddress, createFailureLimiter, isListed, isLoopbackHost, isMd5Of, isSignature, normaliseAddress } from './auth.ts';

const password = 'demo-aim-password';

describe('isMd5Of', () => {
  it('takes the md5 of the password in either case, and nothing else', () => {
    expect(isMd5Of('e9fc3f64a01b954d0cfc5cb6fa554e0e', password)).toBe(true);
    expect(isMd5Of('E9FC3F64A01B954D0CFC5CB6FA554E0E', password)).toBe(true);
    for (const wrong of [
      '',
      password,
      'e9fc3f64a01b954d0cfc5cb6fa554e0f',
      'e9fc3f64a01b954d0cfc5cb6fa554e0',
      'é9fc3f64a01b954d0cfc5cb6fa554e0e',
    ])
      expect(isMd5Of(wrong, password), wrong).toBe(false);
  });
});

describe('isSignature', () => {
  const text = 'GET&%2F&sp_id=500001';
  it.each([
    ['base64 of the digest', 'poqVBQf+uh7Z8aTuyfU6WTargTw='],
    ['the same with its + become a space', 'poqVBQf uh7Z8aTuyfU6WTargTw='],
    ['base64 of the hex text', 'YTY4YTk1MDUwN2ZlYmExZWQ5ZjFhNGVlYzlmNTNhNTkzNmFiODEzYw=='],
    ['the hex text', 'a68a950507feba1ed9f1a4eec9f53a5936ab813c'],
  ])('takes %s', (_, signature) => {
    expect(isSignature(signature, text, password)).toBe(true);
    expect(isSignature(signature, `${text}&a=1`, password)).toBe(false);
    expect(isSignature(signature, text, 'another')).toBe(false);
    expect(isSignature(signature.slice(1), text, password)).toBe(false);
  });
});

describe('addresses', () => {
  it('an IPv4 address inside IPv6 is that IPv4 address', () => {
    expect(normaliseAddress('::ffff:203.0.113.7')).toBe('203.0.113.7');
    expect(normaliseAddress('203.0.113.7')).toBe('203.0.113.7');
    expect(normaliseAddress('2001:DB8:0:0::1')).toBe('2001:db8::1');
    expect(normaliseAddress('fe80::1%eth0')).toBe('fe80::1');
    for (const none of ['', 'unknown', '127.1', '1.2.3.4.', '1.2.3.456', '010.0.0.1', '0x7f000001', '2130706433'])
      expect(normaliseAddress(none), none).toBeNull();
  });

  it('a list holds addresses and ranges of both kinds', () => {
    const list = ['203.0.113.7', '10.0.0.0/8', '2001:db8::/32', '::ffff:192.0.2.0/120', 'nonsense', '1.2.3.4/99'];
    for (const inside of ['203.0.113.7', '::ffff:203.0.113.7', '10.255.0.1', '2001:db8:1::1', '192.0.2.200'])
      expect(isListed(list, inside), inside).toBe(true);
    for (const outside of ['203.0.113.8', '11.0.0.1', '2001:db9::1', '192.0.3.1', '1.2.3.4', 'nonsense', ''])
      expect(isListed(list, outside), outside).toBe(false);
    expect(isListed([], '203.0.113.7')).toBe(false);
    expect(isListed(['0.0.0.0/0'], '203.0.113.7')).toBe(true);
  });

  it('X-Forwarded-For counts only behind trusted proxies, and then its right-most hop that is none', () => {
    const proxies = ['127.0.0.1', '10.0.0.0/8'];
    expect(clientAddress('::ffff:127.0.0.1', '203.0.113.7', [])).toBe('127.0.0.1');
    expect(clientAddress('198.51.100.1', '203.0.113.7', proxies)).toBe('198.51.100.1');
    expect(clientAddress('127.0.0.1', '203.0.113.7', proxies)).toBe('203.0.113.7');
    expect(clientAddress('127.0.0.1', '1.1.1.1, 203.0.113.7, 10.1.1.1', proxies)).toBe('203.0.113.7');
    expect(clientAddress('127.0.0.1', '203.0.113.7:4711', proxies)).toBe('203.0.113.7');
    expect(clientAddress('127.0.0.1', '[2001:db8::1]:4711', proxies)).toBe('2001:db8::1');
    expect(clientAddress('127.0.0.1', '203.0.113.7, garbage', proxies)).toBe('127.0.0.1');
    expect(clientAddress('127.0.0.1', '203.0.113.7, garbage, 10.1.1.1', proxies)).toBe('10.1.1.1');
    expect(clientAddress('127.0.0.1', '', proxies)).toBe('127.0.0.1');
    expect(clientAddress('127.0.0.1', '10.0.0.1, 10.0.0.2', proxies)).toBe('10.0.0.1');
    expect(clientAddress(undefined, undefined, [])).toBe('0.0.0.0');
  });

  it('knows the names of the loopback', () => {
    for (const own of ['localhost', 'LOCALHOST:8080', '127.0.0.1:8080', '127.9.9.9', '[::1]:8080', '[::ffff:127.0.0.1]'])
      expect(isLoopbackHost(own), own).toBe(true);
    for (const foreign of [
      undefined,
      '',
      'example.com',
      'localhost.example.com',
      '127.0.0.1.nip.io',
      '127.0.0.1@evil',
      '192.168.0.1',
      '[::2]',
      'localhost:x',
      '127.1',
      '::1',
    ])
      expect(isLoopbackHost(foreign), foreign).toBe(false);
  });
});

describe('the limit on guessing', () => {
  it('blocks after so many failures, for the rest of the minute, that caller and subject alone', () => {
    let now = 0;
    const limiter = createFailureLimiter({ clock: () => new Date(now), perMinute: () => 3 });
    for (let i = 0; i < 3; i++) {
      expect(limiter.isBlocked('192.0.2.1', '1')).toBe(false);
      limiter.failed('192.0.2.1', '1');
    }
    expect(limiter.isBlocked('192.0.2.1', '1')).toBe(true);
    expect(limiter.isBlocked('192.0.2.1', '2')).toBe(false);
    expect(limiter.isBlocked('192.0.2.2', '1')).toBe(false);
    now = 59_999;
    expect(limiter.isBlocked('192.0.2.1', '1')).toBe(true);
    now = 60_000;
    expect(limiter.isBlocked('192.0.2.1', '1')).toBe(false);
    limiter.failed('192.0.2.1', '1');
    expect(limiter.isBlocked('192.0.2.1', '1')).toBe(false);
  });

  it('the addresses of one IPv6 network are one caller', () => {
    const limiter = createFailureLimiter({ clock: () => new Date(0), perMinute: () => 1 });
    limiter.failed('2001:db8::1', '1');
    expect(limiter.isBlocked('2001:db8::ffff', '1')).toBe(true);
    expect(limiter.isBlocked('2001:db8:0:1::1', '1')).toBe(false);
  });

  it('remembers a bounded number, forgetting the oldest', () => {
    const limiter = createFailureLimiter({ clock: () => new Date(0), perMinute: () => 1, maxEntries: 2 });
    for (const subject of ['1', '2', '3']) limiter.failed('192.0.2.1', subject);
    expect(['1', '2', '3'].map((subject) => limiter.isBlocked('192.0.2.1', subject))).toEqual([false, true, true]);
  });
});
