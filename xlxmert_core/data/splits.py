"""One call for the chapters: a split's pictures, captions and cell labels, whatever the data set."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from xlxmert_core.data import storybook
from xlxmert_core.data.coco import Record, Report, iterate_images, read_boxes, read_captions
from xlxmert_core.data.files import DataError, read_json

NAMES = {"storybook": ("train", "val", "test", "composition"), "coco": ("train2017", "val2017")}
UNLABELLED = -100
LEVELS = 4  # of red, green and blue in the colour label of a photograph's cell


# Where in the landscape a cell lies, in blocks of 2 x 2 cells: int64 [8, 8], 0-15.
PLACES = np.add.outer(np.arange(8) // 2 * 4, np.arange(8) // 2)


@dataclass
class Split:
    """A split in memory.

    records: ids, captions and (Storybook) the captions' facts; images uint8 [M, S, S, 3];
    labels: name -> int64 [M, grid, grid], ``UNLABELLED`` where nothing is known; classes: name -> how many;
    scenes: scene graphs (Storybook only).
    """

    records: list[Record]
    images: np.ndarray
    labels: dict[str, np.ndarray]
    classes: dict[str, int]
    report: Report
    scenes: list[storybook.Scene] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        """Image ids, in order."""
        return [record.image_id for record in self.records]

    def __len__(self) -> int:
        return len(self.records)


def write_storybook(folder: Path, train: int, held_out: int, seed: int,
                    progress: Callable[[int, int], None] | None = None) -> Path:  # fmt: skip
    """Draw Storybook unless it is there already: ``held_out`` pictures for each of val, test, composition."""
    return storybook.write(folder, train, held_out, held_out, held_out, seed, progress)


def load_split(dataset: str, folder: Path | str, split: str, limit: int | None = None, size: int = 128) -> Split:
    """Read one split of a folder in COCO's layout (:data:`NAMES` lists the splits of each data set).

    Pictures that do not open are left out and listed in ``report``. Raises DataError in one sentence.
    """
    if dataset not in NAMES:
        raise DataError(f"There is no data set {dataset!r}; known: {', '.join(NAMES)}.")
    records, report = read_captions(folder, split, limit)
    pairs = list(iterate_images(records, size, report))
    if not pairs:
        raise DataError(f"No picture of {split!r} in {folder} could be read: {report}")
    records, images = [record for record, _ in pairs], np.stack([image for _, image in pairs])
    if dataset == "storybook":
        return _storybook_split(Path(folder), split, records, images, report)
    boxes, names = read_boxes(folder, split)
    labels = np.stack([box_labels(boxes.get(record.image_id)) for record in records])
    labels = {"kind": labels, "colour": colour_labels(images)}
    return Split(records, images, labels, {"kind": len(names) + 1, "colour": LEVELS**3 + 1}, report)


def _storybook_split(folder: Path, split: str, records, images, report) -> Split:
    path = folder / "scenes" / f"{split}.json"
    graphs = read_json(path)
    try:
        scenes = [storybook.Scene.from_json(graphs[str(record.image_id)]) for record in records]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} lacks scene graphs of the captions ({error!r}): write it again.") from error
    cells = [storybook.cell_labels(scene) for scene in scenes]
    labels = {name: np.stack([c[name] for c in cells]) for name in ("kind", "colour", "size", "background", "part")}
    # What lies behind an object is no part of it: left unlabelled, a house stays one word on grass or snow.
    labels["background"] = np.where(labels["kind"] > 0, UNLABELLED, labels["background"])
    labels["place"] = np.where(labels["kind"] > 0, UNLABELLED, PLACES)
    sizes = (storybook.KINDS, storybook.COLOURS, storybook.SIZES)
    classes = {name: len(values) + 1 for name, values in zip(("kind", "colour", "size"), sizes, strict=True)}
    classes |= {"background": len(storybook.BACKGROUNDS), "part": 14, "place": int(PLACES.max()) + 1}
    return Split(records, images, labels, classes, report, scenes)


def colour_labels(images: np.ndarray, grid: int = 8) -> np.ndarray:
    """What colour each cell of a photograph is, an attribute that needs no annotator: uint8 [M, S, S, 3] ->
    int64 [M, grid, grid], 1 + the mean red, green and blue in ``LEVELS`` levels each.
    """
    side = images.shape[1] // grid
    cells = images.reshape(len(images), grid, side, grid, side, 3)  # [M, grid, side, grid, side, 3]
    levels = (cells.mean((2, 4)) * LEVELS / 256).astype(np.int64)  # [M, grid, grid, 3]
    return 1 + levels @ np.array([LEVELS**2, LEVELS, 1])


def box_labels(boxes: list | None, grid: int = 8) -> np.ndarray:
    """Boxes of a picture -> int64 [grid, grid]: 1 + category of the smallest box over a cell's centre, 0 for none.

    ``None`` (a picture without annotations) gives ``UNLABELLED`` everywhere. A centre crop moves things;
    for the tiny budgets of this data set the cells are taken on the whole picture.
    """
    if boxes is None:
        return np.full((grid, grid), UNLABELLED, np.int64)
    labels = np.zeros((grid, grid), np.int64)
    centre = (np.arange(grid) + 0.5) / grid
    for x, y, w, h, category in sorted(boxes, key=lambda b: -b[2] * b[3]):
        rows = (centre >= y) & (centre < y + h)
        columns = (centre >= x) & (centre < x + w)
        labels[np.ix_(rows, columns)] = category + 1
    return labels
