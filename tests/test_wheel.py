"""The wheel holds what it needs and nothing else, and in an empty environment it does what the README says."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import nbformat
import papermill
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name as canonical

import xlxmert_core
from book.build import dist
from book.build.nightly import files
from book.build.run_chapters import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
USED = (
    "chapters",
    "export",
    "cluster",
)  # extras of the package itself; the others are the book's
MOST = 60e6  # bytes of the wheel
DISTRIBUTIONS = packages_distributions()
WHERE = """\
import json, sys
import xlxmert_core
strangers = {name.partition(".")[0] for name in sys.modules} & {"book", "tests"}
said = {"package": xlxmert_core.__file__, "strangers": " ".join(strangers)}
said["widgets"] = getattr(sys.modules.get("ipywidgets"), "__version__", "")
print(json.dumps(said))"""


def names(needs: list[str]) -> set[str]:
    return {canonical(Requirement(need).name) for need in needs}


def imported(source: str) -> dict[str, bool]:
    """Top-level name of every import -> whether it is made whenever the file is opened."""
    tree = ast.parse(source)
    found: dict[str, bool] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            tops = [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            tops = [node.module.split(".")[0]]
        else:
            continue
        found |= {top: found.get(top, False) or node in tree.body for top in tops}
    return {top: always for top, always in found.items() if top not in {*sys.stdlib_module_names, "xlxmert_core"}}


def wrong(place: str, source: str) -> list[str]:
    """What a file of the package imports although whoever installs it may not have it, a sentence each."""
    base, asked = names(PROJECT["dependencies"]), names([need for extra in USED for need in EXTRAS[extra]])
    found = []
    for top, always in imported(source).items():
        packages = {canonical(name) for name in DISTRIBUTIONS.get(top, [top])}
        if not packages & (base | asked):
            found.append(f"{place} imports {top}, which only the book or its tests have.")
        elif always and not packages & base and not place.startswith("paintbox/"):
            found.append(f"{place} imports {top} when it is opened, which is an extra's.")
    return found


def test_the_package_imports_what_it_installs():
    sources = {path.relative_to(ROOT / "xlxmert_core").as_posix(): path.read_text("utf-8")
               for path in (ROOT / "xlxmert_core").rglob("*.py")}  # fmt: skip
    assert len(sources) > 50
    assert [line for place, source in sources.items() for line in wrong(place, source)] == []


@pytest.mark.parametrize(("place", "source", "said"), [
    ("model.py", "def f():\n    import pytest", "model.py imports pytest, which only the book or its tests have."),
    ("model.py", "from transformers import BertModel", "which only the book or its tests have."),
    ("model.py", "import book.build", "model.py imports book, which only"),
    ("model.py", "import ipywidgets", "model.py imports ipywidgets when it is opened, which is an extra's."),
])  # fmt: skip
def test_an_import_that_a_reader_lacks_is_found(place, source, said):
    [line] = wrong(place, source)
    assert said in line


def test_extras_are_named_by_what_they_are_for():
    assert set(EXTRAS) == {*USED, "book", "test"}
    together = [need for extra in EXTRAS.values() for need in names(extra)]
    assert len(together) == len(set(together)) and not set(together) & names(PROJECT["dependencies"])


def test_the_version_is_one():
    assert dist.version() == xlxmert_core.__version__
    dist.check_tag(f"v{dist.version()}")
    with pytest.raises(dist.DistError, match="The tag is v9.9, but pyproject.toml says version"):
        dist.check_tag("v9.9")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return dist.build("wheel", tmp_path_factory.mktemp("dist"))


@pytest.mark.slow
def test_the_wheel_is_small_and_holds_the_package_alone(wheel):
    assert wheel.stat().st_size < MOST
    with zipfile.ZipFile(wheel) as packed:
        held = {name for name in packed.namelist() if ".dist-info/" not in name}
    wanted = {path.relative_to(ROOT).as_posix() for path in files() if path.is_relative_to(ROOT / "xlxmert_core")}
    assert held == wanted


def without_the_clone(chapter: str, home: Path, kernel: str = "python3") -> dict[str, str]:
    """Run a chapter in an empty folder, as a reader of the wheel does; returns what its kernel says of itself."""
    home.mkdir()
    notebook = nbformat.read(ROOT / "notebooks" / f"{chapter}.ipynb", as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(WHERE))
    nbformat.write(notebook, home / "chapter.ipynb")
    ran = papermill.execute_notebook(home / "chapter.ipynb", home / "ran.ipynb", {"profile": "smoke"},
                                     kernel_name=kernel, cwd=home, progress_bar=False)  # fmt: skip
    return json.loads(ran.cells[-1].outputs[0].text)


@pytest.mark.nightly
def test_two_chapters_run_from_the_wheel_without_the_clone(wheel, tmp_path, monkeypatch):
    """The wheel is unpacked and goes before this environment's package; where the clone is nobody is told."""
    place = tmp_path / "unpacked"
    shutil.unpack_archive(wheel, place, "zip")
    monkeypatch.setenv("PYTHONPATH", str(place))
    for chapter in ("01_the_idea", "02_feature_extraction"):
        said = without_the_clone(chapter, tmp_path / chapter)
        assert said["package"] == str(place / "xlxmert_core" / "__init__.py") and said["strangers"] == ""
        record = tmp_path / "artifacts" / "junior" / "smoke" / "metrics" / f"{chapter}.json"
        assert json.loads(record.read_text())


def empty_environment(home: Path) -> Path:
    """A new environment of Python 3.13; skips where there is none. Returns its python."""
    versions = sorted((Path.home() / ".pyenv" / "versions").glob("3.13*/bin/python3.13"))
    found = [
        *map(str, versions),
        *filter(None, [shutil.which("python3.13")]),
    ]  # pyenv's shim may be there and do nothing
    python = next(
        (each for each in found if not subprocess.run([each, "-c", ""], capture_output=True).returncode), None
    )
    if python is None:
        pytest.skip("Python 3.13 is not installed")
    subprocess.run([python, "-m", "venv", str(home)], check=True)
    return home / "bin" / "python"


@pytest.mark.nightly
def test_in_an_empty_environment_the_readmes_code_runs(wheel, tmp_path):
    python = empty_environment(tmp_path / "empty")
    quiet = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(wheel)], check=True, env=quiet)
    readme = (ROOT / "README.md").read_text("utf-8").split("## In code")[1]
    code = re.search(r"```python\n(.+?)```", readme, re.DOTALL).group(1)
    program = tmp_path / "readme.py"
    program.write_text(f"{code}\nassert painting.images.shape == (1, 128, 128, 3)\n")
    subprocess.run([python, str(program)], check=True, cwd=tmp_path, env=quiet)
    call = [python, "-m", "xlxmert_core", "paint", "a red house in the snow", "-o", "house.png"]
    subprocess.run(call, check=True, cwd=tmp_path, env=quiet)
    assert (tmp_path / "house.png").is_file()
    place = subprocess.run([python, "-c", "import xlxmert_core; print(xlxmert_core.__file__)"], cwd=tmp_path,
                           env=quiet, capture_output=True, text=True, check=True).stdout  # fmt: skip
    assert "site-packages" in place
