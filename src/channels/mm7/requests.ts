/** Writes a group of recipients as one SubmitReq. A package is encoded once, and its media are never copied. */
import { randomUUID } from 'node:crypto';
import { type Address, type Fields, mm7Namespace, writeEnvelope, writeRequest } from '../../protocols/mm7/mm7.ts';
import type { PartToWrite } from '../../protocols/mm7/multipart.ts';
import { defaultStyle, presentationPart } from '../../protocols/mm7/smil.ts';
import { shanghaiTime } from '../../std/shanghai.ts';
import type { MessagePackage } from '../channel.ts';
import type { Group } from './groups.ts';
import type { PostBody } from './post.ts';
import type { Settled } from '../settings.ts';
import type { mm7Settings } from './settings.ts';

type RequestSettings = Settled<typeof mm7Settings>;

/** An encoded package, for use in any request. */
interface EncodedPackage {
  readonly contentId: string;
  readonly part: PartToWrite;
}

const senderKinds = { shortCode: 'ShortCode', number: 'Number', text: 'text' } as const;

/** `2026-07-16T09:30:05+08:00` */
const timeOf = (at: Date): string => shanghaiTime(at).replace(/\.\d{3}/, '');

/** Returns the function that writes a group's request. */
export function createRequests(settings: RequestSettings, nextId: () => string): (group: Group) => PostBody {
  const namespace = mm7Namespace(settings.namespace);
  const packages = new WeakMap<MessagePackage, EncodedPackage>();

  function encodedOf(content: MessagePackage): EncodedPackage {
    let encoded = packages.get(content);
    if (!encoded) {
      const contentId = `mms-${nextId()}`;
      const style = { ...defaultStyle, source: settings.sourceStyle, frameMs: settings.frameMs };
      encoded = { contentId, part: presentationPart(content.frames, { contentId, boundary: `frames-${randomUUID()}`, style }) };
      packages.set(content, encoded);
    }
    return encoded;
  }

  function numberOf(to: string): string {
    if (settings.numberStyle === 'plus') return `+${to}`;
    if (settings.numberStyle === 'e164') return to;
    return to.length === 13 && to.startsWith('86') ? to.slice(2) : `00${to}`;
  }

  return ({ content, from, recipients, transactionId }) => {
    const { contentId, part } = encodedOf(content);
    const now = new Date();
    const sender: Address[] = settings.senderStyle === 'none' ? [] : [{ kind: senderKinds[settings.senderStyle], value: from }];
    const fields: Partial<Fields<'SubmitReq'>> = {
      mm7Version: settings.version,
      senderIdentification: { vaspId: settings.vaspId, vasId: settings.vasId, senderAddress: sender.length > 0 ? sender : null },
      recipients: { to: [...recipients.keys()].map((to) => ({ kind: 'Number', value: numberOf(to) })), cc: null, bcc: null },
      serviceCode: settings.serviceCode === '' ? null : settings.serviceCode,
      messageClass: settings.messageClass,
      timeStamp: timeOf(now),
      expiryDate: settings.validityHours > 0 ? timeOf(new Date(now.getTime() + settings.validityHours * 3600_000)) : null,
      deliveryReport: true,
      readReply: settings.readReply,
      priority: settings.priority,
      subject: content.subject,
      chargedParty: settings.chargedParty,
      content: { href: `cid:${contentId}`, allowAdaptations: true },
    };
    const envelope = writeEnvelope({ transactionId, namespace, prefixes: settings.prefixes, message: { name: 'SubmitReq', fields } });
    return writeRequest(envelope, part, {
      rootId: 'mm7-submit',
      boundary: `request-${randomUUID()}`,
      rootHeaders: ['Content-Transfer-Encoding: 8bit'],
    });
  };
}
