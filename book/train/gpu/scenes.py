"""Scenes of the wide world, drawn on the machine that learns from them: pictures, what is said and asked, codes.

Nothing of it travels, for a processor draws some 280 scenes a second with all that is said of them. A split is a dict
by field, each value as long as there are scenes (questions: longer), and is kept as a file a field.
Axes: M scenes, S pixels, N cells, F feature width.
"""

import pickle
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from book.train.gpu.eye import look, nearest
from xlxmert_core.data import storybook as drawn
from xlxmert_core.data.coco import Record as Told
from xlxmert_core.data.coco import Report
from xlxmert_core.data.lxmert import CAPTIONS, Example
from xlxmert_core.data.storybook.gqa import compounds
from xlxmert_core.data.storybook.writer import QUESTIONS, statements
from xlxmert_core.data.vqa import Question
from xlxmert_core.datasets.base import Split
from xlxmert_core.datasets.storybook import labels_of, regions_of
from xlxmert_core.files import replacing
from xlxmert_core.pipeline import Pipeline
from xlxmert_core.text import Tokenizer
from xlxmert_core.train.pretraining import PairedText

BLOCK = 500  # scenes that a process draws at a time: an even number, for statements are about pairs
TESTS = ("val", "test", "composition", "counts")
JUDGED = replace(drawn.WIDE, held_out=frozenset(), held_counts=frozenset())  # what the judge learns to read from
TASKS = ("vqa", "gqa", "nlvr2")


@dataclass(frozen=True)
class Order:
    """What one process draws: so many scenes of a world, none of ``apart``, or the given ones.

    first: the row of the first one in its split; seed: of all that is drawn at random.
    """

    split: str
    first: int
    seed: tuple[int, ...]
    count: int = 0
    world: drawn.World = drawn.WIDE
    apart: frozenset = frozenset()
    given: tuple[drawn.Scene, ...] = ()


def key_of(scene: drawn.Scene) -> tuple:
    """What two scenes have in common that look alike."""
    return scene.background, frozenset(scene.things)


def draw_block(order: Order) -> dict[str, Any]:
    """One order as a part of a split: scenes, captions (text, facts), questions by task, images uint8 [M, S, S, 3]."""
    rng, scenes = np.random.default_rng(order.seed), list(order.given)
    while len(scenes) < order.count:
        scene = drawn.sample_scene(rng, world=order.world)
        if key_of(scene) not in order.apart:
            scenes.append(scene)
    told = [[(c.text, c.facts) for c in drawn.captions(scene, rng)] for scene in scenes]
    rows = range(order.first, order.first + len(scenes))
    asked = [[(q.text, q.answer, (q.kind_of_question,)) for q in drawn.questions(scene, rng, QUESTIONS)]
             for scene in scenes]  # fmt: skip
    composed = [[(q.text, q.answer, q.types) for q in compounds(scene, rng, QUESTIONS)] for scene in scenes]
    both = {task: [Question(f"{row}-{n}", (row,), text, (answer,), answer, kinds)
                   for row, those in zip(rows, found, strict=True) for n, (text, answer, kinds) in enumerate(those)]
            for task, found in (("vqa", asked), ("gqa", composed))}  # fmt: skip
    images = np.stack([drawn.render(scene) for scene in scenes])
    return {"scenes": scenes, "captions": told, **both, "nlvr2": stated(rows, scenes, rng), "images": images}


def stated(rows: Sequence[int], scenes: Sequence[drawn.Scene], rng: np.random.Generator) -> list[Question]:
    """Statements about neighbours, each about the pair and the pair exchanged, as the data set has them."""
    found = []
    for i in range(0, len(scenes) - 1, 2):
        pairs = (rows[i], rows[i + 1]), (rows[i + 1], rows[i])
        for n, (sentence, truths) in enumerate(statements(scenes[i], scenes[i + 1], rng), 1):
            name = f"{rows[i]}-{n}"
            found += [Question(f"{name}-{turn}", pairs[turn], sentence, (str(truth),), str(truth), (name,))
                      for turn, truth in enumerate(truths)]  # fmt: skip
    return found


