"""A built book has a map of its pages, a page for wrong addresses, and cards for links to it."""

import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

from book.build import site
from book.build.address import current

PAGE = """<html><head><title>
The &lt;idea&gt; — X-LXMERT</title></head><body><p>A menu of many words, which is no paragraph of the page at all.</p>
<article><h1>The idea</h1><p>Short.</p><p>One <em>transformer</em> that paints &amp;
answers "questions" about pictures.</p>
</article></body></html>"""
MOVED = '<meta http-equiv="Refresh" content="0; url=book/intro.html" />'
HERE = site.address(current())


class Metas(HTMLParser):
    """name or property -> content."""

    def __init__(self, page: str):
        super().__init__()
        self.found = {}
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "meta" and "content" in given:
            self.found[given.get("property") or given.get("name")] = given["content"]


@pytest.fixture
def html(tmp_path):
    for name, text in {"index.html": MOVED, "notebooks/01.html": PAGE, "book/intro.html": PAGE, "search.html": PAGE,
                       "_static/x.html": PAGE}.items():  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    site.finish(tmp_path)
    return tmp_path


def test_the_map_names_every_page_that_one_looks_for(html):
    locations = [found.text for found in ET.parse(html / "sitemap.xml").iter() if found.tag.endswith("loc")]
    assert locations == [f"{HERE}book/intro.html", f"{HERE}notebooks/01.html"]
    assert f"Sitemap: {HERE}sitemap.xml" in (html / "robots.txt").read_text()


def test_a_link_to_a_page_shows_its_title_its_first_paragraph_and_a_painting(html):
    found = Metas((html / "notebooks" / "01.html").read_text("utf-8")).found
    assert found["og:title"] == "The <idea> — X-LXMERT"
    assert found["og:description"] == found["description"]
    assert found["description"] == 'One transformer that paints & answers "questions" about pictures.'
    assert found["og:url"] == f"{HERE}notebooks/01.html" and found["og:image"] == f"{HERE}_static/painting.png"
    assert "og:title" not in (html / "index.html").read_text()


def test_a_second_time_changes_nothing(html):
    before = {path: path.read_bytes() for path in html.rglob("*.*")}
    site.finish(html)
    assert {path: path.read_bytes() for path in html.rglob("*.*")} == before


def test_a_wrong_address_leads_to_the_first_page_from_any_depth(html):
    page = (html / "404.html").read_text("utf-8")
    assert f'href="{HERE}"' in page and f'href="{HERE}search.html"' in page and "noindex" in page


@pytest.mark.parametrize(("repository", "address"), [
    ("You/book", "https://you.github.io/book/"), ("you/you.github.io", "https://you.github.io/"),
])  # fmt: skip
def test_pages_lie_where_github_puts_them(repository, address):
    assert site.address(repository) == address
