"""The catalogue: photographs of single products, before white most often, whose labels say what they show.

The folder that ``XLXMERT_CATALOGUE`` names holds Fashion Product Images in its official layout. What is said and asked
of the photographs is made from it (:mod:`xlxmert_core.data.catalogue`), into a folder of the run's own.
"""

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from xlxmert_core.data import catalogue, lxmert, nlvr2, vqa
from xlxmert_core.data.coco import Record, Report
from xlxmert_core.data.files import DataError
from xlxmert_core.data.pictures import picture_key
from xlxmert_core.datasets.base import UNLABELLED, Asked, DataSet, Language, Region, Split, read_pictures
from xlxmert_core.datasets.profiles import Profile, profile
from xlxmert_core.evaluate.products import ProductJudge, ProductReader, known_of
from xlxmert_core.files import typed_path
from xlxmert_core.train import loop
from xlxmert_core.train.labels import PictureObjective
from xlxmert_core.train.optimisers import adamw

SOURCE = "XLXMERT_CATALOGUE"  # environment variable that names the official layout
FILES = {"train": "train", "held_out": "val", "test": "test", "composition": "composition", "pairs": "pairs"}
ACROSS = 4  # parts of a product's box along each side that the eye tells apart; a guess, 5 would also do
SHAPES, COLOURS = 256, 16  # of codes; 11 colours, no colour, and room for shades: guesses, Storybook has 256 x 9
BATCH, RATE = 32, 1e-3  # of the judge's training
ONE_WORD = tuple(kind.one for kind in catalogue.KINDS.values() if " " not in kind.one)
# A product asks for more codes and words than the junior's things, and "ci" gives it minutes: it learns little there.
FEW = dict(train=1200, held_out=200, encoder_steps=60, painting_steps=60, pretraining_steps=40, pretraining_batch=32,
           generator_steps=30, critic_steps=6, reader_steps=60, painted=32, taught=800)  # fmt: skip
# Guesses for four hours on two cores, from seconds a step measured on Storybook's sizes: eye and judge 0.5, transformer
# 0.4, generator 1.3, its critic's 2 (batches of 16). The shared photographs are 8 264 without the pairs held out.
MANY = dict(train=9000, held_out=1000, encoder_steps=1500, painting_steps=4000, pretraining_steps=2500,
            generator_steps=4000, critic_steps=1200, reader_steps=1500, sampler_texts=0, painted=800,
            writing_steps=1200, relation_steps=10, answering_steps=1200, judging_steps=800, captioned=500)  # fmt: skip


class Catalogue(DataSet):
    """Photographs of products; "composition" holds pairs of type and colour that training never shows.

    "pairs" holds training's photographs of those pairs, which the judge alone sees.
    """

    name = "catalogue"
    tests = ("test", "composition")
    # Half of the visual task's texts are the first caption, which says most: a guess, Storybook has 0.8.
    language = Language((catalogue.COLOURS, ONE_WORD, ("men", "women", "boys", "girls"), catalogue.PATTERNS), 0.5)

    def budgets(self, profile_name: str) -> Profile:
        """Storybook's sizes with codes and words of its own; the run's painter is the only one there is."""
        run = profile(profile_name)
        long = run.train > 10000
        few = {name: min(value, getattr(run, name) or value) for name, value in FEW.items()}
        model = replace(run.model, codes=SHAPES * COLOURS, colour_codes=COLOURS, dropout=0.1 if long else 0.0)
        return replace(run, **(MANY if long else few), codes=model.codes, model=model, max_words=20,
                       painter="pipeline", speaker="pipeline", recorded=("samplers",))  # fmt: skip

    def prepare(self, run: Profile, seed: int) -> None:
        """Link the photographs and write what is said of them; raises DataError where the official files are not."""
        if not os.environ.get(SOURCE):
            named = f"{SOURCE}=/path/to/catalogue make book DATASET=catalogue"
            raise DataError(f"No product photographs are named: name the folder of Fashion Product Images, {named}.")
        catalogue.write(typed_path(os.environ[SOURCE]), self.folder, run.train, run.held_out, seed)

    def split(self, name: str, limit: int | None = None, size: int = 128) -> Split:
        """A split; raises DataError in one sentence, also where nothing is prepared yet."""
        records, images, report = self._pictures(name, limit, size)
        masks = catalogue.product_masks(images)  # [M, S, S]
        cells, boxes = catalogue.covered_cells(masks), catalogue.boxes(masks)  # [M, 8, 8], [M, 4]
        labels, classes = labels_of(records, cells)
        labels["part"], classes["part"] = catalogue.parts(boxes, cells, ACROSS), ACROSS**2 + 1
        middle = catalogue.middle_cells(cells)  # [M, 3]
        probes = {name: middle[labels[name][tuple(middle.T)] != UNLABELLED] for name in ("kind", "colour", "pattern")}
        regions = [regions_of(record, box) for record, box in zip(records, boxes, strict=True)]
        return Split(records, images, labels, classes, report, regions, probes)

    def _pictures(self, name: str, limit: int | None, size: int = 128) -> tuple[list[Record], np.ndarray, Report]:
        """(records, images uint8 [M, size, size, 3], what was left out: of the official files, then of the split)."""
        if not self.folder.is_dir():
            raise DataError(f"{self.folder} is not there: prepare() links the photographs, as chapter 02 does.")
        records, images, report = read_pictures(self.folder, FILES.get(name, name), limit, size)
        return records, images, Report(catalogue.left_out(self.folder).skipped + report.skipped)

    def texts(self, name: str) -> list[lxmert.Example]:
        """Captions and questions of a split."""
        return lxmert.read_aggregated(self.folder / "lxmert" / f"{FILES[name]}.json")

    def questions(self, name: str, limit: int | None = None) -> Asked:
        """VQA's and NLVR2's, about all pictures of a split, or the first ones."""
        (records, images, _), file = self._pictures(name, limit), FILES[name]
        start = self.folder / "vqa"
        asked = vqa.read(start / f"v2_OpenEnded_catalogue_{file}_questions.json",
                         start / f"v2_catalogue_{file}_annotations.json")  # fmt: skip
        told = nlvr2.read(self.folder / f"nlvr2/{file}.json")
        row = {picture_key(record.image_id): i for i, record in enumerate(records)}
        tasks = {task: [q for q in those if row.keys() >= {*map(picture_key, q.images)}]
                 for task, those in (("vqa", asked), ("nlvr2", told))}  # fmt: skip
        return Asked(tasks, images, row, self.folder / "images" / file)

    def judge(self, train: Split, run: Profile, seed: int, track: loop.Track) -> ProductJudge:
        """A reader trained on real photographs alone, those of the held-out pairs too, from a seed of its own."""

        def train_reader() -> ProductReader:
            torch.manual_seed(seed + 100)
            reader = ProductReader()
            objective, batches = PictureObjective(reader), whole_pictures([train, self.split("pairs")])
            loop.fit(objective, adamw(objective, RATE), batches, run.reader_steps, seed=seed + 100, track=track)
            return reader.cpu().eval()

        return ProductJudge(train_reader)


