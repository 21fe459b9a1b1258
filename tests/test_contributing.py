"""What CONTRIBUTING names is there, and every kind of change has a file to open and a test that watches it."""

import re
from datetime import datetime

import pytest

from book.build.nightly import files
from book.build.run_chapters import ROOT

PAGE = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
LOG = (ROOT / ".github" / "EXPERIMENTS.md").read_text(encoding="utf-8")
TABLE = PAGE.split("## Where a change goes")[1].split("\n## ")[0]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
DISK = {path.relative_to(ROOT).as_posix() for path in files()}
TOPS = {path.split("/")[0] for path in DISK}


def paths(text: str) -> list[str]:
    """Files and folders of ours that a text names in backticks."""
    quoted = re.findall(r"`([\w./]+)`", text)
    return [path for path in quoted if path.split("/")[0] in TOPS and ("/" in path or path in DISK)]


def rows(table: str) -> list[list[str]]:
    """The cells of a table's rows, without its head."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"][2:]


def unwatched(table: str) -> list[str]:
    """Kinds of change without a file to open first or without a test."""
    return [change for change, first, _, tests in rows(table)
            if not paths(first) or not any(path.startswith("tests/test_") for path in paths(tests))]  # fmt: skip


def test_every_change_has_a_file_to_open_and_a_test():
    assert len(rows(TABLE)) > 20
    assert unwatched(TABLE) == []


def test_every_file_that_is_named_is_there():
    assert len(paths(PAGE)) > 60
    missing = [path for path in paths(PAGE) if not any(f"{name}/".startswith(f"{path.rstrip('/')}/") for name in DISK)]
    assert missing == [], "CONTRIBUTING names what is not there"


def test_every_command_is_one_that_make_knows():
    targets = set(re.findall(r"(?m)^(\w+):", MAKEFILE))
    assert set(re.findall(r"`make (\w+)", PAGE)) <= targets


@pytest.mark.parametrize("row", [
    "| a loss | | | `tests/test_loop.py` |",
    "| a loss | `xlxmert_core/train/loop.py` | | |",
    "| a loss | `xlxmert_core/train/loop.py` | | `tests/bars.toml` |",
])  # fmt: skip
def test_a_change_that_nothing_watches_is_found(row):
    head = "| change | first | then | tests |\n|:--|:--|:--|:--|\n"
    assert unwatched(head + row) == ["a loss"]


def entries(log: str) -> list[str]:
    """What was tried, each entry in one line."""
    return [" ".join(entry.split()) for entry in re.findall(r"(?m)^- (.+(?:\n  .+)*)", log)]


def unrecorded(log: str) -> list[str]:
    """Entries that do not end with their record in brackets: a commit, an issue or a chapter."""
    record = re.compile(r"(`[0-9a-f]{7}`|issue \d+|notebooks/).*\)$")
    return [entry for entry in entries(log) if not record.search(entry.rpartition(" (")[2])]


def test_every_experiment_names_its_record():
    assert len(entries(LOG)) > 40
    assert unrecorded(LOG) == []
    log = "- **Strips.** Slower\n  by 3 %. (`2878ab9`)\n- **Strips.** Slower (by 3 %).\n"
    assert unrecorded(log) == ["**Strips.** Slower (by 3 %)."]


def test_the_newest_experiments_come_first():
    days = [datetime.strptime(day, "%d %B %Y") for day in re.findall(r"(?m)^## (.+)$", LOG)]
    assert days == sorted(set(days), reverse=True)
    assert "EXPERIMENTS.md" in PAGE
