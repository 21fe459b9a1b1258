"""A whole X-LXMERT world on product photographs, on one GPU, in minutes: ``python -m book.train.gpu``.

Eye, codes, transformer, generator with critic, reader and evaluation, each within its share of the wall clock. On a
GPU all but the evaluation begin at once, in processes of their own: until codes.pt is there the transformer reads its
texts, and the generator has cuDNN's algorithms tried out; then its steps are captured as CUDA graphs. Everything passes
through files in a work folder, so what a stage has finished survives whatever happens to another one.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from book.train.gpu.common import Clock, Data, decode, load_data, say
from book.train.gpu.handover import copy_files, pack_files, write_record
from xlxmert_core import checkpoints
from xlxmert_core.files import only_writer, write_json

# When each stage ends, as a share of all the time.
ENDS = {"eye": 0.155, "reader": 0.20, "transformer": 0.55, "painted": 0.62, "painter": 0.93, "evaluation": 0.98}


@dataclass(frozen=True)
class Sizes:
    """How much to do: photographs or texts a step of each stage, codes of each kind, and what to evaluate on."""

    eye: int = 256
    reader: int = 128
    transformer: int = 512
    shapes: int = 1024
    colours: int = 32
    paintings: int = 8192  # texts painted for the critic, at most
    side: int = 192  # pixels at which the reader looks
    seeds: int = 3
    most: int | None = None  # test photographs; all of them
    steps: int | None = None  # of each stage; as many as its time allows
    small: bool = False  # tiny networks


SMOKE = Sizes(eye=8, reader=4, transformer=8, shapes=24, colours=8, paintings=8, side=64, seeds=1, most=6, steps=2,
              small=True)  # fmt: skip


class Run:
    """One run: where things are, how much to do, and when each stage has to end."""

    def __init__(self, options: argparse.Namespace):
        self.data, self.work, self.out, self.device = options.data, options.work, options.out, options.device
        self.begin, self.seconds = options.begin or time.time(), 60 * options.minutes
        self.smoke, self.skip, self.sizes = options.smoke, options.skip, SMOKE if options.smoke else Sizes()
        self.beside = self.device.startswith("cuda") and not options.serial
        (self.work / "model").mkdir(parents=True, exist_ok=True)

    def clock(self, stage: str) -> Clock:
        """The time from now to the end of a stage; a few steps in the smoke run."""
        return Clock(self.begin + self.seconds * ENDS[stage], self.sizes.steps)

    def load(self) -> Data:
        """The pictures on the device."""
        torch.manual_seed(0)
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.benchmark_limit = 3  # trying all ten out takes a quarter of a minute
        return load_data(self.data, self.work, self.device)

    def command(self, stage: str) -> list[str]:
        """This module again, for one stage in a process of its own."""
        given = ["--data", self.data, "--work", self.work, "--out", self.out, "--minutes", self.seconds / 60,
                 "--begin", self.begin, "--device", self.device, "--stage", stage]  # fmt: skip
        return [sys.executable, "-m", "book.train.gpu", *map(str, given), *(["--smoke"] if self.smoke else [])]


def eye(run: Run) -> None:
    """The eye, then the codes of all photographs and their mirror images."""
    from book.train.gpu.eye import make_codes, train_eye

    data, sizes = run.load(), run.sizes
    lessons = train_eye(data, run.data, run.work, run.clock("eye"), sizes.eye)
    make_codes(data, lessons, run.work, sizes.shapes, sizes.colours)


def reader(run: Run) -> None:
    """The independent reader, where its network was packed."""
    from book.train.gpu.networks import has
    from book.train.gpu.reader import train_reader

    if not has(run.data, "lite2"):
        return say("[reader] there is none: networks_lite2.safetensors was left out")
    return train_reader(run.load(), run.data, run.work, run.clock("reader"), run.sizes.reader, run.sizes.side)


def transformer(run: Run) -> None:
    """The transformer, and then its paintings of training texts for the critic."""
    from book.train.gpu.text import paint_training_texts, train_transformer

    data, sizes = run.load(), run.sizes
    train_transformer(data, run.work, run.clock("transformer"), sizes.transformer, sizes.colours, sizes.small)
    paint_training_texts(data, run.work, run.clock("painted"), sizes.paintings)


def painter(run: Run) -> None:
    """The generator with its critic: ready before codes.pt is there, it takes up painted.pt when that appears."""
    from book.train.gpu.painter import train_painter

    train_painter(run.load(), run.data, run.work, run.clock("painter"), codes_path_waiting=run.work / "codes.pt",
                  saved=lambda: export(run), small=run.sizes.small)  # fmt: skip


def evaluation(run: Run) -> None:
    """What the reader sees, distances, contact sheets: of the very folder that is handed over."""
    import xlxmert_core
    from book.train.gpu.reader import evaluate

    if not (run.work / "model" / "generator.safetensors").is_file():
        return say("[evaluation] there is no generator to look at")
    data = run.load()
    torch.backends.cudnn.benchmark = False  # there are many shapes
    pipeline = xlxmert_core.load(run.work / "model").to(run.device)
    return evaluate(data, run.work, pipeline, run.clock("evaluation").end, run.sizes.side, run.sizes.seeds,
                    run.sizes.most, **(dict(steps=2, candidates=1, polish=0) if run.smoke else {}))  # fmt: skip


STAGES: dict[str, Callable[[Run], None]] = {f.__name__: f for f in (eye, reader, transformer, painter, evaluation)}


def finish_config(work: Path) -> None:
    """Write config.json as ``xlxmert_core.load`` reads it, of the parts that are there."""
    model, eyes = work / "model", work / "encoder.json"
    if (model / "transformer.safetensors").is_file():
        generator = model / "generator.safetensors"
        write_json(model / "config.json", {
            "model": checkpoints.read_config(model / "transformer.safetensors"),
            "generator": checkpoints.read_config(generator) if generator.is_file() else None,
            "encoder": json.loads(eyes.read_text()) if eyes.is_file() else None,
            "answers": [],
        })  # fmt: skip


def export(run: Run) -> None:
    """Put what there is into the out folder: at most seven files, none above 16 MiB."""
    run.out.mkdir(parents=True, exist_ok=True)
    with only_writer(run.work / "export", patience=60):
        finish_config(run.work)
        model = sorted((run.work / "model").glob("*"))
        pack_files(run.out / "model.tar", [path for path in model if path.name != "generator.safetensors"], "model")
        pack_files(run.out / "codes.tar.gz", [run.work / "codes.pt", run.work / "painted.pt"], ".")
        pack_files(run.out / "sheets.tar", sorted((run.work / "sheets").glob("*")), "sheets")
        names = ("model/generator", "critic", "reader")
        copy_files(run.out, [run.work / f"{name}.safetensors" for name in names])
        write_record(run, ENDS, minutes=run.seconds / 60)


def clear(work: Path) -> None:
    """Remove what an earlier run left in the work folder, but for the decoded pictures."""
    for pattern in ("*.pt", "*.json", "*.safetensors", "model/*", "sheets/*"):
        for path in work.glob(pattern):
            path.unlink()


def attempt(run: Run, stage: str) -> bool:
    """Run one stage here; an error is printed, and what there is is exported either way."""
    start, fine = time.time(), True
    say(f"== {stage}")
    try:
        STAGES[stage](run)
    except Exception:
        traceback.print_exc()
        fine = False
    tell(run, stage, start, fine)
    return fine


def tell(run: Run, stage: str, start: float, fine: bool) -> None:
    """Say how a stage has ended, and export what there is."""
    say(f"== {stage} {'done' if fine else 'FAILED'} after {time.time() - start:.0f} s, "
        f"{time.time() - run.begin:.0f} s of {run.seconds:.0f}")  # fmt: skip
    export(run)


def wait(run: Run, processes: dict[str, subprocess.Popen]) -> list[bool]:
    """Wait for the stages beside, each until a little after its end, and export whenever one is done."""
    fine, left = [], dict(processes)
    while left:
        time.sleep(0.2)
        for stage, process in list(left.items()):
            last = run.begin + run.seconds * ENDS["painted" if stage == "transformer" else stage] + 25
            if process.poll() is None and time.time() < last:
                continue
            process.kill()  # which one that has ended does not mind
            fine.append(process.wait() == 0)
            del left[stage]
            tell(run, stage, run.begin, fine[-1])
    return fine


def whole(run: Run) -> int:
    """All stages: on a GPU beside each other, on a processor one after another; 0 when all went well."""
    say(f"torch {torch.__version__} on {run.device}, {run.seconds / 60:.1f} minutes")
    if not run.skip:
        clear(run.work)
    if not (run.work / "pictures.npy").is_file():
        decode(run.data, run.work, min(16, os.cpu_count() or 1) if run.beside else 1)
    say(f"pictures ready after {time.time() - run.begin:.0f} s")
    stages = [stage for stage in STAGES if stage not in run.skip]
    beside = [stage for stage in stages if stage in ("reader", "transformer", "painter")] if run.beside else []
    processes = {stage: subprocess.Popen(run.command(stage)) for stage in beside}
    fine = [attempt(run, "eye")] if "eye" in stages else []
    if not all(fine):  # without codes there is nothing to do for the others
        stages = []
        for process in processes.values():
            process.terminate()
    if run.beside:
        torch.cuda.empty_cache()
    fine += wait(run, processes)
    fine += [attempt(run, stage) for stage in stages if stage != "eye" and stage not in beside]
    say(f"{sum(fine)} of {len(fine)} stages done in {time.time() - run.begin:.0f} s")
    return 0 if all(fine) else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that book.train.gpu.pack wrote")
    parser.add_argument("--out", type=Path, required=True, help="where weights, record and sheets go")
    parser.add_argument("--work", type=Path, default=Path("/tmp/photographs"))
    parser.add_argument("--minutes", type=float, default=7.5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--skip", nargs="*", default=[], choices=list(STAGES), help="stages whose files are there")
    parser.add_argument("--smoke", action="store_true", help="a few steps of tiny networks")
    parser.add_argument("--serial", action="store_true", help="one stage after another, also on a GPU")
    parser.add_argument("--stage", choices=list(STAGES), help="one stage alone")
    parser.add_argument("--begin", type=float, help="when the run began (time.time())")
    options = parser.parse_args(arguments)
    run = Run(options)
    if options.stage is not None:
        STAGES[options.stage](run)
        return 0
    return whole(run)


if __name__ == "__main__":
    sys.exit(main())
