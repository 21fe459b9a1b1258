"""The engine against the plain model: the same codes, painted, repainted and doubted; and where it comes from."""

import copy
import pickle
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import TEXTS, tiny_painter
from torch import nn

import xlxmert_core
from xlxmert_core import sampling
from xlxmert_core.config import ModelConfig
from xlxmert_core.data import storybook
from xlxmert_core.data.arrays import product_table
from xlxmert_core.engine import Engine, alone, for_gpu, graphs, onnx
from xlxmert_core.folder import SHIPPED, shipped_names
from xlxmert_core.generator import TAPS
from xlxmert_core.model import XLxmert
from xlxmert_core.polish import cell_log_likelihood, polish

FLAT = ModelConfig(
    vocab_size=40, hidden=24, heads=3, feed_forward=40, language_layers=1, visual_layers=1,
    cross_layers=1, positions=16, codes=30, feature_dim=10, grid=4, answers=7,
)  # fmt: skip
PAIRS = replace(FLAT, colour_codes=5, colour_dim=4, mixture=3, learned_positions=True, neighbours=True)
MANY = replace(FLAT, codes=40 * 110, colour_codes=40, colour_dim=4, mixture=2)  # of which 96 x 40 are spelt out
PLAIN = {"steps": 4, "candidates": 1, "polish": 0}
SENTENCE = "a large red house in the snow"


def shaken(config: ModelConfig) -> XLxmert:
    torch.manual_seed(0)
    codes, width = torch.randn(config.codes, config.feature_dim), config.colour_dim
    if config.colour_codes:  # a code is a shape and a colour
        shapes, colours = codes[:: config.colour_codes, :-width], codes[: config.colour_codes, -width:]
        codes = product_table(shapes, colours)
    model = XLxmert(config, codes).eval()
    with torch.no_grad():
        for value in model.parameters():
            value += 0.3 * torch.randn(value.shape)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The graphs of the small flat model."""
    folder = tmp_path_factory.mktemp("graphs")
    graphs.export(shaken(FLAT), folder=folder)
    return folder


def quick(model: XLxmert, folder) -> Engine:
    """Its engine; what is not in the folder yet is exported."""
    if onnx(model, folder=folder) is None:
        graphs.export(model, folder=folder)
    return onnx(model, folder=folder)


@pytest.fixture(params=[FLAT, pytest.param(PAIRS, marks=pytest.mark.nightly), MANY], ids=["flat", "pairs", "many"])
def model(request) -> XLxmert:
    return shaken(request.param)


def sentences(batch: int = 3, length: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    words = torch.randint(40, (batch, length), generator=torch.Generator().manual_seed(1))
    return words, torch.arange(length) < torch.tensor([length, 4, 2])[:batch, None]


@pytest.mark.parametrize(("batch", "length"), [(1, 2), (1, 7), (3, 7), (3, 16)])
@torch.no_grad()
@pytest.mark.slow
def test_says_what_the_plain_model_says(model, folder, batch, length):
    fast, (words, mask) = quick(model, folder), sentences(batch, length)
    codes = torch.randint(30, (batch, 16), generator=torch.Generator().manual_seed(2))
    text = model.encode_text(words, mask)
    torch.testing.assert_close(fast.encode_text(words, mask)[mask], text[mask], rtol=0, atol=1e-5)
    for share in (0.0, 0.4, 1.0):
        masked = torch.rand(batch, 16, generator=torch.Generator().manual_seed(3)) < share
        want = model(words, mask, model.embed_codes(codes), masked, text=text)
        got = fast(words, mask, fast.embed_codes(codes), masked, text=text)
        torch.testing.assert_close(got.cells, want.cells, rtol=0, atol=1e-5)
        torch.testing.assert_close(got.pooled, want.pooled, rtol=0, atol=1e-5)
        cells = want.cells.flatten(0, 1)
        torch.testing.assert_close(fast.code_logits(cells), model.code_logits(cells), rtol=1e-4, atol=1e-4)
        same_likely_codes(fast, model, cells)
    torch.testing.assert_close(fast(words, mask, codes).pooled, model(words, mask, model.embed_codes(codes)).pooled,
                               rtol=0, atol=1e-5)  # fmt: skip


def same_likely_codes(fast, model, cells) -> None:
    """The head's own, those of a model without a head, and of other cells than the head was asked about."""
    names, wanted = fast.likely_codes(cells), model.likely_codes(cells)
    assert (names is None) == (wanted is None) == model.few_codes
    if names is not None:
        assert torch.equal(names, wanted) and names.shape[1] < model.config.codes
        whole = model.code_logits(cells)
        for asked, logits in ((cells, whole), (cells.flip(0), whole.flip(0))):
            got = fast.code_logits(asked, names)
            torch.testing.assert_close(got, logits.gather(1, names), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", [sampling.mask_predict, sampling.easy_first, sampling.halton])
@pytest.mark.slow
def test_paints_the_same_codes(model, folder, order):
    guided = {"guidance": 1.0, "uncond": tuple(t[:1] for t in sentences())}
    options = {"steps": 5, "order": order, "temperature": 6.0} | guided
    plain, fast = (
        sampling.paint(painter, *sentences(), generator=torch.Generator().manual_seed(4), **options)
        for painter in (model, quick(model, folder))
    )
    assert torch.equal(plain, fast) and plain.unique().numel() > 5


@pytest.mark.slow
def test_doubts_and_polishes_alike(model, folder):
    fast, codes = quick(model, folder), torch.randint(30, (3, 16), generator=torch.Generator().manual_seed(2))
    plain, found = (cell_log_likelihood(painter, *sentences(), codes) for painter in (model, fast))
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4)
    assert torch.equal(polish(model, *sentences(), codes)[0], polish(fast, *sentences(), codes)[0])


