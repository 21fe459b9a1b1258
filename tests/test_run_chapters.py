"""The runner, on notebooks of two cells: what it injects, refuses, reports and never publishes."""

from dataclasses import replace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from book.build.lanes import execute_all
from book.build.run_chapters import ChapterError, Result, Run, check_parameters
from book.build.status_page import status_page

DEFAULTS = 'profile = "ci"\ndataset = "junior"\nseed = 0\nartifacts = "../artifacts"'
RECORD = """\
import json, os
from pathlib import Path
folder = Path(artifacts) / dataset / profile / "metrics"
folder.mkdir(parents=True, exist_ok=True)
(folder / "02_b.json").write_text(json.dumps({"seed": seed, "free": 0.5}))
print(os.environ["OMP_NUM_THREADS"])"""


def write(run: Run, name: str, *code: str):
    """A notebook whose first cell is tagged `parameters`."""
    cells = [new_code_cell(text) for text in code]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    run.notebooks.mkdir(parents=True, exist_ok=True)
    path = run.notebooks / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(tmp_path / "notebooks", tmp_path / "work", tmp_path / "artifacts", seed=3)


def test_chapter_runs_in_a_copy_with_the_runs_parameters(run, capsys):
    source = write(run, "02_b", DEFAULTS, RECORD)
    before = source.read_bytes()
    result = execute_all(run, ["02_b"])["02_b"]
    assert source.read_bytes() == before
    assert (run.metrics / "02_b.json").read_text() == '{"seed": 3, "free": 0.5}'
    assert "[ 1/1] 02_b" in capsys.readouterr().out and result.seconds > 0 and result.megabytes > 20
    finished = nbformat.read(run.executed / "02_b.ipynb", as_version=4)
    assert finished.cells[-1].outputs[0].text == "1\n"  # a lane is one thread
    assert "papermill" not in finished.metadata
    assert [cell.source for cell in finished.cells if "injected" in str(cell.metadata)] == ["# Parameters\nseed = 3\n"]


def test_only_parameters_that_differ_are_injected(run):
    source = write(run, "02_b", DEFAULTS)
    assert check_parameters(source, run.parameters()) == {"seed": 3}
    assert check_parameters(source, replace(run, seed=0).parameters()) == {}


def test_missing_parameter_is_named(run):
    source = write(run, "02_b", 'profile = "ci"\nseed = 0')
    with pytest.raises(ChapterError, match="02_b.ipynb has no parameter dataset, artifacts"):
        check_parameters(source, run.parameters())


def test_missing_chapter_is_named(run):
    with pytest.raises(ChapterError, match="09_none.ipynb is listed"):
        execute_all(run, ["09_none"])


def test_failed_notebook_is_never_published(run):
    write(run, "02_b", DEFAULTS)
    execute_all(run, ["02_b"])
    write(run, "02_b", DEFAULTS, "raise ValueError('no codes')")
    with pytest.raises(ChapterError, match="starts with `raise .*: ValueError: no codes"):
        execute_all(run, ["02_b"])
    assert not (run.executed / "02_b.ipynb").exists()
    assert (run.work / "failed" / "02_b.ipynb").exists()


def test_status_page_shows_bars_and_free_metrics(run, tmp_path):
    run.metrics.mkdir(parents=True)
    (run.metrics / "02_b.json").write_text('{"probe": 0.9, "loss": 2.5, "free": 1}')
    bars = tmp_path / "bars.toml"
    bars.write_text(
        '[02_b]\nprobe = { min = 0.8, chance = "0.125" }\nloss = { max = 2, chance = "7" }\n'
        'lost = { min = 0, chance = "0" }\n'
    )
    page = status_page(run, [Result("02_b", 61.0, 900.0), Result("03_c", 1.0, 400.4, kept=True)], bars)
    assert "| [](../notebooks/02_b.ipynb) | 61.0 | 900 |  |" in page and "| 1.0 | 400 | kept |" in page
    assert "1300 MB" in page
    assert "| 02 | probe | 0.9 | ≥ 0.8 | 0.125 | holds |" in page
    assert "| 02 | loss | 2.5 | ≤ 2 | 7 | **does not hold** |" in page
    assert "| 02 | lost | missing | ≥ 0 | 0 | **does not hold** |" in page
    assert "| 02 | free | 1 | | | |" in page
