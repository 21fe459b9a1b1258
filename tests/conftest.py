"""One run of all chapters, one built book and one browser for the whole session.

``make test`` spreads the tests over two workers. One has all that look at the book and begins with the chapters; the
other gives way to it, and waits while the chapters that measure time run.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

from book.build.lanes import declared, execute_all
from book.build.pages import publish
from book.build.run_chapters import ROOT, ChapterError, Result, Run, chapters

BOOK = {"test_accessible", "test_notebooks", "test_book", "test_book_browser", "test_export_onnx",
        "test_painter_hands", "test_painter_page", "test_painter_worlds", "test_prose"}  # at the book  # fmt: skip
QUIET = ROOT / "_build" / "quiet.lock"  # each test shares it; who measures time has it alone
CHROMIUM = Path("/usr/bin/chromium")  # Debian's; .ci/run installs it
FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync"


class ByFile(LoadScopeScheduling):
    """A worker takes a file of tests at a time; those of the book are like one file, which is taken first."""

    def _split_scope(self, nodeid: str) -> str:
        stem = Path(nodeid.partition("::")[0]).stem
        return "book" if stem in BOOK else stem


def pytest_xdist_make_scheduler(config, log):
    """Tell pytest-xdist how to spread the tests."""
    config.option.loadscopereorder = False
    return ByFile(config, log)


@contextmanager
def quiet(kind: int):
    """Hold the lock as one of many (``fcntl.LOCK_SH``) or alone (``LOCK_EX``)."""
    QUIET.parent.mkdir(exist_ok=True)
    with open(QUIET, "w") as file:
        fcntl.flock(file, kind)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """A test beside the book's waits while time is measured, and gives way to the chapters."""
    if item.path.stem in BOOK or not hasattr(item.config, "workerinput"):
        return (yield)
    os.nice(max(0, 5 - os.nice(0)))
    with quiet(fcntl.LOCK_SH):
        return (yield)


class BookRun:
    """Executes the chapters once, from empty artifacts, in a process of its own that says all in ``chapters.log``.

    It leaves those that measure time. The first test that asks waits for it and runs these, and what failed.
    """

    def __init__(self, run: Run):
        self.run, self.outcomes = run, {}
        shutil.rmtree(run.work, ignore_errors=True)
        run.work.mkdir(parents=True)
        names = [name for name, own in declared(chapters()).items() if not own.timed]
        call = [sys.executable, "-m", "book.build", "--work", str(run.work), "--only", *names]
        with open(run.work / "chapters.log", "w") as log:
            self.ahead = subprocess.Popen(call, stdout=log, stderr=log, cwd=ROOT)

    def result(self, chapter: str) -> Result:
        """The chapter's result; a chapter that failed raises the same error each time."""
        if not self.outcomes:
            self.ahead.wait()
            timed = [name for name, own in declared(chapters()).items() if own.timed]
            others = [name for name in chapters() if name not in timed]
            self.outcomes = execute_all(self.run, others, keep_going=True)
            with quiet(fcntl.LOCK_EX):
                self.outcomes |= execute_all(self.run, timed, keep_going=True)
        if isinstance(self.outcomes[chapter], ChapterError):
            raise self.outcomes[chapter]
        return self.outcomes[chapter]


@pytest.fixture(scope="session")
def book_run():
    """This session's run of the chapters; none goes on when the tests end early."""
    work = ROOT / "_build" / "test"
    run = BookRun(Run(work=work, artifacts=work / "artifacts"))
    yield run
    run.ahead.terminate()


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Path:
    """What the page that paints fetches, a folder for each shipped world, exported once for all who look at it."""
    from book.build.export_onnx import export_shipped  # brings PyTorch and ONNX, which most tests do not need

    folder = tmp_path_factory.mktemp("exported")
    export_shipped(folder)
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
    """Quick tests, then those that need no chapter, then the chapters and what is made of them; nightly if named.

    Of two workers, which take a file at a time, one begins with the files that look at the book.
    """
    if "nightly" not in config.option.markexpr:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("nightly")])
        items[:] = [item for item in items if not item.get_closest_marker("nightly")]
    spread = hasattr(config, "workerinput")  # over two workers, one of which begins with the book

    def place(item) -> tuple:
        slow, book = item.get_closest_marker("slow") is not None, "book_run" in item.fixturenames
        if item.path.stem not in BOOK and {"book_run", "exported"} & set(item.fixturenames):
            raise pytest.UsageError(f"{item.path.name} looks at the book: add it to BOOK in tests/conftest.py.")
        return spread and item.path.stem not in BOOK, slow, book, item.path.stem != "test_notebooks"

    items.sort(key=place)


def pytest_collection_finish(session):
    """Where the tests are spread, the first of the book's begins with the chapters, which go on beside the others."""
    book = [item for item in session.items if item.path.stem in BOOK]
    if hasattr(session.config, "workerinput") and any("book_run" in item.fixturenames for item in book):
        book[0].fixturenames.insert(0, "book_run")
