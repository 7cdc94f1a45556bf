// The settings of a process: those that must be known before PostgreSQL can be reached. Settings that an operator changes while the
// platform runs are in the database instead. Only this file reads the environment.
//
// One table below describes each setting completely; docs/configuration.md is made from it.
import ipaddr from 'ipaddr.js';
import { type LogLevel, logLevels } from './log.ts';
import { createSecretBox } from './std/secret-box.ts';

export type Command = 'start' | 'sandbox' | 'migrate' | 'audit' | 'restored' | 'token';

const allRoles = ['api', 'dispatch', 'push', 'janitor'] as const;
type Role = (typeof allRoles)[number];

export interface Config {
  readonly host: string;
  /** 0 means any free port. */
  readonly port: number;
  readonly dataDir: string;
  /** If undefined, a PostgreSQL of our own is started in the data directory. */
  readonly databaseUrl: string | undefined;
  /** The keys for `createSecretBox`. Always set for `start`; the sandbox makes its own. */
  readonly secretKey: string | undefined;
  /** Without a slash at the end. Always set for `start`; elsewhere derived from the port unless that is 0. */
  readonly publicUrl: string | undefined;
  readonly linkBase: string | undefined;
  /** Paths of PEM files; both are set or neither is. */
  readonly tlsCert: string | undefined;
  readonly tlsKey: string | undefined;
  /** Addresses or CIDR ranges. */
  readonly trustedProxies: readonly string[];
  readonly connectionsPerAddress: number;
  readonly requestsPerAddress: number;
  readonly metricsAddress: { readonly host: string; readonly port: number } | undefined;
  /** How long a stopping node still accepts requests. */
  readonly stopGraceSeconds: number;
  readonly roles: readonly Role[];
  readonly logLevel: LogLevel;
  /** Addresses or CIDR ranges. */
  readonly pushAllow: readonly string[];
  /** The ports of the simulated carriers, in order; carriers beyond the list take free ports. */
  readonly sandboxCarrierPorts: readonly number[];
}

interface Setting<T> {
  variable: `HONGYAN_${string}`;
  /** The value of an unset variable, as it would be written. Without a fallback, an unset setting is undefined. */
  fallback?: string;
  /** Throws if the text is malformed. The message completes "must be …" and does not contain the value, which may be secret. */
  parse(text: string): T;
  about: string;
}

