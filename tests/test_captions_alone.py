"""The chapters run on own pictures with captions and nothing else, also on very few."""

import shutil
from functools import cache
from pathlib import Path

import pytest
from afresh import check, execute_afresh

from book.build.run_chapters import ROOT, Run, chapters
from xlxmert_core.data import storybook

pytestmark = [pytest.mark.slow, pytest.mark.nightly]
FEW = tuple(name for name in chapters() if name.startswith(("02", "03")))
WHOLE = tuple(name for name in chapters() if name[:2] in ("02", "03", "05", "06", "07", "08", "09"))
CASES = [(2, name) for name in FEW] + [(24, name) for name in WHOLE]


def write(folder: Path, count: int) -> Path:
    """Drawn pictures in COCO's layout, so many a split, without the file of boxes."""
    shutil.rmtree(folder, ignore_errors=True)
    drawn = storybook.write(folder / "drawn", count, count, 0, 0, seed=0)
    (folder / "annotations").mkdir()
    for ours, cocos in {"train": "train2017", "val": "val2017"}.items():
        (folder / cocos).symlink_to(drawn / "images" / ours)
        shutil.copy(drawn / "annotations" / f"captions_{ours}.json", folder / "annotations" / f"captions_{cocos}.json")
    return folder


@cache
def executed(count: int, names: tuple[str, ...]) -> tuple[Run, dict]:
    """What became of each chapter, from empty artifacts."""
    work = ROOT / "_build" / f"test_captions_alone_{count}_{len(names)}"
    run = Run(work=work, artifacts=work / "artifacts", profile="smoke", dataset="coco")
    return run, execute_afresh(run, names, "XLXMERT_COCO", lambda: write(work / "pictures", count))


@pytest.mark.parametrize(("count", "chapter"), CASES)
def test_a_chapter_runs_on_captions_alone(count, chapter):
    check(*executed(count, FEW if count == 2 else WHOLE), chapter)
