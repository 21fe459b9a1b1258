"""Storybook on disk, in the formats of COCO, VQA v2, GQA, NLVR2 and LXMERT: whole, or as it was before."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from xlxmert_core.data import official
from xlxmert_core.data.storybook.captions import captions
from xlxmert_core.data.storybook.gqa import Compound, compounds
from xlxmert_core.data.storybook.layout import sample_scene
from xlxmert_core.data.storybook.scenes import CELL, PIXELS, STORYBOOK, Scene, World, render
from xlxmert_core.data.storybook.text import pair_statements, related_pairs, statement_holds
from xlxmert_core.data.storybook.vqa import questions
from xlxmert_core.files import fingerprint

SPLITS = ("train", "val", "test", "composition", "counts")
IDS = 1_000_000  # image ids of split s begin at s * IDS + 1
QUESTIONS, STATEMENTS = 6, 3  # questions a picture; statements a pair of pictures, each told both ways round
GQA_RELATION = {"left of": "to the left of", "right of": "to the right of"}
SOURCES = (  # what decides the data set's content
    "storybook/sprites",
    "storybook/backgrounds",
    "storybook/writer",
    "storybook/scenes",
    "storybook/layout",
    "storybook/facts",
    "storybook/grammar",
    "storybook/captions",
    "storybook/text",
    "storybook/vqa",
    "storybook/gqa",
    "gqa",
    "official",
)


def write(
    folder: str | os.PathLike,
    train: int,
    val: int,
    test: int,
    composition: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    world: World = STORYBOOK,
    counted: int = 0,
) -> Path:
    """Draw and write the data set: so many pictures of a world for each split; returns the folder.

    ``counted`` are those of "counts", with numbers of things that the world holds out; of a world without there is no
    such split.

    All is written beside the folder first and renamed once complete. A folder whose manifest names
    the same arguments, code and contents is left alone. ``progress(pictures done,
    pictures in all)`` is called after each picture.

    Raises ValueError for an impossible number of pictures and FileExistsError when the folder holds
    other files.
    """
    folder = Path(folder)
    counts = dict(zip(SPLITS, (train, val, test, composition, counted), strict=True))
    for split, count in counts.items():
        if not 0 <= count < IDS:
            raise ValueError(f"{split}={count} pictures: choose a number from 0 to {IDS - 1}.")
    here = Path(__file__).parent.parent
    code = {name: fingerprint(here / f"{name}.py") for name in SOURCES}
    arguments = {"pictures": counts, "seed": seed, "code": code, "world": json.dumps(asdict(world), default=sorted)}
    if official.is_complete(folder, arguments, _content):
        return folder
    official.check_place(folder, "storybook")
    temporary = official.begin_beside(folder)
    _write_splits(temporary, sample_splits(counts, seed, world), seed, progress)
    official.put_in_place(temporary, folder, arguments, _content)
    return folder


def _content(folder: Path) -> dict[str, str]:
    return {part.name: fingerprint(part) for part in sorted(folder.iterdir()) if part.is_dir()}


def sample_splits(counts: dict[str, int], seed: int, world: World = STORYBOOK) -> dict[str, dict[int, Scene]]:
    """{split: {image id: scene}}, no scene twice; only "composition" and "counts" have what the world holds out.

    The splits to measure on are drawn before training's, so more training leaves them as they are.
    """
    seen: set = set()
    result = {}
    asked = [split for split in SPLITS if split in counts and (split != "counts" or world.held_counts)]
    for split in (*asked[1:], asked[0]):
        index = SPLITS.index(split)
        rng = np.random.default_rng([seed, index])
        scenes: dict[int, Scene] = {}
        while len(scenes) < counts[split]:
            scene = sample_scene(rng, split == "composition", world, split == "counts")
            key = (scene.background, frozenset(scene.things))
            if key not in seen:
                seen.add(key)
                scenes[index * IDS + len(scenes) + 1] = scene
        result[split] = scenes
    return {split: result[split] for split in asked}


def file_name(image_id: int) -> str:
    """COCO's form: twelve digits."""
    return f"{image_id:012d}.png"


