"""X-UNITER, a single stream: layer for layer Hugging Face's BERT, as large as LXMERT, and able to do what it can."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_convert_bert import SMALL, bert, saved  # noqa: F401
from test_engine import FLAT, MANY, PAIRS, PLAIN, sentences, shaken
from test_pretraining import EXAMPLES, TOKENIZER, draw
from test_pretraining import TINY as PRETRAINED
from tiny import TEXTS, tiny_painter
from transformers import BertConfig, BertModel

import xlxmert_core
from xlxmert_core.captioning import write_caption
from xlxmert_core.config import ModelConfig, paper, single_stream, storybook
from xlxmert_core.engine import Engine, graphs, onnx
from xlxmert_core.foreign.convert import initialise_from_bert
from xlxmert_core.model import PairClassifier, XLxmert
from xlxmert_core.paintbox.attention import cross_attention
from xlxmert_core.train.optimisers import only_last
from xlxmert_core.train.pretraining import TASKS, PairedText, Pretraining
from xlxmert_core.transformer import Encoder, in_one

LAYER = {  # Hugging Face's name -> ours
    "attention.self.query": "attention.query", "attention.self.key": "attention.key",
    "attention.self.value": "attention.value", "attention.output.dense": "attention.output",
    "attention.output.LayerNorm": "attention.norm", "intermediate.dense": "feed_forward.expand",
    "output.dense": "feed_forward.contract", "output.LayerNorm": "feed_forward.norm",
}  # fmt: skip


def theirs_of(encoder: Encoder, config: ModelConfig) -> BertModel:
    """Hugging Face's BERT with the weights of our layers."""
    model = BertModel(BertConfig(
        vocab_size=9, hidden_size=config.hidden, num_attention_heads=config.heads,
        intermediate_size=config.feed_forward, num_hidden_layers=config.single_layers, attn_implementation="eager",
    ), add_pooling_layer=False).eval()  # fmt: skip
    names = {f"{i}.{a}.{end}": f"single.{i}.{b}.{end}" for i in range(config.single_layers)
             for a, b in LAYER.items() for end in ("weight", "bias")}  # fmt: skip
    ours = encoder.state_dict()
    assert set(names.values()) == set(ours)
    model.encoder.layer.load_state_dict({there: ours[here] for there, here in names.items()})
    return model


@pytest.mark.parametrize(("layers", "hidden", "heads"), [(1, 24, 3), (4, 24, 3), (3, 128, 4)])
@pytest.mark.parametrize("hide", ["nothing", "words", "words and cells"])
@torch.no_grad()
def test_equals_hugging_faces_bert(layers, hidden, heads, hide):
    torch.manual_seed(0)
    config = replace(single_stream(FLAT), single_layers=layers, hidden=hidden, heads=heads)
    ours = Encoder(config).eval()
    for value in ours.parameters():
        value += 0.1 * torch.randn(value.shape)
    words, cells = torch.randn(3, 7, hidden), torch.randn(3, 16, hidden)
    word_mask = None if hide == "nothing" else torch.arange(7) < torch.tensor([7, 4, 1])[:, None]
    cell_mask = torch.arange(16) < torch.tensor([16, 5, 1])[:, None] if hide == "words and cells" else None
    both, mask = in_one(words, cells, word_mask, cell_mask)
    assert both.shape == (3, 23, hidden) and mask.dtype == torch.bool
    assert mask.sum() == {"nothing": 69, "words": 12 + 48, "words and cells": 12 + 22}[hide]
    want = (
        theirs_of(ours, config)
        .encoder(both, attention_mask=torch.where(mask, 0.0, -1e30)[:, None, None])
        .last_hidden_state
    )
    read, seen = ours(ours.read_words(words, word_mask), cells, word_mask, cell_mask)
    assert torch.equal(ours.read_words(words, word_mask), words)  # no layer reads words alone
    assert (torch.cat([read, seen], 1) - want).abs().max() <= 1e-5
    assert want.std() > 0.1


def size(config: ModelConfig) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in Encoder(config).parameters())


@pytest.mark.parametrize(("config", "layers", "most"), [(paper(), 26, 0.014), (storybook(), 10, 0.0004)])
def test_it_has_as_many_parameters_as_lxmert(config, layers, most):
    single = single_stream(config)
    wanted, got = size(config), size(single)
    assert single.single_layers == layers and abs(got / wanted - 1) < most
    for other in (layers - 1, layers + 1):
        assert abs(size(replace(single, single_layers=other)) - wanted) > abs(got - wanted)
    assert replace(single, single_layers=0) == replace(config, language_layers=0, visual_layers=0, cross_layers=0)
    assert single_stream(single) == single


