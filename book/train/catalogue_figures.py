"""What chapter 13 shows of the catalogue's world: ``python -m book.train.catalogue_figures``.

Sheets of paintings and of rebuilt photographs, and the curve of more photographs, into the folder ``figures`` of the
work folder; ``book.train.ship_catalogue --ship`` takes them along. Nothing is chosen by its looks: of the test texts
every so many-th is painted, once. Axes: M pictures, S pixels.
"""

import argparse
import json
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

import xlxmert_core
from book.train.gpu.reader import TOLD, held_out_texts
from book.train.measure_catalogue import Measurement
from book.train.world import FIGURES, World, add_places, world_of
from xlxmert_core.datasets.base import Split
from xlxmert_core.evaluate.judges import paint_and_read
from xlxmert_core.files import write_json
from xlxmert_core.pipeline import Pipeline
from xlxmert_core.skills import open_model
from xlxmert_core.text import Tokenizer

UNCHOSEN, REBUILT, SEEDS = 64, 32, 6
QUALITY = 88  # of WebP


def sheet(images: np.ndarray, path: Path, columns: int) -> None:
    """Write pictures uint8 [M, S, S, 3] as one WebP, so many in a line."""
    lines = [np.concatenate([*images[i : i + columns]], 1) for i in range(0, len(images), columns)]
    Image.fromarray(np.concatenate(lines)).save(path, "WEBP", quality=QUALITY, method=6)


def evenly(split: Split, count: int) -> Split:
    """So many of a split, from its whole length."""
    return split.some(np.linspace(0, len(split) - 1, count).astype(int).tolist())


def draw(world: World, painter: Pipeline, folder: Path) -> None:
    """All sheets, and captions.json with the texts of each, in reading order."""
    test = world.data().split("test")
    some, rebuilt, unseen = evenly(test, UNCHOSEN), evenly(test, REBUILT), held_out_texts(2)
    told = {"paintings": some.texts, "seeds": list(TOLD), "unseen": unseen.texts, "rebuilt": rebuilt.texts}
    sheet(painter.paint(some.texts).images, folder / "paintings.webp", 8)
    by_seed = np.stack([painter.paint(TOLD, seed=seed).images for seed in range(SEEDS)], 1)  # [texts, seeds, S, S, 3]
    sheet(by_seed.reshape(-1, *by_seed.shape[2:]), folder / "seeds.webp", SEEDS)
    sheet(painter.paint(unseen.texts).images, folder / "unseen.webp", 8)
    sheet(painter.render(painter.encode(rebuilt.images)), folder / "rebuilt.webp", 8)
    write_json(folder / "captions.json", told)


def curve(world: World, made: Measurement, archives: Path, texts: int, folder: Path) -> None:
    """What paintings of as many test texts show, by the photographs that the transformer learned from.

    ``archives`` is what ``book.train.gpu.curve`` left; eye, codes and generator are those of the whole run.
    """
    whole, test, found = xlxmert_core.load(world.trained()), made.test.first(texts), []
    for path in sorted(archives.glob("transformer_*.tar"), key=lambda path: int(path.stem.split("_")[1])):
        with tarfile.open(path) as tar:
            tar.extractall(home := world.work / path.stem, filter="data")
        record = json.loads((home / "record_transformer.json").read_text())["numbers"]
        weights = home / "transformer.safetensors"
        model = open_model(weights, record["model"], weights)
        painter = Pipeline(model, Tokenizer.load(home / "tokenizer.json"), whole.generator, whole.encoder)
        scores, _ = paint_and_read(painter, made.judge, test, (0,))
        kept = {name: scores[name] for name in ("type", "colour", "both")}
        count = int(path.stem.split("_")[1])
        found.append({"photographs": count, "steps": record["steps"], "texts": texts, **kept,
                      "loss": record["val"]["val_visual"]})  # fmt: skip
        print(json.dumps(found[-1]), flush=True)
    write_json(folder / "curve.json", found)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_places(parser)
    parser.add_argument("--curve", type=Path, help="folder with transformer_<photographs>.tar; no curve without it")
    parser.add_argument("--texts", type=int, default=400, help="test texts painted for each point of the curve")
    options = parser.parse_args(arguments)
    world = world_of(options)
    (folder := world.work / FIGURES).mkdir(exist_ok=True)
    if options.curve is not None:
        curve(world, Measurement(world, None, None, 1, None), options.curve, options.texts, folder)
    draw(world, xlxmert_core.load(world.finished), folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
