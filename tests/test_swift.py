"""The frozen painter against the plain model: the same codes, painted, repainted and doubted."""

import copy
import pickle
from dataclasses import replace

import pytest
import torch
from tiny import TEXTS, tiny_painter
from torch import nn

import xlxmert_core
from xlxmert_core import sampling
from xlxmert_core.config import ModelConfig
from xlxmert_core.model import XLxmert
from xlxmert_core.polish import cell_log_likelihood, polish
from xlxmert_core.swift import Int8, Kept, Packed, Swift, for_gpu, frozen, packed, swift

FLAT = ModelConfig(
    vocab_size=40, hidden=24, heads=3, feed_forward=40, language_layers=2, visual_layers=2,
    cross_layers=2, positions=16, codes=30, feature_dim=10, grid=4, answers=7,
)  # fmt: skip
PAIRS = replace(FLAT, colour_codes=5, colour_dim=4, mixture=3, learned_positions=True)


def shaken(config: ModelConfig) -> XLxmert:
    torch.manual_seed(0)
    model = XLxmert(config, torch.randn(config.codes, config.feature_dim)).eval()
    with torch.no_grad():
        for value in model.parameters():
            value += 0.3 * torch.randn(value.shape)
    return model


@pytest.fixture(params=[FLAT, PAIRS], ids=["flat", "pairs"])
def model(request) -> XLxmert:
    return shaken(request.param)


def sentences() -> tuple[torch.Tensor, torch.Tensor]:
    words = torch.randint(40, (3, 7), generator=torch.Generator().manual_seed(1))
    return words, torch.arange(7) < torch.tensor([7, 4, 2])[:, None]


