"""One run of all chapters for the whole session; quick tests come first."""

import shutil

import pytest
from run_chapters import ROOT, ChapterError, Result, Run, execute


class BookRun:
    """Executes each chapter at most once, whichever test asks first, from empty artifacts."""

    def __init__(self, run: Run):
        self.run = run
        self.done: dict[str, Result | ChapterError] = {}

    def result(self, chapter: str) -> Result:
        """The chapter's result; a chapter that failed raises the same error each time."""
        if chapter not in self.done:
            try:
                self.done[chapter] = execute(self.run, chapter)
            except ChapterError as error:
                self.done[chapter] = error
        if isinstance(self.done[chapter], ChapterError):
            raise self.done[chapter]
        return self.done[chapter]


@pytest.fixture(scope="session")
def book_run() -> BookRun:
    work = ROOT / "_build" / "test"
    shutil.rmtree(work, ignore_errors=True)
    return BookRun(Run(work=work, artifacts=work / "artifacts"))


def pytest_collection_modifyitems(items):
    """Quick tests first, then the chapters, then what is made of them, then photographs."""
    order = {"test_notebooks": 1, "test_readme": 2, "test_book": 3, "test_coco_chapters": 4}
    items.sort(key=lambda item: order.get(item.path.stem, 0))
