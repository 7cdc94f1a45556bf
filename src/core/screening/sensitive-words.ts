/**
 * Sensitive words: folds a text so that disguised words are found too, and finds the words of all lists in it.
 *
 * Folding removes what people use to get past a list: width and form (NFKC), case, spaces, punctuation, symbols, emoji, invisible
 * characters, and the marks that go on any script. Letters, digits and the marks that belong to a script remain. Words are folded the same
 * way, so `赌 - Ｂｏ` on a list finds `赌★ＢO` in a text.
 *
 * Pure: no database. `content-rules.ts` stores the lists.
 */
import { buildPhrases } from './phrases.ts';

// Marks without a script of their own (U+0300…, variation selectors) and invisible letters (Hangul fillers) are removed, too.
const dressing = /[^\p{L}\p{M}\p{N}]|\p{Script=Inherited}|\p{Default_Ignorable_Code_Point}/gu;

/** The form of a text in which words are searched. It may be empty. */
export function fold(text: string): string {
  // Via capitals, which map more pairs (ß, ſ); small letters that depend on their neighbours (ς) are made equal.
  const folded = text.normalize('NFKC').toUpperCase().toLowerCase().replaceAll('ς', 'σ');
  return folded.replace(dressing, '').normalize('NFKC');
}

export interface SensitiveWords {
  /** The index of the first word, in the order given, that occurs in a text; -1 if none does. */
  find(text: string): number;
}

/** Builds the search for words that are already folded. */
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
