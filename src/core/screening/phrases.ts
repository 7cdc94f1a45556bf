/**
 * Finds which of very many phrases occur in a text, in one pass over it: an Aho–Corasick automaton over UTF-16 units.
 *
 * The automaton is five integers and a few hash slots for each letter that phrases do not share, in typed arrays: 100,000 words take ten
 * megabytes that the garbage collector never walks, where a `Map` for each letter takes more than a hundred. A generator builds it, so
 * that the build does not block the thread; `@monyone/aho-corasick` builds in its constructor, and on the heap.
 *
 * Pure. It does not know what the phrases mean; see `content-templates.ts` and `sensitive-words.ts`.
 */

export interface Phrases {
  /** Calls `visit` with the index of each phrase that occurs (in the order given), once for every position where it ends. */
  search(text: string, visit: (phrase: number) => void): void;
  /** The memory it takes, for monitoring. */
  readonly bytes: number;
}

/** Letters or nodes that are handled before the generator yields. */
const lettersAStep = 2000;

/** Of equal phrases the first counts; an empty phrase is never found. */
export function* buildPhrases(phrases: readonly string[]): Generator<void, Phrases> {
  let letters = 0;
  for (const phrase of phrases) letters += phrase.length;

  // Node 0 is the root. The other nodes are looked up by parent and letter, in an open-addressed table that is at most half full.
  const bits = Math.max(4, Math.ceil(Math.log2(2 * (letters + 1))));
  const table = new Int32Array(2 ** bits);
  const mask = table.length - 1;
  const parents = new Int32Array(letters + 1);
  const letterOf = new Int32Array(letters + 1);
  /** The index of the phrase that ends here, plus one; 0 for none. */
  const phraseAt = new Int32Array(letters + 1);
  let nodes = 1;

  /** The slot that holds the child, or the free one where it would be. */
  function slotOf(parent: number, letter: number): number {
    let hash = Math.imul(parent, 0x9e3779b1) + Math.imul(letter, 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
    for (let slot = (hash ^ (hash >>> 13)) & mask; ; slot = (slot + 1) & mask) {
      const node = table[slot]!;
      if (node === 0 || (parents[node] === parent && letterOf[node] === letter)) return slot;
    }
  }

  const depths = new Int32Array(letters + 1);
  let sinceTurn = 0;
  for (const [number, phrase] of phrases.entries()) {
    let node = 0;
    for (let at = 0; at < phrase.length; at++) {
      const letter = phrase.charCodeAt(at);
      const slot = slotOf(node, letter);
      if (table[slot] === 0) {
        parents[nodes] = node;
        letterOf[nodes] = letter;
        depths[nodes] = at + 1;
        table[slot] = nodes++;
      }
      node = table[slot]!;
    }
    if (phraseAt[node] === 0 && node !== 0) phraseAt[node] = number + 1;
    sinceTurn += phrase.length;
    if (sinceTurn > lettersAStep) {
      sinceTurn = 0;
      yield;
    }
  }

  /** The node of the longest suffix that is also a prefix of a phrase: the search continues there when a letter does not fit. */
  const fallbacks = new Int32Array(nodes);
  /** The node itself or its nearest fallback that ends a phrase; 0 for none. */
  const endings = new Int32Array(nodes);

  function step(state: number, letter: number): number {
    for (let node = state; ; node = fallbacks[node]!) {
      const next = table[slotOf(node, letter)]!;
      if (next !== 0 || node === 0) return next;
    }
  }

  // Shorter ones first, since a fallback is always shorter.
  yield* byDepth(depths, nodes, (node) => {
    const parent = parents[node]!;
    const fallback = parent === 0 ? 0 : step(fallbacks[parent]!, letterOf[node]!);
    fallbacks[node] = fallback;
    endings[node] = phraseAt[node] === 0 ? endings[fallback]! : node;
  });

  return {
    search(text, visit) {
      let state = 0;
      for (let at = 0; at < text.length; at++) {
        state = step(state, text.charCodeAt(at));
        for (let node = endings[state]!; node !== 0; node = endings[fallbacks[node]!]!) visit(phraseAt[node]! - 1);
      }
    },
    bytes: table.byteLength + 3 * parents.byteLength + 2 * fallbacks.byteLength,
  };
}

/** Visits all nodes except the root, in the order of their depths. */
function* byDepth(depths: Int32Array, nodes: number, visit: (node: number) => void): Generator<void, void> {
  let deepest = 0;
  for (let node = 1; node < nodes; node++) deepest = Math.max(deepest, depths[node]!);
  const starts = new Int32Array(deepest + 2);
  for (let node = 1; node < nodes; node++) starts[depths[node]! + 1]!++;
  for (let depth = 1; depth < starts.length; depth++) starts[depth]! += starts[depth - 1]!;
  const order = new Int32Array(nodes);
  for (let node = 1; node < nodes; node++) order[starts[depths[node]!]!++] = node;
  for (let place = 0; place < nodes - 1; place++) {
    visit(order[place]!);
    if (place % lettersAStep === 0) yield;
  }
}
