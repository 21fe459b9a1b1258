"""Making the shipped weights: chapters as scripts, finished ones skipped, and a card that says what was measured."""

import json
import sys

import pytest
from test_run_chapters import DEFAULTS, write

import xlxmert_core
from book.build.run_chapters import ROOT, Run
from book.train import ship_weights
from book.train import weights as recipe
from xlxmert_core.datasets import DATASETS, open_dataset
from xlxmert_core.datasets.profiles import PROFILES
from xlxmert_core.skills import NAMES

SAY = """\
import json, sys
from pathlib import Path
if "google.colab" in sys.modules:
    %pip install nothing
folder = Path(artifacts) / dataset / profile / "metrics"
folder.mkdir(parents=True, exist_ok=True)
with open(folder.parent / "ran.txt", "a") as file:
    file.write("{0}\\n")
if "{0}" == "02_b" and not (folder.parent / "go").exists():
    sys.exit(3)
(folder / "{0}.json").write_text(json.dumps({{"seed": seed}}))"""


@pytest.fixture
def run(tmp_path) -> Run:
    made = Run(tmp_path / "notebooks", tmp_path / "work", tmp_path / "artifacts", profile="train", seed=5)
    for name in ("01_a", "02_b"):
        write(made, name, DEFAULTS, SAY.format(name))
    return made


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("dataset", DATASETS)
def test_budgets_can_be_written_into_a_recipe(dataset, name):
    found = ship_weights.written(open_dataset(dataset, "").budgets(name))
    assert found["way"]["order"] == "halton" and json.loads(json.dumps(found)) == found


def test_chapters_run_as_scripts_and_finished_ones_are_not_run_again(run):
    with pytest.raises(SystemExit, match="exit code 3.; mend it and start again"):
        recipe.train(run, ("01_a", "02_b"))
    home = run.metrics.parent
    (home / "go").touch()
    recipe.train(run, ("01_a", "02_b"))
    recipe.train(run, ("01_a", "02_b"))
    assert (home / "ran.txt").read_text().split() == ["01_a", "02_b", "02_b"]
    assert json.loads((run.metrics / "02_b.json").read_text()) == {"seed": 5}


def test_what_has_no_place_in_the_package_is_refused_before_hours_of_training(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["x", "--dataset", "junior", "--ship"])
    monkeypatch.setattr(recipe, "train", lambda run: pytest.fail("trained"))
    with pytest.raises(SystemExit):
        recipe.main()
    assert "what is trained on storybook or coco into the package, not junior" in capsys.readouterr().err


def test_every_goal_of_the_card_was_measured_and_the_card_says_what():
    folder = xlxmert_core.folder.SHIPPED / "storybook"
    recorded = json.loads((folder / "recipe.json").read_text())["metrics"]
    text = (folder / "README.md").read_text()
    for name, chapter, metric, goal in ship_weights.GOALS:
        assert f"| {name} | >= {goal:.0%} | {recorded[chapter][metric]:.1%} |" in text
    for task in ("vqa", "gqa", "nlvr2"):
        found = {name: recorded["09_answering"][f"{task}_{name}"] for name in ("blind", "parrot", "commonest")}
        above = 100 * (max(found["blind"], found["parrot"]) - found["commonest"])
        assert f"{above:+.1f}" in text.split("words alone above")[1].splitlines()[0]


def test_shipped_files_are_small_and_no_others():
    folder = xlxmert_core.folder.SHIPPED / "storybook"
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    tables = {
        "README.md",
        "recipe.json",
        "history.json",
        "samplers.json",
        "ablations.json",
        "blind.json",
        "continuous.json",
    }
    parts = {f"{skill}/{part}" for skill in NAMES for part in ("model.safetensors", "tokenizer.json", "config.json")}
    assert names == {*xlxmert_core.folder.PARTS} | tables | parts
    assert sum((folder / name).stat().st_size for name in names) < ship_weights.LIMIT
    assert (ROOT / "xlxmert_core" / "weights").is_dir()


def test_a_run_on_photographs_leaves_a_record_and_no_photograph(tmp_path):
    run = Run(artifacts=tmp_path / "artifacts", dataset="coco", profile="train")
    made = run.artifacts / "coco" / "train" / "photographs"
    made.mkdir(parents=True)
    for name in ("record.json", "paintings.png", "picture_001.jpg"):
        (made / name).write_text(name)
    target = ship_weights.ship_record(run, {}, tmp_path / "shipped")
    assert sorted(path.name for path in target.iterdir()) == ["paintings.png", "record.json"]
    assert (target / "record.json").read_text() == "record.json"
