"""Make the catalogue's world complete and put it into the package: ``python -m book.train.ship_catalogue``.

Stores a trained run in 8 bits, teaches that pipeline captions, VQA and NLVR2 on this machine, the last layers alone,
and saves the whole into the work folder; stop it anywhere and start it again. ``--ship`` then copies the folder into
the package, with what ``python -m book.train.measure_catalogue`` has measured of it. Axes: M pictures, N cells.
"""

import argparse
import json
import platform
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import xlxmert_core
from book.train.catalogue_card import card
from book.train.ship_weights import equal_codes, export_graphs, means
from book.train.world import FIGURES, MEASURED, World, add_places, world_of
from xlxmert_core import checkpoints
from xlxmert_core.data.pictures import picture_key
from xlxmert_core.files import write_json
from xlxmert_core.folder import SHIPPED
from xlxmert_core.pipeline import Pipeline
from xlxmert_core.skills import Skill
from xlxmert_core.train import finetuning, loop, recipes

NAME = "catalogue"
LIMIT = 20 * 2**20  # bytes of all files together
BITS = 8
STEPS = {"captions": 1500, "vqa": 2000, "nlvr2": 1500}  # guesses; half a second each on two cores
LAYERS = 3  # trained for each skill
CODED = 0.5  # share of the pictures that a skill reads as their codes, since paintings are asked about too; a guess


def base(world: World) -> Path:
    """The trained pipeline in 8 bits and without skills: what is taught is what ships."""
    folder = world.work / "base"
    if not (folder / "config.json").is_file():
        painter = xlxmert_core.load(world.trained())
        painter.skills = {}
        store(painter, painter.encoder, folder)
    return folder


def store(painter: Pipeline, eye: torch.nn.Module | None, folder: Path) -> None:
    """Save in 8 bits, but the eye in 16: of codes as fine as these, 8 bits would change one in nine."""
    painter.save(folder, BITS)
    if eye is not None:
        checkpoints.save(eye, folder / "encoder.safetensors", 16)


def seen_by(painter: Pipeline, images: np.ndarray, coded: float) -> finetuning.FeaturesOf:
    """Rows of pictures int64 [B, P] -> features [B, P, N, F]: what the eye sees, or the codes' centroids.

    Args:
        images: uint8 [M, S, S, 3].
        coded: how often it is the centroids, drawn for each picture anew by torch's own random numbers.
    """
    features = torch.from_numpy(painter.features(images))  # [M, N, F]
    codes = torch.from_numpy(painter.vocabulary.encode(features.numpy()))  # [M, N]

    def look(rows: Tensor) -> Tensor:
        as_codes = torch.rand(rows.shape) < coded
        return torch.where(as_codes[..., None, None], painter.model.embed_codes(codes[rows]), features[rows])

    return look


def teach(world: World, steps: dict[str, int], layers: int, coded: float, taught: int | None) -> dict[str, Skill]:
    """All skills, by the recipes of chapters 08 and 09; each goes on from its checkpoint in the work folder.

    Args:
        steps: by skill. taught: so many training photographs; all when None.
    """
    painter, data = xlxmert_core.load(base(world)), world.data()
    train, asked = data.split("train", taught), data.questions("train", taught)
    assert [*map(picture_key, train.ids)] == [*asked.row], "a row means the same picture to all skills"
    look, skills = seen_by(painter, train.images, coded), {}
    layers = min(layers, painter.model.config.cross_layers)
    for name, count in steps.items():
        track = loop.Track(world.work / f"{name}.checkpoint.pt", progress=name)
        given = look, count, world.seed, track, layers
        if name == "captions":
            skills[name], history = recipes.train_writer(painter, train, *given)
        else:
            skills[name], history = recipes.train_skill(painter, name, asked, *given)
        write_json(world.work / f"{name}.json", means(history))
    return skills


def finish(world: World, skills: dict[str, Skill], settings: dict) -> dict[str, float]:
    """Save the whole pipeline in 8 bits into the work folder; returns shares of codes that are those of the run.

    "painted": of greedy paintings of test texts; "seen": of test photographs.
    """
    full, small, data = xlxmert_core.load(world.trained()), xlxmert_core.load(base(world)), world.data()
    small.skills = skills
    store(small, full.encoder, world.finished)
    opened = xlxmert_core.load(world.finished)
    test = data.split("test", 100)
    seen = [painter.encode(test.images) for painter in (full, opened)]
    painted, checked = equal_codes(full, opened, data)
    equal = {"painted": painted, "seen": float((seen[0] == seen[1]).float().mean()), "checked": checked}
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    curves = {name: json.loads((world.work / f"{name}.json").read_text()) for name in skills}
    recipe = {"seed": world.seed, "skills": settings, "versions": versions, "equal": equal, "run": world.record()}
    write_json(world.finished / "recipe.json", recipe | {"histories": curves})
    return equal


def sizes_of(folder: Path) -> dict[str, int]:
    """Bytes of every file of a folder, by its path in there."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}


def ship(world: World, target: Path = SHIPPED) -> Path:
    """Copy the finished pipeline with its card into the package, with the graphs of all sizes; returns the folder.

    Raises FileNotFoundError where nothing is finished, ValueError where other weights were measured, or all is too
    large.
    """
    if not (world.finished / "recipe.json").is_file():
        raise FileNotFoundError(f"{world.finished} is not finished: run this without --ship first.")
    path, temporary = world.work / MEASURED, target / f"{NAME}.tmp"
    measured = json.loads(path.read_text()) if path.is_file() else {"weights": world.mark()}
    if measured["weights"] != world.mark():
        raise ValueError(f"{path} is about other weights than {world.finished}: remove it and measure again.")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(world.finished, temporary)
    write_json(temporary / MEASURED, measured)
    for path in sorted((world.work / FIGURES).glob("*")):
        shutil.copy(path, temporary)
    recipe, own = json.loads((temporary / "recipe.json").read_text()), xlxmert_core.load(temporary)
    size = sum(sizes_of(temporary).values())
    (temporary / "README.md").write_text(card(own, recipe, measured, size))
    if (size := sum(sizes_of(temporary).values())) > LIMIT:
        shutil.rmtree(temporary)
        raise ValueError(f"The weights take {size / 2**20:.1f} MB, more than {LIMIT / 2**20:.0f}: make them smaller.")
    final = target / NAME
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    export_graphs()
    return final


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_places(parser)
    for name, count in STEPS.items():
        parser.add_argument(f"--{name}", type=int, default=count, help=f"steps of fine-tuning (default {count})")
    parser.add_argument("--layers", type=int, default=LAYERS, help="cross layers that are trained")
    parser.add_argument("--coded", type=float, default=CODED, help="share of pictures read as their codes")
    parser.add_argument("--taught", type=int, help="so many training photographs; all")
    parser.add_argument("--ship", action="store_true", help="copy what is finished into the package")
    options = parser.parse_args(arguments)
    world = world_of(options)
    if options.ship:
        print(f"Shipped in {ship(world)}")
    else:
        steps = {name: getattr(options, name) for name in STEPS if getattr(options, name)}
        settings = {"steps": steps, "layers": options.layers, "coded": options.coded, "taught": options.taught}
        skills = teach(world, steps, options.layers, options.coded, options.taught)
        print("codes that are the run's:", finish(world, skills, settings))
    sizes = sizes_of(world.finished)
    for name, size in sizes.items():
        print(f"{name:<32} {size / 2**20:6.2f} MB")
    print(f"{'all':<32} {sum(sizes.values()) / 2**20:6.2f} MB of {LIMIT / 2**20:.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
