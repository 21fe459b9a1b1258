"""LXMERT's aggregated JSON: all sentences of a picture, by source, with the answers of the questions.

A list of ``{img_id, labelf: {source: [{answer: score}]}, sentf: {source: [sentence]}}``; sources are
mscoco (captions), vg, vqa, gqa and visual7w (questions). The i-th sentence of a source has the i-th label.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from xlxmert_core.data.coco import Record
from xlxmert_core.data.files import DataError, read_json

CAPTIONS = "mscoco"


@dataclass(frozen=True)
class Example:
    """One sentence about one picture; label maps answers to scores (questions only)."""

    image_id: str
    sentence: str
    source: str
    label: dict[str, float] | None = None


def read_aggregated(*paths: str | os.PathLike) -> list[Example]:
    """All sentences of one or more aggregated files; raises DataError naming file and entry."""
    found = []
    for path in paths:
        content = read_json(path)
        if not isinstance(content, list):
            raise DataError(f"{path} is no list of pictures: it is not LXMERT's aggregated layout.")
        found += examples(content, str(path))
    return found


def examples(content: Sequence[dict], path: str = "the list") -> list[Example]:
    """The sentences of an aggregated list, in its order."""
    found = []
    for index, entry in enumerate(content):
        try:
            found += _of_picture(entry)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DataError(f"{path}: entry {index} is not LXMERT's aggregated layout ({error!r}).") from error
    return found


def _of_picture(entry: dict) -> list[Example]:
    found = []
    for source, sentences in entry["sentf"].items():
        if not isinstance(sentences, list):
            raise TypeError(f"the sentences of {source!r} are no list")
        labels = entry.get("labelf", {}).get(source)
        if labels is None:
            labels = [None] * len(sentences)
        for sentence, label in zip(sentences, labels, strict=True):
            found.append(Example(str(entry["img_id"]), sentence, source, dict(label) if label else None))
    return found


def from_captions(records: Iterable[Record]) -> list[dict]:
    """COCO caption records in this layout."""
    return [{"img_id": f"{r.image_id:012d}", "labelf": {}, "sentf": {CAPTIONS: r.captions}} for r in records]


def answer_vocabulary(found: Iterable[Example], minimum: int = 1) -> list[str]:
    """Answers given at least ``minimum`` times as some question's best, most frequent first, then by alphabet."""
    counts = Counter(max(e.label, key=e.label.get) for e in found if e.label)
    return sorted((a for a, n in counts.items() if n >= minimum), key=lambda a: (-counts[a], a))
