"""Make the shipped weights from nothing: ``python -m book.train`` (or ``make train``).

Runs the chapters that train, as plain scripts in the ``train`` profile, so that their progress bars reach the
terminal. Stop it anywhere, even with kill -9, and start it again: finished chapters are skipped, and a running
fit goes on from its last checkpoint, at most a minute old. ``--ship`` copies the result into the package.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager

from book.build.run_chapters import KERNEL, Run, add_choices
from book.train import photographs
from book.train.ship_weights import ship, ship_record

CHAPTERS = ("02_feature_extraction", "03_visual_vocabulary", "05_pretraining", "06_image_generator", "07_painting",
            "08_captioning", "09_answering")  # fmt: skip
RECORDS = {"coco": photographs.record}  # what a run leaves besides what its chapters do
SHIP = {"storybook": ship, "coco": ship_record}


def script(notebook: Path, parameters: dict) -> str:
    """The code of a notebook as one script, with other values after the cell tagged ``parameters``."""
    parts = []
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "code":
            parts.append(TransformerManager().transform_cell(cell.source))
            if "parameters" in cell.metadata.get("tags", []):
                parts.append("\n".join(f"{name} = {value!r}" for name, value in parameters.items()))
    return "\n\n".join(parts)


def train(run: Run, chapters: tuple[str, ...] = CHAPTERS) -> None:
    """Run the chapters that have not finished; exits where one fails."""
    for number, chapter in enumerate(chapters, 1):
        if (run.metrics / f"{chapter}.json").exists():
            print(f"[{number}/{len(chapters)}] {chapter}: done before", flush=True)
            continue
        print(f"[{number}/{len(chapters)}] {chapter}", flush=True)
        start = time.time()
        code = script(run.notebooks / f"{chapter}.ipynb", run.parameters())
        environment = os.environ | KERNEL | {"MPLBACKEND": "agg"}
        failed = subprocess.run([sys.executable, "-c", code], cwd=run.notebooks, env=environment).returncode
        if failed:
            sys.exit(f"A chapter failed (exit code {failed}); mend it and start again: nothing done is lost.")
        print(f"    {time.time() - start:.0f} s", flush=True)


def main() -> int:
    """The command behind ``make train``."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_choices(parser, "train", "storybook")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ship", action="store_true", help="copy the weights and their card into the package")
    options = parser.parse_args()
    if options.ship and options.dataset not in SHIP:
        parser.error(f"--ship copies what is trained on {' or '.join(SHIP)} into the package, not {options.dataset}.")
    run = Run(profile=options.profile, dataset=options.dataset, seed=options.seed)
    train(run)
    if run.dataset in RECORDS:
        RECORDS[run.dataset](run)
    measured = {chapter: json.loads((run.metrics / f"{chapter}.json").read_text()) for chapter in CHAPTERS}
    print(json.dumps(measured["07_painting"], indent=1))
    if options.ship:
        print(f"Shipped in {os.path.relpath(SHIP[run.dataset](run, measured))}")
    return 0
