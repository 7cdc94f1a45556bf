/**
 * Authentication: credentials, signatures, the IP allow-list, and a limit on guessing.
 *
 * The functions here decide only from their arguments; the dialect chooses the code that answers a failure. Secrets are compared in
 * constant time.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import ipaddr from 'ipaddr.js';

type Address = ReturnType<typeof ipaddr.parse>;
type Range = ReturnType<typeof ipaddr.parseCIDR>;

// ── credentials ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** True if the texts are equal. The time depends only on their length. */
function equal(given: string, expected: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(expected)];
  return a.length === b.length && timingSafeEqual(a, b);
}

/** True if `given` is the hex md5 of the text, in either case. The text is a password (AIM) or the signed text (MMS). */
export function isMd5Of(given: string, text: string): boolean {
  return equal(given.toLowerCase(), createHash('md5').update(text).digest('hex'));
}

/**
 * True if `given` is the HMAC-SHA1 of the text under the password in one of the three encodings that clients use: base64 of the
 * digest, base64 of its hex text, or the hex text. A space counts as a `+`, because form decoding turns one into the other.
 */
export function isSignature(given: string, text: string, password: string): boolean {
  const digest = createHmac('sha1', password).update(text).digest();
  const hex = digest.toString('hex');
  const signature = given.replaceAll(' ', '+');
  // All three are compared, so that the time does not reveal which one was close.
  const matches = [
    equal(signature, digest.toString('base64')),
    equal(signature, Buffer.from(hex).toString('base64')),
    equal(signature.toLowerCase(), hex),
  ];
  return matches.includes(true);
}

// ── addresses ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** An address in its usual form; IPv4 inside IPv6 becomes IPv4. Null if the text is not an address. */
export function normaliseAddress(text: string): string | null {
  if (plainIpv4.test(text)) return text;
  const address = parseAddress(text);
  return address ? address.toString() : null;
}

const plainIpv4 = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/;

function parseAddress(text: string): Address | null {
  // ipaddr.js also accepts `127.1` and octal parts; here an address must be written in full.
  if (!text.includes(':') && !plainIpv4.test(text)) return null;
  // The zone of a link-local address (`fe80::1%eth0`) names an interface of this machine, not the caller.
  const unzoned = text.replace(/%.*$/, '');
  return ipaddr.isValid(unzoned) ? ipaddr.process(unzoned) : null;
}

function parseRange(text: string): Range | null {
  const slash = text.indexOf('/');
  if (slash === -1) {
    const address = parseAddress(text);
    return address && [address, address.kind() === 'ipv4' ? 32 : 128];
  }
  const address = text.slice(0, slash);
  const bits = text.slice(slash + 1);
  const parsed = parseAddress(address);
  if (!parsed || !/^\d{1,3}$/.test(bits)) return null;
  // ::ffff:10.0.0.0/104 is the same range as 10.0.0.0/8.
  const mapped = address.includes(':') && parsed.kind() === 'ipv4';
  const length = Number(bits) - (mapped ? 96 : 0);
  return length >= 0 && length <= (parsed.kind() === 'ipv4' ? 32 : 128) ? [parsed, length] : null;
}

const isWithin = (address: Address, [base, bits]: Range): boolean => address.kind() === base.kind() && address.match(base, bits);

/** The parsed ranges of each list. A changed list is another array, so the old list's ranges are collected with it. */
const parsedLists = new WeakMap<readonly string[], readonly Range[]>();

function rangesOf(list: readonly string[]): readonly Range[] {
  let ranges = parsedLists.get(list);
  if (!ranges) {
    ranges = list.flatMap((entry) => {
      const range = parseRange(entry.trim());
      return range ? [range] : [];
    });
    parsedLists.set(list, ranges);
  }
  return ranges;
}

/** True if the address is in the list of addresses and CIDR ranges. An entry that is neither matches nothing. */
export function isListed(list: readonly string[], address: string): boolean {
  if (list.length === 0) return false;
  const parsed = parseAddress(address);
  return parsed !== null && rangesOf(list).some((range) => isWithin(parsed, range));
}

/**
 * The caller's address. A peer that is not a trusted proxy is the caller itself, whatever `X-Forwarded-For` says. Behind trusted proxies,
 * the caller is the right-most hop that is not a trusted proxy. A hop that is not an address ends the search at the proxy that wrote it.
 */
export function clientAddress(peer: string | undefined, forwardedFor: string | undefined, trustedProxies: readonly string[]): string {
  let address = normaliseAddress(peer ?? '') ?? '0.0.0.0';
  if (forwardedFor === undefined || trustedProxies.length === 0) return address;
  const hops = forwardedFor.split(',');
  while (hops.length > 0 && isListed(trustedProxies, address)) {
    const hop = normaliseAddress((hops.pop() ?? '').trim().replace(/^\[(.*)\](?::\d+)?$|^([\d.]+):\d+$/, '$1$2'));
    if (hop === null) break;
    address = hop;
  }
  return address;
}

/**
 * True if a `Host` header names this machine's loopback. A stranger's page may resolve its own name to 127.0.0.1, but its requests still
 * carry that name here.
 */
export function isLoopbackHost(host: string | undefined): boolean {
  const name = /^(\[[0-9A-Fa-f:.]+\]|[^:[\]]+)(?::\d{1,5})?$/.exec(host ?? '')?.[1]?.toLowerCase();
  if (name === undefined) return false;
  if (name === 'localhost') return true;
  const address = parseAddress(name.replace(/^\[|\]$/g, ''));
  return address?.range() === 'loopback';
}

// ── guessing ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface FailureLimiter {
  /** True if this caller has failed too often; its requests are refused for the rest of the minute. */
  isBlocked(address: string, subject: string): boolean;
  failed(address: string, subject: string): void;
}

/**
 * Counts failed credentials by (address, subject) in windows of one minute that begin with the first failure. The counts are in memory
 * and bounded. A restart, or too many other failures, loses some of them, which only gives a guesser a few more tries.
 */
export function createFailureLimiter({
  clock,
  perMinute,
  maxEntries = 100_000,
}: {
  clock: () => Date;
  perMinute: () => number;
  maxEntries?: number;
}): FailureLimiter {
  const windows = new Map<string, { failures: number; readonly endsAt: number }>();
  return {
    isBlocked(address, subject) {
      if (windows.size === 0) return false;
      const window = windows.get(keyOf(address, subject));
      return window !== undefined && window.failures >= perMinute() && clock().getTime() < window.endsAt;
    },
    failed(address, subject) {
      const key = keyOf(address, subject);
      const now = clock().getTime();
      const window = windows.get(key);
      if (window && now < window.endsAt) {
        window.failures++;
        return;
      }
      // A Map keeps the order of insertion, so its first window is the oldest.
      windows.delete(key);
      for (const [oldest, { endsAt }] of windows) {
        if (endsAt > now && windows.size < maxEntries) break;
        windows.delete(oldest);
      }
      windows.set(key, { failures: 1, endsAt: now + 60_000 });
    },
  };
}

const keyOf = (address: string, subject: string): string => `${networkOf(address)} ${subject}`;

/** The address, or for IPv6 its /64, because one caller usually has the whole /64. Takes an address in its usual form. */
export function networkOf(address: string): string {
  return address.includes(':') ? ipaddr.IPv6.networkAddressFromCIDR(`${address}/64`).toString() : address;
}
