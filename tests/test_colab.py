"""On Colab one line installs what is missing and changes nothing that is there; the chapters run with its versions."""

import json
import os
import re
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name as canonical
from test_wheel import empty_environment, wheel, without_the_clone  # noqa: F401  wheel is a fixture

from book.build import address
from book.build.run_chapters import ROOT, chapters

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
NEEDS = [Requirement(need) for need in PROJECT["dependencies"]]
HEAD = re.compile(r'from importlib\.util import find_spec\n\nif not find_spec\("xlxmert_core"\):\n    (%pip .+)\n\n')
PUBLISHED = "https://raw.githubusercontent.com/googlecolab/backend-info/main/pip-freeze.txt"
WIDGETS = ("ipywidgets", "anywidget", "traitlets")  # what the paint box needs besides
MORE = {"caption_scores": "pycocoevalcap", "import anywidget": "anywidget"}  # what only some chapters need
PIP = ("-m", "pip", "install", "--quiet", "--retries", "0", "--timeout", "30")


def code(chapter: str) -> list[str]:
    """The sources of a chapter's code cells."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{chapter}.ipynb", as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def line(chapter: str) -> str:
    """The one line of a chapter that installs; the set-up cell begins with it."""
    _, cell, *_ = code(chapter)
    found = HEAD.match(cell)
    assert found, f"{chapter}'s set-up cell does not begin with the line that installs"
    return found[1]


@pytest.mark.parametrize("chapter", chapters())
def test_the_set_up_installs_the_package_and_what_only_this_chapter_needs(chapter):
    source = "\n".join(code(chapter))
    more = [package for used, package in MORE.items() if used in source]
    assert line(chapter) == " ".join(["%pip install -q", *more, f"git+https://github.com/{address.current()}"])
    assert source.count("pip install") == 1 and "google.colab" not in source


@pytest.mark.parametrize(("there", "asked"), [(True, []), (False, [line("01_the_idea").removeprefix("%pip ")])])
def test_the_line_does_nothing_where_the_package_is(there, asked, monkeypatch):
    shell, calls = InteractiveShell(history_length=0), []
    shell.register_magic_function(calls.append, magic_name="pip")
    if not there:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    shell.run_cell(HEAD.match(code("01_the_idea")[1])[0]).raise_error()
    assert calls == asked


def pins(text: str) -> dict[str, str]:
    """Package -> version of a list as pip freeze writes it, for what we need; builds for a processor or GPU are one."""
    wanted = {canonical(need.name) for need in NEEDS} | set(WIDGETS)
    found = re.findall(r"(?m)^([\w.-]+)==([\w.]+)(?:\+\w+)?$", text)
    return {canonical(name): version for name, version in found if canonical(name) in wanted}


def test_a_published_list_is_read():
    text = "# made by pip\nabsl-py==1.4.0\ntorch==2.11.0+cpu\nPillow==11.3.0\ngoogle-colab @ file:///x.tar.gz\n"
    assert pins(text) == {"torch": "2.11.0", "pillow": "11.3.0"}


def test_the_package_takes_colabs_versions_as_they_are():
    """Or pip would change them, and Colab would ask for a new start."""
    known = pins((ROOT / "tests" / "colab.txt").read_text("utf-8"))
    assert {"torch", "torchvision", "ipywidgets", "anywidget"} <= set(known)
    needs = NEEDS + [Requirement(need) for need in PROJECT["optional-dependencies"]["chapters"]]
    assert [str(need) for need in needs if not need.specifier.contains(known.get(canonical(need.name), "99"))] == []


def versions() -> dict[str, str]:
    """Those that Colab publishes; the known ones where they cannot be had."""
    try:
        with urllib.request.urlopen(PUBLISHED, timeout=20) as answer:
            return pins(answer.read().decode("utf-8"))
    except OSError:
        return pins((ROOT / "tests" / "colab.txt").read_text("utf-8"))


def fetch(python: str | Path, *what: str) -> None:
    """Install with pip; what cannot be fetched skips the test, but fails on the workflow's machine."""
    quiet = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(python), *PIP, *what], env=quiet, capture_output=True, text=True)
    if done.returncode:
        said = f"pip cannot fetch {' '.join(what)}: {(done.stderr.strip().splitlines() or [''])[-1][:200]}"
        pytest.fail(said) if "GITHUB_ACTIONS" in os.environ else pytest.skip(said)


@pytest.mark.nightly
def test_the_paint_box_runs_with_colabs_widgets(tmp_path, monkeypatch):
    """Of Colab's environment what is small enough to be had anywhere, before our own: traitlets is our kernel's."""
    found, place = versions(), tmp_path / "widgets"
    exact = [f"{name}=={found[name]}" for name in ("ipywidgets", "anywidget")]
    fetch(sys.executable, "--target", str(place), "--no-deps", *exact, "ipython-genutils")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(place), str(ROOT)]))
    said = without_the_clone("10_paint_box", tmp_path / "run")
    assert said["package"] == str(ROOT / "xlxmert_core" / "__init__.py") and said["widgets"] == found["ipywidgets"]


@pytest.mark.nightly
def test_the_first_chapter_and_the_paint_box_run_in_colabs_environment(wheel, tmp_path, monkeypatch):  # noqa: F811
    """The line's own packages come on top, and none of Colab's changes."""
    python, found = empty_environment(tmp_path / "colab"), versions()
    fetch(python, *(f"{name}=={version}" for name, version in found.items()), "ipykernel")
    more = {word for chapter in ("01_the_idea", "10_paint_box") for word in line(chapter).split()[3:-1]}
    fetch(python, str(wheel), *more)
    listed = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout
    assert {name: pins(listed).get(name) for name in found} == found
    kernel = tmp_path / "jupyter" / "kernels" / "colab"
    kernel.mkdir(parents=True)
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Colab", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    for chapter in ("01_the_idea", "10_paint_box"):
        said = without_the_clone(chapter, tmp_path / chapter, kernel="colab")
        assert str(tmp_path / "colab") in said["package"] and said["strangers"] == ""
    assert said["widgets"] == found["ipywidgets"]
