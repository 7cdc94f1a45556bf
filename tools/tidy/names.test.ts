import { describe, expect, it } from 'vitest';
import { checkNames, checkPlaces, type Owned } from './names.ts';
import { parse } from './source.ts';

const parsed = (file: string, text: string) => parse({ file, text });

describe('the checks of names', () => {
  const owned: Owned[] = [
    { name: 'cmpp', homes: ['src/channels/cmpp.ts'] },
    { name: 'mm7', homes: ['src/channels/mm7', 'src/protocols/mm7'] },
    { name: '3yit', homes: ['src/http/dialects'] },
  ];

  it.each([
    ['src/core/a.ts', `type Protocol = 'cmpp' | string;`],
    ['src/http/a.ts', 'const path = `/mm7/${id}`;'],
    ['src/channels/cmpp.ts', `const other = 'MM7';`],
    ['src/core/a.ts', `if (subscription.dialect === '3yit') return;`],
  ])('names: %s with %s', (file, text) => expect(checkNames(parsed(file, text), owned)).toHaveLength(1));

  it.each([
    ['src/channels/mm7/door.ts', `const prefix = '/mm7';`],
    ['src/http/dialects/yit3/aim.ts', `const name = '3yit';`],
    ['src/core/a.ts', `import { x } from '../protocols/mm7/smil.ts'; // cmpp`],
    ['src/core/a.ts', `const x = 'mm7s or 3yits';`],
    ['src/core/a.test.ts', `const x = 'mm7';`],
  ])('names: nothing against %s with %s', (file, text) => expect(checkNames(parsed(file, text), owned)).toEqual([]));

  it('places: paths of a machine and registries, but no relative paths and no web addresses', () => {
    const bad = [
      'const x = "/root/project/x";',
      'see /home/jane/notes',
      'registry=https://npm.example.com',
      '"resolved": "https://npm.example.com/x.tgz"',
    ];
    for (const text of bad) expect(checkPlaces({ file: 'a', text }), text).toHaveLength(1);
    const good = 'src/work/a.ts, ./root/x, https://example.com/home/jane/x, "resolved": "file:x.tgz", /tmp';
    expect(checkPlaces({ file: 'a', text: good })).toEqual([]);
  });
});
