/**
 * Sensitive words: how a text is folded so that a word is found however it is dressed up, and finding the words of all lists in it.
 *
 * Folding takes away what people put between letters or on them to get past a list: width and form (NFKC), case, spaces, punctuation,
 * symbols, emoji, invisible characters, and the marks that go on any script. What remains are letters, digits and the marks that belong
 * to a script. Words are folded the same way, so `赌 - Ｂｏ` on a list finds `赌★ＢO` in a text.
 *
 * Pure: no database. Who keeps the lists is `content-rules.ts`.
 */
import { buildPhrases } from './phrases.ts';

// Marks of no script of their own (U+0300…, variation selectors) and letters that nobody can see (Hangul fillers) are dressing, too.
const dressing = /[^\p{L}\p{M}\p{N}]|\p{Script=Inherited}|\p{Default_Ignorable_Code_Point}/gu;

/** The text as words are looked for in it. Nothing may be left. */
export function fold(text: string): string {
  // By way of capitals, which know more pairs (ß, ſ); small letters that depend on their neighbours (ς) are made equal.
  const folded = text.normalize('NFKC').toUpperCase().toLowerCase().replaceAll('ς', 'σ');
  return folded.replace(dressing, '').normalize('NFKC');
}

export interface SensitiveWords {
  /** The place of the first word, in the order given, that occurs in a text; -1 if none does. */
  find(text: string): number;
}

/** Looks for words that are folded already. */
export function* buildSensitiveWords(folded: readonly string[]): Generator<void, SensitiveWords> {
  const phrases = yield* buildPhrases(folded);
  return {
    find(text) {
      let first = folded.length;
      phrases.search(fold(text), (word) => {
        if (word < first) first = word;
      });
      return first === folded.length ? -1 : first;
    },
  };
}
