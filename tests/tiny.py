"""A painter that knows nothing, but paints in a few milliseconds."""

import torch

import xlxmert_core
from xlxmert_core.config import GeneratorConfig, ModelConfig
from xlxmert_core.features import GridEncoder
from xlxmert_core.generator import Generator
from xlxmert_core.model import XLxmert
from xlxmert_core.text import Tokenizer

TEXTS = ["a red house in the snow", "two blue boats at night"]
GRID, CODES = 4, 13


def tiny_painter(seed: int = 0, codes: int = CODES, encoder: bool = True, squash: bool = True) -> xlxmert_core.Pipeline:
    """A random pipeline of 4 x 4 cells and pictures of 64 x 64 pixels."""
    torch.manual_seed(seed)
    tokenizer = Tokenizer.from_corpus(TEXTS)
    config = ModelConfig(
        vocab_size=tokenizer.size, hidden=24, heads=3, feed_forward=40, language_layers=1, visual_layers=1,
        cross_layers=2, positions=30, max_words=12, dropout=0.0, codes=codes, feature_dim=10, grid=GRID, answers=3,
    )  # fmt: skip
    sizes = GeneratorConfig(feature_dim=10, bottleneck=8, channels=(8, 8, 8, 4, 4), spade_hidden=4, groups=2, grid=GRID,
                            squash=squash)  # fmt: skip
    eye = GridEncoder(10, {"kind": 3}, imagenet=False) if encoder else None
    model = XLxmert(config, torch.randn(codes, 10))
    return xlxmert_core.Pipeline(model, tokenizer, Generator(sizes), eye, ["yes", "no", "red"])
