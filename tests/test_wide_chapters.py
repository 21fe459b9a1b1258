"""The first chapters run on the wide world too."""

from functools import cache

import pytest
from afresh import check, execute_afresh

from book.build.run_chapters import ROOT, Run, chapters

NAMES = [name for name in chapters() if name.startswith(("02", "03"))]
pytestmark = [pytest.mark.slow, pytest.mark.nightly]


@cache
def executed() -> tuple[Run, dict]:
    """What became of each, from empty artifacts."""
    work = ROOT / "_build" / "test_wide"
    run = Run(work=work, artifacts=work / "artifacts", profile="smoke", dataset="wide")
    return run, execute_afresh(run, NAMES, "XLXMERT_NONE", lambda: work)


@pytest.mark.parametrize("chapter", NAMES)
def test_chapter_runs_on_the_wide_world(chapter):
    check(*executed(), chapter)
