"""Every claim of "How this book was checked" names the files that hold it, and they exist."""

import re

from book.build.run_chapters import ROOT

PAGE = (ROOT / "book" / "how_it_was_checked.md").read_text(encoding="utf-8")
HELD = PAGE.split("## What was not checked")[0]


def files(text: str) -> list[str]:
    """The files of tests/ that a text names."""
    return re.findall(r"`(tests/[\w.]+)`", text)


def test_every_claim_names_a_file():
    claims = re.findall(r"^- (?:.+\n)+?(?=- |\n)", HELD, flags=re.MULTILINE)
    assert len(claims) > 25
    assert [claim for claim in claims if not files(claim)] == []


def test_every_file_exists():
    assert [path for path in files(PAGE) if not (ROOT / path).is_file()] == []
