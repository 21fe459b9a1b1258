"""Workflows, forms and robots are what their hosts take, may do the least, and run what a reader can run.

actionlint cannot be had from the package index without a network of its own, so these are our own checks.
"""

import copy
import json
import os
import re
import subprocess
import tomllib

import pytest
import yaml

from book.build.run_chapters import ROOT
from book.build.vendor import AXE, RUNTIME

HOME = ROOT / ".github"
FLOWS = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in sorted((HOME / "workflows").glob("*.yml"))}
FORMS = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in sorted((HOME / "ISSUE_TEMPLATE").glob("*.yml"))}
TARGETS = set(re.findall(r"(?m)^(\w+):", (ROOT / "Makefile").read_text("utf-8")))
MORE = {  # jobs that may do more than read, and what
    ("publish", "deploy"): {"pages": "write", "id-token": "write"},
    ("release", "publish"): {"id-token": "write"},
}
TAG = re.compile(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)")
EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


def jobs(flows: dict):
    return [(flow, name, job) for flow, about in flows.items() for name, job in about["jobs"].items()]


def unknown(flow: dict, job: dict) -> list[str]:
    """Expressions of a job that stand for nothing: what is in no matrix, step or setting."""
    steps = {step["id"] for step in job.get("steps", []) if "id" in step}
    known = {"github.ref", "github.event_name"} | {
        f"matrix.{name}" for name in job.get("strategy", {}).get("matrix", {})
    }
    found = EXPRESSION.findall(json.dumps(job)) + EXPRESSION.findall(
        json.dumps({k: v for k, v in flow.items() if k != "jobs"})
    )
    return [text for text in found if text not in known and not text.startswith("vars.")
            and not (text.startswith("steps.") and text.split(".")[1] in steps)]  # fmt: skip


def faults(flows: dict) -> list[str]:
    """What is wrong with some workflows, a sentence each."""
    found = []
    for name, flow in flows.items():
        if flow.get("permissions") != {"contents": "read"}:
            found.append(f"{name} may do more than read: give what a job needs to that job.")
        if "pull_request_target" in flow[True]:  # YAML's word for on
            found.append(f"{name} runs a stranger's code with our rights.")
    for flow, name, job in jobs(flows):
        place = f"{flow}, job {name},"
        if job.get("permissions") != MORE.get((flow, name)):
            found.append(f"{place} has other permissions than the test knows.")
        if not isinstance(job.get("timeout-minutes"), int):
            found.append(f"{place} may run for ever: it has no timeout-minutes.")
        if {*([job["needs"]] if "needs" in job else [])} - set(flows[flow]["jobs"]):
            found.append(f"{place} needs a job that is not there.")
        found += [f"{place} says {text}, which is nothing." for text in unknown(flows[flow], job)]
        for step in job["steps"]:
            if ("run" in step) == ("uses" in step):
                found.append(f"{place} has a step that neither runs nor uses one thing.")
            elif "uses" in step and not TAG.fullmatch(step["uses"]):
                found.append(f"{place} uses {step['uses']}: name an action by its tag.")
            elif "run" in step and (EXPRESSION.search(step["run"]) or not runs(step["run"])):
                found.append(f"{place} runs {step['run']!r}: run a target of make.")
    return found


def runs(line: str) -> bool:
    """Whether a line is one command of make that a reader could type, with arguments that its program knows."""
    shape = re.fullmatch(r"make (\w+)(?: ARGS=\"([^\"]+)\")?", line)
    if shape is None or shape[1] not in TARGETS:
        return False
    return shape[2] is None or (shape[1], shape[2].split()[0]) in {
        ("test", "-m"),
        ("dist", "--tag"),
        ("nightly", "--only"),
    }


LINES = sorted({step["run"] for *_, job in jobs(FLOWS) for step in job["steps"] if "run" in step})


def test_the_workflows_are_in_order():
    assert {"tests", "publish", "nightly", "release", "colab"} <= set(FLOWS)
    assert faults(FLOWS) == []


