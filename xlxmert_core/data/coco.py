"""COCO captions and boxes in the official layout; Storybook writes the same files.

Annotations are ``annotations/captions_{split}.json`` (and ``instances_{split}.json`` for boxes); pictures
lie in ``{split}/`` (COCO) or ``images/{split}/`` (Storybook).
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from xlxmert_core.data.files import DataError, read_json
from xlxmert_core.data.images import ImageError, open_image, to_square


@dataclass
class Report:
    """What was left out, and why: (what, why) pairs, counted and listed, never silent."""

    skipped: list[tuple[str, str]] = field(default_factory=list)

    def skip(self, what: str, why: str) -> None:
        """Note one thing that was left out."""
        self.skipped.append((what, why))

    def __str__(self) -> str:
        if not self.skipped:
            return "Nothing was skipped."
        lines = [f"{len(self.skipped)} skipped:"] + [f"- {what}: {why}" for what, why in self.skipped[:20]]
        if len(self.skipped) > 20:
            lines.append(f"- and {len(self.skipped) - 20} more")
        return "\n".join(lines)


@dataclass
class Record:
    """One picture with its captions; facts (Storybook only) holds one list of facts a caption."""

    image_id: int
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
    content = read_json(path)
    try:
        records = {image["id"]: Record(image["id"], pictures / image["file_name"]) for image in content["images"]}
        present = {entry.name for entry in os.scandir(pictures)}
        lost: dict[int, int] = defaultdict(int)
        for annotation in content["annotations"]:
            record = records.get(annotation["image_id"])
            if record is None or record.path.name not in present:
                lost[annotation["image_id"]] += 1
                continue
            record.captions.append(annotation["caption"].strip())
            if "facts" in annotation:
                record.facts.append(annotation["facts"])
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} does not have COCO's captions layout: {error!r} while reading it.") from error
    for image_id, count in lost.items():
        report.skip(f"{count} caption(s) of picture {image_id}", f"the picture is not in {pictures}")
    return [record for record in records.values() if record.captions][:limit], report


def read_boxes(folder: str | os.PathLike, split: str) -> tuple[dict[int, list], list[str]]:
    """Boxes for training an eye: {image id: [(x, y, w, h relative to the picture, category)]}, category names.

    ``category`` counts from 0 in the order of the category ids.
    """
    path = Path(folder) / "annotations" / f"instances_{split}.json"
    content = read_json(path)
    try:
        categories = sorted(content["categories"], key=lambda c: c["id"])
        index = {c["id"]: i for i, c in enumerate(categories)}
        names = [c["name"] for c in categories]
        sizes = {i["id"]: (i["width"], i["height"]) for i in content["images"]}
        boxes: dict[int, list] = defaultdict(list)
        for a in content["annotations"]:
            width, height = sizes[a["image_id"]]
            x, y, w, h = a["bbox"]
            boxes[a["image_id"]].append((x / width, y / height, w / width, h / height, index[a["category_id"]]))
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise DataError(f"{path} does not have COCO's instances layout: {error!r} while reading it.") from error
    return dict(boxes), names


def iterate_images(records: Sequence[Record], size: int, report: Report) -> Iterator[tuple[Record, np.ndarray]]:
    """(record, uint8 [size, size, 3]) for every picture that opens; the others go into the report."""
    for record in records:
        try:
            yield record, to_square(open_image(record.path), size)
        except ImageError as error:
            report.skip(f"picture {record.image_id}", str(error))
