"""The chapters run on real photographs too, where a folder in COCO's layout is at hand."""

import shutil

import pytest
from bars import read_metrics
from lanes import execute_all
from run_chapters import ROOT, Run, chapters

PHOTOGRAPHS = ROOT.parent / "shared" / "data" / "coco"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="no COCO photographs beside the clone (shared/data/coco)"),
]


CHAPTERS = [name for name in chapters() if name != "01_the_idea"]


@pytest.fixture(scope="module", params=["smoke", pytest.param("ci", marks=pytest.mark.nightly)])
def coco_run(request) -> tuple[Run, dict]:
    """All chapters once, from empty artifacts, and what became of each; two steps of every training are enough here."""
    work = ROOT / "_build" / f"test_coco_{request.param}"
    shutil.rmtree(work, ignore_errors=True)
    run = Run(work=work, artifacts=work / "artifacts", profile=request.param, dataset="coco")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLXMERT_COCO", str(PHOTOGRAPHS))
        return run, execute_all(run, CHAPTERS, keep_going=True)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_runs_on_photographs(chapter, coco_run):
    run, outcomes = coco_run
    if isinstance(outcomes[chapter], Exception):
        raise outcomes[chapter]
    assert read_metrics(run.metrics, chapter)


def test_photographs_are_repainted_outside_the_mask_bit_for_bit(coco_run):
    assert read_metrics(coco_run[0].metrics, "07_painting")["codes_kept"] == 1.0