const settings: { readonly [Key in keyof Config]: Setting<Config[Key]> } = {
  port: {
    variable: 'HONGYAN_PORT',
    fallback: '8080',
    parse: port,
    about: 'Port of the customers’ APIs and the management API. 0 means any free port.',
  },
  host: {
    variable: 'HONGYAN_HOST',
    fallback: '0.0.0.0',
    parse: address,
    about: 'Address to listen on. The sandbox listens only on 127.0.0.1.',
  },
  dataDir: {
    variable: 'HONGYAN_DATA_DIR',
    fallback: './data',
    parse: (text) => text,
    about: 'Folder of the embedded database and, in the sandbox, of the secret key. Only one process at a time can use it.',
  },
  databaseUrl: {
    variable: 'HONGYAN_DATABASE_URL',
    parse: url('postgres:', 'postgresql:'),
    about:
      'PostgreSQL to use, as `postgres://user:password@host:port/database`. Without it, the program starts its own PostgreSQL in the data folder.',
  },
  secretKey: {
    variable: 'HONGYAN_SECRET_KEY',
    parse: secretKey,
    about:
      'Key that encrypts the secrets stored in the database. 32 bytes in hex or base64, for example from `openssl rand -hex 32`. While you change keys, give several, separated by commas: the first encrypts, all decrypt. Required by `start`; the sandbox generates one.',
  },
  publicUrl: {
    variable: 'HONGYAN_PUBLIC_URL',
    parse: baseUrl,
    about:
      'URL at which customers and phones reach this platform, as `https://sms.example.com`. Required by `start`; the sandbox uses its own address.',
  },
  linkBase: {
    variable: 'HONGYAN_LINK_BASE',
    parse: baseUrl,
    about: 'URL with which short links in messages begin. If it is not set: HONGYAN_PUBLIC_URL followed by `/m`.',
  },
  tlsCert: {
    variable: 'HONGYAN_TLS_CERT',
    parse: (text) => text,
    about: 'Path of the certificate (PEM, with its chain) for HTTPS. Needs HONGYAN_TLS_KEY.',
  },
  tlsKey: { variable: 'HONGYAN_TLS_KEY', parse: (text) => text, about: 'Path of the certificate’s private key (PEM).' },
  trustedProxies: {
    variable: 'HONGYAN_TRUSTED_PROXIES',
    fallback: '',
    parse: ranges,
    about:
      'Addresses or CIDR ranges, separated by commas, of the proxies whose `X-Forwarded-For` the program trusts. Without it, the program trusts no such header.',
  },
  connectionsPerAddress: {
    variable: 'HONGYAN_CONNECTIONS_PER_ADDRESS',
    fallback: '1000',
    parse: count,
    about: 'Connections that one address may have open (for IPv6: a /64). Trusted proxies may have any number.',
  },
  requestsPerAddress: {
    variable: 'HONGYAN_REQUESTS_PER_ADDRESS',
    fallback: '500',
    parse: count,
    about: 'Requests of one address that may be under way at the same time. Further requests are answered with 429.',
  },
  metricsAddress: {
    variable: 'HONGYAN_METRICS_ADDRESS',
    fallback: '127.0.0.1:9464',
    parse: addressAndPort,
    about: 'Address and port of `/metrics`, or `off`. The sandbox has none unless this is set.',
  },
  roles: {
    variable: 'HONGYAN_ROLES',
    fallback: allRoles.join(','),
    parse: list(oneOf(allRoles)),
    about: 'Roles of this process, separated by commas, if several processes share the work.',
  },
  stopGraceSeconds: {
    variable: 'HONGYAN_STOP_GRACE_SECONDS',
    fallback: '5',
    parse: seconds,
    about:
      'How long a stopping process still takes requests while `/healthz` answers 503. It must be longer than a load balancer needs to notice; set 0 if there is no load balancer. The sandbox does not wait.',
  },
  logLevel: {
    variable: 'HONGYAN_LOG_LEVEL',
    fallback: 'info',
    parse: oneOf(logLevels),
    about: `Least important level to log: ${logLevels.join(', ')}. In the sandbox, the default is warn.`,
  },
  pushAllow: {
    variable: 'HONGYAN_PUSH_ALLOW',
    fallback: '',
    parse: ranges,
    about:
      'Private addresses or CIDR ranges, separated by commas, that customers’ push URLs may reach. The sandbox always allows loopback.',
  },
  sandboxCarrierPorts: {
    variable: 'HONGYAN_SANDBOX_CARRIER_PORTS',
    fallback: '',
    parse: list(port),
    about:
      'Ports of the sandbox’s simulated carriers, separated by commas, in the order in which the sandbox prints them. Without it, free ports.',
  },
};

const loopback = ['127.0.0.0/8', '::1/128'];

/** Reads the settings for a command. Throws one Error that names all problems; its message contains no value. */
export function readConfig(environment: Readonly<Record<string, string | undefined>>, command: Command): Config {
  const problems: string[] = [];
  const known = new Set<string>(Object.values(settings).map(({ variable }) => variable));
  for (const variable of Object.keys(environment).sort()) {
    if (variable.startsWith('HONGYAN_') && !known.has(variable)) problems.push(`${variable} is not a setting`);
  }

  const read = <Key extends keyof Config>(key: Key): Config[Key] | undefined => {
    const setting: Setting<Config[Key]> = settings[key];
    const text = environment[setting.variable]?.trim() || setting.fallback; // empty means unset, as in compose files
    if (text === undefined) return undefined;
    try {
      return setting.parse(text);
    } catch (error) {
      problems.push(`${setting.variable} must be ${error instanceof Error ? error.message : ''}`);
      return undefined;
    }
  };
  const values = Object.fromEntries(Object.keys(settings).map((key) => [key, read(key as keyof Config)])) as unknown as Config;

  const isSet = (key: keyof Config) => Boolean(environment[settings[key].variable]?.trim());
  if (isSet('tlsCert') !== isSet('tlsKey')) problems.push('HONGYAN_TLS_CERT and HONGYAN_TLS_KEY must be set together');
  if (command === 'start') {
    for (const key of ['secretKey', 'publicUrl'] as const) if (!isSet(key)) problems.push(`${settings[key].variable} must be set`);
  }
  if (command === 'sandbox' && isSet('host') && values.host !== '127.0.0.1')
    problems.push('HONGYAN_HOST must be 127.0.0.1 in the sandbox, or unset');
  if (problems.length > 0) throw new Error(`the settings cannot be used:\n${problems.map((problem) => `  ${problem}`).join('\n')}`);

  const isSandbox = command === 'sandbox';
  const scheme = values.tlsCert === undefined ? 'http' : 'https';
  const publicUrl = values.publicUrl ?? (values.port === 0 ? undefined : `${scheme}://127.0.0.1:${values.port}`);
  return Object.freeze({
    ...values,
    host: isSandbox ? '127.0.0.1' : values.host,
    // Several sandboxes may run side by side, and nobody monitors them.
    metricsAddress: isSandbox && !isSet('metricsAddress') ? undefined : values.metricsAddress,
    logLevel: isSandbox && !isSet('logLevel') ? 'warn' : values.logLevel,
    publicUrl,
    linkBase: values.linkBase ?? (publicUrl === undefined ? undefined : `${publicUrl}/m`),
    pushAllow: isSandbox ? [...loopback, ...values.pushAllow] : values.pushAllow,
  });
}

