"""Words as people spell them, read as a model knows them: punctuation, case, British and American, slips."""

import difflib
import re
import unicodedata
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

# Spellings of one word: where a model knows one side only, it reads the other as that.
JOINED = {
    "color": "colour", "colors": "colours", "colored": "coloured", "gray": "grey", "center": "centre",
    "nighttime": "night time", "theater": "theatre", "1": "one", "2": "two", "3": "three", "4": "four", "5": "five",
}  # fmt: skip
JOINED |= {theirs: ours for ours, theirs in JOINED.items() if " " not in theirs}
SHOWN = 5  # unknown words named in one warning
DETERMINERS = frozenset(
    "a an the one two three four five 1 2 3 4 5 some many my your his her our their another".split()
)
# What may follow the name of a thing: a word before one of these, with a determiner before it, is such a name.
AFTER = frozenset(
    "and or with in on at by near under over above below beneath underneath left right to next beside between close is "
    "are was were that which who of behind stands stand sits sit please it they".split()
)
_NO_WORD = re.compile(r"[^\w\s]|_")


def plain(text: str) -> str:
    """Lower case, punctuation off, one space between words: "It's a RED house!" -> "it is a red house"."""
    text = re.sub(r"(?<=\w)['\u2019]s\b", " is", unicodedata.normalize("NFC", text).lower())
    return " ".join(_NO_WORD.sub(" ", text).split())


class Reading(NamedTuple):
    """A sentence as a model reads it.

    words: those that it reads, None where it knows every one; unknown: words it does not know, and what each is read
    as, "" where it is passed over; things: those that name a thing, passed over with its number and its adjectives.
    """

    words: list[str] | None
    unknown: dict[str, str]
    things: list[str]


def similar(word: str, known: Collection[str]) -> list[str]:
    """Up to three known words that are spelled like a word."""
    return difflib.get_close_matches(word, sorted(k for k in known if k[:1] != "["), n=3)


def remark(unknown: Sequence[tuple[str, list[str]]], reading: Reading) -> str:
    """What a writer should know of unknown words, each with those like it, in one line."""
    hints = []
    for word, near_it in unknown:
        told = f"read as: {reading.unknown[word]}" if reading.unknown[word] else f"near: {', '.join(near_it)}"
        hints.append(f"{word!r} ({told})" if near_it or reading.unknown[word] else f"{word!r}")
    more = f" and {len(hints) - SHOWN} more" if len(hints) > SHOWN else ""
    lack = f" A picture will lack: {', '.join(dict.fromkeys(reading.things))}." if reading.things else ""
    return f"Words the model never learned: {'; '.join(hints[:SHOWN])}{more}.{lack}"


def reading(text: str, encoded: Any, unk: int, known: Callable[[], Collection[str] | None]) -> Reading:
    """A text as its tokenizer has ``encoded`` it, in tokens with ids and offsets; ``unk`` is the unknown word's id.

    ``known()`` gives all words, or None where the tokens are pieces of words, which spell most words.
    """
    lost = [number == unk for number in encoded.ids]
    if not any(lost):
        return Reading(None, {}, [])
    words = [text[slice(*span)].lower() if gone else token
             for token, span, gone in zip(encoded.tokens, encoded.offsets, lost, strict=True)]  # fmt: skip
    if (vocabulary := known()) is not None:
        return as_read(words, vocabulary)
    return Reading(None, {word: "" for word, gone in zip(words, lost, strict=True) if gone}, [])


def as_read(words: Sequence[str], known: Collection[str]) -> Reading:
    """The words of a sentence (lower case, punctuation apart) as a model that knows some words reads them.

    Punctuation that it does not know says nothing; of another spelling it takes its own, "tshirt" for "t-shirt" too; a
    slip with one clear candidate is read as that. All other unknown words are passed over.
    """
    words = _without_hyphens(words, known)
    read: list[str] = []
    unknown: dict[str, str] = {}
    things: list[str] = []
    for at, word in enumerate(words):
        other = JOINED.get(word, "")
        if word in known:
            read.append(word)
        elif word == "s" and at and words[at - 1] in ("'", "\u2019"):
            read += ["is"] if "is" in known else []
        elif not any(map(str.isalnum, word)):
            continue
        elif other and all(part in known for part in other.split()):
            read += other.split()
        else:
            unknown[word] = slip(word, known)
            if unknown[word]:
                read.append(unknown[word])
            elif _names_a_thing(words, at):
                things.append(word)
                _drop_phrase(read)
    return Reading(read, unknown, things)


def _without_hyphens(words: Sequence[str], known: Collection[str]) -> list[str]:
    """Join what a hyphen parts where a word is known without it: "t", "-", "shirt" -> "tshirt"."""
    joined: list[str] = []
    for word in words:
        if joined[-1:] == ["-"] and len(joined) > 1 and joined[-2] + word in known:
            joined[-2:] = [joined[-2] + word]
        else:
            joined.append(word)
    return joined


def _names_a_thing(words: Sequence[str], at: int) -> bool:
    """Whether a word stands where the name of a thing stands: "a big cat on", "dogs and"."""
    after = words[at + 1] if at + 1 < len(words) else "."
    if after not in AFTER | DETERMINERS and any(map(str.isalnum, after)):
        return False
    for word in words[max(at - 4, 0) : at][::-1]:
        if word in AFTER or not word.isalnum():
            return False
        if word in DETERMINERS:
            return True
    return at == 0 and len(words) > 1


def _drop_phrase(words: list[str]) -> None:
    """Take off "a big" where the name of the thing is unknown."""
    for back in range(1, min(4, len(words)) + 1):
        if words[-back] in DETERMINERS:
            del words[-back:]
            return
        if words[-back] in AFTER:
            return


def slip(word: str, known: Collection[str]) -> str:
    """The one known word that a slip of the hand can have turned into this one, or "".

    One letter too many, one missing, two exchanged, and in words of six letters a wrong one; never the first. Short
    words are not guessed at: a cat is no car, a horse no house.
    """
    return _slip(word, known if isinstance(known, frozenset) else frozenset(known))


@lru_cache(4096)
def _slip(word: str, known: frozenset[str]) -> str:
    found = [other for other in known if min(len(word), len(other)) >= 4 and word[0] == other[0] and near(word, other)]
    return found[0] if len(found) == 1 else ""


def near(word: str, other: str) -> bool:
    """Whether one slip lies between two words."""
    short, long = sorted((word, other), key=len)
    start = next((i for i, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    if len(long) == len(short) + 1:
        return short[start:] == long[start + 1 :]
    if len(long) != len(short) or word == other:
        return False
    if short[start + 2 :] == long[start + 2 :] and short[start : start + 2] == long[start : start + 2][::-1]:
        return True
    return len(word) >= 6 and short[start + 1 :] == long[start + 1 :]
