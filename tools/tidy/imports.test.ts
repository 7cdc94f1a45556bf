import { describe, expect, it } from 'vitest';
import { checkCore, checkCycles, checkReserved, checkRooms, staleCore, staleReserved, staleRooms } from './imports.ts';
import { parse } from './source.ts';

const parsed = (file: string, text: string) => parse({ file, text });

describe('the checks of imports', () => {
  it.each([
    ['src/std/a.ts', `import { x } from '../core/b.ts';`],
    ['src/core/a.ts', `import type { X } from '../http/server.ts';`],
    ['src/core/a.ts', `import { x } from '../protocols/cmpp.ts';`],
    ['src/core/a.ts', `export { x } from '../channels/cmpp.ts';`],
    ['src/core/a.ts', `const x = await import('../channels/cmpp.ts');`],
    ['src/http/server.ts', `import { x } from '../db/db.ts';`],
    ['src/http/dialects/yit3/aim.ts', `import { x } from '../ihuyi/mms-v1.ts';`],
    ['src/core/a.ts', `import { x } from './b.test.ts';`],
    ['simulators/a.ts', `import { x } from '../src/core/b.ts';`],
    ['simulators/a.ts', `import type { X } from '../src/channels/channel.ts';`],
    ['src/channels/a.ts', `import { x } from '../../simulators/b.ts';`],
    ['src/core/a.ts', `import { x } from '../../contract/index.ts';`],
    ['contract/a.ts', `import { x } from '../src/std/shanghai.ts';`],
    ['src/utils/a.ts', ''],
  ])('rooms: %s with %s', (file, text) => {
    expect(checkRooms([parsed(file, text)])).toHaveLength(1);
  });

  it('rooms: what is allowed is allowed', () => {
    const text = `import { x } from '../db/db.ts'; import y from './ids.ts'; import z from '../protocols/text.ts'; import 'node:fs';`;
    expect(checkRooms([parsed('src/core/a.ts', text), parsed('src/core/a.test.ts', `import '../http/server.ts';`)])).toEqual([]);
  });

  it('rooms: a channel may load its simulator when it is asked to', () => {
    const text = `import type { X } from '../../simulators/b.ts'; const load = () => import('../../simulators/b.ts');`;
    expect(checkRooms([parsed('src/channels/a.ts', text)])).toEqual([]);
  });

  it('rooms: tests share a kit, but what they share is in a room too', () => {
    expect(checkRooms([parsed('test/kit/a.ts', `import '../stories/b.ts';`)])).toHaveLength(1);
    expect(checkRooms([parsed('test/stories/a.test.ts', `import '../crash/b.ts';`)])).toEqual([]);
  });

  it('rooms: a permission that nobody uses', () => {
    const used = parsed('src/core/queue/a.ts', `import '../../std/b.ts';`);
    const complaint = 'nothing in src/core imports src/std: take it off the table';
    expect(staleRooms([parsed('src/core/queue/a.ts', '')])).toEqual(expect.arrayContaining([complaint, 'there is no room src/http']));
    expect(staleRooms([used])).not.toContain(complaint);
  });

  it('core: upwards, and a pair that is not listed', () => {
    const upwards = parsed('src/core/model/a.ts', `import type { X } from '../queue/b.ts';`);
    const unlisted = parsed('src/core/money/a.ts', `import { x } from '../config/b.ts';`);
    expect(checkCore([upwards, unlisted])).toEqual([
      'src/core/model/a.ts imports core/queue: core/model does not',
      'src/core/money/a.ts imports core/config: core/money does not',
    ]);
    expect(checkCore([parsed('src/core/queue/a.ts', `import './b.ts'; import '../model/c.ts'; import '../../std/d.ts';`)])).toEqual([]);
  });

  it('core: a listed pair that nobody needs', () => {
    const complaint = 'nothing in core/queue imports core/model: take it off the table';
    expect(staleCore([])).toContain(complaint);
    expect(staleCore([parsed('src/core/queue/a.ts', `import '../model/c.ts';`)])).not.toContain(complaint);
  });

  it('cycles, also of types and of three', () => {
    const files = [
      parsed('src/core/a.ts', `import './b.ts';`),
      parsed('src/core/b.ts', `import type { C } from './c.ts';`),
      parsed('src/core/c.ts', `import { a } from './a.ts';`),
    ];
    expect(checkCycles(files)).toEqual(['import cycle: src/core/a.ts → src/core/b.ts → src/core/c.ts → src/core/a.ts']);
    expect(checkCycles(files.slice(0, 2))).toEqual([]);
  });

  it.each([
    ['src/core/a.ts', 'const { HOME } = process.env;'],
    ['src/app.ts', `f(process.env.HOME);`],
    ['src/core/a.ts', `import postgres from 'postgres';`],
    ['src/core/a.ts', `import net from 'node:net';`],
    ['src/core/a.ts', `import { connect, isIP } from 'net';`],
    ['src/workers/a.ts', `import { request } from 'undici';`],
    ['contract/a.ts', `import type { FastifyRequest } from 'fastify';`],
  ])('reserved: %s with %s', (file, text) => {
    expect(checkReserved([parsed(file, text)])).toHaveLength(1);
  });

  it('reserved: types and harmless functions of socket modules are nobody’s business', () => {
    const text = `import { isIP } from 'node:net'; import type { IncomingMessage } from 'node:http'; import { type Socket, BlockList } from 'node:net';`;
    expect(checkReserved([parsed('src/core/a.ts', text)])).toEqual([]);
  });

  it('reserved: a place that touches nothing', () => {
    const complaint = 'src/main.ts does not touch the environment: take it off the list';
    expect(staleReserved([parsed('src/main.ts', '')])).toEqual(
      expect.arrayContaining([complaint, 'nothing in contract imports the package typebox: take it off the list']),
    );
    expect(staleReserved([parsed('src/main.ts', 'f(process.env);')])).not.toContain(complaint);
  });
});
