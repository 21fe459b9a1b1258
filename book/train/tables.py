"""Train the comparisons of chapters 05 and 06: ``python -m book.train.tables`` (or ``make tables``).

A part is one model, trained from one seed with the budget of its table, and what was measured of it: a file each, in
``artifacts/{dataset}/{profile}/tables``. Stop the command anywhere and start it again: finished parts are not trained
again, and a table is written anew after each. ``--ship`` copies tables and sheets of pictures into the package.
"""

import argparse
import re
import shutil
from collections.abc import Callable
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from book.build.run_chapters import Run, add_choices
from book.train.compared import HEADS, TABLES, Recipe
from book.train.weights import train
from xlxmert_core import checkpoints, sampling
from xlxmert_core.chapters.begin import begin
from xlxmert_core.data.files import read_json
from xlxmert_core.evaluate.scenes import CodeReader, scene_accuracy
from xlxmert_core.features import Backbone, to_uint8
from xlxmert_core.files import fingerprint, write_json
from xlxmert_core.folder import SHIPPED
from xlxmert_core.generator import Discriminator, Generator, fold_spectral_norm
from xlxmert_core.model import XLxmert
from xlxmert_core.text import Tokenizer
from xlxmert_core.train import loop, optimisers, pretraining
from xlxmert_core.train.generator_losses import GeneratorObjective, LossWeights, gan_optimisers

NEEDED = ("02_feature_extraction", "03_visual_vocabulary", "06_image_generator")  # whose artifacts the parts read
TEXTS, SHOWN = 200, 6  # held-out texts that each model paints, and pictures of each row in a sheet
WAYS = {"muon": optimisers.muon, "adamw": partial(optimisers.adamw, betas=(0.9, 0.98))}


class Regression(XLxmert):
    """LXMERT's way: predict a cell's vector itself, with no say about how sure one is."""

    def code_losses(self, cells: Tensor, codes: Tensor) -> Tensor:
        """Cells [M, H], codes int64 [M] -> distances of the guessed vectors to the codes' centroids, [M]."""
        guess, wanted = self.code_feature(self.code_transform(cells)), self.embed_codes(codes)  # [M, F]
        return nn.functional.smooth_l1_loss(guess, wanted, reduction="none").mean(-1)

    def code_logits(self, cells: Tensor, codes: Tensor | None = None) -> Tensor:
        """[..., H] -> [..., K], the higher the nearer: minus half the squared distance, up to a constant."""
        guess = self.code_feature(self.code_transform(cells))  # [..., F]
        return guess @ self.centroids.T - self.centroids.square().sum(-1) / 2


class World:
    """What all parts share: a data set's pictures and sentences, and what the chapters made of them."""

    def __init__(self, run: Run):
        self.budgets, self.data, self.files = begin(run.profile, run.dataset, run.seed, run.artifacts)
        self.train = self.data.split("train", self.budgets.train)
        self.held_out = self.data.split("held_out", self.budgets.held_out)
        sentences, longest = self.data.texts("train"), self.budgets.max_words
        self.tokenizer = Tokenizer.from_corpus(example.sentence for example in sentences)
        codes, given = self.codes(Recipe.vocabulary)["train"], (self.tokenizer, (), longest)
        self.paired = pretraining.PairedText.build(sentences, self.train.ids, codes, *given)
        self.words = self.tokenizer.encode(self.held_out.texts[:TEXTS], longest)  # ids and mask, [M, L]
        self.generator = fold_spectral_norm(Generator(self.budgets.generator))
        checkpoints.load(self.generator, self.files.require("generator.safetensors"))

    def codes(self, vocabulary: str) -> dict[str, Tensor]:
        """What chapter 03 left: "train" and "held_out" int64 [M, N], "centroids" float [K, F]."""
        with np.load(self.files.require(vocabulary)) as arrays:
            found = {name: torch.from_numpy(values) for name, values in arrays.items()}
        return {name: n if n.is_floating_point() else n.long() for name, n in found.items()}


