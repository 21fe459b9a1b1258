"""The chapters run on real photographs too, where a folder in COCO's layout is at hand."""

from functools import cache

import pytest
from afresh import check, execute_afresh

from book.build.bars import read_metrics
from book.build.run_chapters import ROOT, Run, chapters

PHOTOGRAPHS = ROOT.parent / "shared" / "data" / "coco"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="no COCO photographs beside the clone (shared/data/coco)"),
]


DAY = ("02",)  # the others wait for the night
NAMES = {"smoke": [name for name in chapters() if name.startswith(DAY)], "ci": chapters()}
CASES = [pytest.param(profile, name, marks=[pytest.mark.nightly] * (profile == "ci"))
         for profile, names in NAMES.items() for name in names]  # fmt: skip


def run_of(profile: str) -> Run:
    """Chapters on photographs; `smoke` takes two steps of every training."""
    work = ROOT / "_build" / f"test_coco_{profile}"
    return Run(work=work, artifacts=work / "artifacts", profile=profile, dataset="coco")


@cache
def executed(profile: str) -> tuple[Run, dict]:
    """What became of each, from empty artifacts."""
    run = run_of(profile)
    return run, execute_afresh(run, NAMES[profile], "XLXMERT_COCO", lambda: PHOTOGRAPHS)


@pytest.mark.parametrize(("profile", "chapter"), CASES)
def test_chapter_runs_on_photographs(profile, chapter):
    check(*executed(profile), chapter)


@pytest.mark.nightly
def test_photographs_are_repainted_outside_the_mask_bit_for_bit():
    assert read_metrics(executed("ci")[0].metrics, "07_painting")["codes_kept"] == 1.0
