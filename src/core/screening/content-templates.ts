/**
 * Content templates: their wildcards, how a text is matched against one, and an index that finds the first of very many that match.
 *
 * A wildcard stands for 1…N characters of any kind. It is written `{N}`, `{name}`, `{name:N}` or `{}`, with or without a `$` in front,
 * or `$name$` or `$name:N$`; without N it is 35. In braces a name is anything without spaces, braces and colons (`{验证码}`,
 * `{$var}`); digits alone are N. Between dollars a name begins with a letter, so prices are not read as wildcards. Any other brace or
 * dollar is text. Adjacent wildcards count as one, with the sum of their lengths. Characters are Unicode code points; a line ends in LF,
 * and CRLF counts as LF.
 *
 * A template must match the whole text. Matching follows all alternatives in parallel, without backtracking: for each literal piece it
 * keeps all the positions where the pieces so far can end. The cost is at most the number of pieces times the length of the text.
 *
 * Pure: no database. `content-rules.ts` stores the templates.
 */
import { buildPhrases } from './phrases.ts';

/** How many characters may stand between two literals. */
interface Gap {
  readonly least: number;
  readonly most: number;
}

export interface Pattern {
  /** One more than there are gaps. Only the first and the last may be empty. */
  readonly literals: readonly string[];
  readonly gaps: readonly Gap[];
  /** The possible lengths of a whole text, in characters. */
  readonly length: Gap;
}

const defaultMost = 35;
const highestMost = 1000;

const wildcard = /\$?\{(?:(\d{1,9})|[^{}:\s]{0,30}(?::(\d{1,9}))?)\}|\$\p{L}[\p{L}\p{N}_]{0,29}(?::(\d{1,9}))?\$/gu;

/** Parses a template's text, or says what is wrong with it. */
export function parsePattern(text: string): Pattern | { readonly error: string } {
  const template = withPlainLines(text);
  const literals = [''];
  const gaps: Gap[] = [];
  let at = 0;
  for (const found of template.matchAll(wildcard)) {
    const most = Number(found[1] ?? found[2] ?? found[3] ?? defaultMost);
    if (most < 1 || most > highestMost) return { error: `${found[0]}: a wildcard stands for 1 to ${highestMost} characters at most` };
    const literal = template.slice(at, found.index);
    const before = gaps.at(-1);
    if (before && literal === '') {
      gaps[gaps.length - 1] = { least: before.least + 1, most: before.most + most };
    } else {
      literals[literals.length - 1] = literal;
      literals.push('');
      gaps.push({ least: 1, most });
    }
    at = found.index + found[0].length;
  }
  literals[literals.length - 1] = template.slice(at);
  const fixed = literals.reduce((sum, literal) => sum + charactersOf(literal), 0);
  const length = gaps.reduce((sum, gap) => ({ least: sum.least + gap.least, most: sum.most + gap.most }), { least: fixed, most: fixed });
  return { literals, gaps, length };
}

/** A text prepared for matching against many patterns. */
export interface Subject {
  readonly text: string;
  readonly length: number;
  /** The number of characters before each unit; null if every character is one unit. */
  readonly places: Uint32Array | null;
}

export function subjectOf(written: string): Subject {
  const text = withPlainLines(written);
  if (!/[\ud800-\udfff]/.test(text)) return { text, length: text.length, places: null };
  const places = new Uint32Array(text.length + 1);
  let characters = 0;
  let at = 0;
  for (const character of text) {
    for (const end = at + character.length; at < end; at++) places[at] = characters;
    characters++;
  }
  places[at] = characters;
  return { text, length: characters, places };
}

export function matches({ literals, gaps, length }: Pattern, subject: Subject): boolean {
  const { text } = subject;
  const [first, last] = [literals[0]!, literals.at(-1)!];
  if (subject.length < length.least || subject.length > length.most) return false;
  if (!text.startsWith(first) || !text.endsWith(last)) return false;
  let ends = [first.length];
  for (let at = 1; at < gaps.length; at++) {
    ends = endsAfter(subject, ends, gaps[at - 1]!, literals[at]!);
    if (ends.length === 0) return false;
  }
  const gap = gaps.at(-1);
  return gap ? reach(subject, ends, gap)(text.length - last.length) : true; // without a gap the length check was enough
}

