"""The module works where Linux's own parts are missing, and the page for macOS and Windows says what is so."""

import ast
import re
import subprocess
import sys
import tomllib

import pytest

from book.build.run_chapters import ROOT

UNIX = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty", "readline", "curses"}
PAGE = (ROOT / "book" / "systems.md").read_text("utf-8")
ELSEWHERE = """
import pathlib, sys
for name in {unix!r}:
    sys.modules[name] = None  # importing it fails, as on Windows
there = pathlib.Path.is_file, pathlib.Path.exists
hidden = lambda path: str(path).startswith(("/proc", "/sys"))
pathlib.Path.is_file = lambda self: not hidden(self) and there[0](self)
pathlib.Path.exists = lambda self, **options: not hidden(self) and there[1](self, **options)
import xlxmert_core
from xlxmert_core.files import only_writer
from xlxmert_core.onednn import *
painter = xlxmert_core.load("storybook")
painting = painter.paint("a red house in the snow", steps=2, candidates=1, polish=0)
painting.save({folder!r} + "/house.png")
with only_writer({folder!r} + "/x"):
    painter.save({folder!r} + "/mine")
print(painter.answer(painting.images, "is there a house")[0])
"""


def unguarded(source: str) -> list[str]:
    """Modules of Unix alone that a file imports outside a try."""
    tree = ast.parse(source)
    tried = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.Try) for inner in ast.walk(node)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and id(node) not in tried:
            found += [alias.name for alias in node.names if alias.name in UNIX]
        if isinstance(node, ast.ImportFrom) and id(node) not in tried and node.module in UNIX:
            found.append(node.module)
    return found


def test_nothing_of_unix_alone_is_imported_without_need():
    files = {path.name: unguarded(path.read_text("utf-8")) for path in (ROOT / "xlxmert_core").rglob("*.py")}
    assert {name: found for name, found in files.items() if found} == {}
    assert unguarded("import os, fcntl") == ["fcntl"] == unguarded("def f():\n    from fcntl import flock")
    assert unguarded("try:\n    import fcntl\nexcept ImportError:\n    fcntl = None") == []


@pytest.mark.slow
def test_it_paints_saves_and_answers_without_linuxs_own_parts(tmp_path):
    program = ELSEWHERE.format(unix=sorted(UNIX - {"posix"}), folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] in ("yes", "no") and (tmp_path / "house.png").is_file()


def test_the_page_installs_an_extra_that_there_is_and_a_python_that_is_allowed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(re.findall(r"\.\[(\w+)\]", PAGE)) == {"chapters"} <= set(project["optional-dependencies"])
    assert f"Python {project['requires-python'].removeprefix('>=')} or newer" in PAGE
