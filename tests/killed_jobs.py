"""Tiny jobs of every kind that are killed at random moments and begun again: what test_killed.py runs.

``python tests/killed_jobs.py 20`` prints the table of all of them, twenty moments each.
"""

import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image
from tiny import GRID, TEXTS, tiny_painter

from book.build import install, lanes
from book.build.run_chapters import Run
from book.regress.compare import Places, regress
from xlxmert_core.data.lxmert import Example
from xlxmert_core.data.store import FeatureStore
from xlxmert_core.data.vqa import Question
from xlxmert_core.features import Backbone
from xlxmert_core.generator import Discriminator
from xlxmert_core.scale import assign, extraction
from xlxmert_core.scale.extraction import extract_to_store
from xlxmert_core.train import finetuning, labels, loop, optimisers, pretraining
from xlxmert_core.train.generator_losses import GeneratorObjective, gan_optimisers
from xlxmert_core.vocabulary import VisualVocabulary

Job = Callable[[Path], list]  # does its work in a folder, from where it was; what comes out, arrays and files
CELLS, WIDTH = GRID * GRID, 10


def often(folder: Path, name: str = "checkpoint") -> loop.Track:
    """A checkpoint after every step."""
    return loop.Track(folder / f"{name}.pt", seconds=0)


def weights(model: torch.nn.Module) -> list:
    return [value.numpy() for value in model.state_dict().values()]


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def extract(folder: Path) -> list:
    pictures = {}
    for i in range(24):
        pictures[i] = folder.parent / f"{i}.png"
        if not pictures[i].exists():
            Image.fromarray(drawn(24 + i, 24, 3)).save(pictures[i])
    store = FeatureStore(folder / "store", (1, 3))
    eye = lambda pixels: [time.sleep(0.02), pixels.mean((1, 2))[:, None]][1]  # noqa: E731
    extraction.extract(eye, pictures, store, batch=2, size=lambda w, h: (8, 8), progress=None)
    return [store.ids, store[:]]


def chapter_extract(folder: Path) -> list:
    store = FeatureStore(folder / "store", (CELLS, WIDTH))
    extract_to_store(tiny_painter().encoder, enumerate(drawn(40, 64, 64, 3)), store, batch=2)
    return [store.ids, store[:]]


def codes(folder: Path) -> list:
    vocabulary = VisualVocabulary(np.random.default_rng(1).normal(size=(50, WIDTH)))
    features = FeatureStore(folder.parent / "features", (CELLS, WIDTH))
    if not len(features):
        features.append(range(60), np.random.default_rng(0).normal(size=(60, CELLS, WIDTH)))
    store = FeatureStore(folder / "codes", (CELLS,), "int32")
    assign.assign(vocabulary, features, store, block=2)
    return [store.ids, store[:]]


def k_means(folder: Path) -> list:
    features = np.random.default_rng(0).normal(size=(400, 16, 16)).astype(np.float32)
    return [VisualVocabulary.fit_streamed(features, 25, iterations=15, scratch=folder).centroids]


def eye(folder: Path) -> list:
    split = SimpleNamespace(images=drawn(12, 64, 64, 3), labels={"kind": drawn(12, GRID, GRID).astype(np.int64) % 3})
    split = type("Split", (), {"__len__": lambda self: 12, **vars(split)})()
    network = tiny_painter().encoder
    history = labels.train_on_labels(network, split, 12, 4, seed=0, track=often(folder))
    return [*weights(network), history]


def transformer(folder: Path) -> list:
    painter = tiny_painter()
    texts = [Example(i % 6, text, "mscoco", {"yes": 1.0}) for i, text in enumerate(TEXTS * 6)]
    pairs = pretraining.PairedText.build(texts, range(6), drawn(6, CELLS) % 13, painter.tokenizer, painter.answers, 12)
    objective = pretraining.Pretraining(painter.model)
    history = []
    for number, tasks in enumerate((("visual",), pretraining.TASKS)):
        batches = pretraining.PretrainingBatches(pairs, painter.tokenizer, 4, tasks)
        both = optimisers.muon(objective)
        history += loop.fit(objective, both, batches, 10, seed=number, track=often(folder, str(number)))
    return [*weights(painter.model), history]


