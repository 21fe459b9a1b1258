"""A regression run passes inside the spread, fails on a real change, tells a broken chapter, and accepts on demand."""

import json
from dataclasses import replace

import nbformat
import pytest
from nbformat.v4 import new_notebook
from test_run_chapters import DEFAULTS, write

from book.build import kept
from book.build.run_chapters import Result, Run
from book.regress import compare as module
from book.regress.compare import Outcome, Places, regress
from xlxmert_core.files import write_json

RECORD = """\
import json
from pathlib import Path
folder = Path(artifacts) / dataset / profile / "metrics"
folder.mkdir(parents=True, exist_ok=True)
(folder / "{chapter}.json").write_text(json.dumps({{"probe": {base} + seed / 100, "pace_ms": 7}}))"""
SEEDS = [0, 1, 2]
LARGER = {"dataset": "storybook"}


@pytest.fixture
def places(tmp_path) -> Places:
    bars = tmp_path / "bars.toml"
    bars.write_text('[02_b]\nprobe = { min = 0.3, chance = "0.1" }\npace_ms = { max = 9, chance = "none" }\n')
    base = Run(notebooks=tmp_path / "notebooks")
    return Places(base, tmp_path / "build", tmp_path / "numbers", tmp_path / "figures", bars)


def executed(places: Places, chapter: str, seeds: dict[int, dict]) -> None:
    """Leave what a run of each seed leaves, measured as given, so that it is not executed."""
    if not (places.base.notebooks / f"{chapter}.ipynb").exists():
        write(places.base, chapter, DEFAULTS)
    for seed, metrics in seeds.items():
        run = places.run(seed)
        key = kept.key(run, chapter, (), 1)
        kept.begin(run, chapter, key, ())
        run.executed.mkdir(parents=True, exist_ok=True)
        nbformat.write(new_notebook(), run.executed / f"{chapter}.ipynb")
        write_json(run.metrics / f"{chapter}.json", metrics)
        kept.finish(run, Result(chapter, 1.0, key=key), ())


def probes(*values: float) -> dict[int, dict]:
    return {seed: {"probe": value, "pace_ms": 7.0} for seed, value in enumerate(values)}


@pytest.fixture
def accepted(places) -> Places:
    """Places where chapter 02 is accepted at 0.60 ± 0.01."""
    executed(places, "02_b", probes(0.59, 0.60, 0.61))
    assert regress(places, ["02_b"], SEEDS, accepting=True) == 0
    return places


@pytest.mark.slow
def test_accept_then_compare_is_green_and_a_changed_chapter_is_not(places, capsys):
    write(places.base, "02_b", DEFAULTS, RECORD.format(chapter="02_b", base=0.6))
    assert regress(places, ["02_b"], SEEDS, accepting=True) == 0
    assert json.loads(places.accepted.read_text())["02_b"]["metrics"]["probe"]["spread"] == pytest.approx(0.01)
    assert regress(places, ["02_b"], [0]) == 0
    write(places.base, "02_b", DEFAULTS, RECORD.format(chapter="02_b", base=0.4))
    assert regress(places, ["02_b"], [0]) == 1  # another notebook is run again
    assert "worse by -0.21" in capsys.readouterr().out


@pytest.mark.slow
def test_broken_chapters_are_told_and_the_others_kept(places, capsys):
    write(places.base, "02_b", DEFAULTS, "raise ValueError('no codes')")
    write(places.base, "03_c", DEFAULTS, RECORD.format(chapter="03_c", base=0.6))
    write(places.base, "04_d", DEFAULTS, "import os; os._exit(1)")
    assert regress(places, ["02_b", "03_c", "04_d"], [0]) == 1
    told = capsys.readouterr()
    assert "02_b.ipynb failed in the cell that starts with `raise" in told.err and "no codes" in told.err
    assert "04_d.ipynb could not be run" in told.err and "Traceback" not in told.err
    assert (places.run(0).executed / "03_c.ipynb").exists()
    page = (places.build / "report.html").read_text()
    assert "no codes" in page and "2 of 3 chapters failed" in page and "probe" in page


@pytest.mark.parametrize(("value", "code"), [(0.60, 0), (0.50, 0), (0.40, 1), (0.90, 1), (0.2, 1)])
def test_only_a_change_outside_the_spread_fails(accepted, value, code):
    executed(accepted, "02_b", probes(value))
    assert regress(accepted, ["02_b"], [0]) == code


