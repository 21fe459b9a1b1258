"""One set of versions: requirements.txt pins, pyproject.toml allows, environment.yml repeats."""

import sys
import tomllib
from importlib.metadata import version
from itertools import chain

import pytest
import yaml
from jsonschema import validate
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name as canonical
from rattler import MatchSpec, Version

from book.build.run_chapters import ROOT

WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/workflows").glob("*.yml")}
SCHEMA = {
    "type": "object",
    "required": ["name", "channels", "dependencies"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9-]+$"},
        "channels": {"type": "array", "items": {"const": "conda-forge"}, "minItems": 1},
        "dependencies": {
            "type": "array",
            "minItems": 3,
            "items": {
                "anyOf": [
                    {"type": "string"},
                    {
                        "type": "object",
                        "required": ["pip"],
                        "additionalProperties": False,
                        "properties": {"pip": {"type": "array", "items": {"type": "string"}}},
                    },
                ]
            },
        },
    },
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())
CONDA = [entry for entry in ENVIRONMENT["dependencies"] if isinstance(entry, str)]
PIP = next(entry["pip"] for entry in ENVIRONMENT["dependencies"] if isinstance(entry, dict))
PYTHONS = ("3.11", "3.12", "3.13")


def lock_lines() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def locked(python: str) -> dict[str, str]:
    """Package -> the version that requirements.txt installs on Linux with this Python."""
    marks = {"python_version": python, "python_full_version": f"{python}.9"}
    marks |= {"sys_platform": "linux", "platform_machine": "x86_64", "os_name": "posix"}
    needs = [Requirement(line) for line in lock_lines()]
    kept = [need for need in needs if need.marker is None or need.marker.evaluate(marks)]
    names = [canonical(need.name) for need in kept]
    assert len(names) == len(set(names)), "a package is pinned twice"
    return {canonical(need.name): str(need.specifier) for need in kept}


def ranges() -> list[Requirement]:
    extras = chain.from_iterable(PROJECT["optional-dependencies"].values())
    return [Requirement(text) for text in chain(PROJECT["dependencies"], extras)]


def test_lock_holds_names_versions_and_markers_only():
    needs = [Requirement(line) for line in lock_lines()]
    assert all(not need.url and not need.extras for need in needs)
    assert all([spec.operator for spec in need.specifier] == ["=="] for need in needs)


@pytest.mark.parametrize("python", PYTHONS)
def test_every_range_has_a_pin_inside_it(python):
    pins = locked(python)
    for need in ranges():
        pin = pins[canonical(need.name)].removeprefix("==")
        assert need.specifier.contains(pin), f"{need} does not allow the pinned {pin}"


def test_lock_has_what_an_editable_install_builds_with():
    assert "setuptools" in locked("3.11")


def test_environment_follows_the_schema():
    validate(ENVIRONMENT, SCHEMA)


def test_environment_has_a_python_that_the_project_allows():
    specs = {MatchSpec(entry).name.normalized: MatchSpec(entry) for entry in CONDA}
    assert {"python", "pip"} <= set(specs)
    wanted = str(specs["python"].version).lstrip("=").rstrip(".*")
    assert Version(wanted) >= Version(PROJECT["requires-python"].removeprefix(">="))


def test_environment_repeats_the_pins_of_every_direct_dependency():
    *pins, own = PIP
    assert own == "-e ."
    needs = [Requirement(line) for line in pins]
    lock = locked("3.11")
    assert {canonical(n.name) for n in needs} == {canonical(n.name) for n in ranges()}
    assert [str(n) for n in needs if str(n.specifier) != lock[canonical(n.name)]] == []


def test_installed_versions_are_the_pinned_ones():
    lock = locked(f"{sys.version_info.major}.{sys.version_info.minor}")
    wrong = {}
    for need in ranges():
        found = version(need.name).partition("+")[0]
        if f"=={found}" != lock[canonical(need.name)]:
            wrong[need.name] = found
    assert wrong == {}


def test_the_workflows_try_the_promised_pythons_and_audit_the_pins():
    matrix = WORKFLOWS["tests"]["jobs"]["quick"]["strategy"]["matrix"]["python"]
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    assert matrix == ["3.11", "3.12", "3.13"] and matrix[0] == oldest
    for workflow, job in (("tests", "quick"), ("nightly", "nightly"), ("nightly", "audit")):
        said = [step.get("run", "") for step in WORKFLOWS[workflow]["jobs"][job]["steps"]]
        assert any(line.startswith("make ") or "pip_audit --requirement requirements.txt" in line for line in said)
        assert WORKFLOWS[workflow]["permissions"] == {"contents": "read"}