@pytest.fixture
def painter() -> xlxmert_core.Pipeline:
    """The tiny painter with a single stream; its plain model paints."""
    made = tiny_painter()
    torch.manual_seed(1)
    model = XLxmert(single_stream(made.model.config), made.model.centroids)
    with torch.no_grad():
        for value in (*model.encoder.parameters(), *model.word_embedding.parameters()):
            value += 0.3 * torch.randn(value.shape)
    return xlxmert_core.Pipeline(model, made.tokenizer, made.generator, made.encoder, made.answers)


def test_it_paints_repaints_captions_and_answers(painter, tmp_path):
    painting = painter.paint(TEXTS, steps=3, guidance=1.0, candidates=2, polish=1)
    assert painting.codes.shape == (2, 16) and painting.images.shape == (2, 64, 64, 3)
    mask = np.zeros((4, 4), bool)
    mask[:2] = True
    again = painter.repaint(painting.codes, mask, TEXTS[::-1], steps=2, temperature=3.0)
    assert torch.equal(again.codes[:, 8:], painting.codes[:, 8:]) and not torch.equal(again.codes, painting.codes)
    questions = ["red", "house at night"]
    lines, answers = painter.caption(painting.images), painter.answer(painting.images, questions)
    assert all(line.split() for line in lines) and set(answers) <= {"yes", "no", "red"}
    hidden, features = torch.from_numpy(mask).flatten().expand(2, -1), painter.model.embed_codes(painting.codes)
    scores = [write_caption(painter.model, painter.tokenizer, features, [4], hidden=h)[1] for h in (None, hidden)]
    assert (scores[0] - scores[1]).abs().min() > 1e-4  # what is described is what can be seen
    painter.save(tmp_path)
    opened = xlxmert_core.load(tmp_path)
    assert opened.model.config == painter.model.config and opened.model.config.single_layers == 7
    assert torch.equal(opened.paint(TEXTS, **PLAIN).codes, painter.paint(TEXTS, **PLAIN).codes)
    assert (
        opened.caption(painting.images) == lines
        and opened.answer(painting.images, ["red", "house at night"]) == answers
    )


@torch.no_grad()
def test_its_words_are_embedded_once_and_read_at_every_step(painter):
    model, calls = painter.model, []
    model.word_embedding.register_forward_hook(lambda *_: calls.append("embedded"))
    model.encoder.single[0].register_forward_hook(lambda _, given, __: calls.append(given[0].shape[1]))
    painter.paint(TEXTS[0], steps=3, candidates=1, polish=0)
    length = int(painter.tokenizer.encode([TEXTS[0]], 12)[1].sum())
    assert calls == ["embedded", *[length + 16] * 3]


@torch.no_grad()
def test_words_and_cells_feel_each_other_and_padding_is_not_felt():
    model, (words, mask) = shaken(single_stream(FLAT)), sentences()
    features = torch.randn(3, 16, 10)
    before = model(words, mask, features)
    other = model(words, mask, features + torch.eye(16, 10))
    assert (before.words - other.words)[mask].abs().min() > 0
    changed = words.clone()
    changed[:, 0] = (words[:, 0] + 1) % 40
    assert (model(changed, mask, features).cells - before.cells).abs().amax(2).min() > 0
    padded = torch.where(mask, words, (words + 1) % 40)
    assert torch.allclose(model(padded, mask, features).cells, before.cells, atol=1e-6)


def test_all_three_losses_reach_every_layer():
    torch.manual_seed(0)
    codes = torch.arange(24).view(6, 4)
    data = PairedText.build(EXAMPLES, range(100, 106), codes, TOKENIZER, ["yes", "no", "maybe"], 12)
    model = XLxmert(single_stream(PRETRAINED), torch.randn(24, 10))
    for task in TASKS:
        model.zero_grad()
        objective = Pretraining(model)
        loss, _ = objective(draw(data, task, batch=32))
        loss.backward()
        assert all(p.grad.abs().sum() > 0 for n, p in model.encoder.named_parameters() if "key.bias" not in n), task


