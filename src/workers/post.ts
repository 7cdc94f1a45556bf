/**
 * Posts to addresses that customers choose, without giving them access to our own network. The resolved address is checked when the
 * connection is made, so a name that resolves differently between check and use gains nothing. Literal addresses are checked too.
 * Redirects are not followed; time and size are bounded.
 */
import dns from 'node:dns';
import net from 'node:net';
import ipaddr from 'ipaddr.js';
import { Agent, buildConnector, request } from 'undici';

export interface Answer {
  /** Null if there was no answer. */
  readonly status: number | null;
  /** The first 1 KiB of the answer, or why there was none. */
  readonly text: string;
}

export type Post = (url: string, contentType: string, body: string) => Promise<Answer>;

const totalTimeoutMs = 10_000;
const connectTimeoutMs = 5000;
const keptBytes = 1024;

type Range = [ipaddr.IPv4 | ipaddr.IPv6, number];

/** `2130706433`, `::ffff:127.0.0.1` and similar forms all pass through this check. */
function isAllowed(address: string, allowed: readonly Range[]): boolean {
  const parsed = ipaddr.process(address);
  if (allowed.some(([base, bits]) => base.kind() === parsed.kind() && parsed.match(base, bits))) return true;
  // ::/96 carries an IPv4 address in an obsolete form that ipaddr.js treats as ordinary.
  if (parsed.kind() === 'ipv6' && (parsed as ipaddr.IPv6).parts.slice(0, 6).every((part) => part === 0)) return false;
  return parsed.range() === 'unicast';
}

/** Names the host but not its address: customers see this text, and must not explore our network with it. */
const refused = (host: string): Error => Object.assign(new Error(`destination ${host} is not allowed`), { code: 'EDESTINATION' });

/** `allow`: addresses and CIDR ranges that customers' servers may be in although they are private (the sandbox allows loopback). */
export function createPost({ allow }: { allow: readonly string[] }): { post: Post; close(): Promise<void> } {
  const allowed = allow.map((range) => ipaddr.parseCIDR(range.includes('/') ? range : `${range}/${range.includes(':') ? 128 : 32}`));

  const lookup: net.LookupFunction = (host, options, done) =>
    dns.lookup(host, { ...options, all: true }, (error, list) => {
      if (error) return done(error, []);
      const bad = list.find(({ address }) => !isAllowed(address, allowed));
      if (bad) return done(refused(host), []);
      if (options.all) return done(null, list);
      const [first] = list;
      return first ? done(null, first.address, first.family) : done(refused(host), []);
    });
  const connector = buildConnector({ timeout: connectTimeoutMs, lookup });
  const agent = new Agent({
    // The bound for one server, shared by all its customers; each customer has its own, lower bound.
    connections: 256,
    pipelining: 1,
    headersTimeout: totalTimeoutMs,
    bodyTimeout: totalTimeoutMs,
    connect(options, done) {
      const host = options.hostname.replace(/^\[|\]$/g, '');
      // The look-up is not asked about literal addresses.
      if (net.isIP(host) && !isAllowed(host, allowed)) return done(refused(host), null);
      return connector(options, done);
    },
  });

  return {
    async post(url, contentType, body) {
      try {
        const response = await request(url, {
          method: 'POST',
          headers: { 'content-type': contentType, 'user-agent': 'hongyan' },
          body,
          dispatcher: agent,
          signal: AbortSignal.timeout(totalTimeoutMs),
        });
        const kept: Buffer[] = [];
        let size = 0;
        for await (const chunk of response.body) {
          const bytes = chunk as Buffer;
          if (size < keptBytes) kept.push(bytes.subarray(0, keptBytes - size));
          size += bytes.length;
          if (size > 64 * keptBytes) break; // leaving the loop closes the connection
        }
        // The kept part goes into a text column, which takes no NUL.
        return { status: response.statusCode, text: Buffer.concat(kept).toString('utf8').replaceAll('\0', '') };
      } catch (error) {
        return { status: null, text: error instanceof Error ? error.message : String(error) };
      }
    },
    close: () => agent.destroy(),
  };
}
