"""What the README tells a reader to type works."""

import re
import subprocess

from book.build.run_chapters import ROOT

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


def test_its_code_runs():
    *others, code = [block for kind, block in BLOCKS if kind == "python"]
    assert all("Epoch20_LXRT.pth" in block for block in others)  # a gigabyte; tests/test_authors.py has its like
    names = {}
    exec(code, names)
    assert names["painting"].images.shape == (1, 128, 128, 3)