def painter(recipe: Recipe, world: World, seed: int, steps: int) -> tuple[dict, np.ndarray | None]:
    """Train one painter on the visual task; (its scores, pictures uint8 [SHOWN, S, S, 3] where they can be drawn)."""
    cells, budgets = world.codes(recipe.vocabulary), world.budgets
    k, width = cells["centroids"].shape
    sizes = dict(vocab_size=world.tokenizer.size, answers=1, codes=k, feature_dim=width) | HEADS[recipe.head]
    torch.manual_seed(seed)
    kind = Regression if recipe.head == "regression" else XLxmert
    model = kind(replace(budgets.model, **sizes), cells["centroids"])
    first = world.data.language.first_caption if recipe.texts == "first captions" else 0.0
    batches = pretraining.PretrainingBatches(
        replace(world.paired, codes=cells["train"]), world.tokenizer, budgets.pretraining_batch, ("visual",),
        getattr(pretraining, f"{recipe.mask}_cell_mask"), right_text=recipe.texts != "everything", first_caption=first,
    )  # fmt: skip
    objective = pretraining.Pretraining(model, answers=False)
    way, *rates = recipe.optimiser.split()
    both = WAYS[way](objective, *(map(float, rates) if rates else budgets.rates[0]))
    loop.fit(objective, both, batches, steps, seed=seed, track=loop.Track(progress=way))
    painted = sampling.paint(
        model.cpu().eval(), *world.words, generator=torch.Generator().manual_seed(seed), steps=16,
        order=sampling.halton, temperature=0.7,
    )  # fmt: skip
    seen = CodeReader(cells["train"].numpy(), world.train.labels, world.train.scenes[0].world).read(painted.numpy())
    scores = scene_accuracy(seen, [record.facts[0] for record in world.held_out.records[:TEXTS]])
    known = recipe.vocabulary == Recipe.vocabulary  # to the generator of chapter 06
    return scores, drawn(world.generator, painted[:SHOWN], cells) if known else None


def generator(weights: LossWeights, world: World, seed: int, steps: int) -> tuple[dict, np.ndarray]:
    """Train one generator with some of the losses, as chapter 06 does; (scores on held-out pictures, pictures)."""
    torch.manual_seed(seed)
    budgets, cells = world.budgets, world.codes(Recipe.vocabulary)
    network, size = Generator(budgets.generator), (budgets.generator.image_size, budgets.generator.grid)
    judged = weights.hinge or weights.code
    critic = Discriminator(budgets.model.feature_dim, (16, 32, 48, 64, 64), *size) if judged else None
    objective = GeneratorObjective(network, critic, Backbone().load_imagenet(), cells["centroids"], weights)

    def batch_at(step: int, random: torch.Generator) -> dict:
        rows = torch.randint(len(cells["train"]), (budgets.generator_batch,), generator=random)
        images, things = world.train.images[rows.numpy()], world.train.labels["kind"][rows.numpy()] > 0
        given = {"images": torch.from_numpy(images), "things": torch.from_numpy(things)}
        return given | {"codes": cells["train"][rows]}

    rate, muon_rate = budgets.generator_rates
    both, track = gan_optimisers(objective, rate, muon_lr=muon_rate), loop.Track(progress="generator")
    loop.fit(objective, both, batch_at, steps, seed=seed, clip=None, track=track)
    made, real = drawn(network.cpu().eval(), cells["held_out"][:TEXTS], cells), world.held_out.images[:TEXTS]
    off = np.abs(made.astype(np.float32) - real).mean() / 255
    return {"pixel": float(off), "edges": edges(made) / edges(real)}, made[:SHOWN]


@torch.inference_mode()
def drawn(network: nn.Module, codes: Tensor, cells: dict[str, Tensor]) -> np.ndarray:
    """Codes int64 [M, N] -> pictures uint8 [M, S, S, 3]."""
    features = cells["centroids"][codes].transpose(1, 2)  # [M, F, N]
    side = round(codes.shape[1] ** 0.5)
    return np.concatenate([to_uint8(network(some.unflatten(2, (side, side)))) for some in features.split(20)])


def edges(images: np.ndarray) -> float:
    """How much neighbouring pixels differ, on average: what a blurred picture lacks. uint8 [M, S, S, 3]."""
    return float(np.abs(np.diff(images.astype(np.float32), axis=2)).mean())