def generator(folder: Path) -> list:
    from xlxmert_core.config import GeneratorConfig
    from xlxmert_core.generator import Generator

    torch.manual_seed(0)
    sizes = GeneratorConfig(WIDTH, bottleneck=8, channels=(8, 8, 8, 4, 4), spade_hidden=4, groups=2, grid=GRID)
    painter, critic = Generator(sizes), Discriminator(WIDTH, 4, sizes.image_size, GRID)
    objective = GeneratorObjective(painter, critic, Backbone(), torch.randn(13, WIDTH))
    images, rows = torch.from_numpy(drawn(6, 64, 64, 3)), torch.from_numpy(drawn(6, CELLS) % 13).long()

    def batch_at(step: int, random: torch.Generator) -> dict:
        some = torch.randint(6, (2,), generator=random)
        return {"images": images[some], "codes": rows[some]}

    both = gan_optimisers(objective, 1e-3)
    history = loop.fit(objective, both, batch_at, 8, clip=None, track=often(folder))
    return [*weights(painter), *weights(critic), history]


def skill(folder: Path) -> list:
    asked = [Question(i, (i % 6,), text, ("yes",), "yes") for i, text in enumerate(TEXTS * 6)]
    features = torch.randn(6, CELLS, WIDTH, generator=torch.Generator().manual_seed(0))
    given = [[i % 6] for i in range(len(asked))], lambda rows: features[rows]
    made, history = finetuning.tune(tiny_painter(), asked, *given, ["yes", "no"], 20, 4, track=often(folder))
    return [*weights(made.model), history]


def captions(folder: Path) -> list:
    painter = tiny_painter()
    features = torch.randn(2, CELLS, WIDTH, generator=torch.Generator().manual_seed(0))
    lengths = [str(n) for n in range(11)]
    writer = finetuning.Writing(finetuning.adopt(painter.model, painter.tokenizer, [], lengths), painter.tokenizer)
    said = [{str(len(text.split())): 1.0} for text in TEXTS]
    data = finetuning.FineTuningData.build(TEXTS, [[0], [1]], said, painter.tokenizer, lengths, 12)
    batches = finetuning.batches(data, lambda rows: features[rows], 4)
    history = loop.fit(writer, optimisers.muon(writer), batches, 20, track=often(folder))
    return [*weights(writer.model), history]


def stamp(folder: Path) -> list:
    code = "import sys, time, pathlib; p = pathlib.Path(sys.prefix) / '{0}'; p.write_text('half'); time.sleep(0.3)"
    code += "; p.write_text('{0}')"
    home = folder / "environment"
    if not (home / ".installed-1").exists():  # as make does
        install.install(home / ".installed-1", [("-c", code.format(name)) for name in "abc"])
    assert (home / ".installed-1").exists() and not (home / ".begun").exists()
    return [[(home / name).read_text() for name in "abc"]]


DEFAULTS = 'profile = "ci"\ndataset = "junior"\nseed = 0\nartifacts = "../artifacts"'
MEASURE = """\
import json, time
from pathlib import Path
folder = Path(artifacts) / dataset / profile
(folder / "metrics").mkdir(parents=True, exist_ok=True)
before = float((folder / "{before}").read_text()) if {before!r} else 1.0
(folder / "{name}").write_text("half")
time.sleep(0.3)
(folder / "{name}").write_text(str(before / 3 + seed))
(folder / "metrics" / "{name}.json").write_text(json.dumps({{"probe": before / 3 + seed}}))"""
TABLE = '[02_b]\nmakes = ["02_b"]\n[03_c]\nneeds = ["02_b"]\nmakes = ["03_c"]\n'


