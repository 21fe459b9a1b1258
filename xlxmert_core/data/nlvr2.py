"""NLVR2: statements about two pictures, in the official JSON lines or LXMERT's list.

Official lines hold {identifier, sentence, label, left_url, right_url}; the pictures are called after the identifier,
"dev-850-0-0" being about "dev-850-0-img0" and "dev-850-0-img1", unless a line names them (Storybook does:
left_image, right_image). LXMERT's list holds {uid, identifier, sent, img0, img1, label: 0 or 1}.
"""

import os

from xlxmert_core.data.files import DataError, open_text, read_lines, stream, take
from xlxmert_core.data.vqa import Question

ANSWERS = ("False", "True")


def read(path: str | os.PathLike) -> list[Question]:
    """The statements of a split, in the order of the file; ``answer`` is "True", "False" or "" (hidden test).

    ``kinds`` holds the sentence's own id, the identifier without its pair: one sentence is told about several pairs.
    Raises DataError in one sentence for a line with one picture, a repeated identifier, or another layout.
    """
    with_lines = _first_character(path) == "{"
    entries = read_lines(path) if with_lines else enumerate(stream(path), 1)
    found: dict[int | str, Question] = {}
    for number, entry in entries:
        place = f"{path}, {'line' if with_lines else 'entry'} {number}"
        question = _statement(entry, place)
        if question.id in found:
            raise DataError(f"{place} repeats the identifier {question.id!r}: every statement must be there once.")
        found[question.id] = question
    return list(found.values())


def _first_character(path) -> str:
    with open_text(path) as file:
        return file.read(64).lstrip()[:1]


def _statement(entry: dict, place: str) -> Question:
    opening = f"{place} is not in NLVR2's layout"
    (identifier,) = take(entry, opening, identifier="text")
    theirs = "sent" in entry and not entry.get("sentence")  # LXMERT's list
    (sentence,) = take(entry, opening, **{"sent" if theirs else "sentence": "text"})
    parts, label = identifier.split("-"), str(entry.get("label", ""))
    if len(parts) != 4:
        raise DataError(f"{place} has the identifier {identifier!r}, not split-set-pair-sentence.")
    label = {"0": "False", "1": "True"}.get(label, label.capitalize())
    if label not in (*ANSWERS, ""):
        raise DataError(f"{place} has the label {label!r}: it must be True or False.")
    group = "-".join([*parts[:2], parts[3]])
    return Question(identifier, _pictures(entry, parts, place), sentence, (label,) if label else (), label, (group,))


def _pictures(entry: dict, parts: list[str], place: str) -> tuple[str | int, str | int]:
    for left, right in (("left_image", "right_image"), ("img0", "img1"), ("left_url", "right_url")):
        there = [name for name in (left, right) if entry.get(name) not in (None, "")]
        if len(there) == 1:
            raise DataError(f"{place} has {there[0]} but not {right if there[0] == left else left}: "
                            "a statement is about two pictures.")  # fmt: skip
        if there and left != "left_url":
            first, second = take(entry, f"{place} is not in NLVR2's layout", **{left: "id", right: "id"})
            return first, second
        if there:
            return "-".join([*parts[:3], "img0"]), "-".join([*parts[:3], "img1"])
    raise DataError(f"{place} names no pictures: a statement is about two.")
