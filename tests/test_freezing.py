"""Painting takes the weights as they are: a change is seen, or waits for ``freeze`` where the book says so."""

import copy
from functools import partial

import pytest
import torch
from test_engine import FLAT, PLAIN, SENTENCE, sentences, shaken
from tiny import TEXTS, tiny_painter
from torch import nn

import xlxmert_core
from xlxmert_core import engine
from xlxmert_core.engine import Engine, EngineCache, for_gpu, graphs


def test_a_pipeline_paints_with_the_weights_of_the_moment():
    painter = xlxmert_core.load("storybook")
    before = painter.paint(SENTENCE, **PLAIN).codes
    with torch.no_grad():
        for value in painter.model.encoder.parameters():
            value.mul_(0.5)
    after = painter.paint(SENTENCE, **PLAIN).codes
    assert not torch.equal(before, after)
    again = xlxmert_core.Pipeline(painter.model, painter.tokenizer, painter.generator)
    assert torch.equal(after, again.paint(SENTENCE, **PLAIN).codes)


def from_a_vector(model):
    vector = nn.utils.parameters_to_vector(model.parameters())
    nn.utils.vector_to_parameters(2 * vector, model.parameters())


def permuted(model):
    with torch.no_grad():
        model.pooler.bias.copy_(model.pooler.bias.flip(0))


def loaded(model):
    model.load_state_dict({name: value / 2 for name, value in model.state_dict().items()})


def one_number(model):
    with torch.no_grad():
        model.encoder.language[0].attention.query.weight[0, 0] += 1


def trained(model, **options):
    for value in model.parameters():
        value.grad = torch.ones_like(value)
    torch.optim.AdamW(model.parameters(), lr=0.1, **options).step()


@pytest.fixture
def frozen(monkeypatch):
    """A model and its cache, frozen; the engine is what the text of a form says, with no graph to be made."""

    class Copy(Engine):
        def __init__(self, model, generator):
            super().__init__(model, graphs.forms(copy.deepcopy(model), generator, attend=graphs.plain))

    monkeypatch.setattr(engine, "onnx", Copy)
    kept, model = EngineCache(), shaken(FLAT)
    assert kept.of(model, None) is kept.of(model, None)
    return kept, model


@torch.no_grad()
def says(painter) -> torch.Tensor:
    return painter.encode_text(*sentences())


@pytest.mark.parametrize("change", [from_a_vector, permuted, loaded, one_number])
def test_a_change_that_is_counted_freezes_anew(change, frozen):
    kept, model = frozen
    before = kept.of(model, None)
    change(model)
    after = kept.of(model, None)
    assert after is not before and kept.of(model, None) is after
    assert torch.equal(says(after), says(model))


@pytest.mark.parametrize("fused", [False, True])
def test_a_model_in_training_paints_itself_until_it_is_frozen(fused, frozen):
    kept, model = frozen
    trained(model, fused=fused)
    assert kept.of(model, None) is model
    kept.freeze(model, None)
    assert kept.of(model, None) is not model and torch.equal(says(kept.of(model, None)), says(model))
    assert all(value.grad is None for value in model.parameters())


def test_a_change_that_nothing_counts_is_unseen_until_the_model_is_frozen(frozen):
    kept, model = frozen
    before = says(model)
    model.word_embedding.norm.weight.data.mul_(0.5)
    assert torch.equal(says(kept.of(model, None)), before) and not torch.equal(says(model), before)
    kept.freeze(model, None)
    assert torch.equal(says(kept.of(model, None)), says(model))


@pytest.mark.slow
def test_another_engine_may_be_chosen_and_is_kept():
    painter = tiny_painter().freeze(partial(for_gpu, backend="eager"))
    chosen = painter.engine
    assert isinstance(chosen, Engine) and painter.engine is chosen and chosen.match_logits.__self__ is not painter.model
    assert painter.paint(TEXTS, steps=2).images.shape == (2, 64, 64, 3)
    permuted(painter.model)
    assert painter.engine is not chosen and isinstance(painter.engine, Engine)


def test_a_pipeline_is_frozen_by_one_call():
    painter = tiny_painter()
    painter.model.word_embedding.norm.weight.grad = torch.ones(24)
    assert painter.freeze() is painter and painter.model.word_embedding.norm.weight.grad is None
