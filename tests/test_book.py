"""The pages build without a warning, and every internal link and picture in them is there."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from book.build.run_chapters import ROOT, chapters

pytestmark = pytest.mark.slow
LOADS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


class Page(HTMLParser):
    """What a page points to, what it loads, and the anchors it has."""

    def __init__(self, path: Path):
        super().__init__()
        self.links, self.loads, self.anchors = [], [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if given.get(LOADS.get(tag, "")):
            self.loads.append(given[LOADS[tag]])


@pytest.fixture(scope="module")
def pages(book_pages) -> dict[Path, Page]:
    """Every page of the freshly built book."""
    return {path: Page(path) for path in sorted(book_pages.rglob("*.html")) if "_static" not in path.parts}


def broken(pages: dict[Path, Page]) -> list[str]:
    """Each internal link or file that leads nowhere, as `page: target`."""
    missing = []
    for path, page in pages.items():
        for target in page.links + page.loads:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            there = next((p for q, p in pages.items() if q.resolve() == file), None)
            lost_anchor = there and parts.fragment and unquote(parts.fragment) not in there.anchors
            if not file.is_file() or lost_anchor:
                missing.append(f"{path.name}: {target}")
    return missing


def test_every_chapter_and_page_is_built(pages):
    built = {path.stem for path in pages}
    assert set(chapters()) | {"intro", "notation", "glossary", "references", "status"} <= built


def test_no_internal_link_is_broken(pages):
    assert broken(pages) == []


def test_a_broken_link_would_be_seen(pages, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text('<a href="nowhere.html">x</a><a href="#lost">y</a><a href="#here" id="here">z</a>')
    assert broken({bad: Page(bad)}) == ["bad.html: nowhere.html", "bad.html: #lost"]


def test_pages_load_nothing_from_outside(pages):
    outside = {x for page in pages.values() for x in page.loads if urlsplit(x).netloc}
    assert outside == set()


def test_pages_name_no_folder_of_this_machine(pages):
    assert [path.name for path in pages if str(ROOT) in path.read_text(encoding="utf-8")] == []


def test_status_page_shows_every_chapter_and_no_failed_bar(pages):
    status = next(path for path in pages if path.stem == "status").read_text(encoding="utf-8")
    assert all(f"{chapter}.html" in status for chapter in chapters())
    assert "does not hold" not in status
