"""GQA's balanced questions: one file a split, {question id: {imageId, question, answer, types, entailed, ...}}."""

import os
import sys
from collections.abc import Iterator

from xlxmert_core.data.files import DataError, stream
from xlxmert_core.data.vqa import Question


def read(path: str | os.PathLike) -> list[Question]:
    """The questions of a split, in the order of the file, which is streamed.

    ``kinds`` are GQA's structural, semantic and detailed type; test splits have neither answers nor types. Raises
    DataError in one sentence for a repeated question id or a file that is not GQA's.
    """
    found: dict[str, Question] = {}
    for number, entry in _named(path):
        if number in found:
            raise DataError(f"{path} asks question {number!r} twice: every question id must be there once.")
        try:
            answer = sys.intern(entry["answer"]) if "answer" in entry else ""
            types = entry.get("types", {})
            kinds = tuple(sys.intern(types[k]) for k in ("structural", "semantic", "detailed") if types.get(k))
            found[number] = Question(
                number, (sys.intern(entry["imageId"]),), entry["question"], (answer,) if answer else (), answer, kinds,
                tuple(entry.get("entailed", ())),
            )  # fmt: skip
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: question {number!r} is not in GQA's layout ({error!r}).") from error
    return list(found.values())


def read_regions(path: str | os.PathLike) -> list[tuple[str, str, tuple[float, float, float, float]]]:
    """The objects of GQA's scene graphs as described regions: (picture, "a small red house", box).

    Boxes are (x0, y0, x1, y1) between 0 and 1. Raises DataError in one sentence for another layout.
    """
    found = []
    for picture, graph in _named(path):
        try:
            width, height = graph["width"], graph["height"]
            for thing in graph["objects"].values():
                x, y = thing["x"] / width, thing["y"] / height
                box = (x, y, x + thing["w"] / width, y + thing["h"] / height)
                found.append((picture, with_article(" ".join([*thing["attributes"], thing["name"]])), box))
        except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
            raise DataError(f"{path}: the graph of picture {picture!r} is not in GQA's layout ({error!r}).") from error
    return found


def _named(path) -> Iterator[tuple[str, dict]]:
    for entry in stream(path):
        if not isinstance(entry, tuple):
            raise DataError(f"{path} is a list: GQA's files are objects, entries by their id.")
        yield entry


def with_article(words: str) -> str:
    """The words after their article: "an orange star"."""
    return f"an {words}" if words[:1] in "aeiou" else f"a {words}"
