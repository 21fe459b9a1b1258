"""What a data set gives, whatever it shows: pictures with labels and texts, questions, budgets and a judge."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xlxmert_core.data.coco import Record, Report, iterate_images, read_captions
from xlxmert_core.data.files import DataError
from xlxmert_core.data.lxmert import Example
from xlxmert_core.data.pictures import picture_key
from xlxmert_core.data.vqa import Question
from xlxmert_core.datasets.profiles import Profile
from xlxmert_core.display.html import row_of
from xlxmert_core.evaluate.judges import Judge
from xlxmert_core.train.loop import Track

UNLABELLED = -100  # a cell of which nothing is known
SHOWN = 8  # pictures of a split that a notebook shows


class Region(NamedTuple):
    """One thing in a picture: the words for it, ("red", "house"), what is written of it, and its box from 0 to 1."""

    words: tuple[str, ...]
    text: str
    box: tuple[float, float, float, float]  # (x0, y0, x1, y1)


@dataclass
class Split:
    """Pictures in memory with what is known of them.

    records: ids, files, captions and (drawn scenes) the captions' facts; images uint8 [M, S, S, 3];
    labels: name -> int64 [M, grid, grid], ``UNLABELLED`` where nothing is known; classes: name -> how many;
    regions: the things in each picture; probes: label -> int [P, 3], the cells (picture, row, column) from whose code
    it should be readable; scenes: scene graphs, in drawn data sets only.
    """

    records: list[Record]
    images: np.ndarray
    labels: dict[str, np.ndarray]
    classes: dict[str, int]
    report: Report
    regions: list[list[Region]]
    probes: dict[str, np.ndarray]
    scenes: Sequence = ()

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        texts, side = sum(len(record.captions) for record in self.records), self.images.shape[1]
        known = f"; labels {', '.join(self.labels)}" if self.labels else ""
        left = f"; {len(self.report.skipped)} skipped" if self.report.skipped else ""
        return f"Split of {len(self)} pictures, {side} x {side} pixels, {texts} captions{known}{left}"

    def _repr_html_(self) -> str:
        shown = [(record.captions or [""])[0] for record in self.records[:SHOWN]]
        return f"<p>{escape(repr(self))}</p>{row_of(self.images[:SHOWN], shown)}"

    @property
    def ids(self) -> list[int | str]:
        """Image ids, in order."""
        return [record.image_id for record in self.records]

    @property
    def texts(self) -> list[str]:
        """The first caption of each picture."""
        return [record.captions[0] for record in self.records]

    @property
    def labelled(self) -> list[str]:
        """Names of the labels that some cell has."""
        return [name for name, values in self.labels.items() if (values >= 0).any()]

    def some(self, rows: Sequence[int]) -> "Split":
        """These pictures alone, in this order (without probes)."""
        take = lambda values: [values[i] for i in rows] if len(values) else values  # noqa: E731
        labels = {name: values[list(rows)] for name, values in self.labels.items()}
        return replace(
            self, records=take(self.records), images=self.images[list(rows)], labels=labels,
            regions=take(self.regions), probes={}, scenes=take(self.scenes),
        )  # fmt: skip

    def first(self, count: int) -> "Split":
        """The first ``count`` pictures, or all where there are fewer."""
        return self.some(range(min(count, len(self))))

    def shifted(self) -> "Split":
        """Each picture's place taken by the next one: what chance would give is measured on it."""
        return self.some([*range(1, len(self)), 0])


@dataclass
class Asked:
    """Questions by task ("vqa", "gqa", "nlvr2") and the pictures that they are about.

    images uint8 [M, S, S, 3]; row: a picture's key -> its place; folder: the same pictures as files.
    """

    tasks: dict[str, list[Question]]
    images: np.ndarray
    row: dict[str, int]
    folder: Path

    def rows(self, question: Question) -> list[int]:
        """The places of a question's pictures."""
        return [self.row[picture_key(key)] for key in question.images]


class Language(NamedTuple):
    """What is known of the texts.

    exchangeable: groups of words that can stand for each other ("red", "blue", ...); first_caption: share of the visual
    task's texts that are a picture's first caption, where that one tells everything; relations: words for them.
    """

    exchangeable: tuple[tuple[str, ...], ...] = ()
    first_caption: float = 0.0
    relations: tuple[str, ...] = ()


class DataSet(ABC):
    """One data set. Its splits are "train", "held_out" and those that paintings are judged on, ``tests``."""

    name: str
    setting: str = ""  # environment variable that names its folder, where it makes none
    language: Language = Language()
    tests: tuple[str, ...] = ("test",)

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)

    @abstractmethod
    def budgets(self, profile_name: str) -> Profile:
        """How much to do, and the sizes of the networks."""

    @abstractmethod
    def prepare(self, run: Profile, seed: int) -> None:
        """Make the files, unless they are there; raises DataError where they cannot be made."""

    @abstractmethod
    def split(self, name: str, limit: int | None = None, size: int = 128) -> Split:
        """Pictures of ``size`` pixels with labels and texts; raises DataError in one sentence."""

    @abstractmethod
    def texts(self, name: str) -> list[Example]:
        """The sentences of a split, for the vocabulary of words and for pretraining."""

    @abstractmethod
    def questions(self, name: str, limit: int | None = None) -> Asked:
        """What is asked about the pictures of "train", "held_out" and "test", or about the first ``limit`` of them."""

    @abstractmethod
    def judge(self, train: Split, run: Profile, seed: int, track: Track) -> Judge:
        """The judge, trained on ``train`` if it must be; ``track`` (train/loop.py) keeps its progress."""


def read_pictures(folder: Path, name: str, limit: int | None, size: int, backwards: bool = False) -> tuple:
    """(records, images uint8 [M, size, size, 3], report) of a split in COCO's layout, also from its end backwards.

    Pictures that do not open are left out and listed in the report. Raises DataError in one sentence.
    """
    records, report = read_captions(folder, name)
    records = records[:: -1 if backwards else 1][:limit]
    pairs = list(iterate_images(records, size, report))
    if not pairs:
        raise DataError(f"No picture of {name!r} in {folder} could be read: {report}")
    return [record for record, _ in pairs], np.stack([image for _, image in pairs]), report
