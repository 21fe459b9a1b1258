"""The chapters run on real photographs too, where a folder in COCO's layout is at hand."""

import shutil

import pytest
from bars import read_metrics
from run_chapters import LAST, ROOT, Run, chapters, execute, execution_order

PHOTOGRAPHS = ROOT.parent / "shared" / "data" / "coco"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="no COCO photographs beside the clone (shared/data/coco)"),
]


@pytest.fixture(scope="module")
def coco_run() -> Run:
    work = ROOT / "_build" / "test_coco"
    shutil.rmtree(work, ignore_errors=True)
    return Run(work=work, artifacts=work / "artifacts", dataset="coco")


@pytest.mark.parametrize("chapter", [name for name in execution_order(chapters()) if name != LAST])
def test_chapter_runs_on_photographs(chapter, coco_run, monkeypatch):
    monkeypatch.setenv("XLXMERT_COCO", str(PHOTOGRAPHS))
    execute(coco_run, chapter)
    assert read_metrics(coco_run.metrics, chapter)


def test_photographs_are_repainted_outside_the_mask_bit_for_bit(coco_run):
    assert read_metrics(coco_run.metrics, "07_painting")["codes_kept"] == 1.0
