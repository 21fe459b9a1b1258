"""LXMERT's aggregated JSON: all sentences of a picture, by source, with the answers of the questions.

A list of ``{img_id, labelf: {source: [{answer: score}]}, sentf: {source: [sentence]}}``; sources are
mscoco (captions), vg, vqa, gqa and visual7w (questions). The i-th sentence of a source has the i-th label.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from xlxmert_core.data.coco import Record
from xlxmert_core.data.files import KINDS, DataError, is_text, stream, take

CAPTIONS = "mscoco"


@dataclass(frozen=True, slots=True)
class Example:
    """One sentence about one picture; label maps answers to scores (questions only)."""

    image_id: str
    sentence: str
    source: str
    label: dict[str, float] | None = None


def read_aggregated(*paths: str | os.PathLike) -> list[Example]:
    """All sentences of one or more aggregated files; raises DataError naming file and entry."""
    return list(iterate_aggregated(*paths))


def iterate_aggregated(*paths: str | os.PathLike) -> Iterator[Example]:
    """The same one after another: the files are streamed, for LXMERT's nine million sentences fill gigabytes."""
    for path in paths:
        for index, entry in enumerate(stream(path)):
            yield from _of_picture(entry, index, path)


def examples(content: Sequence[dict], path: str = "the list") -> list[Example]:
    """The sentences of an aggregated list, in its order."""
    return [example for index, entry in enumerate(content) for example in _of_picture(entry, index, path)]


def _of_picture(entry, index: int, path) -> list[Example]:
    if isinstance(entry, tuple):
        raise DataError(f"{path} is no list of pictures: it is not LXMERT's aggregated layout.")
    opening = f"{path}: entry {index} is not LXMERT's aggregated layout"
    picture, told = take(entry, opening, img_id="id", sentf="object")
    (labelled,) = take(entry, opening, labelf="object") if "labelf" in entry else ({},)
    found = []
    for source, sentences in told.items():
        labels = labelled.get(source)
        if not (isinstance(sentences, list) and all(map(is_text, sentences))):
            raise DataError(f"{opening} (the sentences of {source!r} are no list of texts).")
        labels = [None] * len(sentences) if labels is None else labels
        if not (isinstance(labels, list) and len(labels) == len(sentences) and all(map(_is_label, labels))):
            raise DataError(f"{opening} (the answers of {source!r} are not one object of scores for each sentence).")
        for sentence, label in zip(sentences, labels, strict=True):
            answers = {sys.intern(a): score for a, score in label.items()} if label else None
            found.append(Example(str(picture), sentence, sys.intern(source), answers))
    return found


def _is_label(label: object) -> bool:
    """{answer: score}, or nothing."""
    number, _ = KINDS["number"]
    return not label or isinstance(label, dict) and all(is_text(a) and number(score) for a, score in label.items())


def from_captions(records: Iterable[Record]) -> list[dict]:
    """COCO caption records in this layout."""
    names = ((f"{r.image_id:012d}" if isinstance(r.image_id, int) else r.image_id, r.captions) for r in records)
    return [{"img_id": name, "labelf": {}, "sentf": {CAPTIONS: captions}} for name, captions in names]


def answer_vocabulary(found: Iterable[Example], minimum: int = 1) -> list[str]:
    """Answers given at least ``minimum`` times as some question's best, most frequent first, then by alphabet."""
    counts = Counter(max(e.label, key=lambda answer, label=e.label: label[answer]) for e in found if e.label)
    return sorted((a for a, n in counts.items() if n >= minimum), key=lambda a: (-counts[a], a))
