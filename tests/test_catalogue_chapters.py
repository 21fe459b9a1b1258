"""The chapters run on a shop of products, from its table and photographs to answers about them."""

from functools import cache

import pytest
from afresh import check, execute_afresh
from shop import fill

from book.build.run_chapters import ROOT, Run, chapters

pytestmark = [pytest.mark.slow, pytest.mark.nightly]
NAMES = [name for name in chapters() if name[:2] in ("02", "03", "05", "06", "07", "08", "09")]


@cache
def executed() -> tuple[Run, dict]:
    """What became of each chapter, from empty artifacts."""
    work = ROOT / "_build" / "test_catalogue_chapters"
    run = Run(work=work, artifacts=work / "artifacts", profile="smoke", dataset="catalogue")
    return run, execute_afresh(run, NAMES, "XLXMERT_CATALOGUE", lambda: fill(work / "products"))


@pytest.mark.parametrize("chapter", NAMES)
def test_a_chapter_runs_on_products(chapter):
    check(*executed(), chapter)