def whole_pictures(splits: Sequence[Split]) -> loop.BatchAt:
    """``batch_at`` of :func:`xlxmert_core.train.loop.fit`: pictures of all splits with their labels, half mirrored."""
    records = [record for split in splits for record in split.records]
    place = [(split.images, i) for split in splits for i in range(len(split))]
    labels = {name: torch.from_numpy(values) for name, values in numbers_of(records).items()}

    def batch_at(step: int, generator: torch.Generator) -> dict:
        """Images uint8 [B, S, S, 3] and labels int64 [B]."""
        rows = torch.randint(len(place), (BATCH,), generator=generator)
        pictures = torch.from_numpy(np.stack([images[i] for images, i in (place[row] for row in rows.tolist())]))
        turned = torch.rand(BATCH, generator=generator) < 0.5
        pictures = torch.where(turned[:, None, None, None], pictures.flip(2), pictures)
        return {"images": pictures, **{name: values[rows] for name, values in labels.items()}}

    return batch_at


def numbers_of(records: Sequence[Record]) -> dict[str, np.ndarray]:
    """Labels of whole pictures: {type, colour, gender, pattern: int64 [M]}, UNLABELLED where the shop says nothing."""
    truths = [known_of(record) for record in records]
    return {
        name: np.array([values.index(t[name][0]) if name in t else UNLABELLED for t in truths], np.int64)
        for name, values in catalogue.LABELS.items()
    }


def labels_of(records: Sequence[Record], cells: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """What each cell shows, 0 off the product: ({name: int64 [M, g, g]}, {name: number of classes}).

    ``cells`` bool [M, g, g] are those that the product covers. The eye calls a type "kind", as in every data set.
    """
    labels, classes = {}, {}
    for name, numbers in numbers_of(records).items():
        values = np.where(numbers == UNLABELLED, UNLABELLED, numbers + 1)[:, None, None]  # [M, 1, 1]
        head = "kind" if name == "type" else name
        labels[head], classes[head] = np.where(cells, values, 0), len(catalogue.LABELS[name]) + 1
    return labels, classes


def regions_of(record: Record, box: np.ndarray) -> list[Region]:
    """The one product of a picture, box (x0, y0, x1, y1) from 0 to 1; none where its colour is not known."""
    truth = known_of(record)
    if "colour" not in truth:
        return []
    kind, colour = truth["type"][0], truth["colour"][0]
    x0, y0, x1, y1 = box.tolist()
    return [Region((colour, catalogue.KINDS[kind].one), catalogue.noun_phrase(kind, colour), (x0, y0, x1, y1))]
