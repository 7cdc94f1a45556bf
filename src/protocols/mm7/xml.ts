/**
 * XML as the carriers' SOAP and SMIL need it: a small tree to read, and escaping to write.
 *
 * Names are matched by their local part, because every implementation picks its own prefixes; each element also keeps its namespace.
 * Document types are refused before anything is parsed. Without them the only entities are XML's five and characters by number, which are
 * decoded here. Size, depth and number of elements are bounded.
 */
import { XMLParser } from 'fast-xml-parser';
import { ProtocolError } from '../wire/fields.ts';

export interface XmlElement {
  /** Without its prefix. */
  readonly name: string;
  /** URI; '' if there is none. */
  readonly namespace: string;
  /** By local name; declarations of namespaces are left out. */
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: readonly XmlElement[];
  /** The element's own text, trimmed. */
  readonly text: string;
}

/** An envelope with a thousand recipients has about 50 KB. */
const maxCharacters = 256 << 10;
const maxDepth = 32;
const maxElements = 8000;

const parser = new XMLParser({
  preserveOrder: true,
  ignoreAttributes: false,
  attributeNamePrefix: '',
  parseTagValue: false,
  parseAttributeValue: false,
  processEntities: false,
  cdataPropName: '#cdata',
  ignoreDeclaration: true,
  ignorePiTags: true,
  maxNestedTags: maxDepth,
});

/** The parser's form of an element: its name as the only key beside `:@`, the attributes. */
type Node = Readonly<Record<string, unknown>>;

/** The root element. Throws ProtocolError if the source is not XML, has a document type, or is beyond the bounds. */
export function parseXml(source: Buffer | string): XmlElement {
  // Measured before decoding: there are never more characters than octets.
  if (source.length > maxCharacters) throw new ProtocolError(`XML of ${source.length} octets`);
  // NUL is not a character in XML, and databases cannot store it; other control characters do no harm.
  const text = (typeof source === 'string' ? source : source.toString('utf8')).replaceAll('\0', '\ufffd');
  // Only comments and CDATA may begin like this.
  if (/<!(?!--|\[CDATA\[)/.test(text)) throw new ProtocolError('XML with a document type');
  // Tags make parsing expensive, so they are counted first.
  let tags = 0;
  for (let at = text.indexOf('<'); at >= 0; at = text.indexOf('<', at + 1)) tags += 1;
  if (tags > 2 * maxElements + 100) throw new ProtocolError(`XML with ${tags} tags`);
  let nodes: unknown;
  try {
    nodes = parser.parse(text.charCodeAt(0) === 0xfeff ? text.slice(1) : text);
  } catch (error) {
    throw new ProtocolError(`not XML: ${error instanceof Error ? error.message.slice(0, 200) : 'unreadable'}`, { cause: error });
  }
  const budget = { elements: maxElements };
  const roots = (nodes as Node[]).flatMap((node) => elementOf(node, noScope, budget) ?? []);
  const [root] = roots;
  if (!root || roots.length > 1) throw new ProtocolError(`XML with ${roots.length} roots`);
  // The parser accepts elements that are never closed, but a text that was cut off must be refused.
  const ending = /<\/(?:[^:<>]*:)?([^:<>]*?)\s*>\s*(?:<!--[^]*-->\s*)?$/.exec(text.slice(-512))?.[1];
  const isEmpty = root.children.length === 0 && root.text === '' && /\/>\s*$/.test(text.slice(-64));
  if (ending !== root.name && !isEmpty) throw new ProtocolError('XML that is cut off');
  return root;
}

type Scope = Readonly<Record<string, string>>;
const noScope: Scope = Object.freeze(Object.create(null) as Record<string, string>);
const noAttributes: ReadonlyMap<string, string> = new Map();

function elementOf(node: Node, outer: Scope, budget: { elements: number }): XmlElement | undefined {
  let qualified: string | undefined;
  for (const key in node)
    if (key !== ':@') {
      qualified = key;
      break;
    }
  if (qualified === undefined || qualified.startsWith('#')) return undefined;
  budget.elements -= 1;
  if (budget.elements < 0) throw new ProtocolError(`XML with more than ${maxElements} elements`);

  let scope = outer;
  let attributes = noAttributes;
  const given = node[':@'] as Readonly<Record<string, string>> | undefined;
  if (given) {
    const own = new Map<string, string>();
    const declared: Record<string, string> = {};
    for (const [name, value] of Object.entries(given)) {
      if (name === 'xmlns') declared[''] = value;
      else if (name.startsWith('xmlns:')) declared[name.slice(6)] = value;
      else own.set(localName(name), decodeEntities(value));
    }
    attributes = own;
    if (Object.keys(declared).length > 0) scope = Object.assign(Object.create(null) as Record<string, string>, outer, declared);
  }

  const children: XmlElement[] = [];
  let text = '';
  const content = node[qualified];
  for (const child of Array.isArray(content) ? (content as Node[]) : []) {
    if ('#text' in child) text += decodeEntities(textOf(child['#text']));
    else if ('#cdata' in child) text += cdataText(child['#cdata']);
    else {
      const element = elementOf(child, scope, budget);
      if (element) children.push(element);
    }
  }
  const colon = qualified.indexOf(':');
  const namespace = scope[colon < 0 ? '' : qualified.slice(0, colon)] ?? '';
  return { name: qualified.slice(colon + 1), namespace, attributes, children, text: text.trim() };
}

const localName = (name: string): string => name.slice(name.indexOf(':') + 1);

/** The parser wraps the text of CDATA once more. */
function cdataText(content: unknown): string {
  return Array.isArray(content) ? (content as Node[]).map((node) => textOf(node['#text'])).join('') : '';
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '');

const named: Readonly<Record<string, string>> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };

/** An entity that XML does not define stays as it is. */
function decodeEntities(text: string): string {
  if (!text.includes('&')) return text;
  return text.replace(
    /&(?:#([0-9]{1,7})|#[xX]([0-9a-fA-F]{1,6})|(lt|gt|amp|quot|apos));/g,
    (_, decimal?: string, hex?: string, name?: string) =>
      name !== undefined ? (named[name] ?? '') : characterOf(decimal !== undefined ? Number(decimal) : Number.parseInt(hex ?? '', 16)),
  );
}

function characterOf(code: number): string {
  const isCharacter = code > 0 && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
  return isCharacter ? String.fromCodePoint(code) : '\ufffd';
}

/** The first child with this name. */
export function childOf(element: XmlElement, name: string): XmlElement | undefined {
  return element.children.find((child) => child.name === name);
}

const special = /[&<>"\r]/;
// oxlint-disable-next-line no-control-regex
const illegal = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g;

/** Escapes for text and for attributes in double quotes; characters that XML cannot contain are removed. */
export function escapeXml(text: string): string {
  const legal = text.replace(illegal, '');
  if (!special.test(legal)) return legal;
  return (
    legal
      .replaceAll('&', '&amp;')
      .replaceAll('<', '&lt;')
      .replaceAll('>', '&gt;')
      .replaceAll('"', '&quot;')
      // A reader would turn it into a line feed.
      .replaceAll('\r', '&#13;')
  );
}
