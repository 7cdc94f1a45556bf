import { assert, property, string } from 'fast-check';
import { expect, test } from 'vitest';
import { belowId, Denial, keyOf, pageOf } from './management.ts';

const rows = [5n, 4n, 3n];
const cursorOf = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');

test('a page that is full and followed by more rows says where the next one begins', () => {
  const page = pageOf(rows, { limit: 2, cursor: null }, (id) => [id]);
  expect(page.data).toEqual([5n, 4n]);
  expect(belowId({ limit: 2, cursor: page.next })).toBe(4n);
});

test('the last page has no next one', () => {
  expect(pageOf(rows, { limit: 3, cursor: null }, (id) => [id]).next).toBeNull();
  expect(pageOf([], { limit: 3, cursor: null }, (id: bigint) => [id])).toEqual({ data: [], next: null });
});

test('a cursor keeps integers beyond exact numbers and any text', () => {
  const { next } = pageOf([1, 2], { limit: 1, cursor: null }, () => [-(2n ** 63n), 'ER:0013 "中"']);
  expect(keyOf({ limit: 1, cursor: next }, ['integer', 'text'])).toEqual([-(2n ** 63n), 'ER:0013 "中"']);
});

test('whatever is not a cursor of the list is denied as invalid', () => {
  const forged = [['9223372036854775808'], ['-1'], [5], ['5', '6'], [], 5, null, { length: 1 }, ['5; drop table accounts']].map(cursorOf);
  for (const cursor of [...forged, '', 'x', '%%%']) expect(() => keyOf({ limit: 1, cursor }, ['id'])).toThrow(Denial);
  expect(() => keyOf({ limit: 1, cursor: cursorOf(['a\0']) }, ['text'])).toThrow(Denial);
  expect(() => keyOf({ limit: 1, cursor: cursorOf(['9223372036854775807']) }, ['micros'])).toThrow(Denial);
  assert(
    property(string(), (cursor) => {
      expect(() => keyOf({ limit: 1, cursor }, ['integer'])).toThrow(Denial);
    }),
  );
});
