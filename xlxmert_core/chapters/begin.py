"""How every chapter begins: the four parameters become budgets, a data set and a place for what is made."""

import os
from pathlib import Path
from typing import NamedTuple

import torch

from xlxmert_core.chapters.artifacts import Artifacts
from xlxmert_core.datasets import DataSet, open_dataset
from xlxmert_core.datasets.profiles import Profile

CLONE = Path(__file__).resolve().parents[2]  # when the package is not installed elsewhere


class Begun(NamedTuple):
    """run: how much to do, and the sizes; data: the data set; files: where chapters leave things for each other."""

    run: Profile
    data: DataSet
    files: Artifacts


def begin(profile: str, dataset: str, seed: int, artifacts: str | os.PathLike, about: str | None = None) -> Begun:
    """Seed torch, and open what the chapter's parameters name; raises KeyError or DataError for what is unknown.

    Args:
        about: the data set of a chapter that is about one, whatever the book is made from; it has a place of its own.
    """
    torch.manual_seed(seed)
    files = Artifacts(from_notebooks(artifacts), dataset, profile)
    name = about or dataset
    data = open_dataset(name, files.path("about" if about else "data") / name)
    return Begun(data.budgets(profile), data, files)


def from_notebooks(artifacts: str | os.PathLike) -> Path:
    """Where artifacts go: a relative path counts from notebooks/, wherever the chapter runs (papermill: anywhere)."""
    path, here = Path(artifacts).expanduser(), Path.cwd()
    if path.is_absolute() or any(here.glob("*.ipynb")):
        return path
    homes = [folder / "notebooks" for folder in (here, CLONE) if any((folder / "notebooks").glob("*.ipynb"))]
    return Path(os.path.normpath(homes[0] / path)) if homes else path
