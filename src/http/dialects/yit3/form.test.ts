/** Reading form text of any kind, and writing it again as signatures want it. */
import { createHmac } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { canonicalForm, encodeValue, parseForm, TooManyParameters } from './form.ts';

const values = (...sources: (string | Buffer)[]) =>
  Object.fromEntries([...parseForm(...sources)].map(([name, { value }]) => [name, value]));
const canonical = (source: string | Buffer) => canonicalForm(parseForm(source), ['signature']);
const broken = (source: string | Buffer) => [...parseForm(source)].map(([, { broken }]) => broken);

describe('parseForm', () => {
  it('reads escapes, plus signs, and UTF-8 that was not escaped', () => {
    expect(values('a=1&b=x+y%20z&c=%E5%BC%A0')).toEqual({ a: '1', b: 'x y z', c: '张' });
    expect(values(Buffer.from('a=张三&b=%E5%BC%A0三'))).toEqual({ a: '张三', b: '张三' });
    // Node gives a URL with each byte as a character.
    expect(values(Buffer.from('a=张三').toString('latin1'))).toEqual({ a: '张三' });
  });

  it('reads what has no value, no name, or nothing at all', () => {
    expect(values('')).toEqual({});
    expect(values('&&')).toEqual({});
    expect(values('a&b=&=c&d==e')).toEqual({ a: '', b: '', '': 'c', d: '=e' });
    expect(values('__proto__=1')).toEqual(Object.fromEntries([['__proto__', '1']]));
  });

  it('of a name that comes twice the last one counts, and a later source before an earlier', () => {
    expect(values('a=1&a=2&b=1', Buffer.from('b=2'))).toEqual({ a: '2', b: '2' });
    expect(canonical('a=1&a=2')).toBe('a=2');
  });

  it('marks what is no text, and keeps the rest', () => {
    expect(broken('a=%ff&b=1')).toEqual(['不是 UTF-8 编码', null]);
    expect(broken(Buffer.from([0x61, 0x3d, 0xd5, 0xc5]))).toEqual(['不是 UTF-8 编码']);
    expect(broken('a=%ED%A0%80')).toEqual(['不是 UTF-8 编码']); // half a surrogate pair
    for (const cut of ['a=%', 'a=%4', 'a=%zz', 'a=100%&b', 'a=%E5%BC%zz']) expect(broken(cut)[0], cut).toBe('百分号编码不完整');
    expect(broken('%ff=1')).toEqual(['不是 UTF-8 编码']);
    // GBK beside escaped UTF-8: only the parameter that is GBK is broken.
    expect(broken(Buffer.concat([Buffer.from('a=%E5%BC%A0&b='), Buffer.from([0xd5, 0xc5])]))).toEqual([null, '不是 UTF-8 编码']);
  });

  it('a hundred pairs are read, more are refused', () => {
    expect(parseForm('a=1&'.repeat(100)).size).toBe(1);
    expect(() => parseForm('a=1&'.repeat(101))).toThrow(TooManyParameters);
  });

  it('random bytes never crash it', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        canonical(Buffer.from(bytes));
      }),
    );
    fc.assert(fc.property(fc.stringMatching(/^[a%=&+\xff0-9E]{0,40}$/), (text) => void canonical(text)));
  });
});

describe('canonicalForm', () => {
  it('is what a client computes from the values it sent', () => {
    const text = fc.string({ unit: 'binary' });
    fc.assert(
      fc.property(fc.dictionary(text, text, { maxKeys: 10 }), (sent) => {
        const expected = Object.keys(sent)
          .sort()
          .map((key) => `${encodeValue(key)}=${encodeValue(sent[key] ?? '')}`)
          .join('&');
        expect(canonical(new URLSearchParams(sent).toString())).toBe(expected);
      }),
    );
  });

  it('encodes all but letters, digits and -_.~', () => {
    expect(encodeValue("a b*~+/!'()-_.")).toBe('a%20b%2A~%2B%2F%21%27%28%29-_.');
    expect(encodeValue('你好,|世界')).toBe('%E4%BD%A0%E5%A5%BD%2C%7C%E4%B8%96%E7%95%8C');
  });

  it('encodes bytes that are no text as they came, so their sender can still prove who it is', () => {
    expect(canonical('a=%d5%c5+~*')).toBe('a=%D5%C5%20~%2A');
  });

  it.each([
    ['GET', 'sp_id=500001', 'a68a950507feba1ed9f1a4eec9f53a5936ab813c'],
    [
      'POST',
      new URLSearchParams({
        sp_id: '500001',
        template_id: '101',
        content: '【鸿雁】您有一张优惠券,点击 $url$ 领取,拒收请回复R',
        mobiles: '["13800000000","13900000000"]',
      }).toString(),
      'b568699a82f0a49178f36ce51e8c48e9295ec0be',
    ],
    [
      'POST',
      new URLSearchParams({
        sp_id: '500001',
        template_id: '102',
        content: '【鸿雁】账单已出 $url$',
        ext: '88',
        mobiles: '[["13800000000",["张三","a b*~+/"]],["13900000000",["李四","¥1.20"]]]',
        signature: 'left out',
      }).toString(),
      '5c4c0155e6219f0bb2ca023ad4c512b016f2aef5',
    ],
  ])('gives the signatures of the specification (%s %s)', (method, form, hex) => {
    expect(
      createHmac('sha1', 'demo-aim-password')
        .update(`${method}&%2F&${canonical(form)}`)
        .digest('hex'),
    ).toBe(hex);
  });
});
