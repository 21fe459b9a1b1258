"""Every claim of "How this book was checked" names files that exist, and no row of its tables names none."""

import re

from run_chapters import ROOT

PAGE = (ROOT / "book" / "how_it_was_checked.md").read_text(encoding="utf-8")
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ") and "| where" not in line]


def test_every_claim_names_a_file_that_exists():
    assert len(ROWS) > 20
    named = [re.findall(r"`(tests/[\w.]+)`", where) for _, where in ROWS]
    assert all(named), "a row names no file of tests/"
    assert [path for paths in named for path in paths if not (ROOT / path).is_file()] == []


def test_every_file_of_tests_that_it_names_in_passing_exists():
    assert [path for path in re.findall(r"`(tests/[\w.]+)`", PAGE) if not (ROOT / path).is_file()] == []
