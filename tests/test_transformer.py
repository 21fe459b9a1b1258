"""The encoders against Hugging Face's LxmertModel, and attention against its formula."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import LxmertConfig, LxmertModel

from xlxmert_core.checkpoints import load_state
from xlxmert_core.config import ModelConfig
from xlxmert_core.foreign.convert import from_lxmert
from xlxmert_core.model import XLxmert
from xlxmert_core.transformer import Attention, CrossLayer, Encoder, FeedForward, Layer

TINY = ModelConfig(
    vocab_size=40, hidden=24, heads=3, feed_forward=40, language_layers=2, visual_layers=1,
    cross_layers=2, positions=16, dropout=0.1, codes=11, feature_dim=10, grid=3, answers=7,
)  # fmt: skip


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def shake(module: torch.nn.Module, seed: int, size: float = 0.3) -> None:
    """Random values in every parameter, LayerNorms and biases too, so that no one can hide."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            value += size * torch.randn(value.shape, generator=generator)


def hugging_face(config: ModelConfig, size: float = 0.3) -> LxmertModel:
    """Their model of the same sizes, with random weights of about this size."""
    model = LxmertModel(
        LxmertConfig(
            vocab_size=config.vocab_size, hidden_size=config.hidden,
            num_attention_heads=config.heads, intermediate_size=config.feed_forward,
            l_layers=config.language_layers, r_layers=config.visual_layers,
            x_layers=config.cross_layers,
            max_position_embeddings=config.positions, visual_feat_dim=config.feature_dim,
        )
    ).eval()  # fmt: skip
    shake(model, seed=1, size=size)
    return model


HEADS = (
    "word_transform", "word_bias", "match_head", "code_", "answer_head", "mask_feature",
    "centroids",
)  # fmt: skip


def paired(config: ModelConfig, size: float = 0.3) -> tuple[LxmertModel, XLxmert]:
    theirs, ours = hugging_face(config, size), XLxmert(config).eval()
    load_state(ours, from_lxmert(theirs.state_dict()), optional=HEADS)
    return theirs, ours


def inputs(config: ModelConfig, lengths=(7, 4, 1)) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    rows, width = len(lengths), max(lengths)
    words = torch.randint(config.vocab_size, (rows, width), generator=generator)
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    features = torch.randn(rows, config.cells, config.feature_dim, generator=generator)
    boxes = torch.rand(rows, config.cells, 4, generator=generator)
    return words, mask, features, boxes


def largest_difference(theirs, ours) -> float:
    pairs = [
        (theirs.language_output, ours.words),
        (theirs.vision_output, ours.cells),
        (theirs.pooled_output, ours.pooled),
    ]
    assert all(a.shape == b.shape for a, b in pairs)
    return max((a - b).abs().max().item() for a, b in pairs)


@pytest.mark.parametrize("layers", [(2, 1, 2), (1, 3, 1), (0, 0, 1), (9, 5, 5)])
@pytest.mark.parametrize("hide_cells", [False, True])
@torch.no_grad()
def test_equals_hugging_face_on_a_padded_batch(layers, hide_cells):
    names = ("language_layers", "visual_layers", "cross_layers")
    config = replace(TINY, **dict(zip(names, layers, strict=True)))
    theirs, ours = paired(config)
    words, mask, features, boxes = inputs(config)
    real = torch.arange(config.cells) < torch.tensor([9, 5, 1])[:, None]  # [B, N]
    cell_mask = real if hide_cells else None
    want = theirs(words, features, boxes, mask.float(), cell_mask)
    got = ours(words, mask, features, boxes=boxes, cell_mask=cell_mask)
    assert largest_difference(want, got) <= 1e-5
    assert got.pooled.std() > 0.1  # not all the same by saturation


@pytest.mark.parametrize(("size", "dtype", "most"), [(0.1, torch.float32, 1e-5), (0.3, torch.float64, 1e-11)])
@torch.no_grad()
def test_equals_hugging_face_at_the_storybook_width_and_without_masks(size, dtype, most):
    """At this width weights of 0.3 saturate the softmax and amplify float32 rounding (theirs is
    3e-5 from its own float64), so the harsh weights are compared in float64, far more strictly."""
    config = replace(TINY, hidden=192, heads=6, feed_forward=768, grid=8)
    theirs, ours = (model.to(dtype) for model in paired(config, size))
    words, _, features, boxes = inputs(config, (16, 16))
    features, boxes = features.to(dtype), boxes.to(dtype)
    want = theirs(words, features, boxes)
    assert largest_difference(want, ours(words, None, features, boxes=boxes)) <= most


@torch.no_grad()
def test_padding_changes_nothing():
    ours = XLxmert(TINY).eval()
    shake(ours, seed=3)
    words, mask, features, _ = inputs(TINY)
    whole = ours(words, mask, features)
    alone = ours(words[1:2, :4], None, features[1:2])
    assert torch.allclose(whole.words[1, :4], alone.words[0], atol=1e-5)
    assert torch.allclose(whole.cells[1], alone.cells[0], atol=1e-5)
    assert torch.allclose(whole.pooled[1], alone.pooled[0], atol=1e-5)


