import { afterAll, beforeAll, expect, test } from 'vitest';
import * as contract from '../../../contract/index.ts';
import { type Platform, startAimPlatform } from '../../../test/kit/aim-platform.ts';
import * as core from '../../core/content/layouts.ts';
import { provinces } from '../../core/model/configuration.ts';

let platform: Platform;
beforeAll(async () => {
  platform = await startAimPlatform();
});
afterAll(() => platform.stop());

test('the committed document is the one that the running program serves', async () => {
  const { text } = await platform.call('/v1/openapi.json');
  await expect(
    `${JSON.stringify(JSON.parse(text), null, 2)}\n`,
    'contract/openapi.json is not the document that the program serves at /v1/openapi.json. Write it anew with `npm run openapi`, and look at what changes for clients',
  ).toMatchFileSnapshot('../../../contract/openapi.json');
});

test('what the contract and the core both declare, since neither imports the other, is the same', () => {
  expect(contract.cardSchema).toEqual(core.cardSchema);
  expect(contract.provinces).toEqual(provinces);
});
