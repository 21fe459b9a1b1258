"""What the README tells a reader to type works."""

import re
import subprocess

import pytest
from run_chapters import LAST, ROOT, chapters

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, block in BLOCKS if not kind for line in block.splitlines()]


def test_the_two_commands_are_there_and_make_knows_them():
    assert COMMANDS[:2] == ["make book", "make test"]
    for command in COMMANDS:
        target = re.search(r"make (\w+)", command).group(1)
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_its_files_are_there():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links and [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.slow
def test_its_code_runs(book_run):
    for chapter in (name for name in chapters() if name != LAST):
        book_run.result(chapter)
    (code,) = [block for kind, block in BLOCKS if kind == "python"]
    made = book_run.run.artifacts / "storybook" / "ci" / "pipeline"
    names = {}
    exec(code.replace("artifacts/storybook/ci/pipeline", str(made)), names)
    assert names["painting"].images.shape == (1, 128, 128, 3)
