"""R-precision: does a painting fit its own caption better than others, or than the same one with one word exchanged?

Paper, evaluation of image generation: "easy" has 99 captions of other pictures beside the own one (Xu et al. 2018),
"hard" has captions in which one noun, verb, colour or number is another. Who judges is an argument, since the painter's
own opinion is what painted. Axes: M pictures, P pairs of a picture and a text.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from xlxmert_core.model import batches

Scorer = Callable[[Any, list[str]], Any]  # pictures [P, ...] and as many texts -> how well they fit, [P]
Groups = Mapping[str, Sequence[str]]
EASY = 99  # other captions of the easy form
WORDS: Groups = {  # of which every word may stand for every other of its group, in captions of photographs
    "noun": (
        "person man woman boy girl child bicycle bike car motorcycle airplane plane bus train truck boat bench bird "
        "cat dog horse sheep cow elephant bear zebra giraffe backpack umbrella tie suitcase frisbee skis snowboard "
        "kite skateboard surfboard bottle cup fork knife spoon bowl banana apple sandwich broccoli carrot pizza donut "
        "cake chair couch bed table toilet laptop mouse keyboard phone microwave oven toaster sink refrigerator book "
        "clock vase").split(),
    "verb": ("sitting standing walking running riding holding eating playing lying flying looking jumping swimming "
             "driving carrying throwing catching reading sleeping wearing").split(),
    "colour": "red green blue yellow orange purple pink brown black white gray".split(),
    "number": "one two three four five six seven eight nine ten".split(),
}  # fmt: skip


class Place(NamedTuple):
    """A word of a text that belongs to a group: text[start:stop]."""

    start: int
    stop: int
    word: str
    group: str


def places(text: str, groups: Groups = WORDS) -> list[Place]:
    """Where a text has words of the groups; a word of two groups counts in the first of them."""
    group_of = {word: name for name in list(groups)[::-1] for word in groups[name]}
    found = (match for match in re.finditer(r"\w+", text) if match[0].lower() in group_of)
    return [Place(*match.span(), match[0].lower(), group_of[match[0].lower()]) for match in found]


def exchanged(text: str, rng: np.random.Generator, count: int, groups: Groups = WORDS) -> list[str]:
    """Up to ``count`` different texts, each the given one with one word exchanged for another of its group.

    Nothing else changes, so "a red car" may become "a orange car". A word that the text has elsewhere is not put in.
    """
    there = {word.lower() for word in re.findall(r"\w+", text)}
    found = [text[: p.start] + word + text[p.stop :]
             for p in places(text, groups) for word in groups[p.group] if word not in there]  # fmt: skip
    return [found[i] for i in rng.permutation(len(found))[:count]]


def others(texts: Sequence[str], rng: np.random.Generator, count: int = EASY) -> list[list[str]]:
    """For each text ``count`` different ones of the rest: the rivals of the easy form.

    Raises ValueError when there are too few different texts.
    """
    different = list(dict.fromkeys(texts))
    if len(different) <= count:
        raise ValueError(f"{count} rivals need {count + 1} different captions, not {len(different)}: give more texts.")
    number = {text: i for i, text in enumerate(different)}
    drawn = [rng.permutation(len(different) - 1)[:count] for _ in texts]  # of all but the own one
    return [[different[i + (i >= number[text])] for i in row] for text, row in zip(texts, drawn, strict=True)]


def r_precision(score: Scorer, pictures: Any, texts: Sequence[str], rivals: Sequence[Sequence[str]]) -> np.ndarray:
    """Whether each picture fits its own text better than every rival; bool [M], whose mean is the R-precision.

    A tie is lost, so a judge that says the same of all texts is right about none. An honest guess is right once in the
    number of rivals and one more.

    Args:
        score: the matching head, ``lambda codes, texts: painter.match(texts, codes)``, or a judge that had no part
            in the painting.
        pictures: [M, ...], an array or a tensor: images or codes, as ``score`` reads them.
        rivals: of :func:`others` (easy) or, one list a text, of :func:`exchanged` (hard).

    Raises ValueError for a text without rivals, or counts that differ.
    """
    if not len(pictures) == len(texts) == len(rivals):
        raise ValueError(f"{len(pictures)} pictures, {len(texts)} texts and {len(rivals)} lists of rivals: one each.")
    if alone := [text for text, row in zip(texts, rivals, strict=True) if not len(row)]:
        raise ValueError(f"{len(alone)} texts have no rivals (the first is {alone[0]!r}): leave those pictures out.")
    right = []
    for part in batches(len(texts), 1 + max(map(len, rivals), default=0)):
        asked = [[text, *row] for text, row in zip(texts[part], rivals[part], strict=True)]
        rows = np.repeat(np.arange(part.start, part.start + len(asked)), [len(row) for row in asked])
        told = score(pictures[rows], [text for row in asked for text in row])
        told = np.asarray(told.cpu() if hasattr(told, "cpu") else told, dtype=np.float64)  # [P]
        own = np.cumsum([0, *(len(row) for row in asked)])
        right += [told[a] > told[a + 1 : b].max() for a, b in pairwise(own)]
    return np.array(right, dtype=bool)
