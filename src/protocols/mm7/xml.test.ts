import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ProtocolError } from '../wire/fields.ts';
import { childOf, escapeXml, parseXml } from './xml.ts';

describe('reading', () => {
  test('local names, namespaces in scope, attributes, text with entities and CDATA', () => {
    const root = parseXml(
      `\ufeff<?xml version="1.0"?><!-- hello --><s:a xmlns:s="urn:s" xmlns="urn:d"><b s:x="1&amp;2" y='&#20320;'/>` +
        `<s:c xmlns:s="urn:t"> a &lt; b &#x597d;<![CDATA[<&amp;>]]> </s:c></s:a>\r\n`,
    );
    expect(root).toMatchObject({ name: 'a', namespace: 'urn:s' });
    expect(childOf(root, 'b')).toMatchObject({ namespace: 'urn:d', text: '' });
    expect([...(childOf(root, 'b')?.attributes ?? [])]).toEqual([
      ['x', '1&2'],
      ['y', '你'],
    ]);
    expect(childOf(root, 'c')).toMatchObject({ namespace: 'urn:t', text: 'a < b 好<&amp;>' });
  });

  test('what is no entity of XML stays, what is no character does not', () => {
    expect(parseXml('<a>&foo; &amp;amp; &#0;&#xd800;&#x110000;</a>').text).toBe('&foo; &amp; \ufffd\ufffd\ufffd');
    const root = parseXml('<a b="\0"><![CDATA[\0]]>\0</a>');
    expect([root.attributes.get('b'), root.text]).toEqual(['\ufffd', '\ufffd\ufffd']);
  });

  test('an element that is empty, and a root followed by a comment', () => {
    expect(parseXml('<a/>')).toMatchObject({ name: 'a', children: [], text: '' });
    expect(parseXml('<a>b</a><!-- end -->').text).toBe('b');
  });
});

const bomb = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><a>&c;</a>';

describe('refusing', () => {
  test.each([
    ['nothing', ''],
    ['text', 'hello'],
    ['a document type', '<!DOCTYPE a><a/>'],
    ['one in another case, after a comment', '<!-- x --><!doctype a><a/>'],
    ['an entity bomb', bomb],
    ['an external entity', '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>'],
    ['depth', '<a>'.repeat(100_000)],
    ['depth that ends', `${'<a>'.repeat(200)}${'</a>'.repeat(200)}`],
    ['elements', `<a>${'<b/>'.repeat(40_000)}</a>`],
    ['size', `<a>${'x'.repeat(1 << 20)}</a>`],
    ['a comment without an end', `<a><!-- ${'<!-- '.repeat(10_000)}`],
    ['CDATA without an end', '<a><![CDATA['],
    ['what was cut off', '<a><b>1</b><b>2'],
    ['two roots', '<a/><b/>'],
    ['names that mean something to JavaScript', '<__proto__><constructor/></__proto__>'],
  ])('%s, quickly', (_, text) => {
    const from = performance.now();
    expect(() => parseXml(text)).toThrow(ProtocolError);
    expect(performance.now() - from).toBeLessThan(500);
  });
});

test('any text survives in an element and in an attribute, but for what XML cannot hold', () => {
  // oxlint-disable-next-line no-control-regex
  const legal = (text: string) => text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '');
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      const root = parseXml(`<a b="${escapeXml(text)}">${escapeXml(text)}</a>`);
      expect(root.text).toBe(legal(text).trim());
    }),
  );
  expect(parseXml(`<a b="${escapeXml('<"&>\'')}"/>`).attributes.get('b')).toBe('<"&>\'');
});