def formula(attention: Attention, x: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
    """One head, one query at a time: LayerNorm(x + W_o concat_h softmax(q.k / sqrt(d)) v)."""
    q, k, v = attention.query(x), attention.key(context), attention.value(context)
    size = x.shape[-1] // attention.heads
    mixed = torch.zeros_like(x)
    for b in range(x.shape[0]):
        seen = range(context.shape[1]) if mask is None else mask[b].nonzero()[:, 0].tolist()
        for head in range(attention.heads):
            part = slice(head * size, (head + 1) * size)
            for i in range(x.shape[1]):
                scores = [(q[b, i, part] @ k[b, j, part]).item() / math.sqrt(size) for j in seen]
                total = sum(math.exp(s) for s in scores)
                for s, j in zip(scores, seen, strict=True):
                    mixed[b, i, part] += math.exp(s) / total * v[b, j, part]
    return attention.norm(x + attention.output(mixed))


@pytest.fixture
def attention() -> Attention:
    module = Attention(TINY).eval()
    shake(module, seed=4)
    return module


@pytest.mark.parametrize("masked", [False, True])
@torch.no_grad()
def test_attention_is_its_formula(attention, masked):
    x, context = torch.randn(2, 3, 24), torch.randn(2, 5, 24)
    seen = torch.tensor([[1, 1, 0, 0, 1], [0, 1, 1, 1, 1]]).bool() if masked else None
    mask = seen[:, None, None] if masked else None
    want = formula(attention, x, context, seen)
    assert torch.allclose(attention(x, context, mask), want, atol=1e-5)
    again, weights = attention(x, context, mask, return_weights=True)
    assert torch.allclose(again, want, atol=1e-5)
    assert weights.shape == (2, 3, 3, 5)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 3, 3))
    if masked:
        assert weights[0, :, :, 2:4].abs().max() == 0 and weights[1, :, :, 0].abs().max() == 0


@pytest.mark.parametrize("training", [False, True])
def test_a_row_that_may_look_nowhere_is_finite_and_only_its_residual(attention, training):
    attention.train(training)
    x, context = torch.randn(2, 3, 24, requires_grad=True), torch.randn(2, 5, 24)
    mask = torch.tensor([[False] * 5, [True] * 5])[:, None, None]
    out = attention(x, context, mask)
    out.sum().backward()
    assert out.isfinite().all() and x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in attention.parameters())
    if not training:
        blind = attention.norm(x + attention.output.bias)
        assert torch.allclose(out[0], blind[0], atol=1e-6)
        assert torch.allclose(attention(x, context, mask, return_weights=True)[0], out, atol=1e-5)


@torch.no_grad()
def test_feed_forward_uses_the_exact_gelu():
    block = FeedForward(TINY).eval()
    shake(block, seed=5)
    x = 2 * torch.randn(3, 24)
    wide = block.expand(x)
    exact = wide * (1 + torch.erf(wide / math.sqrt(2))) / 2
    assert torch.allclose(block(x), block.norm(x + block.contract(exact)), atol=1e-5)
    tanh = torch.nn.functional.gelu(wide, approximate="tanh")
    assert not torch.allclose(block(x), block.norm(x + block.contract(tanh)), atol=1e-5)


@torch.no_grad()
def test_cross_layer_shares_one_attention_and_reads_its_inputs():
    layer = CrossLayer(TINY).eval()
    shake(layer, seed=6)
    words, cells = torch.randn(2, 4, 24), torch.randn(2, 9, 24)
    new_words, new_cells = layer(words, cells, None, None)
    assert torch.equal(new_words, layer.words(layer.cross(words, cells)))
    assert torch.equal(new_cells, layer.cells(layer.cross(cells, words)))
    swapped = layer.cross(cells, layer.cross(words, cells))  # the trap: cells see fresh words
    assert not torch.allclose(new_cells, layer.cells(swapped), atol=1e-3)
    assert sum(isinstance(m, Attention) for m in layer.modules()) == 3
    assert sum(isinstance(m, Layer) for m in layer.modules()) == 2


@torch.no_grad()
def test_language_layers_do_not_see_cells_and_cells_feel_words():
    encoder = Encoder(TINY).eval()
    words, cells = torch.randn(1, 4, 24), torch.randn(1, 9, 24)
    text = encoder.read_words(words)
    one, other = encoder(text, cells), encoder(text, cells + 1)
    assert not torch.allclose(one[0], other[0], atol=1e-4)
    assert not torch.allclose(one[1], encoder(text + 1, cells)[1], atol=1e-4)


def test_dropout_is_active_in_training_only():
    encoder = Encoder(TINY)
    words = torch.randn(1, 4, 24)
    encoder.train()
    assert not torch.equal(encoder.read_words(words), encoder.read_words(words))
    encoder.eval()
    assert torch.equal(encoder.read_words(words), encoder.read_words(words))
