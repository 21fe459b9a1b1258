"""The comparisons of chapters 05 and 06: one change a row, finished parts kept, mean and spread over seeds."""

import re
from dataclasses import asdict
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from book.build import run_chapters
from book.train import compared, tables
from xlxmert_core.chapters.artifacts import Artifacts
from xlxmert_core.config import ModelConfig
from xlxmert_core.model import XLxmert

PICTURES = np.arange(6 * 4 * 4 * 3, dtype=np.uint8).reshape(6, 4, 4, 3)


def differences(a, b) -> set[str]:
    """The fields in which two rows differ."""
    return {name for name, value in asdict(a).items() if value != asdict(b)[name]}


def test_every_row_differs_in_one_thing_from_the_row_that_it_is_held_against():
    for row, (beside, _) in compared.BESIDE.items():
        assert len(differences(compared.ONE_BY_ONE[row], compared.ONE_BY_ONE[beside])) == 1, row


def test_every_table_that_a_chapter_shows_comes_with_the_package():
    shown = {name for path in (run_chapters.ROOT / "notebooks").glob("*.ipynb")
             for name in re.findall(r'files\.compared(?:_pictures)?\(\\"(\w+)', path.read_text("utf-8"))}  # fmt: skip
    assert {"before_after", "generator_losses"} <= shown
    for name in shown:
        assert Artifacts.compared(name)["rows"] and len(Artifacts.compared_pictures(name)) > 1


def test_no_two_rows_are_the_same_models():
    assert len(set(compared.ONE_BY_ONE.values())) == len(compared.ONE_BY_ONE)


def test_lxmerts_recipe_becomes_the_papers_in_three_steps():
    rows = list(compared.BEFORE_AFTER.values())[:-1]
    changes = [differences(a, b) for a, b in pairwise(rows)]
    assert changes == [{"head"}, {"mask"}, {"texts"}]


def test_each_generator_has_one_teacher_and_the_last_has_them_all():
    *alone, together = [
        {n for n, value in asdict(w).items() if value and n != "things"} for w in compared.GENERATOR_LOSSES.values()
    ]
    assert alone == [{"pixel"}, {"perceptual"}, {"hinge", "matching"}, {"code"}]
    assert together == set().union(*alone)


@pytest.fixture
def world(tmp_path):
    """What tables need of a world, with a vocabulary on disk."""
    files = Artifacts(tmp_path, "storybook", "smoke")
    np.savez(files.path("codes.npz"), train=np.zeros((2, 4), np.int64))
    files.finish("codes.npz", "03_visual_vocabulary")
    held_out = SimpleNamespace(texts=["a text"] * 6, images=PICTURES)
    budgets = SimpleNamespace(painting_steps=7, generator_steps=9, rates=(), generator_rates=())
    return SimpleNamespace(files=files, held_out=held_out, budgets=budgets, data=SimpleNamespace(name="storybook"))


class Trainer:
    """In a painter's place: notes which models were asked for, scores their seed, and can be killed once."""

    def __init__(self):
        self.done, self.killed_at = [], -1

    def __call__(self, entry, world, seed, steps) -> tuple:
        if len(self.done) == self.killed_at:
            self.killed_at = -1
            raise KeyboardInterrupt
        self.done.append((entry, seed, steps))
        return {"facts": float(seed)}, PICTURES


@pytest.fixture
def trainer(monkeypatch) -> Trainer:
    """Trains nothing, for a table of two rows."""
    monkeypatch.setattr(tables, "painter", trainer := Trainer())
    monkeypatch.setattr(tables, "TABLES", {"before_after": dict(list(compared.BEFORE_AFTER.items())[:2])})
    return trainer


def test_a_killed_run_keeps_its_parts_and_the_next_goes_on(world, trainer):
    trainer.killed_at = 3
    with pytest.raises(KeyboardInterrupt):
        tables.measure("before_after", world, seeds=2)
    made, sheet = tables.measure("before_after", world, seeds=2)
    assert len(trainer.done) == len(set(trainer.done)) == 4
    assert {steps for *_, steps in trainer.done} == {7}
    row = tables.read_json(made)["rows"]["+ codes"]
    assert row == pytest.approx({"seeds": 2, "facts": 0.5, "facts_spread": 0.5**0.5})
    assert np.asarray(Image.open(sheet)).shape == (3 * 4, 6 * 4, 3)
    tables.measure("before_after", world, seeds=2)
    assert len(trainer.done) == 4


def test_another_budget_or_vocabulary_is_measured_anew(world, trainer):
    tables.measure("before_after", world, seeds=1)
    tables.measure("before_after", world, seeds=1, steps=8)
    np.savez(world.files.path("codes.npz"), train=np.ones((2, 4), np.int64))
    tables.measure("before_after", world, seeds=1, steps=8)
    assert [steps for *_, steps in trainer.done] == [7, 7, 8, 8, 8, 8]


@pytest.mark.parametrize("dataset", run_chapters.PHOTOGRAPHS)
def test_photographs_have_no_tables(dataset, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["tables", "--dataset", dataset])
    with pytest.raises(SystemExit):
        tables.main()
    assert "no photograph is one: choose a drawn data set." in " ".join(capsys.readouterr().err.split())


def test_one_seed_has_no_spread():
    assert tables.summary([{"scores": {"facts": 0.25}}]) == {"seeds": 1, "facts": 0.25}


def test_regression_is_sure_of_the_nearest_centroid_and_pays_for_the_distance():
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=9, hidden=8, heads=2, feed_forward=8, language_layers=1, visual_layers=1, cross_layers=1,
        positions=9, codes=5, feature_dim=3, answers=1,
    )  # fmt: skip
    model, cells = tables.Regression(config, torch.randn(5, 3)), torch.randn(7, 8)
    guess = model.code_feature(model.code_transform(cells))
    nearest = torch.cdist(guess, model.centroids).argmin(1)
    assert torch.equal(model.code_logits(cells).argmax(1), nearest)
    model.centroids[0] = guess[0].detach()
    assert model.code_losses(cells[:1], torch.tensor([0])).item() == pytest.approx(0, abs=1e-12)
    assert model.code_losses(cells[:1], torch.tensor([1])).item() > 0.01
    assert isinstance(model, XLxmert)


def test_a_blurred_picture_has_fewer_edges():
    sharp = np.tile(np.array([0, 255], np.uint8), 8)[None, None, :, None].repeat(3, -1)
    assert tables.edges(sharp) == 255
    assert tables.edges(np.full_like(sharp, 128)) == 0