def chapters(folder: Path) -> Run:
    """Two chapters, of which one needs what the other makes."""
    import nbformat

    run = Run(folder / "notebooks", folder / "work", folder / "artifacts")
    run.notebooks.mkdir(parents=True, exist_ok=True)
    for name, before in (("02_b", ""), ("03_c", "02_b")):
        cells = [new_code_cell(DEFAULTS, id="a"), new_code_cell(MEASURE.format(name=name, before=before), id="b")]
        cells[0].metadata["tags"] = ["parameters"]
        kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
        if not (run.notebooks / f"{name}.ipynb").exists():
            nbformat.write(new_notebook(cells=cells, metadata=kernel), run.notebooks / "new")
            (run.notebooks / "new").rename(run.notebooks / f"{name}.ipynb")
    (folder / "table.toml").write_text(TABLE)
    lanes.TABLE = folder / "table.toml"
    return run


def made(run: Run) -> list:
    names = ("02_b", "03_c")
    return [[(run.folder / n).read_text(), (run.metrics / f"{n}.json").read_text()] for n in names]


def build(folder: Path) -> list:
    run = chapters(folder)
    lanes.execute_all(run, ["02_b", "03_c"])
    return made(run)


def compare(folder: Path) -> list:
    places = Places(chapters(folder), folder / "build", folder / "numbers", folder / "figures", folder / "bars.toml")
    (folder / "bars.toml").write_text("")
    assert regress(places, ["02_b", "03_c"], [0, 1]) == 0
    return [made(replace(places.run(seed))) for seed in (0, 1)]


JOBS: dict[str, Job] = {
    "extraction": extract, "a chapter's extraction": chapter_extract, "codes": codes, "k-means": k_means,
    "fit of the eye": eye, "fit of the transformer": transformer, "fit of the generator": generator,
    "fit of a skill": skill, "fit of captions": captions, "install stamp": stamp, "book build": build,
    "regress": compare,
}  # fmt: skip


def begin(job: Job, folder: Path) -> int:
    """The job as a process of its own, whose result goes into the folder; its number."""
    folder.mkdir(parents=True, exist_ok=True)
    if process := os.fork():
        return process
    os.setsid()
    with open(folder / "said", "w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    code = 1
    try:
        digest = hashlib.sha256()
        for part in job(folder):
            digest.update(part.tobytes() if isinstance(part, np.ndarray) else json.dumps(part).encode())
        (folder / "result").write_text(digest.hexdigest())
        code = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def outcome(job: Job, folder: Path) -> tuple[str, float]:
    """What comes out of the job, and how long it took; raises AssertionError with its last words."""
    begun = time.monotonic()
    _, status = os.waitpid(begin(job, folder), 0)
    assert status == 0, (folder / "said").read_text()[-500:]
    return (folder / "result").read_text(), time.monotonic() - begun


def killed(name: str, moments: int, home: Path, seed: int = 0) -> dict:
    """One row of the table: a job that is killed at random moments and begun again, beside one that was let alone."""
    job, rng = JOBS[name], random.Random(seed)
    wanted, seconds = outcome(job, home / "whole")
    alive = equal = 0
    for number in range(moments):
        process = begin(job, folder := home / str(number))
        time.sleep(rng.uniform(0, seconds))
        alive += os.waitpid(process, os.WNOHANG) == (0, 0)
        try:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        (folder / "result").unlink(missing_ok=True)
        equal += outcome(job, folder)[0] == wanted
    return {"job": name, "moments": moments, "killed": alive, "equal": equal, "seconds": round(seconds, 1)}


def table(rows: list[dict]) -> str:
    """The rows as people read them."""
    lines = ["| job | moments | it was running | equal afterwards | alone, s |", "|:--|--:|--:|--:|--:|"]
    return "\n".join(
        [*lines, *("| {job} | {moments} | {killed} | {equal} | {seconds} |".format(**row) for row in rows)]
    )


def main() -> None:
    """Kill the named jobs, or all: ``killed_jobs.py MOMENTS FOLDER [JOB ...]``; prints a row of JSON each."""
    torch.set_num_threads(1)
    moments, home, names = int(sys.argv[1]), Path(sys.argv[2]).resolve(), sys.argv[3:] or list(JOBS)
    rows = []
    for name in names:
        rows.append(killed(name, moments, home / name.replace(" ", "_")))
        print(json.dumps(rows[-1]), flush=True)
    print(table(rows), file=sys.stderr)


if __name__ == "__main__":
    main()
