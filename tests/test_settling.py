"""A head that a softmax has taught is settled before sigmoids take each of its numbers by itself."""

import torch
from tiny import GRID, TEXTS, tiny_painter

from xlxmert_core.data.vqa import Question
from xlxmert_core.train import finetuning

ANSWERS = ["yes", "no", "red"]


def too_high():
    """A painter whose answers all stand ten above zero, which its softmax never noticed."""
    painter = tiny_painter()
    with torch.no_grad():
        painter.model.answer_head[-1].bias += 10
    return painter


def batch() -> dict:
    """Two questions about two pictures."""
    data = finetuning.FineTuningData.build(
        TEXTS, [[0], [1]], [{"yes": 1.0}, {"red": 1.0}], too_high().tokenizer, ANSWERS, 12
    )
    features = torch.randn(2, GRID**2, 10, generator=torch.Generator().manual_seed(0))
    return data.batch(torch.arange(2), lambda rows: features[rows])


def test_settling_moves_all_answers_alike_to_where_sigmoids_are_probabilities():
    objective = finetuning.Answering(too_high().model).eval()
    with torch.no_grad():
        before = objective.logits(batch())
        first, _ = objective(batch())
        objective.settle(batch())
        after = objective.logits(batch())
        second, _ = objective(batch())
    moved = before - after
    assert torch.allclose(moved, moved[0, 0].expand_as(moved), atol=1e-5)
    assert torch.allclose(after.logsumexp(1).mean(), torch.tensor(0.0), atol=1e-5)
    assert torch.allclose(after.exp(), before.softmax(1), atol=0.05)
    assert second < first / 5


def test_fine_tuning_begins_with_a_settled_head_and_leaves_the_painter_as_it_was():
    painter, features = too_high(), torch.randn(2, GRID**2, 10)
    asked = [Question(i, (i,), text, ("yes",), "yes") for i, text in enumerate(TEXTS)]
    bias = painter.model.answer_head[-1].bias.clone()
    _, history = finetuning.tune(painter, asked, [[0], [1]], lambda rows: features[rows], ANSWERS, 1, 2)
    assert history[0]["loss"] < 5  # two wrong answers at ten each would cost twenty
    assert torch.equal(painter.model.answer_head[-1].bias, bias)
