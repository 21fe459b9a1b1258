"""Photographs in COCO's layout: ``train2017/``, ``val2017/``, ``annotations/captions_*.json`` and ``instances_*.json``.

The folder is the one that ``XLXMERT_COCO`` names. Questions in VQA v2's format are looked for there, or in the folder
that ``XLXMERT_VQA`` names, with pictures of their own; without any, they are asked about the boxes. Without boxes the
eye learns from colours alone, and what captions name stands for things.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import numpy as np

from xlxmert_core.data import gqa, lxmert, vqa
from xlxmert_core.data.coco import Record, Report, picture_folder, read_boxes, read_captions
from xlxmert_core.data.files import DataError
from xlxmert_core.data.images import ImageError, open_image, to_square
from xlxmert_core.data.pictures import find_pictures, picture_key
from xlxmert_core.datasets.base import UNLABELLED, Asked, DataSet, Region, Split, read_pictures
from xlxmert_core.datasets.profiles import Profile, profile
from xlxmert_core.evaluate.judges import PhotographJudge
from xlxmert_core.files import typed_path
from xlxmert_core.train.loop import Track

FILES = {"train": "train2017", "held_out": "val2017", "test": "val2017"}  # "test" from the end backwards
SMALL = {"about", "from", "into", "near", "over", "some", "that", "their", "there", "this", "under", "while", "with"}
LEVELS = 4  # of red, green and blue in the colour label of a photograph's cell
AT_MOST = 2000  # questions of a test
# A hundred real photographs cannot fill a thousand codes; two thousand (Flickr8k and COCO) fill 256.
FEW = dict(train=160, held_out=60, encoder_steps=30, painted=32, painting_steps=30, pretraining_steps=30,
           pretraining_batch=16, generator_steps=20, critic_steps=4)  # fmt: skip
MANY = dict(train=2400, held_out=900, encoder_steps=400, painted=64, painting_steps=2400, pretraining_steps=1200,
            generator_steps=1400, critic_steps=200, sampler_texts=0, writing_steps=800,
            relation_steps=10, answering_steps=800, judging_steps=20, captioned=64)  # fmt: skip


class Coco(DataSet):
    """Photographs with captions and boxes."""

    name, setting = "coco", "XLXMERT_COCO"

    def budgets(self, profile_name: str) -> Profile:
        """Photographs are fewer here, and need fewer codes."""
        run = profile(profile_name)
        long = run.train > 10000
        few = {name: min(value, getattr(run, name)) for name, value in FEW.items()}
        model = replace(run.model, codes=256 if long else 128, colour_codes=0, colour_dim=0, mixture=1,
                        dropout=0.1 if long else 0.0)  # fmt: skip
        own = dict(codes=model.codes, model=model, max_words=20, painter="pipeline", speaker="pipeline",
                   recorded=("samplers",))  # fmt: skip
        return replace(run, **(MANY if long else few), **own)

    def prepare(self, run: Profile, seed: int) -> None:
        """Nothing is made: raises DataError when the pictures are not there."""
        try:
            for name in dict.fromkeys(FILES.values()):
                picture_folder(self.folder, name)
        except DataError as error:
            raise DataError(f"{error} Name it: XLXMERT_COCO=/path/to/coco make book DATASET=coco.") from error

    def split(self, name: str, limit: int | None = None, size: int = 128) -> Split:
        """A split; raises DataError in one sentence."""
        file = FILES.get(name, name)
        records, images, report = read_pictures(self.folder, file, limit, size, backwards=name == "test")
        boxes, names = self._boxes(file, report)
        labels = {"kind": np.stack([box_labels(boxes.get(record.image_id)) for record in records])}
        labels["colour"] = colour_labels(images)
        classes = {"kind": len(names) + 1, "colour": LEVELS**3 + 1}
        regions = [regions_of(boxes.get(record.image_id, ()), names) for record in records] if names else told(records)
        probes = {name: np.argwhere(values > 0) for name, values in labels.items() if (values > 0).any()}
        return Split(records, images, labels, classes, report, regions, probes)

    def _boxes(self, file: str, report: Report) -> tuple[dict, list[str]]:
        """The boxes of a split, for all splits or for none."""
        paths = {f: self.folder / "annotations" / f"instances_{f}.json" for f in {*FILES.values(), file}}
        if not paths[file].exists():
            if there := [path for path in paths.values() if path.exists()]:
                why = "put the official annotations there"
                raise DataError(f"The file {paths[file]} is missing, {there[0].name} is not: {why}, or remove both.")
            report.skip("boxes", f"{paths[file]} is not there")
        return read_boxes(self.folder, file)

    def texts(self, name: str) -> list[lxmert.Example]:
        """The captions of a split."""
        return lxmert.examples(lxmert.from_captions(read_captions(self.folder, FILES[name])[0]))

    def questions(self, name: str, limit: int | None = None) -> Asked:
        """Real ones where there are any, all of them, else whether a thing is there."""
        place = typed_path(os.environ.get("XLXMERT_VQA", self.folder))
        parts = ("train",) if name == "train" else ("val", "test")
        files = [sorted(place.rglob(f"[!.]*{p}*{end}.json")) for p in parts for end in ("questions", "annotations")]
        found = [those[0] for those in files if those][:2]
        if len(found) < 2:
            return about_boxes(self.split(name, limit), picture_folder(self.folder, FILES[name]))
        asked, keys = vqa.read(*found), find_pictures(place)
        asked = [q for q in asked if q.images[0] in keys]
        asked = asked if name == "train" else asked[:AT_MOST]
        seen = _opened({picture_key(q.images[0]): keys[q.images[0]] for q in asked})
        if not seen:
            raise DataError(f"None of the questions of {found[0]} is about a picture in {place} that opens.")
        asked = [q for q in asked if picture_key(q.images[0]) in seen]
        return Asked({"vqa": asked}, np.stack([*seen.values()]), {key: i for i, key in enumerate(seen)}, place)

    def judge(self, train: Split, run: Profile, seed: int, track: Track) -> PhotographJudge:
        """An eye that knows ImageNet and nothing else."""
        words = sorted({region.words[-1] for those in train.regions for region in those})
        return PhotographJudge(read_boxes(self.folder, FILES["train"])[1] or words)


def _opened(paths: Mapping) -> dict[str, np.ndarray]:
    """The pictures that open, uint8 [128, 128, 3] each."""
    found = {}
    for key, path in paths.items():
        with suppress(ImageError):
            found[key] = to_square(open_image(path), 128)
    return found


def told(records: Sequence[Record], most: int = 3) -> list[list[Region]]:
    """In place of boxes: what a picture's captions name, and the whole picture.

    Words that other captions name too come first, but none that more than half of the pictures have.
    """
    words = [dict.fromkeys(re.findall(r"[^\W\d_]{4,}", " ".join(r.captions).lower())) for r in records]
    counts = Counter(word for those in words for word in those if word not in SMALL)
    ranked = [sorted(counts.keys() & those, key=lambda w: (2 * counts[w] > len(records), -counts[w], w))
              for those in words]  # fmt: skip
    return [[Region((w,), record.captions[0], (0.0, 0.0, 1.0, 1.0)) for w in those[:most]]
            for record, those in zip(records, ranked, strict=True)]  # fmt: skip


def about_boxes(split: Split, folder: Path) -> Asked:
    """Two questions for each kind of thing in a picture: is it there, and is a kind of the next picture there."""
    kinds = [list(dict.fromkeys(region.words[-1] for region in those)) for those in split.regions]
    asked: list[vqa.Question] = []
    for i, (own, image_id) in enumerate(zip(kinds, split.ids, strict=True)):
        others = (kind for those in kinds[i + 1 :] + kinds[:i] for kind in those if kind not in own)
        lacking = list(islice(others, len(own)))  # fewer where the pictures show too few kinds
        pairs = zip(own[: len(lacking)], lacking, strict=True)
        for kind, answer in chain.from_iterable(((here, "yes"), (elsewhere, "no")) for here, elsewhere in pairs):
            text = f"is there {gqa.with_article(kind)}"
            asked.append(vqa.Question(len(asked), (image_id,), text, (answer,), answer, ("is there", "yes/no")))
    row = {picture_key(image_id): i for i, image_id in enumerate(split.ids)}
    return Asked({"vqa": asked}, split.images, row, folder)


def regions_of(boxes: Sequence, names: list[str]) -> list[Region]:
    """The boxes of a picture, largest first."""
    ordered = sorted(boxes, key=lambda b: -b[2] * b[3])
    return [Region((names[c],), gqa.with_article(names[c]), (x, y, x + w, y + h)) for x, y, w, h, c in ordered]


def colour_labels(images: np.ndarray, grid: int = 8) -> np.ndarray:
    """What colour each cell of a photograph is, an attribute that needs no annotator.

    uint8 [M, S, S, 3] -> int64 [M, grid, grid], 1 + the mean red, green and blue in ``LEVELS`` levels each.
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
