"""Storybook: scenes that the book draws itself, so that everything about them is known."""

from dataclasses import replace

import numpy as np
import torch

from xlxmert_core.data import gqa, lxmert, nlvr2, vqa
from xlxmert_core.data import storybook as drawn
from xlxmert_core.data.files import DataError, read_json
from xlxmert_core.data.pictures import picture_key
from xlxmert_core.datasets.base import UNLABELLED, Asked, DataSet, Language, Region, Split, read_pictures
from xlxmert_core.datasets.profiles import Profile, profile
from xlxmert_core.evaluate.judges import SceneJudge
from xlxmert_core.evaluate.scenes import SceneReader
from xlxmert_core.train.labels import train_on_labels
from xlxmert_core.train.loop import Track

# Where in the landscape a cell lies, in blocks of 2 x 2 cells: int64 [8, 8], 0-15.
PLACES = np.add.outer(np.arange(8) // 2 * 4, np.arange(8) // 2)
FILES = {"train": "train", "held_out": "val", "test": "test", "composition": "composition",
         "counts": "counts"}  # fmt: skip


class Storybook(DataSet):
    """Drawn scenes of known things; "composition" holds pairs of colour and kind that training never shows."""

    name = "storybook"
    world = drawn.STORYBOOK
    judged = 6000  # scenes that its judge learns to read from
    tests: tuple[str, ...] = ("test", "composition")
    language = Language(tuple(map(tuple, drawn.EXCHANGEABLE)), 0.8, tuple(drawn.RELATIONS))

    def budgets(self, profile_name: str) -> Profile:
        """How much to do, and the sizes of the networks."""
        return profile(profile_name)

    def prepare(self, run: Profile, seed: int) -> None:
        """Draw the scenes, unless they are there."""
        apart = run.held_out
        drawn.write(self.folder, run.train, apart, apart, apart, seed, world=self.world, counted=apart)

    def split(self, name: str, limit: int | None = None, size: int = 128) -> Split:
        """A split; raises DataError in one sentence, also for scenes that are not drawn yet."""
        if not self.folder.is_dir():
            raise DataError(f"{self.folder} is not there: prepare() draws the scenes, as chapter 02 does.")
        records, images, report = read_pictures(self.folder, FILES.get(name, name), limit, size)
        path = self.folder / "scenes" / f"{FILES[name]}.json"
        graphs = read_json(path)
        try:
            scenes = [drawn.Scene.from_json(graphs[str(record.image_id)], self.world) for record in records]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path} lacks scene graphs of the captions ({error!r}): write it again.") from error
        labels, classes = labels_of(scenes)
        centres = [(i, *drawn.centre_cell(thing)) for i, scene in enumerate(scenes) for thing in scene.things]
        probes = dict.fromkeys(("kind", "colour", "size"), np.array(centres))
        return Split(records, images, labels, classes, report, list(map(regions_of, scenes)), probes, scenes)

    def texts(self, name: str) -> list[lxmert.Example]:
        """Captions and questions of a split."""
        return lxmert.read_aggregated(self.folder / "lxmert" / f"{FILES[name]}.json")

    def questions(self, name: str, limit: int | None = None) -> Asked:
        """VQA's, GQA's and NLVR2's, about all pictures of a split, or the first ones."""
        split, file = self.split(name, limit), FILES[name]
        tasks = {
            "vqa": vqa.read(
                self.folder / f"vqa/v2_OpenEnded_storybook_{file}_questions.json",
                self.folder / f"vqa/v2_storybook_{file}_annotations.json",
            ),
            "gqa": gqa.read(self.folder / f"gqa/{file}_balanced_questions.json"),
            "nlvr2": nlvr2.read(self.folder / f"nlvr2/{file}.json"),
        }
        row = {picture_key(image_id): i for i, image_id in enumerate(split.ids)}
        tasks = {
            task: [q for q in those if row.keys() >= {*map(picture_key, q.images)}] for task, those in tasks.items()
        }
        return Asked(tasks, split.images, row, self.folder / "images" / file)

    def judge(self, train: Split, run: Profile, seed: int, track: Track) -> SceneJudge:
        """A reader trained on drawn scenes alone, from a seed of its own."""

        def train_reader() -> SceneReader:
            torch.manual_seed(seed + 100)
            reader = SceneReader(world=self.world)
            train_on_labels(
                reader, self.seen_by_judge(train, seed), run.reader_steps, batch=32, seed=seed + 100, track=track
            )
            return reader

        return SceneJudge(train_reader, self.world)

    def seen_by_judge(self, train: Split, seed: int) -> Split:
        """What the judge learns to read from: scenes of its own, of pairs and numbers that training never shows too.

        It is to read whatever is painted: of pairs that it never saw, a reader of 300 steps lost 5 % of the facts.
        """
        whole = replace(self.world, held_out=frozenset(), held_counts=frozenset())
        rng = np.random.default_rng([seed, 200])
        scenes = [drawn.sample_scene(rng, world=whole) for _ in range(min(self.judged, len(train)))]
        labels, classes = labels_of(scenes)
        images = np.stack([drawn.render(scene) for scene in scenes])
        records = train.records[: self.judged]
        return replace(train, images=images, labels=labels, classes=classes, scenes=scenes, records=records)


def labels_of(scenes: list[drawn.Scene]) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """What each cell shows: ({name: int64 [M, 8, 8]}, {name: number of classes})."""
    cells = [drawn.cell_labels(scene) for scene in scenes]
    labels = {name: np.stack([c[name] for c in cells]) for name in ("kind", "colour", "size", "background", "part")}
    # What lies behind an object is no part of it: left unlabelled, a house stays one word on grass or snow.
    labels["background"] = np.where(labels["kind"] > 0, UNLABELLED, labels["background"])
    labels["place"] = np.where(labels["kind"] > 0, UNLABELLED, PLACES)
    sizes = (drawn.KINDS, drawn.COLOURS, drawn.SIZES)
    classes = {name: len(values) + 1 for name, values in zip(("kind", "colour", "size"), sizes, strict=True)}
    return labels, classes | {"background": len(drawn.BACKGROUNDS), "part": 14, "place": int(PLACES.max()) + 1}


def regions_of(scene: drawn.Scene) -> list[Region]:
    """The things of a scene."""
    found = []
    for thing in scene.things:
        x, y, side = (number / drawn.GRID for number in (thing.column, thing.row, thing.span))
        text = gqa.with_article(f"{thing.size} {thing.colour} {thing.kind}")
        found.append(Region((thing.colour, thing.kind), text, (x, y, x + side, y + side)))
    return found
