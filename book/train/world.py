"""Where the catalogue's world is made ready to be shipped: a work folder, a trained run and the data set.

A run is what ``python -m book.train.gpu`` left in its out folder, or the pipeline of the chapters (``make train
DATASET=catalogue``). The work folder keeps all progress: whoever starts again goes on.
"""

import argparse
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

from book.build.run_chapters import ROOT
from xlxmert_core.data import catalogue
from xlxmert_core.datasets.catalogue import Catalogue
from xlxmert_core.files import fingerprint

MODEL = "model"  # folder of the finished pipeline in the work folder
MEASURED = "measured.json"
FIGURES = "figures"  # folder of what chapter 13 shows


@dataclass(frozen=True)
class World:
    """source: the official layout; work: where progress is; run: the trained run; seed: of all that is drawn."""

    source: Path
    work: Path
    run: Path
    seed: int = 0

    @property
    def finished(self) -> Path:
        """The folder of the pipeline that is to be shipped."""
        return self.work / MODEL

    def trained(self) -> Path:
        """The folder of the trained pipeline, unpacked where it came as an archive.

        Raises FileNotFoundError in one sentence where the run has none.
        """
        for folder in (self.run / "model", self.run):
            if (folder / "config.json").is_file():
                return folder
        archive, folder = self.run / "model.tar", self.work / "trained"
        if not archive.is_file():
            raise FileNotFoundError(f"{self.run} has no model/config.json and no model.tar: name a finished run.")
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        if (generator := self.run / "generator.safetensors").is_file():
            (folder / "model" / generator.name).write_bytes(generator.read_bytes())
        return folder / "model"

    def record(self) -> dict:
        """What the run wrote down of itself; empty where it wrote nothing."""
        path = self.run / "record.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    def data(self) -> Catalogue:
        """The data set, written into the work folder; raises DataError where the official files are not."""
        data = Catalogue(self.work / "data" / "catalogue")
        budgets = data.budgets("train")
        catalogue.write(self.source, data.folder, budgets.train, budgets.held_out, self.seed)
        return data

    def mark(self) -> dict[str, str]:
        """A fingerprint of each finished weight file: what was measured, and what is shipped."""
        paths = sorted(self.finished.rglob("*.safetensors"))
        return {path.relative_to(self.finished).as_posix(): fingerprint(path) for path in paths}


def add_places(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a :class:`World`."""
    parser.add_argument("--data", type=Path, required=True, help="folder of Fashion Product Images")
    parser.add_argument("--run", type=Path, required=True,
                        help="out folder of book.train.gpu, or the folder of any saved pipeline")  # fmt: skip
    parser.add_argument("--work", type=Path, default=ROOT / "artifacts" / "world", help="where progress is kept")
    parser.add_argument("--seed", type=int, default=0)


def world_of(options: argparse.Namespace) -> World:
    """What the options of :func:`add_places` name."""
    options.work.mkdir(parents=True, exist_ok=True)
    return World(options.data, options.work, options.run, options.seed)