def _write_splits(folder: Path, splits: dict[str, dict[int, Scene]], seed: int, progress) -> None:
    total, done = sum(map(len, splits.values())), 0
    for index, (split, scenes) in enumerate(splits.items()):
        rng = np.random.default_rng([seed, index, 1])
        texts = {i: [(c.text, c.facts) for c in captions(scene, rng)] for i, scene in scenes.items()}
        asked = {i: [(q.text, q.answer, q.kind_of_question) for q in questions(scene, rng, QUESTIONS)]
                 for i, scene in scenes.items()}  # fmt: skip
        rng_gqa = np.random.default_rng([seed, index, 2])  # its own stream, so that the others stay as they were
        composed = {i: compounds(scene, rng_gqa, QUESTIONS) for i, scene in scenes.items()}
        names, sides = {i: file_name(i) for i in scenes}, dict.fromkeys(scenes, PIXELS)
        files = {
            f"scenes/{split}.json": {str(i): scene.to_json() for i, scene in scenes.items()},
            f"annotations/captions_{split}.json": official.captions("Storybook", names, texts, sides),
            **official.vqa("Storybook", split, asked),
            f"gqa/{split}_balanced_questions.json": _gqa_questions(composed),
            f"gqa/{split}_sceneGraphs.json": {str(i): _gqa_graph(s) for i, s in scenes.items()},
            f"lxmert/{split}.json": official.lxmert(names, texts, asked),
        }
        official.write(folder, files, {f"nlvr2/{split}.json": _nlvr2(split, scenes, names, rng)})
        images = folder / "images" / split
        images.mkdir(parents=True)
        for image_id, scene in scenes.items():
            Image.fromarray(render(scene)).save(images / file_name(image_id), compress_level=1)
            done += 1
            if progress:
                progress(done, total)


def _gqa_questions(asked: dict[int, list[Compound]]) -> dict:
    """GQA's layout: question id -> question, answer, types, program and the ids of what its answer entails."""
    result = {}
    for i, those in asked.items():
        ids = {q.text: str(i * 100 + n) for n, q in enumerate(those)}
        for q in those:
            structural, semantic, detailed = q.types
            result[ids[q.text]] = {
                "imageId": str(i),
                "question": q.text,
                "answer": q.answer,
                "fullAnswer": q.answer,
                "isBalanced": True,
                "types": {"structural": structural, "semantic": semantic, "detailed": detailed},
                "entailed": [ids[implied.text] for implied in q.entailed if implied.text in ids],
                "semantic": [
                    {"operation": operation, "argument": argument, "dependencies": list(inputs)}
                    for operation, argument, inputs in q.program
                ],
            }
    return result


def _gqa_graph(scene: Scene) -> dict:
    """GQA's scene graph: boxes in pixels, attributes, relations to other objects."""
    ids = {t: str(n) for n, t in enumerate(scene.things)}
    objects: dict[str, dict] = {
        ids[t]: {
            "name": t.kind,
            "x": t.column * CELL,
            "y": t.row * CELL,
            "w": t.span * CELL,
            "h": t.span * CELL,
            "attributes": [t.size, t.colour],
            "relations": [],
        }
        for t in scene.things
    }
    for a, relation, b in related_pairs(scene):
        entry = {"name": GQA_RELATION.get(relation, relation), "object": ids[b]}
        objects[ids[a]]["relations"].append(entry)
    return {"width": PIXELS, "height": PIXELS, "location": scene.background, "objects": objects}


def _nlvr2(split: str, scenes: dict[int, Scene], names: official.Files, rng: np.random.Generator) -> list[dict]:
    """NLVR2's rows: neighbours make pairs; "left_image" and "right_image" are image ids.

    Every sentence comes with the pair and with the pair exchanged, as NLVR2 uses a sentence for several pairs:
    only who is right about all of them counts as consistent.
    """
    ids = list(scenes)
    rows = []
    for number, (a, b) in enumerate(zip(ids[:-1:2], ids[1::2], strict=True)):
        for n, (sentence, truths) in enumerate(statements(scenes[a], scenes[b], rng)):
            for turn, (left, right) in enumerate(((a, b), (b, a))):
                identifier = f"{split}-{number}-{turn}-{n}"
                rows.append(official.nlvr2(identifier, sentence, truths[turn], names, left, right))
    return rows


def statements(a: Scene, b: Scene, rng: np.random.Generator) -> list[tuple[str, tuple[bool, bool]]]:
    """STATEMENTS different sentences about two pictures, each with its truth of (a, b) and of (b, a)."""
    said: dict[str, tuple[bool, bool]] = {}
    while len(said) < STATEMENTS:
        sentence, _ = pair_statements(a, b, rng)
        if sentence not in said:
            said[sentence] = statement_holds(sentence, a, b), statement_holds(sentence, b, a)
    return list(said.items())
