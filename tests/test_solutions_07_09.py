"""The code in the solutions of chapters 07 to 09 runs, with the shipped weights and a few scenes."""

import json
import re
import textwrap
from functools import cache

import numpy as np
import pytest
import torch
from test_judges import judge_of, split_of

import xlxmert_core
from book.build.run_chapters import ROOT
from xlxmert_core import sampling
from xlxmert_core.data.storybook import sample_scene
from xlxmert_core.train import finetuning

pytestmark = pytest.mark.slow
CHAPTERS = ("07_painting", "08_captioning", "09_answering")


def solutions(chapter: str) -> list[str]:
    """The Python in a chapter's folded solutions, block by block."""
    cells = json.loads((ROOT / "notebooks" / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    solved = prose.partition(":::{dropdown} Solution")[2].partition("\n:::\n")[0]
    return [textwrap.dedent(block) for block in re.findall(r"(?ms)^ *```python\n(.*?)^ *```$", solved)]


@cache
def names() -> dict:
    """What the chapters have made when a reader comes to the exercises."""
    painter = xlxmert_core.load("storybook")
    scenes = [sample_scene(np.random.default_rng(i)) for i in range(8)]
    split = split_of(scenes)
    answers = {"vqa": painter.skills["vqa"].answers}
    lessons = finetuning.FineTuningData.build(
        ["what is the background"] * 8, [[i] for i in range(8)], [{s.background: 1.0} for s in scenes],
        painter.tokenizer, answers["vqa"], 32,
    )  # fmt: skip
    seen = torch.from_numpy(painter.features(split.images))
    return {
        "np": np, "torch": torch, "sampling": sampling, "finetuning": finetuning, "seed": 0, "painter": painter,
        "full": painter, "plain": {"candidates": 1, "polish": 0}, "texts": split.texts[:2], "test": split,
        "eight": split.first(8), "judge": judge_of(scenes), "tokenizer": painter.tokenizer, "answers": answers,
        "where": 0, "noun": scenes[0].things[0].kind, "batch": lessons.batch(torch.arange(8), lambda rows: seen[rows]),
    }  # fmt: skip


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_solution_in_code_runs(chapter):
    found = solutions(chapter)
    assert len(found) >= 2
    for block in found:
        exec(compile(block, chapter, "exec"), dict(names()))
