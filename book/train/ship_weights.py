"""Copy what ``make train`` made into the package, with a model card that says how good it is."""

import json
import platform
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path

import numpy as np
import torch

import xlxmert_core
from book.build.run_chapters import Run
from xlxmert_core.chapters.artifacts import Artifacts
from xlxmert_core.datasets import DataSet, open_dataset
from xlxmert_core.datasets.profiles import Profile
from xlxmert_core.engine import graphs
from xlxmert_core.files import write_json
from xlxmert_core.folder import SHIPPED, shipped_names
from xlxmert_core.pipeline import Pipeline
from xlxmert_core.skills import NAMES, Skill

LIMIT = 30 * 2**20  # bytes of all shipped files together
EVERY = 50  # steps averaged into one number of the shipped history
# What issue and card promise: (name, chapter, metric, goal); goals are never changed to fit.
GOALS = (
    ("code probe: colour", "03_visual_vocabulary", "probe_colour", 0.97),
    ("code probe: shape", "03_visual_vocabulary", "probe_kind", 0.97),
    ("code probe: size", "03_visual_vocabulary", "probe_size", 0.97),
    ("reconstruction: facts kept", "07_painting", "reconstruction_facts", 0.97),
    ("painting: facts that hold", "07_painting", "painting_facts", 0.95),
    ("painting: spatial relation right", "07_painting", "painting_relation", 0.90),
    ("painting: every fact of the text right", "07_painting", "painting_all_right", 0.80),
    ("the same, colour-shape pairs never seen in training", "07_painting", "composition_all_right", 0.60),
    ("repainted object has its new colour", "07_painting", "repaint_right", 0.90),
    ("the rest of the picture stays as it was", "07_painting", "repaint_rest_same", 0.90),
    ("captions: stated facts that are true", "08_captioning", "caption_precision", 0.95),
    ("captions: every fact true", "08_captioning", "caption_all_right", 0.85),
    ("paint a text, caption the painting: facts told again", "08_captioning", "round_trip_facts", 0.75),
    ("VQA accuracy", "09_answering", "vqa", 0.96),
    ("GQA-style accuracy", "09_answering", "gqa", 0.95),
    ("NLVR2-style accuracy", "09_answering", "nlvr2", 0.85),
)

CARD = """# Storybook weights

What `xlxmert_core.load("storybook")` opens. One transformer, one generator, one grid encoder, one word list, and the
transformer fine-tuned four times (folders `captions`, `vqa`, `gqa`, `nlvr2`, each with its own word list);
safetensors in half precision, {size:.1f} MB in all. Everything was made from nothing but the ImageNet start of the
encoder by `make train` (`book/train/`), on two CPU cores.

## Data

Storybook, seed {seed}: {train:,} drawn training scenes with five captions and six questions each; eight colour-kind
pairs, such as *blue tree*, are in none of them. No photograph, nothing from the web.

## Recipe

The chapters 02, 03 and 05 to 09 in the profile `train`; `recipe.json` holds every budget, the versions and all
metrics, `history.json` the losses (means of {every} steps), `samplers.json` the table of chapter 07, `blind.json` the
scores of chapter 09's twins, `continuous.json` what codes cost them. `ablations.json`, chapter 05's, is of an earlier
run with the same recipe.

## Measured

On texts of the test split (another stream of the seed than training), read by an independent recogniser that is
right on {reader:.2%} of the facts of real scenes; mean over {seeds} sampling seeds of {painted:,} texts ({pairs:,} with
unseen pairs; {repainted:,} repainted scenes, one seed); the default sampler. {captioned:,} pictures are captioned; the
questions are all of the test split.

| | goal | measured |
|:--|--:|--:|
{table}
| words alone above the most frequent answer: VQA, GQA, NLVR2 | <= 5 points | {words_alone} |
| Fréchet distance, painting over reconstruction (both against other real scenes) | <= 2 | {frechet:.2f} |

Half precision: {same:.4%} of the codes of {checked} greedy paintings are those of the full weights.

## Limits

It knows {words} words, twelve kinds of thing, eight colours, two sizes, five places and four relations; other words
are holes in the sentence, and it says so. One thing of a kind in a scene, at most four things. Questions and
statements follow the templates of `vqa`, `gqa` and `text` in `xlxmert_core/data/storybook`; others get some answer.
"""


def ship_record(run: Run, measured: dict[str, dict], target: Path = SHIPPED / "photographs") -> Path:
    """Copy the record of a run on photographs: numbers and paintings, no photograph and no weights."""
    target.mkdir(parents=True, exist_ok=True)
    made = Artifacts(run.artifacts, run.dataset, run.profile).folder / "photographs"
    for name in ("record.json", "paintings.png"):
        shutil.copyfile(made / name, target / name)
    return target


