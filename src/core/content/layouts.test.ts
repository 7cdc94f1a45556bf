/** Cards: what is accepted as a template, which parameters it has, and what is left after filling it. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Card, fillCard, validateCard } from './layouts.ts';

const notice = {
  layout: 'notice',
  title: '${name}，账单已出',
  rows: [
    { label: '户名', value: '${name}' },
    { label: '金额', value: '¥${amount}' },
  ],
  buttons: [{ label: '查看', action: 'url', value: 'https://example.com/bill?of=${id}' }],
};
const imageText = {
  layout: 'image_text',
  title: '优惠券',
  text: '满一百减二十',
  media: [{ type: 'image', url: 'https://example.com/coupon.png' }],
  buttons: [
    { label: '致电', action: 'tel', value: '+86 400-123-4567' },
    { label: '复制', action: 'copy', value: 'A1B2' },
  ],
};

function accepted(json: unknown): { card: Card; parameters: readonly string[] } {
  const result = validateCard(json);
  if ('error' in result) throw new Error(result.error);
  return result;
}
const refused = (json: unknown): string => {
  const result = validateCard(json);
  return 'error' in result ? result.error : 'accepted';
};

describe('validateCard', () => {
  it('takes both layouts and names the parameters in order of first appearance', () => {
    expect(accepted(notice).parameters).toEqual(['name', 'amount', 'id']);
    expect(accepted(imageText)).toEqual({ card: imageText, parameters: [] });
    expect(accepted({ layout: 'image_text', title: '${姓名}${a}${姓名}' }).parameters).toEqual(['姓名', 'a']);
  });

  it('numbers the parameters as the card is read, whatever the order of keys, which the database does not keep', () => {
    const { layout, title, rows, buttons } = notice;
    expect(accepted({ buttons, rows, title, layout }).parameters).toEqual(['name', 'amount', 'id']);
  });

  it.each<[string, unknown]>([
    ['layout: ', null],
    ['layout: ', []],
    ['layout: ', { layout: 'video', title: 'x' }],
    ['layout: ', { layout: 'toString', title: 'x' }],
    ['title: 缺少此项', { layout: 'image_text' }],
    ['title: 不能为空', { ...imageText, title: '' }],
    ['title: 不得多于 60 个字符', { ...imageText, title: 'x'.repeat(61) }],
    ['title: 类型应为 string', { ...imageText, title: 1 }],
    ['colour: 没有这一项', { ...imageText, colour: 'red' }],
    ['rows: 不得少于 1 项', { ...notice, rows: [] }],
    ['rows: 缺少此项', { layout: 'notice', title: 'x' }],
    ['rows[1].value: 缺少此项', { ...notice, rows: [notice.rows[0], { label: 'x' }] }],
    ['buttons[0].action: 必须是 url、tel、copy 之一', { ...notice, buttons: [{ label: 'x', action: 'open', value: 'x' }] }],
    ['buttons[0].value: 必须是 http 或 https 地址', { ...notice, buttons: [{ label: 'x', action: 'url', value: 'javascript:alert(1)' }] }],
    ['buttons[0].value: 必须是 http 或 https 地址', { ...notice, buttons: [{ label: 'x', action: 'url', value: 'https://a b/' }] }],
    ['buttons[0].value: 必须是电话号码', { ...notice, buttons: [{ label: 'x', action: 'tel', value: '+*#' }] }],
    ['buttons: 不得多于 4 项', { ...notice, buttons: Array(5).fill(notice.buttons[0]) }],
    ['media[0].url: 媒体地址不支持占位符', { ...imageText, media: [{ type: 'image', url: 'https://example.com/${x}.png' }] }],
    ['media[0].url: 必须是 http 或 https 地址', { ...imageText, media: [{ type: 'image', url: 'data:image/png;base64,AA' }] }],
    ['media[0].type: 必须是 image', { ...imageText, media: [{ type: 'video', url: 'https://example.com/' }] }],
    ['text: 占位符 ${} 的名称', { ...imageText, text: '${}' }],
    ['text: 占位符 ${a b} 的名称', { ...imageText, text: '${a b}' }],
    ['text: 占位符 ${ 没有正确结束', { ...imageText, text: '金额 ${amount 元' }],
    ['text: 占位符 ${ 没有正确结束', { ...imageText, text: '${a${b}' }],
    ['text: 含有不可用的字符', { ...imageText, text: 'a\0' }],
    ['text: 含有不可用的字符', { ...imageText, text: 'a\ud800' }],
    ['card: 参数不得多于 20 个', { ...imageText, text: Array.from({ length: 21 }, (_, i) => `\${p${i}}`).join('') }],
  ])('refuses with %s', (reason, json) => {
    expect(refused(json)).toContain(reason);
  });

  it('random JSON is answered, never thrown at', () => {
    fc.assert(fc.property(fc.jsonValue(), (json) => void validateCard(json)));
    fc.assert(
      fc.property(fc.jsonValue(), fc.jsonValue(), (rows, buttons) => void validateCard({ layout: 'notice', title: 'x', rows, buttons })),
    );
  });
});

describe('fillCard', () => {
  it('puts each value where its name stands', () => {
    expect(fillCard(accepted(notice).card, ['张三', '1.20', '7'])).toEqual({
      layout: 'notice',
      title: '张三，账单已出',
      rows: [
        { label: '户名', value: '张三' },
        { label: '金额', value: '¥1.20' },
      ],
      buttons: [{ label: '查看', action: 'url', value: 'https://example.com/bill?of=7' }],
    });
  });

  it('encodes in an address what cannot stand there', () => {
    const [button] = fillCard(accepted(notice).card, ['', '', '张 三%20&"']).buttons ?? [];
    expect(button?.value).toBe('https://example.com/bill?of=%E5%BC%A0%20%E4%B8%89%20&%22');
  });

  it('a value is text: it is not searched for placeholders, nor for replacement patterns', () => {
    const filled = fillCard(accepted(notice).card, ['${amount}', "$&$1$'", '1']);
    expect(filled.title).toBe('${amount}，账单已出');
    expect(filled).toMatchObject({ rows: [{}, { value: "¥$&$1$'" }] });
  });

  it('leaves out a button whose value became unusable', () => {
    const { card } = accepted({
      layout: 'image_text',
      title: 'x',
      buttons: [
        { label: 'a', action: 'url', value: '${link}' },
        { label: 'b', action: 'tel', value: '${phone}' },
        { label: 'c', action: 'copy', value: '${code}' },
      ],
    });
    const labels = (...values: string[]) => fillCard(card, values).buttons?.map(({ label }) => label);
    expect(labels('https://example.com', '10086', 'x')).toEqual(['a', 'b', 'c']);
    for (const link of [
      'javascript:alert(1)',
      'JaVaScRiPt:alert(1)',
      'data:text/html,x',
      '//example.com',
      'https:evil',
      'https://a\nb',
      'http://',
      'https://\\x',
      "https://a;script-src'self'/",
    ]) {
      expect(labels(link, '10086', 'x'), link).toEqual(['b', 'c']);
    }
    expect(labels('https://example.com', '1;2', '')).toEqual(['a']);
    expect(labels()).toEqual([]);
  });

  it('cuts a value of megabytes', () => {
    expect(fillCard(accepted(notice).card, ['x'.repeat(1e6)]).title.length).toBeLessThan(600);
  });
});
