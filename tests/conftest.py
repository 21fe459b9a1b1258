"""One run of all chapters, one built book and one browser for the whole session; quick tests come first."""

import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ahead import BEGUN, ahead

from book.build.lanes import declared, execute_all
from book.build.pages import publish
from book.build.run_chapters import ROOT, ChapterError, Result, Run, chapters

LAST = "test_coco_chapters"  # its chapters run while the browser looks at the book
CHROMIUM = Path("/usr/bin/chromium")  # Debian's; .ci/run installs it
FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync"


class BookRun:
    """Executes the chapters once, from empty artifacts.

    A process of its own begins when the tests are known, so that both cores are busy; it leaves those that measure
    time. The first test that asks waits for it and runs these, and what failed; then ``following`` is called.
    """

    def __init__(self, run: Run, following: Callable[[], object]):
        self.run, self.following = run, following
        self.outcomes: dict[str, Result | ChapterError] = {}
        self.ahead = ahead(run, [name for name, own in declared(chapters()).items() if not own.timed])

    def result(self, chapter: str) -> Result:
        """The chapter's result; a chapter that failed raises the same error each time."""
        if not self.outcomes:
            self.ahead.wait()
            self.outcomes = execute_all(self.run, chapters(), keep_going=True)
            self.following()
        if isinstance(self.outcomes[chapter], ChapterError):
            raise self.outcomes[chapter]
        return self.outcomes[chapter]


def pytest_collection_finish(session):
    """Begin with the chapters when a test needs them."""
    if any("book_run" in item.fixturenames for item in session.items) and not session.config.option.collectonly:
        work = ROOT / "_build" / "test"
        begin = next((item.module.begin for item in session.items if item.path.stem == LAST), lambda: None)
        session.book_run = BookRun(Run(work=work, artifacts=work / "artifacts"), begin)


def pytest_sessionfinish():
    """Leave no chapter running when the tests end early."""
    for process in BEGUN:
        process.terminate()


@pytest.fixture(scope="session")
def book_run(request) -> BookRun:
    """This session's run of the chapters."""
    return request.session.book_run


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Path:
    """What the page that paints fetches, exported once for all who look at it."""
    import xlxmert_core
    from book.build.export_onnx import export  # brings PyTorch and ONNX, which most tests do not need

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
    """Quick tests, those that need no chapter, the chapters and what is made of them, photographs; nightly if named."""
    if "nightly" not in config.option.markexpr:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("nightly")])
        items[:] = [item for item in items if not item.get_closest_marker("nightly")]

    def place(item) -> tuple:
        slow, book = item.get_closest_marker("slow") is not None, "book_run" in item.fixturenames
        return slow, item.path.stem == LAST, book, item.path.stem != "test_notebooks"

    items.sort(key=place)