def written(budgets: Profile) -> dict:
    """Budgets as JSON knows them: a function, such as an order of sampling, by its name."""
    return json.loads(json.dumps(asdict(budgets), default=attrgetter("__name__")))


def ship(run: Run, measured: dict[str, dict]) -> Path:
    """Write ``weights/{dataset}`` beside the old one, then put it in its place; returns the folder.

    Raises ValueError when the files together are too large to ship.
    """
    files = Artifacts(run.artifacts, run.dataset, run.profile)
    data = open_dataset(run.dataset, files.path("data") / run.dataset)
    budgets = data.budgets(run.profile)
    temporary = SHIPPED / f"{run.dataset}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    full = xlxmert_core.load(files.path("pipeline"))
    full.skills = {name: Skill.load(files.path("skills") / name) for name in NAMES}
    full.save(temporary, bits=16)
    for name in ("samplers.json", "blind.json", "continuous.json"):
        shutil.copy(files.path(name), temporary)
    shutil.copy(SHIPPED / "storybook" / "ablations.json", temporary)  # until `make tables` has measured anew
    write_json(temporary / "history.json", histories(files))
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    recipe = {"seed": run.seed, "profile": written(budgets), "versions": versions, "metrics": measured}
    write_json(temporary / "recipe.json", recipe)
    same, checked = equal_codes(full, xlxmert_core.load(temporary), data)
    size = sum(p.stat().st_size for p in temporary.rglob("*") if p.is_file())
    if size > LIMIT:
        shutil.rmtree(temporary)
        raise ValueError(f"The weights take {size / 2**20:.0f} MB, more than {LIMIT / 2**20:.0f}: make them smaller.")
    (temporary / "README.md").write_text(card(run, budgets, measured, full, size, same, checked))
    final = SHIPPED / run.dataset
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    export_graphs()
    return final


def export_graphs() -> None:
    """Write the graphs of all shipped sizes anew, and no others."""
    shutil.rmtree(graphs.SHIPPED, ignore_errors=True)
    for name in shipped_names():
        own = xlxmert_core.load(SHIPPED / name)
        graphs.export(own.model, own.generator, graphs.SHIPPED)


def card(run: Run, budgets: Profile, measured: dict[str, dict], painter: Pipeline, size: int, same: float,
         checked: int) -> str:  # fmt: skip
    """The model card, every number from the run's records."""
    rows = [f"| {n} | >= {goal:.0%} | {measured[c][m]:.1%} |" for n, c, m, goal in GOALS]
    painting, answering = measured["07_painting"], measured["09_answering"]
    tasks = ("vqa", "gqa", "nlvr2")
    alone = ", ".join(f"{100 * answering[f'{task}_language_above_commonest']:+.1f}" for task in tasks)
    return CARD.format(
        size=size / 2**20, seed=run.seed, train=budgets.train, every=EVERY, reader=painting["reader_test_facts"],
        seeds=budgets.seeds, painted=budgets.painted, pairs=budgets.composition_texts,
        repainted=budgets.repainted, table="\n".join(rows), words=painter.tokenizer.size,
        captioned=budgets.captioned, words_alone=alone,
        frechet=painting["frechet_painting"] / painting["frechet_reconstruction"], same=same, checked=checked,
    )  # fmt: skip


def histories(files: Artifacts) -> dict:
    """{stage: {loss: means}} of all fits, from their last checkpoints."""
    result = {}
    for stage in ("encoder", "painting", "transformer", "generator", *NAMES):
        result[stage] = means(torch.load(files.path(f"{stage}.checkpoint.pt"), weights_only=True)["history"])
    return result


def means(rows: Sequence[dict]) -> dict[str, list[float | None]]:
    """{loss: means of EVERY steps} of a training's history; None where there is none."""
    names = sorted({name for row in rows for name in row} - {"step"})
    parts = [rows[i : i + EVERY] for i in range(0, len(rows), EVERY)]
    return {
        name: [round(float(np.mean(found)), 4) if (found := [r[name] for r in part if name in r]) else None
               for part in parts]
        for name in names
    }  # fmt: skip


def equal_codes(full: Pipeline, half: Pipeline, data: DataSet, count: int = 100) -> tuple[float, int]:
    """Share of equal codes of ``count`` greedy paintings with the full and the halved weights."""
    texts = data.split("test", count).texts
    a, b = (p.paint(texts, steps=8, temperature=0.0, candidates=1).codes for p in (full, half))
    return float((a == b).float().mean()), len(texts)
