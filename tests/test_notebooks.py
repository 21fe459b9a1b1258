"""Every chapter runs from top to bottom in the `ci` profile, and clears its bars."""

import pytest
from bars import BARS, compare, read_bars, read_metrics
from run_chapters import chapters

pytestmark = pytest.mark.slow
CHAPTERS, LIMITS = chapters(), read_bars(BARS)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_runs_and_clears_its_bars(chapter, book_run):
    book_run.result(chapter)
    verdicts = compare(read_metrics(book_run.run.metrics, chapter), LIMITS.get(chapter, {}))
    assert verdicts, f"tests/bars.toml has no bar for {chapter}"
    assert not [str(verdict) for verdict in verdicts if not verdict.holds]


def test_bars_name_only_chapters_of_the_book():
    assert set(LIMITS) <= set(CHAPTERS)