/** The page docs/configuration.md. */
export function configurationPage(): string {
  const rows = Object.values(settings).map(
    ({ variable, fallback, about }) => `| \`${variable}\` | ${fallback ? `\`${fallback}\`` : ''} | ${about} |`,
  );
  return `# Configuration

<!-- Made from the table in src/config.ts; to refresh it: npx vitest run src/config.test.ts -u -->

The settings of a process are environment variables. If a \`HONGYAN_…\` variable is unknown or a value is malformed, the program does not
start and names every problem in one message. An empty value counts as unset. Settings that an operator changes while the platform runs are
not here; the management API sets them.

| variable | default | meaning |
|---|---|---|
${rows.join('\n')}
`;
}

// --- forms of values; their error messages complete "must be …"

function port(text: string): number {
  if (!/^\d{1,5}$/.test(text) || Number(text) > 65535) throw new Error('a port number from 0 to 65535');
  return Number(text);
}

function seconds(text: string): number {
  if (!/^\d{1,3}$/.test(text)) throw new Error('a number of seconds from 0 to 999');
  return Number(text);
}

function address(text: string): string {
  if (!isAddress(text)) throw new Error('an IP address');
  return text;
}

function isAddress(text: string): boolean {
  return ipaddr.IPv4.isValidFourPartDecimal(text) || ipaddr.IPv6.isValid(text);
}

function addressAndPort(text: string): { host: string; port: number } | undefined {
  if (text === 'off') return undefined;
  const [, host = '', number = ''] = /^(.+):(\d+)$/.exec(text) ?? [];
  const bare = host.replace(/^\[(.*)\]$/, '$1');
  if (!isAddress(bare) || Number(number) > 65535) throw new Error('an IP address and a port, such as 127.0.0.1:9464 or [::1]:9464, or off');
  return { host: bare, port: Number(number) };
}

function count(text: string): number {
  if (!/^[1-9]\d{0,6}$/.test(text)) throw new Error('a number from 1 to 9999999');
  return Number(text);
}

function ranges(text: string): string[] {
  return list((range) => {
    const [first = '', bits, ...rest] = range.split('/');
    const most = ipaddr.IPv4.isValidFourPartDecimal(first) ? 32 : 128;
    const isRange = bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= most);
    if (!isAddress(first) || !isRange || rest.length > 0) throw new Error('IP addresses or CIDR ranges, separated by commas');
    return range;
  })(text);
}

function url(...protocols: string[]): (text: string) => string {
  return (text) => {
    if (!URL.canParse(text) || !protocols.includes(new URL(text).protocol)) {
      throw new Error(`a URL that begins with ${protocols.map((protocol) => `${protocol}//`).join(' or ')}`);
    }
    return text;
  };
}

function baseUrl(text: string): string {
  const parsed = new URL(url('http:', 'https:')(text));
  if (parsed.search || parsed.hash || parsed.username) throw new Error('a URL without user, query or fragment');
  return text.replace(/\/+$/, '');
}

function secretKey(text: string): string {
  try {
    createSecretBox(text);
  } catch {
    throw new Error('one or more keys, separated by commas, each of 32 bytes in hex or base64 (try: openssl rand -hex 32)');
  }
  return text;
}

function oneOf<T extends string>(allowed: readonly T[]): (text: string) => T {
  return (text) => {
    const found = allowed.find((value) => value === text);
    if (found === undefined) throw new Error(`one of ${allowed.join(', ')}`);
    return found;
  };
}

function list<T>(parse: (text: string) => T): (text: string) => T[] {
  return (text) => [...new Set(text.split(',').map((part) => part.trim()))].filter((part) => part !== '').map(parse);
}
