"""Second thoughts: likelihoods are those of hidden cells, and only doubtful corners of a painting change."""

import pytest
import torch

from xlxmert_core.polish import DOUBT, cell_log_likelihood, polish

GRID, CODES = 4, 5
WORDS, MASK = torch.tensor([[1, 2, 3], [1, 2, 3]]), torch.ones(2, 3, dtype=torch.bool)


class Config:
    grid, cells = GRID, GRID * GRID


class Stripes:
    """A model that knows one truth: the code of a cell is its row; a hidden cell is sure of it.

    It sees codes as their own features, and remembers which cells it was shown.
    """

    config = Config

    def __init__(self):
        self.hidden = []

    def encode_text(self, words, word_mask):
        return words[..., None].float()

    def embed_codes(self, codes):
        return codes[..., None].float()

    def __call__(self, words, word_mask, features, masked, text=None):
        self.hidden.append(masked.clone())
        rows = torch.arange(Config.cells) // GRID
        cells = rows.expand(len(words), -1)[..., None].float()
        return type("Out", (), {"cells": cells})

    def likely_codes(self, cells):
        return None

    def code_logits(self, cells, codes=None):
        return 10.0 * (cells == torch.arange(CODES)).float()

    def code_losses(self, cells, codes):
        return torch.nn.functional.cross_entropy(self.code_logits(cells), codes, reduction="none")


TRUTH = (torch.arange(16) // GRID).repeat(2, 1)


def test_each_cell_is_hidden_once_and_never_with_a_neighbour():
    model = Stripes()
    logs = cell_log_likelihood(model, WORDS, MASK, TRUTH)
    assert torch.stack(model.hidden).sum(0).eq(1).all() and len(model.hidden) == 4
    for hidden in model.hidden:
        grid = hidden[0].view(GRID, GRID)
        assert not (grid[:, 1:] & grid[:, :-1]).any() and not (grid[1:] & grid[:-1]).any()
    right = torch.tensor([10.0, 0, 0, 0, 0]).log_softmax(0)[0]
    assert torch.allclose(logs, right.expand(2, 16))


def test_wrong_cells_are_found_and_mended_and_the_rest_is_not_touched():
    codes = TRUTH.clone()
    codes[0, 5], codes[1, 15] = 4, 0
    logs = cell_log_likelihood(Stripes(), WORDS, MASK, codes)
    assert ((logs < DOUBT) == (codes != TRUTH)).all()
    steps = []
    assert torch.equal(polish(Stripes(), WORDS, MASK, codes, callback=steps.append)[0], TRUTH)
    written = torch.stack([step["written"] for step in steps]).any(0)
    near = torch.tensor([0, 1, 2, 4, 5, 6, 8, 9, 10])
    assert written[0].nonzero().flatten().tolist() == near.tolist()


def test_cells_outside_the_brush_stay_bit_for_bit():
    codes = TRUTH.clone()
    codes[0, 5] = 4
    editable = torch.zeros(2, 16, dtype=torch.bool)
    editable[:, 8:] = True
    assert torch.equal(polish(Stripes(), WORDS, MASK, codes, editable)[0], codes)


@pytest.mark.parametrize("rounds", [0, 2])
def test_a_painting_without_doubts_stays_as_it_is(rounds):
    assert torch.equal(polish(Stripes(), WORDS, MASK, TRUTH, rounds=rounds)[0], TRUTH)


def test_only_doubtful_rows_are_painted_and_watched_among_all():
    codes = TRUTH.clone()
    codes[1, 15] = 0
    model, steps = Stripes(), []
    mended, settled = polish(model, WORDS, MASK, codes, callback=steps.append)
    assert torch.equal(mended, TRUTH) and settled.tolist() == [True, False]  # that the mended row is well is not asked
    assert [len(hidden) for hidden in model.hidden] == [2] * 4 + [1] * 4
    assert all(step["codes"].shape == (2, 16) and not step["written"][0].any() for step in steps)
    assert torch.equal(steps[-1]["codes"], mended) and torch.equal(steps[-1]["confidence"][0], torch.ones(16))
    assert polish(model, WORDS, MASK, mended)[1].all()
