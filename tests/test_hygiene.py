"""What is committed: clean notebooks, nothing of this machine, the fixed top level."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from book.build.run_chapters import PARAMETERS, ROOT, chapters, check_parameters

TOP_LEVEL = {"README.md", "environment.yml", "_config.yml", "pyproject.toml", "Makefile"}
TOP_LEVEL |= {"book", "notebooks", "xlxmert_core", "tests"}
TOP_LEVEL |= {"requirements.txt", "LICENSE", "CITATION.cff"}
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# Spelled in pieces, so that this file does not find itself.
FOLDERS = re.compile(r"(?<![\w.~-])/(?:wo" + r"rk|ro" + r"ot|ho" + r"me|op" + r"t|Us" + r"ers)/\w")
HOSTS = re.compile(r"py" + r"pi\.org|python" + r"hosted|npm" + r"js\.|debian\." + r"org|ana" + r"conda\.org")


def tracked() -> list[Path]:
    """Files that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()]


def read(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="ignore")


def cells(notebook: Path, kind: str) -> list[str]:
    found = json.loads(read(notebook))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == kind]


def test_top_level_is_the_fixed_one():
    tops = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert {name for name in tops if not name.startswith(".")} <= TOP_LEVEL


@pytest.mark.parametrize("pattern", [FOLDERS, HOSTS], ids=["folder", "package-host"])
def test_no_file_names_a_machine(pattern):
    hits = [f"{path.relative_to(ROOT)}: {hit.group()}" for path in tracked() if (hit := pattern.search(read(path)))]
    assert hits == []


@pytest.mark.parametrize("text", ["/wo" + "rk/main/x", '"/ro' + 'ot/a"', "from py" + "pi.org"])
def test_such_names_would_be_found(text):
    assert FOLDERS.search(text) or HOSTS.search(text)


def test_no_file_is_large():
    assert [str(path) for path in tracked() if path.stat().st_size > 30 * 2**20] == []


def test_chapters_on_disk_are_those_of_the_table_of_contents():
    assert [path.stem for path in NOTEBOOKS] == chapters()


def test_readme_lists_every_chapter():
    readme = read(ROOT / "README.md")
    assert [name for name in chapters() if f"notebooks/{name}.ipynb" not in readme] == []


def test_notebooks_are_committed_without_outputs():
    keys = re.search(r"^EXTRA_KEYS := (.+)$", read(ROOT / "Makefile"), re.MULTILINE).group(1)
    command = [Path(sys.executable).with_name("nbstripout"), "--verify", "--extra-keys", keys]
    done = subprocess.run([*command, *NOTEBOOKS], capture_output=True, text=True)
    assert done.returncode == 0, f"run `make format`: {done.stdout}{done.stderr}"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_small_and_has_its_parameters(notebook):
    assert notebook.stat().st_size < 300 * 1024
    assert check_parameters(notebook, dict.fromkeys(PARAMETERS)) is not None
    long = [cell.splitlines()[0] for cell in cells(notebook, "code") if cell.count("\n") >= 30]
    assert long == [], "code cells of more than 30 lines"
    assert cells(notebook, "markdown")[0].startswith("# ")
