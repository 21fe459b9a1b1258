/**
 * Sentences become ids: the same rules as xlxmert_core/text.py, which leaves them to Hugging Face's tokenizers.
 *
 * Lower case, accents off, punctuation apart, one id a word; what the model never learned is read as spelling.js says.
 */

import { asRead } from "./spelling.js";

const SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
const WRITTEN_OUT = /(\[(?:PAD|UNK|CLS|SEP|MASK)\])/; // such a token may stand in the sentence itself
const CONTROL = /[\u0000\ufffd]|(?![\t\n\r])[\p{Cc}\p{Cf}\p{Co}]/gu;
const HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{2a6df}\u{2a700}-\u{2b81f}\u{2b920}-\u{2ceaf}\u{2f800}-\u{2fa1f}";
const CHINESE = new RegExp(`[${HAN}]`, "gu"); // each is a word
const ACCENTS = /\p{Mn}/gu; // as they stand after NFD: the dots of an umlaut, alone
const PUNCTUATION = /[!-/:-@[-`{-~]|\p{P}/gu;

export class Tokenizer {
  /**
   * @param {string[]} words the token of each id, the special ones among them
   * @param {number} maxWords the longest sentence, with [CLS] and [SEP]
   */
  constructor(words, maxWords) {
    this.ids = new Map(words.map((word, id) => [word, id]));
    this.maxWords = maxWords;
  }

  /** A sentence -> ids, [CLS] words [SEP], cut to maxWords. */
  encode(sentence) {
    const ids = asRead(split(sentence), this.ids).words.map((word) => this.ids.get(word));
    return [this.ids.get("[CLS]"), ...ids.slice(0, this.maxWords - 2), this.ids.get("[SEP]")];
  }

  /** What a reader should know of a sentence before it is read, in one line; empty when there is nothing. */
  remarks(sentence) {
    const { words, unknown, things } = asRead(split(sentence), this.ids);
    if (!split(sentence).length) return "An empty sentence asks for nothing: the model does as it likes.";
    const limit = this.maxWords - 2;
    const lost = [...unknown].filter(([, better]) => !better).map(([word]) => quoted(word));
    const mended = [...unknown].filter(([, better]) => better);
    return [
      lost.length ? `The model never learned ${list(lost)}: it passes over what it does not know.` : "",
      things.length ? `The picture will lack ${list([...new Set(things)].map(quoted))}.` : "",
      mended.length ? `Read: ${list(mended.map(([word, better]) => `${quoted(word)} as ${quoted(better)}`))}.` : "",
      words.length > limit ? `The sentence has ${words.length} words; the model reads the first ${limit}.` : "",
    ].filter(Boolean).join(" ");
  }

  /** The ordinary words, in the alphabet's order. */
  known() {
    return [...this.ids.keys()].filter((word) => !SPECIAL.includes(word)).sort();
  }
}

/** A sentence -> its words, normalised, with punctuation as words of its own. */
export function split(sentence) {
  return sentence.split(WRITTEN_OUT).flatMap((part) => (SPECIAL.includes(part) ? [part] : plainWords(part)));
}

function plainWords(text) {
  const spaced = text.replace(CONTROL, "").replace(CHINESE, " $& ");
  const plain = spaced.normalize("NFD").replace(ACCENTS, "").toLowerCase();
  return plain.replace(PUNCTUATION, " $& ").split(/\s+/).filter(Boolean);
}

const quoted = (word) => `“${word}”`;

/** ["a", "b", "c"] -> "a, b and c"; of more than five, the first five. */
function list(items) {
  const shown = items.length > 5 ? [...items.slice(0, 5), `${items.length - 5} more`] : items;
  return shown.length > 1 ? `${shown.slice(0, -1).join(", ")} and ${shown.at(-1)}` : shown[0];
}