@pytest.mark.parametrize("linear", [Packed, lambda part: part], ids=["packed", "plain"])
@torch.no_grad()
def test_says_what_the_plain_model_says(model, linear):
    swift, (words, mask) = Swift(model, linear), sentences()
    codes = torch.randint(30, (3, 16), generator=torch.Generator().manual_seed(2))
    text = model.encode_text(words, mask)
    torch.testing.assert_close(swift.encode_text(words, mask), text, rtol=0, atol=1e-5)
    for share in (0.4, 1.0):  # some cells masked, then the blank canvas, which is read ahead
        masked = torch.rand(3, 16, generator=torch.Generator().manual_seed(3)) < share
        want = model(words, mask, model.embed_codes(codes), masked, text=text).cells
        got = swift(words, mask, swift.embed_codes(codes), masked, text=text).cells
        torch.testing.assert_close(got, want, rtol=0, atol=1e-5)
        torch.testing.assert_close(swift.code_logits(got), model.code_logits(want), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", [sampling.mask_predict, sampling.easy_first, sampling.halton])
def test_paints_the_same_codes(model, order):
    options = {
        "steps": 5,
        "order": order,
        "temperature": 6.0,
        "guidance": 1.0,
        "uncond": tuple(t[:1] for t in sentences()),
    }
    plain, swift = (
        sampling.paint(painter, *sentences(), generator=torch.Generator().manual_seed(4), **options)
        for painter in (model, Swift(model))
    )
    assert torch.equal(plain, swift) and plain.unique().numel() > 5


def test_doubts_and_polishes_alike(model):
    codes = torch.randint(30, (3, 16), generator=torch.Generator().manual_seed(2))
    plain, swift = (cell_log_likelihood(painter, *sentences(), codes) for painter in (model, Swift(model)))
    torch.testing.assert_close(swift, plain, rtol=1e-4, atol=1e-4)
    assert torch.equal(polish(model, *sentences(), codes)[0], polish(Swift(model), *sentences(), codes)[0])


@torch.no_grad()
def test_int8_is_within_a_step_of_its_scales():
    torch.manual_seed(0)
    linear, x = nn.Linear(64, 48), torch.randn(2, 5, 64)
    x[0, 0] *= 100  # a row has a scale of its own, so one loud row costs the others nothing
    got, want = Int8(linear)(x), linear(x)
    assert got.shape == want.shape
    error = (got - want).norm(dim=-1) / want.norm(dim=-1)
    assert 0 < error.max() < 0.02
    assert torch.equal(Int8(linear)(torch.zeros(1, 64)), linear.bias[None])


def test_the_form_for_a_gpu_paints_as_bfloat16_does(model):
    half = Swift(copy.deepcopy(model).to(torch.bfloat16), linear=lambda part: part)
    plain, compiled = (
        sampling.paint(painter, *sentences(), temperature=6.0, generator=torch.Generator().manual_seed(4))
        for painter in (half, for_gpu(model, backend="eager"))
    )
    assert torch.equal(plain, compiled) and plain.unique().numel() > 5
    assert next(model.parameters()).dtype == torch.float32  # a copy was halved


@pytest.mark.parametrize(("intel", "width", "kept"), [(True, 511, True), (True, 512, False), (False, 4, False)])
def test_only_intel_keeps_small_matrices_as_they_are(monkeypatch, intel, width, kept):
    monkeypatch.setattr("xlxmert_core.swift.intel", lambda: intel)
    linear = nn.Linear(width, width)
    assert (packed(linear) is linear) is kept


def test_a_frozen_copy_shares_what_it_does_not_exchange(model):
    copy = frozen(model, Packed)
    assert copy.word_embedding.words.weight is model.word_embedding.words.weight
    assert isinstance(copy.encoder.visual[0].attention.query, Packed)
    assert isinstance(model.encoder.visual[0].attention.query, nn.Linear)
    assert not copy.training


def test_only_float32_on_the_processor_is_frozen():
    assert isinstance(swift(shaken(FLAT)), Swift)
    half = shaken(FLAT).half()
    assert swift(half) is half


def test_a_pipeline_paints_with_the_weights_of_the_moment():
    painter = xlxmert_core.load("storybook")
    options = {"steps": 4, "candidates": 1, "polish": 0}
    before = painter.paint("a large red house in the snow", **options).codes
    with torch.no_grad():
        for value in painter.model.encoder.parameters():
            value.mul_(0.5)
    after = painter.paint("a large red house in the snow", **options).codes
    assert not torch.equal(before, after)
    assert torch.equal(
        after,
        xlxmert_core.Pipeline(painter.model, painter.tokenizer, painter.generator)
        .paint("a large red house in the snow", **options)
        .codes,
    )


def data(model):
    for value in model.parameters():
        value.data.mul_(0.5)


def from_a_vector(model):
    vector = nn.utils.parameters_to_vector(model.parameters())
    nn.utils.vector_to_parameters(2 * vector, model.parameters())


def permuted(model):
    with torch.no_grad():
        model.pooler.bias.copy_(model.pooler.bias.flip(0))


def fused(model):
    for value in model.parameters():
        value.grad = torch.ones_like(value)
    torch.optim.AdamW(model.parameters(), lr=0.1, fused=True).step()


@pytest.mark.parametrize("change", [data, from_a_vector, permuted, fused])
def test_the_frozen_form_is_made_anew_however_the_weights_change(change):
    kept, model = Kept(), shaken(FLAT)
    before = kept.form(model)
    assert kept.form(model) is before
    change(model)
    after = kept.form(model)
    assert after is not before
    torch.testing.assert_close(after.table, Swift(model).table)


def test_a_frozen_form_is_calm_while_its_model_trains():
    model = shaken(replace(FLAT, dropout=0.5))
    calm = Swift(model).encode_text(*sentences())
    model.train()
    torch.testing.assert_close(Swift(model).encode_text(*sentences()), calm)
    assert model.word_embedding.training


@pytest.mark.parametrize("again", [copy.deepcopy, lambda painter: pickle.loads(pickle.dumps(painter))])
def test_a_pipeline_that_has_painted_can_be_copied(again):
    painter = tiny_painter()
    codes = painter.paint(TEXTS[0]).codes
    assert torch.equal(again(painter).paint(TEXTS[0]).codes, codes)


def test_a_pipeline_made_in_inference_mode_paints():
    with torch.inference_mode():
        painter = tiny_painter()
    assert torch.equal(painter.paint(TEXTS[0]).codes, tiny_painter().paint(TEXTS[0]).codes)
