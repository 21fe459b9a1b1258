"""COCO captions and boxes in the official layout; Storybook writes the same files.

Annotations are ``annotations/captions_{split}.json`` (and ``instances_{split}.json`` for boxes); pictures
lie in ``{split}/`` (COCO) or ``images/{split}/`` (Storybook).
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from xlxmert_core.data.files import DataError, read_json, sayable, take
from xlxmert_core.data.images import ImageError, open_image, to_square
from xlxmert_core.data.pictures import names_in, picture_key


@dataclass(repr=False)
class Report:
    """What was left out, and why: (what, why) pairs, counted and listed, never silent."""

    skipped: list[tuple[str, str]] = field(default_factory=list)

    def skip(self, what: str, why: str) -> None:
        """Note one thing that was left out."""
        self.skipped.append((sayable(what), sayable(why)))

    def __repr__(self) -> str:
        return f"Report: {len(self.skipped) or 'nothing'} skipped" + " (print it to see what)" * bool(self.skipped)

    def __str__(self) -> str:
        if not self.skipped:
            return "Nothing was skipped."
        lines = [f"{len(self.skipped)} skipped:"] + [f"- {what}: {why}" for what, why in self.skipped[:20]]
        if len(self.skipped) > 20:
            lines.append(f"- and {len(self.skipped) - 20} more")
        return "\n".join(lines)


@dataclass
class Record:
    """One picture with its captions; facts, where they are known, holds one list a caption."""

    image_id: int | str
    path: Path
    captions: list[str] = field(default_factory=list)
    facts: list[list] = field(default_factory=list)


def picture_folder(folder: str | os.PathLike, split: str) -> Path:
    """Where a split's pictures lie; raises :class:`DataError` describing the layout if nowhere."""
    folder = Path(folder)
    for candidate in (folder / split, folder / "images" / split):
        if candidate.is_dir():
            return candidate
    raise DataError(
        f"There are no pictures of {split!r} in {folder}: expected the folder {split}/ beside annotations/, as in COCO."
    )


def read_captions(folder: str | os.PathLike, split: str, limit: int | None = None) -> tuple[list[Record], Report]:
    """Pictures with at least one caption, in the order of the file, and what had to be left out.

    A caption whose picture is not listed or not on disk is skipped and reported.
    """
    pictures, report = picture_folder(folder, split), Report()
    path = Path(folder) / "annotations" / f"captions_{split}.json"
    opening = f"{path} does not have COCO's captions layout"
    images, annotations = take(read_json(path), opening, images="list", annotations="list")
    there, lost, records = names_in(pictures), Counter(), {}
    for image_id, image in _listed(images, opening).items():
        (name,) = take(image, f"{opening} at picture {image_id}", file_name="text")
        records[image_id] = Record(_given(image["id"]), there.get(name, pictures / name))
    for number, annotation in enumerate(annotations):
        image_id, caption = take(annotation, f"{opening} at annotation {number}", image_id="id", caption="text")
        record = records.get(picture_key(image_id))
        if record is None or not (record.path.name in there or record.path.is_file()):
            lost[image_id] += 1
            continue
        record.captions.append(caption.strip())
        if "facts" in annotation:
            record.facts.extend(take(annotation, f"{opening} at annotation {number}", facts="list"))
    for image_id, count in lost.items():
        report.skip(f"{count} caption(s) of picture {image_id}", f"the picture is not in {pictures}")
    return [record for record in records.values() if record.captions][:limit], report


def _listed(images: list, opening: str) -> dict[str, dict]:
    """The entries of a list of pictures by :func:`picture_key`, each once."""
    found: dict[str, dict] = {}
    for number, image in enumerate(images):
        (image_id,) = take(image, f"{opening} at picture {number} of the list", id="id")
        if found.setdefault(picture_key(image_id), image) is not image:
            raise DataError(f"{opening} (two pictures have the id {image_id!r}: every id must be there once).")
    return found


def _given(image_id: int | str) -> int | str:
    """An id as COCO has it, a number where it is one: "000000000042" -> 42."""
    key = picture_key(image_id)
    if isinstance(image_id, int):
        return image_id
    return int(key) if key.isascii() and key.isdigit() and len(key) < 19 else key


def read_boxes(folder: str | os.PathLike, split: str) -> tuple[dict[int | str, list], list[str]]:
    """Boxes for training an eye: {image id: [(x, y, w, h relative to the picture, category)]}, category names.

    ``category`` counts from 0 in the order of the category ids. Both are empty where there is no file of boxes.
    """
    path = Path(folder) / "annotations" / f"instances_{split}.json"
    if not path.is_file():
        return {}, []
    opening = f"{path} does not have COCO's instances layout"
    parts = take(read_json(path), opening, images="list", annotations="list", categories="list")
    sizes, index, names = _sizes(parts[0], opening), *_categories(parts[2], opening)
    boxes: dict[int | str, list] = defaultdict(list)
    for number, annotation in enumerate(parts[1]):
        place = f"{opening} at annotation {number}"
        image_id, bbox, category = take(annotation, place, image_id="id", bbox="numbers", category_id="id")
        if len(bbox) != 4 or picture_key(image_id) not in sizes or picture_key(category) not in index:
            raise DataError(f"{place} (a box is four numbers, of a picture and a category that are listed).")
        width, height = sizes[picture_key(image_id)]
        x, y, w, h = bbox
        box = (x / width, y / height, w / width, h / height, index[picture_key(category)])
        boxes[_given(image_id)].append(box)
    return dict(boxes), names


def _sizes(images: list, opening: str) -> dict[str, tuple[float, float]]:
    found = {}
    for image_id, image in _listed(images, opening).items():
        found[image_id] = take(image, f"{opening} at picture {image_id}", width="number", height="number")
        if min(found[image_id]) < 1:
            raise DataError(f"{opening} at picture {image_id} (its size is {found[image_id]} pixels).")
    return found


def _categories(categories: list, opening: str) -> tuple[dict[str, int], list[str]]:
    """{category id: its place in the order of the ids}, and the names in that order."""
    named = [take(c, f"{opening} at category {i}", id="id", name="text") for i, c in enumerate(categories)]
    ordered = sorted(named, key=lambda c: (isinstance(c[0], str), c[0]))
    index = {picture_key(number): i for i, (number, _) in enumerate(ordered)}
    if len(index) < len(ordered):
        raise DataError(f"{opening} (two categories have one id: every id must be there once).")
    return index, [name for _, name in ordered]


def iterate_images(records: Sequence[Record], size: int, report: Report) -> Iterator[tuple[Record, np.ndarray]]:
    """(record, uint8 [size, size, 3]) for every picture that opens; the others go into the report."""
    for record in records:
        try:
            yield record, to_square(open_image(record.path), size)
        except ImageError as error:
            report.skip(f"picture {record.image_id}", str(error))
