"""The built book in a real browser: nothing from outside, no error, no slow or too wide page, and search finds."""

import gzip
import time
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from book.build.bars import BARS, read_bars
from book.build.run_chapters import ROOT, chapters

pytestmark = pytest.mark.slow
SECONDS, FIRST, ANY = (
    read_bars(BARS)["pages"][name]["max"] for name in ("seconds_to_show", "kilobytes_of_the_first", "megabytes")
)
WIDTHS, HEIGHT = (1400, 400), 900
# What the theme itself says on some pages: a script declared twice, a contents column that is not there, and that a
# first-time visitor has not chosen between light and dark.
UPSTREAM = ("THEBE_JS_URL", "reading 'classList'", "Got invalid theme mode: . Resetting")


@pytest.fixture(scope="module")
def names(book_pages) -> list[str]:
    """Every page's address below the site; index.html only forwards to the first of them."""
    pages = sorted(book_pages.rglob("*.html"))
    names = [str(path.relative_to(book_pages)) for path in pages if "_static" not in path.parts]
    return [name for name in names if name != "index.html"]


@pytest.fixture(scope="module")
def visits(chromium, book_site, names) -> dict[str, dict]:
    """Each page: seconds until it shows, what it asked of other hosts, errors, how far it sticks out at each width."""
    context = chromium.new_context(viewport={"width": WIDTHS[0], "height": HEIGHT})
    found = {name: visit(context, book_site, name) for name in names}
    context.close()
    return found


def visit(context, site: str, name: str) -> dict:
    """Open one page of the site and write down what happens."""
    outside, errors, fetched = watch_requests(context, site), [], set()
    page = context.new_page()
    page.on("requestfinished", lambda request: fetched.add((urlsplit(request.url).path, request.resource_type)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    start = time.perf_counter()
    page.goto(f"{site}/{name}", wait_until="load")
    seconds = time.perf_counter() - start
    page.wait_for_timeout(100)  # late scripts
    wide = {}
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": HEIGHT})
        beyond = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        wide |= {width: beyond} if beyond else {}
    page.close()
    own = [text for text in errors if not any(known in text for known in UPSTREAM)]
    return {"seconds": seconds, "outside": outside, "errors": own, "wide": wide, "fetched": fetched}


def weigh(fetched: set[tuple[str, str]], html: Path) -> dict[str, int]:
    """Compressed bytes of what a page of a built book fetched, its pictures apart."""
    found = {"pictures": 0, "rest": 0}
    for place, kind in fetched:
        file = html / unquote(place).lstrip("/")
        found["pictures" if kind == "image" else "rest"] += compressed(file) if file.is_file() else 0
    return found


@cache
def compressed(file: Path) -> int:
    """Bytes of a file as a host sends it: compressed, unless that makes it larger."""
    content = file.read_bytes()
    return min(len(content), len(gzip.compress(content)))


def watch_requests(context, site: str) -> list[str]:
    """A list that grows by every request to anything but the site; such requests are refused."""
    outside = []
    context.unroute_all()
    context.route(
        lambda url: not url.startswith((site, "data:", "blob:")),
        lambda route: (outside.append(route.request.url), route.abort()),
    )
    return outside


def of(visits: dict, what: str) -> dict:
    """The visits for which ``what`` is not empty or zero."""
    return {visit: seen[what] for visit, seen in visits.items() if seen[what]}


def test_no_page_asks_anything_of_another_host(visits):
    assert of(visits, "outside") == {}


def test_no_page_has_an_error_in_the_console(visits):
    assert of(visits, "errors") == {}


def test_no_page_is_wider_than_the_screen(visits):
    assert of(visits, "wide") == {}


def test_every_page_shows_within_the_bar(visits):
    assert {visit: seen["seconds"] for visit, seen in visits.items() if seen["seconds"] > SECONDS} == {}


@pytest.fixture()
def page(chromium, book_site):
    """An empty page on the site."""
    context = chromium.new_context()
    yield context.new_page()
    context.close()


def test_an_outside_request_would_be_seen(page, tmp_path):
    outside = watch_requests(page.context, tmp_path.as_uri())
    leaky = tmp_path / "leaky.html"
    leaky.write_text('<img src="https://example.invalid/x.png" alt="">')
    page.goto(leaky.as_uri())
    assert outside == ["https://example.invalid/x.png"]


def test_the_site_begins_with_the_first_page(page, book_site):
    page.goto(book_site)
    page.wait_for_url("**/book/intro.html")


@pytest.mark.parametrize(("word", "chapter"), [("halton", "07_painting"), ("hinge", "06_image_generator")])
def test_search_finds_a_chapter_by_a_word_in_it(word, chapter, page, book_site):
    page.goto(f"{book_site}/search.html?q={word}")
    results = page.locator("#search-results a[href]")
    results.first.wait_for(timeout=10_000)
    assert any(chapter in link for link in results.evaluate_all("links => links.map(a => a.href)"))


@pytest.mark.parametrize("chapter", chapters())
def test_a_chapter_can_be_opened_on_colab_and_binder(chapter, page, book_site):
    page.goto(f"{book_site}/notebooks/{chapter}.html", wait_until="domcontentloaded")
    links = page.locator(".dropdown-launch-buttons a").evaluate_all("links => links.map(a => a.href)")
    repository = configured_repository().removeprefix("https://github.com/")
    path = f"notebooks/{chapter}.ipynb"
    assert f"https://colab.research.google.com/github/{repository}/blob/main/{path}" in links
    assert f"https://mybinder.org/v2/gh/{repository}/main?urlpath=lab/tree/{path}" in links


def configured_repository() -> str:
    """The one address of the repository, in _config.yml."""
    return yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]


def test_the_repository_has_one_address():
    files = [*(ROOT / "notebooks").glob("*.ipynb"), ROOT / "CITATION.cff"]
    assert [path.name for path in files if configured_repository() not in path.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_colour_schemes(scheme, chromium, book_site):
    context = chromium.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{book_site}/notebooks/01_the_idea.html")
    ink = page.evaluate("getComputedStyle(document.querySelector('.bd-article p')).color")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    context.close()
    assert contrast(ink, paper) > 7  # WCAG's AAA


def contrast(one: str, other: str) -> float:
    """WCAG's ratio of two CSS colours such as ``rgb(20, 24, 29)``, from 1 to 21."""

    def light(colour: str) -> float:
        parts = [float(x) / 255 for x in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, bright = sorted([light(one), light(other)])
    return (bright + 0.05) / (dark + 0.05)


def test_pages_are_light_enough_to_fetch(book_pages, visits):
    heavy = {path.name: path.stat().st_size for path in book_pages.glob("**/*.html")}
    assert {name: size for name, size in heavy.items() if size > 2**20} == {}
    megabytes = {visit: sum(weigh(seen["fetched"], book_pages).values()) / 1e6 for visit, seen in visits.items()}
    assert {visit: size for visit, size in megabytes.items() if size > ANY} == {}


def test_the_first_page_is_there_at_once(book_pages, visits):
    kilobytes = weigh(visits["book/intro.html"]["fetched"], book_pages)["rest"] / 1e3
    assert 50 < kilobytes < FIRST  # the theme's style alone has 50