@pytest.fixture(scope="module")
def painter():
    return xlxmert_core.load("storybook")


@pytest.fixture(scope="module", params=[25, pytest.param(100, marks=pytest.mark.nightly)])
def texts(request) -> list[str]:
    """Sentences about scenes that no training has seen."""
    scenes = storybook.sample_splits({"train": 0, "val": 0, "test": request.param, "composition": 0}, 0)["test"]
    return [storybook.captions(scene, np.random.default_rng(n), 1)[0].text for n, scene in scenes.items()]


def greedy(painter, model, texts: list[str]) -> torch.Tensor:
    given = painter.tokenizer.encode(texts, painter.model.config.max_words)
    return sampling.paint(model, *given, steps=16, order=sampling.halton, schedule=sampling.cosine)


@pytest.mark.slow
def test_the_shipped_painter_paints_with_the_plain_models_codes_and_pixels(painter, texts):
    fast = painter.engine
    assert isinstance(fast, Engine)
    codes = greedy(painter, fast, texts)
    assert torch.equal(codes, greedy(painter, painter.model, texts))
    some, plain = codes[:20], graphs.Picture(painter.generator, painter.model)
    with torch.inference_mode():
        apart = (painter.engine.picture(some) - plain(some)).abs().max()
    assert 0 < apart < 2 * 2 / 255  # pictures go from -1 to 1
    torch.testing.assert_close(painter.match(texts[:9], codes[:9]),
                               matches(painter, texts[:9], codes[:9]), rtol=0, atol=1e-4)  # fmt: skip


@torch.inference_mode()
def matches(painter, texts, codes) -> torch.Tensor:
    """What the plain model thinks of the pairs."""
    model = painter.model
    pooled = model(*painter.tokenizer.encode(texts, model.config.max_words), model.embed_codes(codes)).pooled
    return model.match_logits(pooled).softmax(-1)[:, 1]


@pytest.mark.nightly
def test_int8_paints_nearly_the_same_codes(painter, texts, tmp_path):
    graphs.export(painter.model, folder=tmp_path, int8=True)
    some = texts[:25]
    rounded = greedy(painter, onnx(painter.model, folder=tmp_path, int8=True), some)
    share = (rounded == greedy(painter, painter.engine, some)).float().mean()
    assert 0.95 <= share < 1


@torch.no_grad()
@pytest.mark.nightly
def test_int8_is_near_and_a_loud_row_costs_the_others_nothing(folder):
    model, (words, mask) = shaken(FLAT), sentences()
    graphs.export(model, folder=folder, int8=True)
    rounded, fast = onnx(model, folder=folder, int8=True), onnx(model, folder=folder)
    codes = torch.arange(16).expand(3, 16)
    want, got = (one(words, mask, codes).cells for one in (fast, rounded))
    error = (got - want).norm(dim=-1) / want.norm(dim=-1)
    assert 0 < error.mean() < 0.1


def test_an_int8_copy_shares_what_it_does_not_exchange():
    model = shaken(FLAT)
    copied = graphs.in_int8(model)
    assert copied.word_embedding.words.weight is model.word_embedding.words.weight
    assert isinstance(copied.encoder.visual[0].attention.query, graphs.Int8)
    assert isinstance(model.encoder.visual[0].attention.query, nn.Linear)


def test_the_form_for_a_gpu_paints_as_bfloat16_does(model):
    half = copy.deepcopy(model).to(torch.bfloat16)
    plain, compiled = (
        sampling.paint(painter, *sentences(), temperature=6.0, generator=torch.Generator().manual_seed(4))
        for painter in (Engine(half, graphs.forms(half, attend=graphs.plain)), for_gpu(model, backend="eager"))
    )
    assert torch.equal(plain, compiled) and plain.unique().numel() > 5
    assert next(model.parameters()).dtype == torch.float32  # a copy was halved


# --- Where it comes from, and when there is none. ----------------------------------------------------