def part(make: Callable, entry: Any, world: World, seed: int, steps: int) -> dict:
    """One model's record, read if it is finished and made if not; its pictures lie beside it, in one strip."""
    name = re.sub(r"[^\w.]+", "_", "-".join(map(str, (type(entry).__name__, *astuple(entry)))))
    place = world.files.path("tables") / f"{name}-{seed}.json"
    codes = fingerprint(world.files.require(getattr(entry, "vocabulary", Recipe.vocabulary)))
    rates = world.budgets.rates, world.budgets.generator_rates
    made_from = f"{entry}, seed {seed}, {steps} steps, codes {codes}, rates {rates}"
    if place.exists() and (found := read_json(place))["made_from"] == made_from:
        return found
    scores, pictures = make(entry, world, seed, steps)
    found = {"made_from": made_from, "scores": scores, "strip": None if pictures is None else f"{name}-{seed}.png"}
    place.parent.mkdir(exist_ok=True)
    if pictures is not None:
        Image.fromarray(np.concatenate(pictures, 1)).save(place.with_suffix(".png"))
    write_json(place, found)
    return found


def summary(parts: list[dict]) -> dict[str, float]:
    """Mean of each score over the seeds, and its spread: the standard deviation, of two seeds or more."""
    scores = {name: [one["scores"][name] for one in parts] for name in parts[0]["scores"]}
    spread = {f"{name}_spread": float(np.std(values, ddof=1)) for name, values in scores.items() if len(parts) > 1}
    return {"seeds": len(parts)} | {name: float(np.mean(values)) for name, values in scores.items()} | spread


def write_table(name: str, parts: dict[str, list[dict]], world: World, steps: int) -> list[Path]:
    """A table of the rows that have a finished part, and a sheet: real pictures, then each row's of its first seed."""
    place, rows = world.files.path("tables"), {row: found for row, found in parts.items() if found}
    texts, real = world.held_out.texts[:SHOWN], np.concatenate(world.held_out.images[:SHOWN], 1)
    about = {"dataset": world.data.name, "profile": world.files.profile, "steps": steps, "texts": texts}
    table = {"about": about | {"rows": [*rows]}, "rows": {row: summary(found) for row, found in rows.items()}}
    write_json(place / f"{name}.json", table)
    strips = [found[0]["strip"] for found in rows.values()]
    if not all(strips):
        return [place / f"{name}.json"]
    sheet = np.concatenate([real, *(np.asarray(Image.open(place / strip)) for strip in strips)])
    Image.fromarray(sheet).save(place / f"{name}.png")
    return [place / f"{name}.json", place / f"{name}.png"]


def measure(name: str, world: World, seeds: int, steps: int | None = None) -> list[Path]:
    """Make what is missing of a table (steps: of each model, the profile's when None); returns its files."""
    make, usual = (generator, "generator_steps") if name == "generator_losses" else (painter, "painting_steps")
    steps, files = steps or getattr(world.budgets, usual), []
    parts: dict[str, list[dict]] = {row: [] for row in TABLES[name]}
    for seed in range(seeds):
        for row, entry in TABLES[name].items():
            print(f"{name}: {row}, seed {seed}", flush=True)
            parts[row].append(part(make, entry, world, seed, steps))
            files = write_table(name, parts, world, steps)
    return files


def main() -> None:
    """The command behind ``make tables``."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_choices(parser)
    parser.add_argument("--seeds", type=int, default=3, help="models of each row")
    parser.add_argument("--steps", type=int, help="of each model; when left out, what the profile gives")
    parser.add_argument("--table", action="append", choices=TABLES, help="this one only; may be given again")
    parser.add_argument("--ship", action="store_true", help="copy tables and sheets into the package")
    options = parser.parse_args()
    run = Run(profile=options.profile, dataset=options.dataset)
    if run.photographs:
        parser.error("The tables count what drawn scenes show, and no photograph is one: choose a drawn data set.")
    if options.ship and (options.steps or not run.gated):
        parser.error("--ship is for the run that chapters 05 and 06 tell of: the usual data set, profile and steps.")
    train(run, NEEDED)
    world = World(run)
    made = [path for name in options.table or TABLES for path in measure(name, world, options.seeds, options.steps)]
    (SHIPPED / "tables").mkdir(exist_ok=True)
    for path in made if options.ship else ():
        print(f"Shipped: {shutil.copy(path, SHIPPED / 'tables')}")


if __name__ == "__main__":
    main()
