"""Every chapter runs from top to bottom in the `ci` profile, and clears its bars; by night, on all of Storybook too."""

import json
from fnmatch import fnmatch

import pytest

from book.build.bars import BARS, compare, read_bars, read_metrics
from book.build.lanes import declared, execute_all
from book.build.run_chapters import ROOT, Result, Run, chapters

pytestmark = pytest.mark.slow
CHAPTERS, LIMITS = chapters(), read_bars(BARS)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_runs_and_clears_its_bars(chapter, book_run):
    book_run.result(chapter)
    verdicts = compare(read_metrics(book_run.run.metrics, chapter), LIMITS.get(chapter, {}))
    assert verdicts, f"tests/bars.toml has no bar for {chapter}"
    assert not [str(verdict) for verdict in verdicts if not verdict.holds]


def test_bars_name_only_chapters_and_pages_of_the_book():
    assert set(LIMITS) <= {*CHAPTERS, "pages"}


@pytest.mark.nightly
def test_chapters_run_on_all_of_storybook_as_make_train_does(tmp_path):
    run = Run(work=ROOT / "_build" / "test_storybook", artifacts=tmp_path, profile="smoke", dataset="storybook")
    outcomes = execute_all(run, CHAPTERS, keep_going=True)
    assert {name: str(found) for name, found in outcomes.items() if not isinstance(found, Result)} == {}


def covers(declared_names: tuple[str, ...], name: str) -> bool:
    """Whether an artifact, or a part of one, is declared."""
    places = [d.removesuffix(".manifest.json") for d in declared_names]
    return any(fnmatch(name, place) or name.startswith(f"{place}/") for place in places)


def test_chapters_declare_what_they_read_and_write(book_run):
    """``chapters.toml``, from which the lanes follow, beside the files that each chapter's kernel opened."""
    table, wrong = declared(CHAPTERS), []
    for chapter, own in table.items():
        book_run.result(chapter)
        seen = json.loads(book_run.run.opened(chapter).read_text())
        private = (f"metrics/{chapter}.json", "logs", "logs/*")
        wrong += [f"{chapter} reads {name}" for name in seen["read"] if not covers(own.needs + own.makes, name)]
        wrong += [f"{chapter} makes {name}" for name in seen["wrote"] if not covers((*own.makes, *private), name)]
        wrong += [
            f"{chapter} needs no {need}" for need in own.needs if not any(covers((need,), n) for n in seen["read"])
        ]
        wrong += [f"{chapter} never makes {n}" for n in own.makes if not any(covers((n,), w) for w in seen["wrote"])]
    assert wrong == []