@pytest.mark.slow
def test_one_graph_serves_all_weights_of_its_sizes_and_no_others(folder):
    other = XLxmert(FLAT, torch.randn(30, 10)).eval()
    with torch.no_grad():
        want = other.encode_text(*sentences())
    torch.testing.assert_close(onnx(other, folder=folder).encode_text(*sentences()), want, rtol=0, atol=1e-5)
    assert onnx(shaken(replace(FLAT, codes=31)), folder=folder) is None
    assert onnx(shaken(replace(FLAT, cross_layers=2)), folder=folder) is None


@pytest.mark.slow
def test_graphs_hold_no_weights_and_name_no_folder(folder):
    found = [*folder.glob("*.graph"), *graphs.SHIPPED.iterdir()]
    assert len(found) >= 3 + 4
    for path in found:
        assert path.stat().st_size < 100_000
        assert b"site-packages" not in path.read_bytes() and str(folder).encode() not in path.read_bytes()


def painters() -> list[xlxmert_core.Pipeline]:
    return [xlxmert_core.load(SHIPPED / name) for name in shipped_names()]


def test_the_shipped_graphs_are_those_of_the_shipped_painters():
    """A new setting of a configuration leaves a graph its name: else the plain model would paint in its place."""
    names = {graphs.graph_path(name, p.model, p.generator, False) for p in painters() for name in graphs.OUTPUTS}
    assert names == {*graphs.SHIPPED.iterdir()}
    ends = tiny_painter(squash=True).generator, tiny_painter(squash=False).generator
    assert len({graphs.graph_path("picture", painters()[0].model, generator, False) for generator in ends}) == 2


@pytest.mark.nightly
@pytest.mark.parametrize("squash", [True, False])
def test_a_graph_of_the_users_own_is_found_in_the_cache(tmp_path, monkeypatch, squash):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    painter = tiny_painter(squash=squash)
    plain = painter.paint(TEXTS[0])
    assert painter.engine is painter.model
    written = graphs.export(painter.model, painter.generator)
    assert {path.parent for path in written} == {tmp_path / "xlxmert_core" / "graphs"}
    fast = xlxmert_core.Pipeline(painter.model, painter.tokenizer, painter.generator)
    assert isinstance(fast.engine, Engine)
    found = fast.paint(TEXTS[0])
    assert torch.equal(found.codes, plain.codes)
    assert np.abs(found.images.astype(int) - plain.images.astype(int)).max() <= 2


def test_without_onnx_runtime_the_plain_model_paints(painter, monkeypatch):
    fast = painter.paint(SENTENCE, **PLAIN)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    slow = xlxmert_core.Pipeline(painter.model, painter.tokenizer, painter.generator)
    assert slow.engine is slow.model
    assert torch.equal(slow.paint(SENTENCE, **PLAIN).codes, fast.codes)


@pytest.mark.slow
def test_only_float32_on_the_processor_has_an_engine(folder):
    assert onnx(shaken(FLAT).double(), folder=folder) is None
    assert onnx(XLxmert(FLAT).to("meta"), folder=folder) is None


def test_a_damaged_graph_is_named(tmp_path):
    model = shaken(FLAT)
    for name in ("text", "cells", "head"):
        graphs.graph_path(name, model, None, False, tmp_path).write_bytes(b'["nothing"]\nat all')
    with pytest.raises(ValueError, match=r"text-\w+\.graph is no graph of this model .*: remove it\."):
        onnx(model, folder=tmp_path).encode_text(*sentences())


@pytest.mark.slow
def test_torch_has_its_threads_again_whatever_happens(folder):
    before = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt), alone(onnx(shaken(FLAT), folder=folder)):
        assert torch.get_num_threads() == 1
        raise KeyboardInterrupt
    assert torch.get_num_threads() == before
    with alone(shaken(FLAT)):
        assert torch.get_num_threads() == before


@pytest.mark.nightly
def test_the_shipped_graphs_are_those_that_an_export_makes(tmp_path):
    made = []
    for p in painters():
        TAPS.clear()
        made += graphs.export(p.model, p.generator, tmp_path)
    assert {path.name: path.read_bytes() for path in made} == {p.name: p.read_bytes() for p in graphs.SHIPPED.iterdir()}


@pytest.mark.parametrize("again", [copy.deepcopy, lambda painter: pickle.loads(pickle.dumps(painter))])
def test_a_pipeline_that_has_painted_can_be_copied(again):
    painter = xlxmert_core.load("storybook")
    codes = painter.paint(SENTENCE, **PLAIN).codes
    assert torch.equal(again(painter).paint(SENTENCE, **PLAIN).codes, codes)


def test_a_pipeline_made_in_inference_mode_paints():
    with torch.inference_mode():
        painter = tiny_painter()
    assert torch.equal(painter.paint(TEXTS[0]).codes, tiny_painter().paint(TEXTS[0]).codes)
