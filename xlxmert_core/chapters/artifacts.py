"""Where chapters leave things for each other: ``{root}/{dataset}/{profile}/``, one file or folder a stage.

Every artifact has a small JSON manifest beside it (what made it, from what, with which metrics). A chapter
that misses its input is told which chapter makes it.
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xlxmert_core import origins
from xlxmert_core.data.files import read_json
from xlxmert_core.data.images import open_image
from xlxmert_core.files import write_json
from xlxmert_core.folder import SHIPPED
from xlxmert_core.train.loop import Track

MADE_BY = {
    "encoder": "02_feature_extraction",
    "features": "02_feature_extraction",
    "vocabulary": "03_visual_vocabulary",
    "codes": "03_visual_vocabulary",
    "transformer": "05_pretraining",
    "generator": "06_image_generator",
    "pipeline": "07_painting",
    "captions": "08_captioning",
    "skills": "09_answering",
    "whole": "09_answering",
}


class MissingArtifactError(FileNotFoundError):
    """An input that an earlier chapter makes is not there yet."""


class Artifacts:
    """The folder of one data set and profile.

    >>> artifacts = Artifacts("artifacts", "storybook", "ci")
    >>> artifacts.path("encoder")            # where to write
    >>> artifacts.require("encoder")         # where to read; says which chapter to run if it is missing
    """

    def __init__(self, root: str | os.PathLike, dataset: str, profile: str):
        self.dataset, self.profile = dataset, profile
        self.folder = Path(root) / dataset / profile

    def path(self, name: str) -> Path:
        """The place of an artifact; its parent folder exists afterwards."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / name

    def require(self, name: str) -> Path:
        """The place of an artifact that must be complete; raises :class:`MissingArtifactError` otherwise."""
        if not self.manifest(name).exists():
            chapter = MADE_BY.get(name.split(".")[0], "an earlier chapter")
            raise MissingArtifactError(
                f"{self.folder / name} is not there: run notebooks/{chapter}.ipynb first "
                f"(dataset={self.dataset!r}, profile={self.profile!r})."
            )
        sys.audit("xlxmert.require", os.fspath(self.folder / name))  # the book compares it with chapters.toml
        return self.folder / name

    def finish(self, name: str, chapter: str, inputs: dict | None = None, metrics: dict | None = None) -> None:
        """Mark an artifact complete by writing its manifest (atomically, last)."""
        manifest = {"made_by": chapter, "inputs": inputs or {}, "metrics": metrics or {}}
        write_json(self.manifest(name), manifest)

    def record(self, chapter: str, metrics: dict[str, float]) -> dict[str, float]:
        """Write a chapter's metrics, a flat dict of numbers, to ``metrics/{chapter}.json``; returns them, rounded."""
        write_json(self.folder / "metrics" / f"{chapter}.json", {k: float(v) for k, v in metrics.items()})
        return {name: float(f"{value:.4g}") for name, value in metrics.items()}

    def made_from(self, name: str) -> dict | None:
        """The inputs that a finished artifact was made from; None while it is not finished."""
        path = self.manifest(name)
        return read_json(path)["inputs"] if path.exists() else None

    def checkpoint(self, name: str, stage: str) -> Path:
        """Where training keeps its progress towards the artifact ``stage``."""
        return self.resumable(f"{name}.checkpoint.pt", stage)

    def resumable(self, name: str, stage: str) -> Path:
        """The place of what is kept on the way to the artifact ``stage``.

        A stage that is finished starts anew, so that a reader who changes a line sees what it does; only the
        long ``train`` profile keeps what it has.
        """
        path = self.path(name)
        if self.profile != "train" and self.manifest(stage).exists():
            path.unlink(missing_ok=True)
        return path

    def kept(self, name: str, stage: str, make: Callable[[], dict], **made_from: Any) -> dict:
        """Arrays that take minutes to make, kept as ``name``.npz on the way to the artifact ``stage``.

        Raises ValueError in one sentence when those that are there were ``made_from`` something else.
        """
        path, wanted = self.resumable(f"{name}.npz", stage), origins.origin(**made_from)
        if path.exists():
            arrays, found = origins.read_arrays(path)
            origins.check(path, found, wanted)
            return arrays
        arrays = make()
        origins.write_arrays(path, wanted, **arrays)
        return arrays

    def track(self, name: str, stage: str, progress: str | None = None) -> Track:
        """A checkpoint for :func:`~xlxmert_core.train.loop.fit`, with a log and a progress bar called ``name``."""
        return Track(self.checkpoint(name, stage), self.path(f"logs/{name}"), progress or name)

    def weights(self, name: str) -> str | os.PathLike:
        """What ``xlxmert_core.load`` opens: an artifact of this run, or else the shipped pipeline called ``name``."""
        return self.require(name) if name in MADE_BY else name

    def table(self, name: str, recorded: Sequence[str], empty: dict | list) -> dict | list:
        """A comparison as it was measured once, if its name is among ``recorded``, else what this run has of it."""
        place = SHIPPED / "storybook" if name in recorded else self.folder
        path = place / f"{name}.json"
        return read_json(path) if path.exists() else empty

    @staticmethod
    def compared(name: str) -> dict:
        """What ``make tables`` measured once: {"about": steps and more, "rows": {row: scores, their spread, seeds}}."""
        return read_json(SHIPPED / "tables" / f"{name}.json")

    @staticmethod
    def compared_pictures(name: str) -> dict[str, np.ndarray]:
        """Pictures of such a comparison: real ones, then each row's of its first seed, uint8 [M, S, S, 3]."""
        about = Artifacts.compared(name)["about"]
        sheet, rows = np.asarray(open_image(SHIPPED / "tables" / f"{name}.png")), ("real", *about["rows"])
        strips = zip(rows, np.split(sheet, len(rows)), strict=True)
        return {row: np.stack(np.split(strip, len(about["texts"]), 1)) for row, strip in strips}

    def manifest(self, name: str) -> Path:
        """The place of an artifact's manifest, which exists only when the artifact is complete."""
        return self.folder / f"{name}.manifest.json"