/** The positions, ascending, where a literal can end that begins one gap after one of `ends` (also ascending). */
function endsAfter(subject: Subject, ends: readonly number[], gap: Gap, literal: string): number[] {
  const { text } = subject;
  const isInReach = reach(subject, ends, gap);
  const found: number[] = [];
  // Knuth, Morris, Pratt: `same` letters of the literal stand before `at`, and each letter of the text is read once.
  const borders = bordersOf(literal);
  const until = Math.min(text.length, ends.at(-1)! + 2 * gap.most + literal.length); // a character has two units at most
  for (let at = ends[0]! + gap.least, same = 0; at < until; at++) {
    while (same > 0 && text.charCodeAt(at) !== literal.charCodeAt(same)) same = borders[same - 1]!;
    if (text.charCodeAt(at) === literal.charCodeAt(same)) same++;
    if (same < literal.length) continue;
    if (isInReach(at + 1 - same)) found.push(at + 1);
    same = borders[same - 1]!;
  }
  return found;
}

/** For each prefix of a literal, the length of its longest proper suffix that is also a prefix. */
function bordersOf(literal: string): number[] {
  const borders = [0];
  for (let at = 1, same = 0; at < literal.length; at++) {
    while (same > 0 && literal.charCodeAt(at) !== literal.charCodeAt(same)) same = borders[same - 1]!;
    if (literal.charCodeAt(at) === literal.charCodeAt(same)) same++;
    borders.push(same);
  }
  return borders;
}

/** Returns a test for ascending positions: can a gap after one of `ends` lead there? It walks both lists side by side. */
function reach({ places }: Subject, ends: readonly number[], { least, most }: Gap): (start: number) => boolean {
  let at = 0;
  const distance = (start: number, end: number) => (places ? places[start]! - places[end]! : start - end);
  return (start) => {
    while (at < ends.length && distance(start, ends[at]!) > most) at++;
    // The farthest end within reach: if it is too near, so are those after it.
    return at < ends.length && distance(start, ends[at]!) >= least;
  };
}

// ── many templates ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface TemplateIndex {
  /** The index of the first pattern, in the order given, that matches a text; -1 if none does. */
  find(subject: Subject): number;
}

/**
 * An index over patterns. Each pattern is filed under its literal that is rarest among all patterns (the longest of equally rare ones).
 * Only patterns whose rarest literal occurs in a text are matched. Patterns without a literal are always tried: only lengths are compared.
 */
export function* buildTemplateIndex(patterns: readonly Pattern[]): Generator<void, TemplateIndex> {
  const frequencies = new Map<string, number>();
  for (const [at, { literals }] of patterns.entries()) {
    for (const literal of literals) frequencies.set(literal, (frequencies.get(literal) ?? 0) + 1);
    if (at % 500 === 0) yield;
  }
  const byLiteral = new Map<string, number[]>();
  for (const [at, pattern] of patterns.entries()) {
    const literal = rarest(pattern, frequencies);
    const others = byLiteral.get(literal);
    if (others) others.push(at);
    else byLiteral.set(literal, [at]);
    if (at % 500 === 0) yield;
  }
  const always = byLiteral.get('') ?? [];
  byLiteral.delete('');
  const groups = [...byLiteral.values()];
  const phrases = yield* buildPhrases([...byLiteral.keys()]);

  return {
    find(subject) {
      const seen = new Set<number>();
      let first = patterns.length;
      const look = (group: readonly number[]) => {
        for (const at of group) {
          if (at >= first) return; // a group is in order
          if (matches(patterns[at]!, subject)) first = at;
        }
      };
      look(always);
      phrases.search(subject.text, (phrase) => {
        if (seen.has(phrase)) return;
        seen.add(phrase);
        look(groups[phrase]!);
      });
      return first === patterns.length ? -1 : first;
    },
  };
}

/** Empty only if the pattern has no literal at all. */
function rarest({ literals }: Pattern, frequencies: ReadonlyMap<string, number>): string {
  let best = '';
  for (const literal of literals) {
    if (literal === '') continue;
    const difference = (frequencies.get(literal) ?? 0) - (frequencies.get(best) ?? 0);
    if (best === '' || difference < 0 || (difference === 0 && literal.length > best.length)) best = literal;
  }
  return best;
}

const withPlainLines = (text: string): string => text.replaceAll('\r\n', '\n');

/** Unicode code points. */
export function charactersOf(text: string): number {
  let characters = 0;
  for (const _ of text) characters++;
  return characters;
}
