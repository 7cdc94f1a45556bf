import { expect, it } from 'vitest';
import { configurationPage, readConfig } from './config.ts';

const key = '00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff';
const required = { HONGYAN_SECRET_KEY: key, HONGYAN_PUBLIC_URL: 'https://sms.example.com/' };

it('start needs a secret key and a public URL, and nothing else', () => {
  expect(() => readConfig({}, 'start')).toThrow(/HONGYAN_SECRET_KEY must be set\n.*HONGYAN_PUBLIC_URL must be set/);
  expect(readConfig(required, 'start')).toEqual({
    host: '0.0.0.0',
    port: 8080,
    dataDir: './data',
    databaseUrl: undefined,
    secretKey: key,
    publicUrl: 'https://sms.example.com',
    linkBase: 'https://sms.example.com/m',
    tlsCert: undefined,
    tlsKey: undefined,
    trustedProxies: [],
    connectionsPerAddress: 1000,
    requestsPerAddress: 500,
    metricsAddress: { host: '127.0.0.1', port: 9464 },
    stopGraceSeconds: 5,
    roles: ['api', 'dispatch', 'push', 'janitor'],
    logLevel: 'info',
    pushAllow: [],
    sandboxCarrierPorts: [],
  });
});

it('the other commands need nothing', () => {
  for (const command of ['sandbox', 'migrate', 'audit', 'restored', 'token'] as const)
    expect(readConfig({}, command).secretKey).toBeUndefined();
});

it('the sandbox listens on loopback only, knows its own address, and may push to loopback', () => {
  const config = readConfig(
    { HONGYAN_PORT: '9000', HONGYAN_PUSH_ALLOW: '10.0.0.0/8', HONGYAN_SANDBOX_CARRIER_PORTS: '7890, 7891' },
    'sandbox',
  );
  expect(config).toMatchObject({ host: '127.0.0.1', publicUrl: 'http://127.0.0.1:9000', linkBase: 'http://127.0.0.1:9000/m' });
  expect(config.pushAllow).toEqual(['127.0.0.0/8', '::1/128', '10.0.0.0/8']);
  expect(config.sandboxCarrierPorts).toEqual([7890, 7891]);
  expect(() => readConfig({ HONGYAN_HOST: '0.0.0.0' }, 'sandbox')).toThrow('HONGYAN_HOST must be 127.0.0.1');
  expect(readConfig({ HONGYAN_PORT: '0' }, 'sandbox').publicUrl).toBeUndefined();
});

it('an empty or blank value counts as unset, and other variables do not matter', () => {
  expect(readConfig({ ...required, HONGYAN_PORT: '', HONGYAN_HOST: ' ', PATH: '/bin', HONG: '1' }, 'start')).toMatchObject({
    port: 8080,
    host: '0.0.0.0',
  });
});

it('names every problem at once, and repeats no value', () => {
  const environment = {
    HONGYAN_PROT: 'v1',
    HONGYAN_PORT: '80v80',
    HONGYAN_HOST: 'v2',
    HONGYAN_DATABASE_URL: 'mysql://user:v3@host',
    HONGYAN_SECRET_KEY: 'v4',
    HONGYAN_PUBLIC_URL: 'sms.example.com/v5',
    HONGYAN_TLS_CERT: 'v6',
    HONGYAN_TRUSTED_PROXIES: '10.0.0.1, v7',
    HONGYAN_METRICS_ADDRESS: 'v8',
    HONGYAN_ROLES: 'api,v9',
    HONGYAN_LOG_LEVEL: 'v10',
    HONGYAN_PUSH_ALLOW: '10.0.0.0/33',
  };
  const refusal = () => readConfig(environment, 'start');
  expect(refusal).toThrow('HONGYAN_PROT is not a setting');
  expect(refusal).toThrow('HONGYAN_ROLES must be one of api, dispatch, push, janitor');
  expect(refusal).not.toThrow(/v\d/);
  const lines = new RegExp(`^[^\n]*(\n  HONGYAN_[^\n]*){${Object.keys(environment).length}}$`);
  expect(refusal).toThrow(lines);
});

it.each([
  ['HONGYAN_PORT', ['65536', '-1', '1e3', '0x50']],
  ['HONGYAN_TRUSTED_PROXIES', ['10', '10.0.0.0/', '::/129', '10.0.0.0/8/8', 'localhost']],
  ['HONGYAN_STOP_GRACE_SECONDS', ['-1', '1000', '5s', '0.5']],
  ['HONGYAN_METRICS_ADDRESS', ['9464', 'localhost:9464', '127.0.0.1:65536', '127.0.0.1']],
  ['HONGYAN_PUBLIC_URL', ['ftp://x', 'https://x/?a=b', 'https://user@x', '//x']],
  ['HONGYAN_SECRET_KEY', [key.slice(2), `${key},`, `${key},short`]],
])('%s refuses what it cannot mean', (variable, values) => {
  for (const value of values) expect(() => readConfig({ ...required, [variable]: value }, 'start'), value).toThrow(`${variable} must be`);
});

it('takes IPv6 addresses and ranges, and metrics may be off', () => {
  const environment = { ...required, HONGYAN_HOST: '::', HONGYAN_TRUSTED_PROXIES: '::1,fd00::/8', HONGYAN_METRICS_ADDRESS: '[::1]:9000' };
  expect(readConfig(environment, 'start')).toMatchObject({
    host: '::',
    trustedProxies: ['::1', 'fd00::/8'],
    metricsAddress: { host: '::1', port: 9000 },
  });
  expect(readConfig({ ...required, HONGYAN_METRICS_ADDRESS: 'off' }, 'start').metricsAddress).toBeUndefined();
});

it('docs/configuration.md says what the table says', async () => {
  await expect(configurationPage()).toMatchFileSnapshot('../docs/configuration.md');
});