def draw_world(train: int, held: int, judged: int, seed: int, workers: int) -> dict[str, dict[str, Any]]:
    """All splits: "train", "judged" (of all pairs and numbers) and ``held`` scenes in each of TESTS.

    Those are drawn as the data set's, and training has none of them.
    """
    apart = drawn.sample_splits({"train": 0, **dict.fromkeys(TESTS, held)}, seed, drawn.WIDE)
    orders = [Order(split, i, (seed, 400, number, i), given=tuple(apart[split].values())[i : i + BLOCK])
              for number, split in enumerate(TESTS) for i in range(0, held, BLOCK)]  # fmt: skip
    known = frozenset(key_of(scene) for split in TESTS for scene in apart[split].values())
    for number, (split, count, world) in enumerate((("train", train, drawn.WIDE), ("judged", judged, JUDGED))):
        orders += [Order(split, i, (seed, 500, number, i), min(BLOCK, count - i), world, known)
                   for i in range(0, count, BLOCK)]  # fmt: skip
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            blocks = list(pool.map(draw_block, orders))
    else:
        blocks = list(map(draw_block, orders))
    parts = lambda split: [b for o, b in zip(orders, blocks, strict=True) if o.split == split]  # noqa: E731
    return {split: joined(parts(split)) for split in dict.fromkeys(order.split for order in orders)}


def joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Several parts as one, field by field."""
    whole = {name: [one for part in parts for one in part[name]] for name in parts[0] if name != "images"}
    return whole | {"images": np.concatenate([part["images"] for part in parts])}


@torch.no_grad()
def see(painter: Pipeline, images: np.ndarray, device: str) -> dict[str, torch.Tensor]:
    """What the eye sees in pictures uint8 [M, S, S, 3]: features float16 [M, N, F], codes int32 [M, N]."""
    config, table = painter.model.config, painter.model.centroids.to(device)
    assert painter.encoder is not None, "a painter without an eye has no codes"
    features = look(painter.encoder.to(device), torch.from_numpy(images).permute(0, 3, 1, 2).to(device))  # ty: ignore[invalid-argument-type]
    split, colours = config.feature_dim - config.colour_dim, config.colour_codes
    flat = features.flatten(0, 1)
    shape = nearest(flat[:, :split], table[::colours, :split])[1]
    codes = shape * colours + nearest(flat[:, split:], table[:colours, split:])[1]
    return {"features": features.half().cpu(), "codes": codes.view(features.shape[:2]).int().cpu()}


def keep(work: Path, split: str, fields: dict[str, Any]) -> None:
    """Write fields of a split into the work folder."""
    for name, value in fields.items():
        with replacing(work / f"{split}_{name}.pickle") as temporary:
            temporary.write_bytes(pickle.dumps(value, protocol=5))


def take(work: Path, split: str, name: str) -> Any:
    """A field that :func:`keep` wrote."""
    return pickle.loads((work / f"{split}_{name}.pickle").read_bytes())


def sentences(work: Path, split: str) -> list[Example]:
    """Captions and questions for pretraining; a picture's id is its row."""
    told = [Example(str(row), text, CAPTIONS) for row, those in enumerate(take(work, split, "captions"))
            for text, _ in those]  # fmt: skip
    return told + [Example(str(q.images[0]), q.text, "vqa", {q.answer: 1.0}) for q in take(work, split, "vqa")]


def paired(examples: list[Example], codes: torch.Tensor, tokenizer: Tokenizer, answers: Sequence[str], most: int,
           workers: int) -> PairedText:  # fmt: skip
    """As PairedText.build of pictures whose ids are their rows, by so many processes."""
    each = -(-len(examples) // workers)
    build = partial(PairedText.build, ids=range(len(codes)), codes=codes[:0], tokenizer=tokenizer, answers=answers,
                    max_words=most)  # fmt: skip
    chunks = [examples[i : i + each] for i in range(0, len(examples), each)]
    if workers > 1:
        with ProcessPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:  # forks must not
            parts = list(pool.map(build, chunks))  # wait for threads that they have not
    else:
        parts = list(map(build, chunks))
    longest = max(part.words.shape[1] for part in parts)
    words = [F.pad(part.words, (0, longest - part.words.shape[1]), value=tokenizer.pad) for part in parts]
    rest = [torch.cat([getattr(part, name) for part in parts]) for name in ("picture", "is_caption", "answer")]
    return PairedText(codes, torch.cat(words), *rest)


def split_of(work: Path, name: str, most: int | None = None, seen: bool = True) -> Split:
    """Scenes with captions, labels and regions as the data set gives them, pictures where they are to be ``seen``."""
    scenes, told = take(work, name, "scenes")[:most], take(work, name, "captions")[:most]
    images = take(work, name, "images")[:most] if seen else np.empty((len(scenes), 0), np.uint8)
    records = [Told(row, Path(), [text for text, _ in those], [facts for _, facts in those])
               for row, those in enumerate(told)]  # fmt: skip
    labels, classes = labels_of(scenes) if seen else ({}, {})
    return Split(records, images, labels, classes, Report(), list(map(regions_of, scenes)), {}, scenes)
