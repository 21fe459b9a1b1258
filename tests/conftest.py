"""One run of all chapters, one built book and one browser for the whole session; quick tests come first."""

import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from build_book import publish
from export_onnx import export
from lanes import execute_all
from run_chapters import ROOT, ChapterError, Result, Run, chapters

import xlxmert_core

CHROMIUM = Path("/usr/bin/chromium")  # Debian's; .ci/run installs it
FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync"


class BookRun:
    """Executes the chapters once, when the first test asks, from empty artifacts."""

    def __init__(self, run: Run):
        self.run = run
        self.outcomes: dict[str, Result | ChapterError] = {}

    def result(self, chapter: str) -> Result:
        """The chapter's result; a chapter that failed raises the same error each time."""
        if not self.outcomes:
            shutil.rmtree(self.run.work, ignore_errors=True)
            self.outcomes = execute_all(self.run, chapters(), keep_going=True)
        if isinstance(self.outcomes[chapter], ChapterError):
            raise self.outcomes[chapter]
        return self.outcomes[chapter]


@pytest.fixture(scope="session")
def book_run() -> BookRun:
    work = ROOT / "_build" / "test"
    return BookRun(Run(work=work, artifacts=work / "artifacts"))


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Path:
    """What the page that paints fetches, exported once for all who look at it."""
    folder = tmp_path_factory.mktemp("exported")
    export(xlxmert_core.load("storybook"), folder)
    return folder


@pytest.fixture(scope="session")
def book_pages(book_run, exported) -> Path:
    """The folder of the built book, made from this session's run of the chapters."""
    return publish(book_run.run, [book_run.result(chapter) for chapter in chapters()], exported).parent


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and prints nothing."""

    def log_message(self, *_):
        """Say nothing."""


def serve(folder: Path) -> ThreadingHTTPServer:
    """Serve a folder on a free loopback port; its address is ``http://127.0.0.1:{server_port}``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture(scope="session")
def book_site(book_pages) -> str:
    """The address of the built book, served as a plain static host would."""
    server = serve(book_pages)
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")  # while it lives its event loop runs, and papermill could not start one
def chromium():
    """Debian's Chromium, headless, driven by Playwright; skips where it is not installed."""
    if not CHROMIUM.exists():
        pytest.skip("Chromium is not installed: apt install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture()
def fresh(chromium, book_site):
    """The page that paints as a reader meets it, nothing loaded."""
    context = chromium.new_context(viewport={"width": 1400, "height": 1000})
    page = context.new_page()
    page.goto(f"{book_site}/book/paint.html")
    page.locator("[data-part=start]").wait_for()
    yield page
    context.close()


def pytest_collection_modifyitems(config, items):
    """Quick tests first, then the chapters, then what is made of them, then photographs; nightly ones when named."""
    if "nightly" not in config.option.markexpr:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("nightly")])
        items[:] = [item for item in items if not item.get_closest_marker("nightly")]
    last = "test_paint_box_lab test_notebooks test_readme test_book test_book_browser"
    last = [*last.split(), "test_painter_page", "test_painter_hands", "test_coco_chapters"]
    order = {name: place for place, name in enumerate(last, 1)}
    slow = {item: item.get_closest_marker("slow") is not None for item in items}
    items.sort(key=lambda item: (slow[item], order.get(item.path.stem, 0)))
