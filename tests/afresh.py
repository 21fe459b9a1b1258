"""Chapters from empty artifacts, for tests that run some of them on pictures of their own."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from book.build.bars import read_metrics
from book.build.lanes import execute_all
from book.build.run_chapters import Run


def execute_afresh(run: Run, names: Sequence[str], setting: str, pictures: Callable[[], Path]) -> dict:
    """What became of each chapter; ``setting`` names the folder that ``pictures`` gives, once the run's is empty."""
    shutil.rmtree(run.work, ignore_errors=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(setting, str(pictures()))
        return execute_all(run, list(names), keep_going=True)


def check(run: Run, outcomes: dict, chapter: str) -> None:
    """A chapter that failed raises its error, and one that ran has recorded something."""
    if isinstance(outcomes[chapter], Exception):
        raise outcomes[chapter]
    assert read_metrics(run.metrics, chapter)
