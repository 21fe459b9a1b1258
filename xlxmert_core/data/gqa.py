"""GQA's balanced questions: one file a split, {question id: {imageId, question, answer, types, entailed, ...}}."""

import os
import sys
from collections.abc import Iterator

from xlxmert_core.data.files import DataError, is_text, stream, take
from xlxmert_core.data.vqa import Question

OPTIONAL = {"answer": "text", "types": "object", "entailed": "list"}


def read(path: str | os.PathLike) -> list[Question]:
    """The questions of a split, in the order of the file, which is streamed.

    ``kinds`` are GQA's structural, semantic and detailed type; test splits have neither answers nor types. Raises
    DataError in one sentence for a repeated question id or a file that is not GQA's.
    """
    found: dict[str, Question] = {}
    for number, entry in _named(path):
        if number in found:
            raise DataError(f"{path} asks question {number!r} twice: every question id must be there once.")
        found[number] = _question(number, entry, f"{path}: question {number!r} is not in GQA's layout")
    return list(found.values())


def _question(number: str, entry: dict, opening: str) -> Question:
    picture, text = take(entry, opening, imageId="id", question="text")
    given = take(entry, opening, **{name: kind for name, kind in OPTIONAL.items() if name in entry})
    more = dict(zip((name for name in OPTIONAL if name in entry), given, strict=True))
    types, entailed, answer = more.get("types", {}), more.get("entailed", []), sys.intern(more.get("answer", ""))
    named = [name for name in ("structural", "semantic", "detailed") if types.get(name)]
    kinds = tuple(map(sys.intern, take(types, opening, **dict.fromkeys(named, "text"))))
    if not all(map(is_text, entailed)):
        raise DataError(f"{opening} (what it entails are no ids of questions).")
    picture = sys.intern(picture) if isinstance(picture, str) else picture
    return Question(number, (picture,), text, (answer,) if answer else (), answer, kinds, tuple(entailed))


def read_regions(path: str | os.PathLike) -> list[tuple[str, str, tuple[float, float, float, float]]]:
    """The objects of GQA's scene graphs as described regions: (picture, "a small red house", box).

    Boxes are (x0, y0, x1, y1) between 0 and 1. Raises DataError in one sentence for another layout.
    """
    found = []
    for picture, graph in _named(path):
        opening = f"{path}: the graph of picture {picture!r} is not in GQA's layout"
        width, height, things = take(graph, opening, width="number", height="number", objects="object")
        if min(width, height) < 1:
            raise DataError(f"{opening} (its picture is {width} x {height} pixels).")
        for thing in things.values():
            x, y, w, h = take(thing, opening, x="number", y="number", w="number", h="number")
            words, name = take(thing, opening, attributes="list", name="text")
            if not all(map(is_text, words)):
                raise DataError(f"{opening} (the attributes of {name!r} are no texts).")
            x, y = x / width, y / height
            found.append((picture, with_article(" ".join([*words, name])), (x, y, x + w / width, y + h / height)))
    return found


def _named(path) -> Iterator[tuple[str, dict]]:
    for entry in stream(path):
        if not isinstance(entry, tuple):
            raise DataError(f"{path} is a list: GQA's files are objects, entries by their id.")
        yield entry


def with_article(words: str) -> str:
    """The words after their article: "an orange star"."""
    return f"an {words}" if words[:1] in "aeiou" else f"a {words}"
