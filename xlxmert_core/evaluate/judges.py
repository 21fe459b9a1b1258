"""Who judges what a model made, without having had a part in it: one judge for drawn scenes, one for photographs."""

import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np

from xlxmert_core.data import storybook
from xlxmert_core.evaluate.scenes import (
    SceneReader,
    caption_accuracy,
    faults,
    pooled_features,
    round_trip,
    scene_accuracy,
)
from xlxmert_core.evaluate.scores import caption_scores
from xlxmert_core.features import Backbone, extract
from xlxmert_core.pipeline import Pipeline


class Edits(NamedTuple):
    """Pictures to be changed in part: their new texts, where (bool [M, grid, grid]), and what should have changed."""

    texts: list[str]
    masks: np.ndarray
    wanted: list


class Judge(Protocol):
    """What a data set's judge measures; every measure is a dict of numbers by name, empty where there is none.

    measures: of :meth:`paintings`, worth a figure; learned: those in which a short training already beats chance;
    true and whole: measures of :meth:`captions`, how much of a caption is right and whether all of it is. A ``split``
    is a :class:`xlxmert_core.datasets.base.Split`.
    """

    measures: tuple[str, ...]
    learned: tuple[str, ...]
    true: str
    whole: str

    def paintings(self, images: np.ndarray, split: Any) -> dict[str, float]:
        """Pictures uint8 [M, S, S, 3] that were painted for the first captions of a split."""

    def captions(self, lines: Sequence[str], split: Any) -> dict[str, float]:
        """Sentences that were written about the pictures of a split."""

    def faults(self, lines: Sequence[str], split: Any) -> list[str]:
        """What is wrong in each such sentence, in words; "" where all of it is true."""

    def regions(self, lines: Sequence[str], regions: Sequence) -> dict[str, float]:
        """Sentences about one region each: shares that are "right", and that name nothing else, "alone"."""

    def retold(self, texts: Sequence[str], lines: Sequence[str]) -> dict[str, float]:
        """Sentences about paintings of ``texts``: how much of the texts they tell again."""

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Pictures -> vectors float32 [M, D], whose distributions the Fréchet distance compares."""

    def edits(self, split: Any, rng: np.random.Generator) -> Edits:
        """One change for each picture."""

    def edited(self, before: np.ndarray, after: np.ndarray, edits: Edits) -> dict[str, float]:
        """Whether the changes were made, and nothing else."""


class SceneJudge:
    """Reads pictures of drawn scenes back into scenes, and looks up what the texts state.

    Args:
        train_reader: gives the reader; world: what the scenes are made of.
    """

    measures: tuple[str, ...] = ("facts", "all_right", "background", "thing", "relation")
    learned: tuple[str, ...] = ("facts", "background")
    true, whole = "precision", "all_right"

    def __init__(self, train_reader: Callable[[], SceneReader], world: storybook.World = storybook.STORYBOOK):
        self._train_reader, self.world = train_reader, world

    @cached_property
    def reader(self) -> SceneReader:
        """The reader, trained when the first picture is to be read."""
        return self._train_reader()

    def paintings(self, images: np.ndarray, split: Any) -> dict[str, float]:
        """Shares of the stated facts that hold (:func:`~xlxmert_core.evaluate.scenes.scene_accuracy`)."""
        return scene_accuracy(self.reader.read(images), [record.facts[0] for record in split.records])

    def captions(self, lines: Sequence[str], split: Any) -> dict[str, float]:
        """Exact: see :func:`~xlxmert_core.evaluate.scenes.caption_accuracy`."""
        return caption_accuracy(split.scenes, lines)

    def faults(self, lines: Sequence[str], split: Any) -> list[str]:
        """Exact: see :func:`~xlxmert_core.evaluate.scenes.faults`."""
        return ["; ".join(faults(scene, line)) for scene, line in zip(split.scenes, lines, strict=True)]

    def regions(self, lines: Sequence[str], regions: Sequence) -> dict[str, float]:
        """Colour and kind must be named, and no other kind."""
        return named(lines, regions, storybook.KINDS)

    def retold(self, texts: Sequence[str], lines: Sequence[str]) -> dict[str, float]:
        """Exact: see :func:`~xlxmert_core.evaluate.scenes.round_trip`."""
        return round_trip(texts, lines, self.world)

    def embed(self, images: np.ndarray) -> np.ndarray:
        """The reader's features, averaged over cells."""
        return pooled_features(self.reader, images)

    def edits(self, split: Any, rng: np.random.Generator) -> Edits:
        """One thing of each scene gets another colour."""
        found = [recoloured(scene, text, rng) for scene, text in zip(split.scenes, split.texts, strict=True)]
        texts, masks, things, colours = zip(*found, strict=True)
        return Edits(list(texts), np.stack(masks), list(zip(things, colours, strict=True)))

    def edited(self, before: np.ndarray, after: np.ndarray, edits: Edits) -> dict[str, float]:
        """Whether the thing has its new colour, and whether all else that the reader sees is as it was."""
        right, same = [], []
        for old, new, (things, colour) in zip(
            self.reader.read(before), self.reader.read(after), edits.wanted, strict=True
        ):
            kind, colours = things[0].kind, (things[0].colour, colour)
            seen = storybook.matching(new["things"], kind, colour)
            right.append(sorted(str(t.size) for t in seen) == sorted(t.size for t in things))
            left = None if self.world.most == 1 else colours
            same.append(_all_but(old, kind, left) == _all_but(new, kind, left))
        return {"repaint_right": float(np.mean(right)), "repaint_rest_same": float(np.mean(same))}


