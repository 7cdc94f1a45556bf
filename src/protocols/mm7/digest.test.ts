import { describe, expect, test } from 'vitest';
import { basicAuthorization, type Challenge, digestAuthorization, digestResponse, readBasic, readChallenge, readDigest } from './digest.ts';

describe('basic', () => {
  test('there and back, colons in the password included', () => {
    expect(basicAuthorization('vaspuser', 'vasppass')).toBe('Basic dmFzcHVzZXI6dmFzcHBhc3M=');
    expect(readBasic(basicAuthorization('用户', 'a:b'))).toEqual({ username: '用户', password: 'a:b' });
  });

  test.each([undefined, '', 'Basic', 'Basic !', 'Digest x', `Basic ${Buffer.from('nocolon').toString('base64')}`])(
    '%s is none',
    (header) => {
      expect(readBasic(header)).toBeNull();
    },
  );
});

const request = { username: 'Mufasa', password: 'Circle Of Life', method: 'GET', uri: '/dir/index.html', count: 1, cnonce: '0a4f113b' };
const challenge: Challenge = {
  realm: 'testrealm@host.com',
  nonce: 'dcd98b7102dd2f0e8b11d0f600bfb0c093',
  opaque: '5ccc069c403ebaf9f0171e9517f40e41',
  algorithm: 'MD5',
  qop: true,
};

describe('digest', () => {
  test('the example of RFC 2617, section 3.5', () => {
    expect(digestResponse(challenge, request)).toBe('6629fae49393a05397450978507c4ef1');
  });

  test('the examples of RFC 7616, section 3.9.1', () => {
    const rfc7616 = {
      realm: 'http-auth@example.org',
      nonce: '7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v',
      opaque: 'FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS',
      qop: true,
    };
    const asked = { ...request, password: 'Circle of Life', cnonce: 'f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ' };
    expect(digestResponse({ ...rfc7616, algorithm: 'MD5' }, asked)).toBe('8ca523f5e9506fed4657c9700eebdbec');
    expect(digestResponse({ ...rfc7616, algorithm: 'SHA-256' }, asked)).toBe(
      '753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1',
    );
  });

  test('a challenge is found among others and in the company of another', () => {
    const header = `Basic realm="x", Digest realm="testrealm@host.com", qop="auth,auth-int", nonce="${challenge.nonce}", opaque="${challenge.opaque}"`;
    expect(readChallenge(['Negotiate', header])).toEqual(challenge);
    expect(readChallenge([`digest nonce=abc,realm="a, \\"b\\"" , algorithm=sha-256, Basic realm="y"`])).toEqual({
      realm: 'a, "b"',
      nonce: 'abc',
      opaque: null,
      algorithm: 'SHA-256',
      qop: false,
    });
  });

  test.each(['Digest realm="x"', 'Digest nonce="x", algorithm=SHA-1', 'Digest nonce="x", qop="auth-int"', 'Basic realm="x"', ''])(
    '%s cannot be answered',
    (header) => {
      expect(readChallenge([header])).toBeNull();
    },
  );

  test('an answer is read back', () => {
    const said = readDigest(digestAuthorization(challenge, { ...request, username: 'a "b" \\' }));
    expect(said?.get('username')).toBe('a "b" \\');
    expect(said?.get('nc')).toBe('00000001');
    expect(readDigest('Basic x')).toBeNull();
  });
});
