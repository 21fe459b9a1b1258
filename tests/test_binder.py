"""Binder opens every chapter in JupyterLab, with the package, what it needs, and the versions of everywhere else."""

import os
import re
import subprocess
import tomllib

import yaml
from jsonschema import validate
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name as canonical
from test_pins import CONDA, PIP, SCHEMA

from book.build import address
from book.build.run_chapters import ROOT, chapters

HOME = ROOT / ".binder"
ENVIRONMENT = yaml.safe_load((HOME / "environment.yml").read_text("utf-8"))
PINS = next(entry["pip"] for entry in ENVIRONMENT["dependencies"] if isinstance(entry, dict))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_binder_finds_the_files_that_it_reads():
    """Where there is a folder .binder, repo2docker reads nothing else: neither environment.yml nor requirements.txt."""
    assert {path.name for path in HOME.iterdir()} == {"environment.yml", "postBuild"}
    validate(ENVIRONMENT, SCHEMA)


def test_its_versions_are_those_of_the_environment():
    """And it has what the package and its chapters need, neither more nor less."""
    assert [entry for entry in ENVIRONMENT["dependencies"] if isinstance(entry, str)] == CONDA
    assert set(PINS) <= set(PIP)
    needs = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["chapters"]
    assert sorted(canonical(Requirement(pin).name) for pin in PINS) == sorted(
        canonical(Requirement(n).name) for n in needs
    )


def test_the_package_is_installed_from_the_clone_at_the_end(tmp_path):
    """With a pip that only tells what it was asked, in the clone."""
    said = tmp_path / "said"
    (tmp_path / "python").write_text(f'#!/bin/sh\necho "$PWD $*" >> {said}\n')
    (tmp_path / "python").chmod(0o755)
    assert os.access(HOME / "postBuild", os.X_OK)
    subprocess.run([HOME / "postBuild"], cwd=ROOT, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=True)
    assert said.read_text() == f"{ROOT} -m pip install --no-deps -e .\n"


def test_the_links_open_jupyterlab_at_a_chapter():
    """Those of the pages come of _config.yml (test_book_browser follows them); the README has its own."""
    buttons = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["launch_buttons"]
    assert buttons["notebook_interface"] == "jupyterlab" and buttons["binderhub_url"] == "https://mybinder.org"
    readme = (ROOT / "README.md").read_text("utf-8")
    place = f"https://mybinder.org/v2/gh/{address.current()}/main?urlpath=lab/tree/notebooks/"
    [opened] = re.findall(re.escape(place) + r"(\w+)\.ipynb", readme)
    assert opened == chapters()[0] and readme.count("mybinder.org") == 1