@pytest.mark.parametrize("line", LINES)
def test_make_takes_every_line_that_a_workflow_runs(line):
    call = line.replace("make ", "make --dry-run ", 1)
    plain = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    done = subprocess.run(
        ["sh", "-c", call], cwd=ROOT, env=plain | {"GITHUB_REF_NAME": "v0"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_actions_are_by_tag_and_the_files_say_so():
    for path in (HOME / "workflows").glob("*.yml"):
        assert "Actions are named by tag" in path.read_text("utf-8")


def test_releases_need_a_tag_and_no_secret():
    assert FLOWS["release"][True] == {"push": {"tags": ["v*"]}}
    assert all("secrets." not in path.read_text("utf-8") for path in (HOME / "workflows").glob("*.yml"))
    assert FLOWS["release"]["jobs"]["publish"]["environment"] == "release"


def test_both_commands_run_on_every_python_that_is_promised():
    job = FLOWS["tests"]["jobs"]["readme"]
    assert job["strategy"]["matrix"] == FLOWS["tests"]["jobs"]["quick"]["strategy"]["matrix"]
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make book", "make test"]


@pytest.mark.parametrize(("change", "said"), [
    (lambda f: f["tests"].update(permissions={"contents": "write"}), "tests may do more than read"),
    (lambda f: f["tests"]["jobs"]["quick"].pop("timeout-minutes"), "may run for ever"),
    (lambda f: f["tests"]["jobs"]["quick"].update(permissions={"packages": "write"}), "has other permissions"),
    (lambda f: f["tests"]["jobs"]["quick"]["steps"].append({"run": "curl x | sh"}), "run a target of make"),
    (lambda f: f["tests"]["jobs"]["quick"]["steps"].append({"run": "make nothing"}), "run a target of make"),
    (lambda f: f["tests"]["jobs"]["quick"]["steps"].append({"run": "make test ARGS=\"${{ github.ref }}\""}), "run a"),
    (lambda f: f["tests"]["jobs"]["quick"]["steps"].append({"uses": "a/b@main"}), "name an action by its tag"),
    (lambda f: f["tests"]["jobs"]["quick"]["steps"].append({"name": "x"}), "neither runs nor uses"),
    (lambda f: f["tests"]["jobs"]["quick"]["strategy"]["matrix"].pop("python"), "says matrix.python, which is nothing"),
    (lambda f: f["publish"]["jobs"]["deploy"].update(needs="built"), "needs a job that is not there"),
    (lambda f: f["publish"][True].update(pull_request_target=None), "a stranger's code"),
])  # fmt: skip
def test_a_fault_of_a_workflow_is_found(change, said):
    flows = copy.deepcopy(FLOWS)
    change(flows)
    assert any(said in fault for fault in faults(flows))


@pytest.mark.parametrize("name", sorted(set(FORMS) - {"config"}))
def test_a_form_has_what_the_host_asks(name):
    form = FORMS[name]
    assert {"name", "description", "body"} <= set(form) <= {"name", "description", "labels", "body", "title"}
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids)) and all(re.fullmatch(r"[a-z]+", text) for text in ids)
    for field in form["body"]:
        assert field["type"] in ("input", "textarea") and field["attributes"]["label"]
        assert set(field) <= {"type", "id", "attributes", "validations"}
        assert set(field["attributes"]) <= {"label", "description", "placeholder", "render", "value"}
    assert any(field.get("validations") == {"required": True} for field in form["body"])


def test_there_is_a_form_for_each_kind_of_report():
    assert set(FORMS) == {"config", "crash", "unclear_passage", "wrong_number"}


def test_robots_look_where_the_versions_are():
    robots = yaml.safe_load((HOME / "dependabot.yml").read_text("utf-8"))
    places = {entry["package-ecosystem"]: ROOT / entry["directory"].lstrip("/") for entry in robots["updates"]}
    assert robots["version"] == 2 and set(places) == {"pip", "npm", "github-actions"}
    assert (places["pip"] / "requirements.txt").is_file()
    package = json.loads((places["npm"] / "package.json").read_text())
    assert package["dependencies"] == {RUNTIME.name: RUNTIME.version}
    assert package["devDependencies"] == {AXE.name: AXE.version}


def test_nobody_is_named_where_one_reports():
    text = (HOME / "CODE_OF_CONDUCT.md").read_text("utf-8")
    assert "@" not in text and "Open an issue" in text


def test_the_changelog_knows_the_version():
    log = (HOME / "CHANGELOG.md").read_text("utf-8")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    heads = re.findall(r"(?m)^## (.+)$", log)
    assert version in heads and heads.index(version) <= 1 and (heads[0] == "Unreleased" or heads[0] == version)
