import path from 'node:path';
import type { TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { describe, expect, it, test } from 'vitest';
import { type Language, settingsPage } from '../../tools/channels-page.ts';
import { packageRoot } from '../std/package-root.ts';
import { channelKinds, kindOf, kindRules } from './kinds.ts';

const cmpp = { host: '10.0.0.1', port: 7890, spId: '901234', serviceId: 'HELP', ratePerSecond: 100 };
const mm7 = { url: 'https://mmsc.example.net/mm7', vaspId: '800001', vasId: '10690001', ratePerSecond: 50 };

describe.each(Object.entries(channelKinds))('%s', (name, kind) => {
  const settings = Object.entries<TSchema>(kind.settings.properties);

  it('is listed under its own name', () => expect(kindOf(name).name).toBe(name));

  test.each(settings)('%s has words in both languages, and a default that is allowed', (_, setting) => {
    expect(setting).toMatchObject({
      title: expect.stringMatching(/./),
      'x-title-en': expect.stringMatching(/./),
      description: expect.stringMatching(/^[ -~…’]+\.$/),
      'x-description-zh': expect.stringMatching(/[\u4e00-\u9fff].*。$/),
    });
    if ('default' in setting) expect(Compile(setting).Check(setting.default)).toBe(true);
  });
});

describe('settings are checked by the schema of their protocol', () => {
  /** All settings that a channel could have before settings were declared once. */
  const stored = {
    cmpp: {
      ...cmpp,
      version: '2.0',
      window: 32,
      feeUserType: 2,
      feeType: '01',
      feeCode: '000000',
      msgLevel: 1,
      longReferenceBits: 16,
      stripCountryCode: true,
      strictAuthenticator: true,
    },
    mm7: {
      ...mm7,
      serviceCode: '',
      authentication: 'digest',
      username: 'vasp',
      version: '6.8.0',
      namespace: 'REL-6-MM7-1-4',
      prefixes: 'prefixed',
      senderStyle: 'text',
      numberStyle: 'e164',
      sourceStyle: 'cid',
      soapAction: '"Submit"',
      messageClass: 'Auto',
      readReply: true,
      validityHours: 48,
      recipientsPerRequest: 50,
      concurrency: 8,
      probe: 'connect',
      allowedAddresses: ['10.0.0.0/8'],
      callbackUsername: 'mmsc',
    },
  };

  test.each([
    ['cmpp', cmpp],
    ['cmpp', stored.cmpp],
    ['cmpp', { ...cmpp, responseTimeoutMs: 30_000, keepAliveMs: 60_000, reconnectMaxMs: 5000, throttleTries: 10 }],
    ['mm7', mm7],
    ['mm7', stored.mm7],
    ['mm7', { ...mm7, priority: 'High', chargedParty: 'Neither', frameMs: 8000, gatherMs: 0, failuresUntilDown: 10 }],
  ])('%s takes %o', (protocol, settings) => expect(kindRules.problemOf(protocol, settings)).toBeNull());

  test.each([
    ['smpp', cmpp, 'protocol: must be one of cmpp, mm7'],
    ['toString', cmpp, 'protocol: must be one of cmpp, mm7'],
    ['cmpp', mm7, 'settings.host, settings.port, settings.spId, settings.serviceId: required'],
    ['cmpp', { ...cmpp, url: 'http://x/', priority: 'High' }, 'settings.url, settings.priority: unknown here'],
    ['cmpp', { ...cmpp, secret: 'x' }, 'settings.secret: unknown here'],
    ['cmpp', { ...cmpp, spId: '12345' }, 'settings.spId: must match pattern "^[!-~]{6,6}$"'],
    ['cmpp', { ...cmpp, port: 65_536 }, 'settings.port: must be <= 65535'],
    ['cmpp', { ...cmpp, ratePerSecond: 0 }, 'settings.ratePerSecond: must be > 0'],
    ['cmpp', { ...cmpp, version: '4.0' }, 'settings.version: must be one of 2.0, 3.0'],
    ['cmpp', { ...cmpp, responseTimeoutMs: 99 }, 'settings.responseTimeoutMs: must be >= 100'],
    ['cmpp', { ...cmpp, keepAliveMs: 1.5e3 + 0.5 }, 'settings.keepAliveMs: must be integer'],
    ['mm7', cmpp, 'settings.url, settings.vaspId, settings.vasId: required'],
    ['mm7', { ...mm7, url: 'ftp://x/' }, 'settings.url: must match pattern "^https?://[!-~]{1,500}$"'],
    ['mm7', { ...mm7, chargedParty: 'Nobody' }, 'settings.chargedParty: must be one of Sender, Recipient, Both, Neither, ThirdParty'],
    ['mm7', { ...mm7, allowedAddresses: [] }, 'settings.allowedAddresses: must not have fewer than 1 items'],
    ['mm7', { ...mm7, allowedAddresses: ['10.0.0.1', 'a b'] }, 'settings.allowedAddresses[1]: must match pattern "^[!-~]{2,50}$"'],
    ['mm7', null, 'settings: must be object'],
  ])('%s refuses %o', (protocol, settings, problem) => expect(kindRules.problemOf(protocol, settings)).toBe(problem));
});

it.each([
  ['en', 'docs/channels.md'],
  ['zh', 'docs/channels.zh-CN.md'],
] satisfies [Language, string][])('the page in %s says what the kinds say', async (language, file) => {
  await expect(settingsPage(Object.values(channelKinds), language)).toMatchFileSnapshot(path.join(packageRoot(), file));
});