def test_more_seeds_see_a_smaller_change(accepted):
    executed(accepted, "02_b", probes(0.54, 0.55, 0.56))
    assert regress(accepted, ["02_b"], [0]) == 0
    assert regress(accepted, ["02_b"], SEEDS) == 1


def test_slower_is_no_regression_but_a_lost_metric_is(accepted, capsys):
    executed(accepted, "02_b", {0: {"probe": 0.6, "pace_ms": 8.9}})
    assert regress(accepted, ["02_b"], [0]) == 0
    executed(accepted, "02_b", {0: {"pace_ms": 7.0}})
    assert regress(accepted, ["02_b"], [0]) == 1
    assert "not recorded" in capsys.readouterr().out


def test_what_the_accepted_run_lacks_is_not_passed_over(accepted, capsys):
    executed(accepted, "02_b", {0: {"probe": 0.6, "pace_ms": 7.0, "fresh": 1.0}})
    assert regress(accepted, ["02_b"], [0]) == 1
    assert "new, nothing to compare with: accept it" in capsys.readouterr().out
    executed(accepted, "02_b", probes(0.6))
    executed(accepted, "03_c", probes(0.6))
    assert regress(accepted, ["02_b"], [0]) == 0
    assert regress(accepted, ["02_b", "03_c"], [0]) == 1


def test_a_chapter_that_left_the_book_is_missed_only_by_a_whole_run(accepted, capsys):
    executed(accepted, "03_c", probes(0.6))
    assert regress(accepted, ["03_c"], [0], whole=False) == 1  # not accepted
    assert "no longer" not in capsys.readouterr().err
    assert regress(accepted, ["03_c"], [0]) == 1
    assert "02_b was accepted, but is no longer in the book." in capsys.readouterr().err


def test_accepting_some_chapters_keeps_the_others(accepted):
    executed(accepted, "03_c", probes(0.1, 0.2, 0.3))
    assert regress(accepted, ["03_c"], SEEDS, accepting=True, whole=False) == 0
    assert set(json.loads(accepted.accepted.read_text())) == {"02_b", "03_c"}
    assert regress(accepted, ["03_c"], SEEDS, accepting=True) == 0
    assert set(json.loads(accepted.accepted.read_text())) == {"03_c"}


def test_accepting_keeps_one_executed_notebook_a_chapter(accepted):
    folder = accepted.figures / accepted.name
    (old,) = folder.iterdir()
    write(accepted.base, "02_b", DEFAULTS)  # other code
    executed(accepted, "02_b", probes(0.7, 0.71, 0.72))
    assert regress(accepted, ["02_b"], SEEDS, accepting=True) == 0
    (new,) = folder.iterdir()
    assert new.name != old.name and regress(accepted, ["02_b"], [0]) == 0


def test_nothing_accepted_yet_is_said(places, capsys):
    executed(places, "02_b", probes(0.6))
    assert regress(places, ["02_b"], [0]) == 0
    assert f"Nothing is accepted yet for {places.name}: make regress ARGS=--accept" in capsys.readouterr().out
    assert "nothing to compare with" in (places.build / "report.html").read_text()


@pytest.mark.parametrize(
    ("values", "why"),
    [((0.6, 0.61), "at least three seeds"), ((0.2, 0.21, 0.22), "bar"), ((0.6, 0.6, float("nan")), "not a number")],
)
def test_what_cannot_be_accepted(places, values, why, capsys):
    executed(places, "02_b", probes(*values))
    assert regress(places, ["02_b"], list(range(len(values))), accepting=True) == 1
    assert why in capsys.readouterr().err and not places.accepted.exists()


def test_bars_are_those_of_what_make_book_runs(places):
    longer, larger = (replace(places, base=replace(places.base, **way)) for way in ({"profile": "train"}, LARGER))
    for where, bar in ((places, True), (longer, False), (larger, False)):
        (judgement, _) = module.section(
            where, [Outcome("02_b", 0, "", 1.0, {"probe": 1.0, "pace_ms": 1.0})], {}
        ).judgements
        assert bool(judgement.bar) is bar


def test_seeds_and_readers_never_share_a_folder(places):
    folders = {places.run(0).artifacts, places.run(1).artifacts, places.base.artifacts}
    assert len(folders) == 3 and all(places.build in f.parents for f in folders - {places.base.artifacts})