class PhotographJudge:
    """Of photographs nobody knows all facts: compares with other photographs and with what people wrote.

    Args:
        kinds: names of the things that may be in a picture.
    """

    measures: tuple[str, ...] = ("nearer",)
    learned: tuple[str, ...] = measures
    true = whole = "CIDEr-D"

    def __init__(self, kinds: Sequence[str]):
        self.kinds, self.eye = kinds, Backbone().load_imagenet().eval()

    def paintings(self, images: np.ndarray, split: Any) -> dict[str, float]:
        """How often a painting is "nearer" to its text's photograph than to the next one; a coin gives half."""
        made, real = self.embed(images), self.embed(split.images)
        own, other = (((made - those) ** 2).sum(1) for those in (real, np.roll(real, -1, 0)))
        return {"nearer": float((own < other).mean())}

    def captions(self, lines: Sequence[str], split: Any) -> dict[str, float]:
        """Likeness to what people wrote, by the metrics of the COCO challenge."""
        return caption_scores([record.captions for record in split.records], lines)

    def faults(self, lines: Sequence[str], split: Any) -> list[str]:
        """Nobody knows: in its place the caption by a person that shares most words with the sentence."""
        near = [max(record.captions, key=lambda text: len({*text.lower().split()} & {*line.lower().split()}))
                for record, line in zip(split.records, lines, strict=True)]  # fmt: skip
        return [f"a person wrote “{text}”" for text in near]

    def regions(self, lines: Sequence[str], regions: Sequence) -> dict[str, float]:
        """The kind must be named, and no other."""
        return named(lines, regions, self.kinds)

    def retold(self, texts: Sequence[str], lines: Sequence[str]) -> dict[str, float]:
        """Likeness to the texts, by the metrics of the COCO challenge."""
        return caption_scores([[text] for text in texts], lines)

    def embed(self, images: np.ndarray) -> np.ndarray:
        """What an eye that knows ImageNet alone sees, averaged over cells: float32 [M, 112]."""
        return extract(self.eye, images).mean((2, 3))  # maps [M, 112, 8, 8]

    def edits(self, split: Any, rng: np.random.Generator) -> Edits:
        """In the middle of each picture something of another picture's caption."""
        masks = np.zeros((len(split), 8, 8), bool)
        masks[:, 2:7, 3:8] = True
        return Edits(split.texts[1:] + split.texts[:1], masks, [])

    def edited(self, before: np.ndarray, after: np.ndarray, edits: Edits) -> dict[str, float]:
        """How much a pixel changed where it should and elsewhere, as shares of the range."""
        change = np.abs(before.astype(np.float32) - after).mean(-1) / 255  # [M, S, S]
        inside = np.kron(edits.masks, np.ones((1, change.shape[1] // 8, change.shape[2] // 8))) > 0
        return {
            "repaint_change_inside": float(change[inside].mean()),
            "repaint_change_outside": float(change[~inside].mean()),
        }


def recoloured(scene: storybook.Scene, caption: str, rng: np.random.Generator) -> tuple:
    """(text with one colour changed, the things' cells bool [8, 8], the things, their new colour).

    Things of one kind and colour change together, to a colour that no other of their kind has.
    """
    thing = scene.things[rng.integers(len(scene.things))]
    things = storybook.matching(scene.things, thing.kind, thing.colour)
    colours, held_out = scene.world.colours, scene.world.held_out
    allowed = [c for c in colours if c != thing.colour and (c, thing.kind) not in held_out
               and not storybook.find(scene, thing.kind, c)]  # fmt: skip
    colour = allowed[rng.integers(len(allowed))]
    text = caption.replace(f"{thing.colour} {thing.kind}", f"{colour} {thing.kind}")
    mask = np.zeros((8, 8), bool)
    for t in things:
        mask[t.row : t.row + t.span, t.column : t.column + t.span] = True
    return text, mask, things, colour


def _all_but(seen: dict, kind: str, colours: Sequence[str] | None) -> tuple:
    """What was seen, without things of a kind in some colours, or in any."""
    things = [(t.kind, t.colour, t.size) for t in seen["things"]
              if t.kind != kind or (colours is not None and t.colour not in colours)]  # fmt: skip
    return seen["background"], sorted(map(str, things))


def named(lines: Sequence[str], regions: Sequence, kinds: Sequence[str]) -> dict[str, float]:
    """Of sentences about one region each: "right", all its words are there; "alone", one kind is named, not more."""
    words = [line.split() for line in lines]
    right = [all(word in found for word in " ".join(region.words).split())
             for region, found in zip(regions, words, strict=True)]  # fmt: skip
    alone = [sum(set(kind.split()) <= set(found) for kind in kinds) == 1 for found in words]
    return {"right": float(np.mean(right)), "alone": float(np.mean(alone))}


def paint_and_read(painter: Pipeline, judge: Judge, split: Any, seeds: Sequence[int] = (0,),
                   **options: Any) -> tuple[dict[str, float], np.ndarray]:  # fmt: skip
    """Paint the first captions of a split once a seed, and have them judged.

    Args:
        painter: a :class:`xlxmert_core.pipeline.Pipeline`; ``options`` go to its ``paint``.
        judge: one of :mod:`xlxmert_core.evaluate.judges`.

    Returns the mean over seeds of the judge's measures with ``"ms"``, the milliseconds a picture took; and
    the pictures uint8 [texts, S, S, 3] of the first seed.
    """
    runs, first, spent, texts = [], np.empty(0), 0.0, split.texts
    for seed in seeds:
        start = time.perf_counter()
        images = painter.paint(texts, seed=seed, **options).images
        spent += time.perf_counter() - start
        runs.append(judge.paintings(images, split))
        first = first if len(first) else images
    scores = {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
    return scores | {"ms": 1000 * spent / len(texts) / len(seeds)}, first