def test_a_few_steps_lower_the_loss():
    """Words name codes; it learns to copy them into hidden cells."""
    torch.manual_seed(0)
    config = replace(single_stream(FLAT), single_layers=2, dropout=0.0)
    model = XLxmert(config, torch.randn(30, 10))
    optimiser, losses = torch.optim.Adam(model.parameters(), 3e-3), []
    for _ in range(60):
        words = torch.randint(5, (32, 16))
        cells = model(words, None, torch.zeros(32, 16, 10), torch.ones(32, 16, dtype=torch.bool)).cells
        loss = F.cross_entropy(model.code_logits(cells).flatten(0, 1), words.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@torch.no_grad()
def test_pairs_of_pictures_are_judged():
    model = shaken(single_stream(FLAT))
    pairs, (words, mask) = PairClassifier(model).eval(), sentences()
    left, right = torch.randn(2, 3, 16, 10)
    found = pairs(words, mask, left, right)
    assert found.shape == (3, 2) and not torch.allclose(found, pairs(words, mask, right, left), atol=1e-5)


@torch.no_grad()
def test_where_words_look_are_shares_of_the_cells():
    model, (words, mask) = shaken(single_stream(FLAT)), sentences()
    features = torch.randn(3, 16, 10)
    seen = cross_attention(model, words, mask, features)
    assert seen.shape == (model.config.single_layers, 3, 3, 7, 16)
    assert torch.allclose(seen.sum(-1), torch.ones(seen.shape[:-1]), atol=1e-5)
    both, joint = in_one(model.encode_text(words), model.cell_embedding(features, model.boxes()), mask)
    first = model.encoder.single[0].attention
    weights = first(both, both, joint[:, None, None], return_weights=True)[1][:, :, :7, 7:]
    assert torch.allclose(seen[0], (weights / weights.sum(-1, keepdim=True)).transpose(0, 1), atol=1e-6)


def test_only_its_last_layers_learn():
    model = only_last(XLxmert(replace(single_stream(FLAT), single_layers=3)), 1)
    layers = {n.split(".")[2] for n, p in model.named_parameters() if n.startswith("encoder.") and p.requires_grad}
    assert layers == {"2"}
    with pytest.raises(ValueError, match="layers must be a whole number from 0 to 3"):
        only_last(model, 4)


@pytest.mark.filterwarnings("ignore:Left out")
@pytest.mark.parametrize("layers", [2, 6])
@torch.no_grad()
def test_its_layers_start_from_berts(bert, tmp_path, layers):  # noqa: F811
    model = XLxmert(replace(single_stream(SMALL), single_layers=layers)).eval()
    random = initialise_from_bert(model, saved(bert, tmp_path, "safetensors"))
    words = torch.randint(40, (3, 9))
    want, x = bert.bert(words, output_hidden_states=True).hidden_states, model.encode_text(words)
    for layer, there in zip(model.encoder.single, want[1:], strict=False):
        x = layer(x)
        assert (x - there).abs().max() <= 1e-5
    assert {int(n.split(".")[2]) for n in random if n.startswith("encoder.")} == set(range(4, layers))


@pytest.mark.slow
@pytest.mark.parametrize("config", [FLAT, pytest.param(PAIRS, marks=pytest.mark.nightly),
                                    pytest.param(MANY, marks=pytest.mark.nightly)])  # fmt: skip
@torch.no_grad()
def test_the_engine_says_what_the_plain_model_says(config, tmp_path):
    model = shaken(single_stream(config))
    assert onnx(model, folder=tmp_path) is None
    graphs.export(model, folder=tmp_path)
    fast, (words, mask) = onnx(model, folder=tmp_path), sentences()
    assert isinstance(fast, Engine)
    codes = torch.randint(30, (3, 16))
    masked = torch.rand(3, 16) < 0.5
    want = model(words, mask, model.embed_codes(codes), masked)
    got = fast(words, mask, codes, masked, text=fast.encode_text(words, mask))
    torch.testing.assert_close(got.cells, want.cells, rtol=0, atol=1e-5)
    torch.testing.assert_close(got.pooled, want.pooled, rtol=0, atol=1e-5)


def test_a_graph_of_lxmert_keeps_its_name():
    """Graphs that were exported before there was a single stream go on serving."""
    names = {graphs.graph_path(name, shaken(FLAT), None, False).name for name in ("text", "cells", "head")}
    single = {graphs.graph_path(name, shaken(single_stream(FLAT)), None, False).name for name in ("text", "cells")}
    assert not names & single and len(names | single) == 5
