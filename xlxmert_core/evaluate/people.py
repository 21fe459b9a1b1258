"""What people, or the model in their place, see in paintings: HUMMUS and preference, and whether the raters agree.

Paper, evaluation of image generation: in HUMMUS one word of the caption is blanked, and whoever looks at the painting
fills it in; in a pairwise comparison one says which of two paintings is better. The book's paint box asks people
(:mod:`xlxmert_core.paintbox.raters`); here the machine is asked, and answers are counted. Axes: M pictures, L words,
V vocabulary, I items, C answers that were given.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from xlxmert_core.evaluate.retrieval import WORDS, Groups, places
from xlxmert_core.evaluate.statistics import bootstrap, fleiss_kappa, interval
from xlxmert_core.features import Pictures
from xlxmert_core.pipeline import Pipeline

GAP = "____"  # what stands in the blanked word's place
Rows = Sequence[dict[str, str]]


class Blank(NamedTuple):
    """A caption before and after its blanked word, the word, and its group ("noun", "colour" ...)."""

    before: str
    word: str
    after: str
    group: str

    @property
    def sentence(self) -> str:
        """The caption with the gap in it."""
        return f"{self.before}{GAP}{self.after}"


def blanked(text: str, rng: np.random.Generator, groups: Groups = WORDS) -> Blank | None:
    """A text with one word of the groups blanked; None when it has no such word."""
    if not (found := places(text, groups)):
        return None
    place = found[rng.integers(len(found))]
    return Blank(text[: place.start], place.word, text[place.stop :], place.group)


@torch.inference_mode()
def fill_in(reader: Pipeline, pictures: Pictures, blanks: Sequence[Blank]) -> list[str]:
    """HUMMUS by machine: the likeliest word in each gap, as ``reader`` sees the picture; of its whole vocabulary.

    The one who painted is a lenient reader; another model, or people, are not.

    Args:
        pictures: as in :meth:`~xlxmert_core.pipeline.Pipeline.encode`: pictures, features, or codes int64 [M, N].

    A word of several pieces is filled in piece by piece at once. Raises ValueError for other counts, for a word that
    the model does not know, or a gap beyond the longest sentence that it reads.
    """
    codes, tokenizer, most = reader.encode(pictures), reader.tokenizer, reader.model.config.max_words
    if len(codes) != len(blanks):
        raise ValueError(f"{len(codes)} pictures, but {len(blanks)} sentences with a gap: give one for each picture.")
    words, mask = tokenizer.encode([blank.before + blank.word + blank.after for blank in blanks], most)
    gaps = torch.zeros_like(mask)
    for row, blank in zip(gaps, blanks, strict=True):
        start, size = 1 + tokenizer.length(blank.before), tokenizer.length(blank.word)
        if not size or start + size > most - 1:
            why = "that the model does not know" if not size else f"after its first {most - 2} words"
            raise ValueError(f"The gap of {blank.sentence!r} hides a word {why}: blank another.")
        row[start : start + size] = True
    never = torch.tensor([tokenizer.pad, tokenizer.cls, tokenizer.sep, tokenizer.mask, tokenizer.unk])
    features, found = reader.model.embed_codes(codes), []
    for start in range(0, len(blanks), 64):
        part = slice(start, start + 64)
        asked = words[part].masked_fill(gaps[part], tokenizer.mask).to(reader.device)
        read = reader.model(asked, mask[part].to(reader.device), features[part]).words.cpu()  # [B, L, H]
        for x, gap in zip(read, gaps[part], strict=True):
            logits = reader.model.word_logits(x[gap].to(reader.device)).cpu()  # [pieces, V]
            found.append(tokenizer.decode(logits.index_fill(1, never, -torch.inf).argmax(1)))
    return found


def hummus(rows: Rows) -> dict[str, float]:
    """Of rows of :func:`~xlxmert_core.data.ratings.read_ratings`: how often the blanked word was filled in.

    "right" with the ends of its 95 % "low" and "high" over items, "raters", "items"; and where all items were answered
    by equally many, two or more, their "kappa".
    """
    right: dict[str, list[bool]] = {}
    for row in rows:
        right.setdefault(row["item"], []).append(_plain(row["answer"]) == _plain(row["wanted"]))
    return _summary("right", [float(np.mean(answers)) for answers in right.values()], rows)


def preference(rows: Rows, name: str) -> dict[str, float]:
    """Of a pairwise comparison: how often ``name`` was "preferred" (a draw is half); as :func:`hummus` otherwise."""
    value = {name: 1.0, "": 0.5}
    items: dict[str, list[float]] = {}
    for row in rows:
        items.setdefault(row["item"], []).append(value.get(row["answer"], 0.0))
    return _summary("preferred", [float(np.mean(answers)) for answers in items.values()], rows)


def _summary(what: str, shares: Sequence[float], rows: Rows) -> dict[str, float]:
    low, high = interval(bootstrap(np.array(shares))).tolist()
    raters = len({row["rater"] for row in rows})
    found = {what: float(np.mean(shares)), "low": low, "high": high, "raters": raters, "items": len(shares)}
    counts = tally(rows)
    several = counts.sum(1)
    return found | ({"kappa": fleiss_kappa(counts)} if several.min() > 1 and (several == several[0]).all() else {})


def tally(rows: Rows) -> np.ndarray:
    """How many raters gave each item each answer: int64 [I, C], items and answers in the order of their first row."""
    items, answers = (list(dict.fromkeys(_plain(row[name]) for row in rows)) for name in ("item", "answer"))
    said = Counter((_plain(row["item"]), _plain(row["answer"])) for row in rows)
    return np.array([[said[item, answer] for answer in answers] for item in items], dtype=np.int64)


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
