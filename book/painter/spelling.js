/**
 * Words as people spell them, read as the model knows them: the same rules as xlxmert_core/data/spelling.py.
 *
 * Punctuation says nothing, British and American spelling are one, a slip with one clear candidate is read as that, and
 * all other unknown words are passed over; those that name a thing are told, since the picture will lack it.
 */

const PAIRS = [
  ["color", "colour"], ["colors", "colours"], ["colored", "coloured"], ["gray", "grey"], ["center", "centre"],
  ["theater", "theatre"], ["1", "one"], ["2", "two"], ["3", "three"], ["4", "four"], ["5", "five"],
];
export const JOINED = new Map([...PAIRS, ...PAIRS.map(([a, b]) => [b, a]), ["nighttime", "night time"]]);
export const DETERMINERS = new Set(
  "a an the one two three four five 1 2 3 4 5 some many my your his her our their another".split(" "),
);
export const AFTER = new Set((
  "and or with in on at by near under over above below beneath underneath left right to next beside between close is " +
  "are was were that which who of behind stands stand sits sit please it they"
).split(" "));
const WORD = /[\p{L}\p{N}]/u;
const WHOLE = /^[\p{L}\p{N}]+$/u;

/**
 * The words of a sentence as a model reads them that knows some words.
 *
 * @param {string[]} words lower case, punctuation apart
 * @param {Map<string, number>} known
 * @returns {{words: string[], unknown: Map<string, string>, things: string[]}} unknown: word -> what it is read as, ""
 *   where it is passed over; things: those of them that name a thing, passed over with its number and its adjectives
 */
export function asRead(words, known) {
  words = withoutHyphens(words, known);
  const read = [], unknown = new Map(), things = [];
  words.forEach((word, at) => {
    const other = JOINED.get(word)?.split(" ");
    if (known.has(word)) read.push(word);
    else if (word === "s" && ["'", "\u2019"].includes(words[at - 1])) read.push(...(known.has("is") ? ["is"] : []));
    else if (!WORD.test(word)) return;
    else if (other?.every((part) => known.has(part))) read.push(...other);
    else {
      unknown.set(word, slip(word, known));
      if (unknown.get(word)) read.push(unknown.get(word));
      else if (namesAThing(words, at)) {
        things.push(word);
        dropPhrase(read);
      }
    }
  });
  return { words: read, unknown, things };
}

/** Join what a hyphen parts where a word is known without it: "t", "-", "shirt" -> "tshirt". */
function withoutHyphens(words, known) {
  const joined = [];
  for (const word of words) {
    if (joined.at(-1) === "-" && known.has(joined.at(-2) + word)) joined.splice(-2, 2, joined.at(-2) + word);
    else joined.push(word);
  }
  return joined;
}

/** Whether a word stands where the name of a thing stands: "a big cat on", "dogs and". */
function namesAThing(words, at) {
  const after = words[at + 1] ?? ".";
  if (!AFTER.has(after) && !DETERMINERS.has(after) && WORD.test(after)) return false;
  for (const word of words.slice(Math.max(at - 4, 0), at).reverse()) {
    if (AFTER.has(word) || !WHOLE.test(word)) return false;
    if (DETERMINERS.has(word)) return true;
  }
  return at === 0 && words.length > 1;
}

/** Take off "a big" where the name of the thing is unknown. */
function dropPhrase(words) {
  for (let back = 1; back <= Math.min(4, words.length); back++) {
    const word = words.at(-back);
    if (DETERMINERS.has(word)) {
      words.splice(words.length - back);
      return;
    }
    if (AFTER.has(word)) return;
  }
}

/** The one known word that a slip of the hand can have turned into this one, or "". */
export function slip(word, known) {
  const long = (text) => [...text].length >= 4;
  const found = [...known.keys()].filter((other) => long(word) && long(other) && word[0] === other[0] && near(word, other));
  return found.length === 1 ? found[0] : "";
}

/** Whether one slip lies between two words: a letter more or less, two exchanged, in six letters a wrong one. */
export function near(word, other) {
  const [short, long] = [[...word], [...other]].sort((a, b) => a.length - b.length);
  let start = short.findIndex((letter, i) => letter !== long[i]);
  if (start < 0) start = short.length;
  const same = (a, b) => a.join("") === b.join("");
  if (long.length === short.length + 1) return same(short.slice(start), long.slice(start + 1));
  if (long.length !== short.length || word === other) return false;
  const rest = (skipped) => same(short.slice(start + skipped), long.slice(start + skipped));
  if (rest(2) && same(short.slice(start, start + 2), long.slice(start, start + 2).reverse())) return true;
  return short.length >= 6 && rest(1);
}
