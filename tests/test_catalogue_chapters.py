"""The chapters run on a shop of products, from its table and photographs to answers about them."""

import shutil
from functools import cache

import pytest
from shop import fill

from book.build.bars import read_metrics
from book.build.lanes import execute_all
from book.build.run_chapters import ROOT, Run, chapters

pytestmark = [pytest.mark.slow, pytest.mark.nightly]
NAMES = [name for name in chapters() if name[:2] in ("02", "03", "05", "06", "07", "08", "09")]


@cache
def executed() -> tuple[Run, dict]:
    """What became of each chapter, from empty artifacts."""
    work = ROOT / "_build" / "test_catalogue_chapters"
    shutil.rmtree(work, ignore_errors=True)
    run = Run(work=work, artifacts=work / "artifacts", profile="smoke", dataset="catalogue")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLXMERT_CATALOGUE", str(fill(work / "products")))
        return run, execute_all(run, NAMES, keep_going=True)


@pytest.mark.parametrize("chapter", NAMES)
def test_a_chapter_runs_on_products(chapter):
    run, outcomes = executed()
    if isinstance(outcomes[chapter], Exception):
        raise outcomes[chapter]
    assert read_metrics(run.metrics, chapter)
