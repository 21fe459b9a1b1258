"""Painting at the paper's sizes, against Hugging Face's LxmertModel driven as the original drives it."""

from dataclasses import replace

import torch
from torch import Tensor

import xlxmert_core
from book.bench.measure import Family, Growth, Limit, Race, added_megabytes, child, interleaved
from book.build.run_chapters import ROOT
from xlxmert_core import sampling
from xlxmert_core.checkpoints import load_state
from xlxmert_core.config import ModelConfig, paper
from xlxmert_core.engine import Engine, graphs, onnx
from xlxmert_core.foreign.convert import from_lxmert
from xlxmert_core.model import XLxmert
from xlxmert_core.sampling import Order, Schedule

GRAPHS = ROOT / "_build" / "graphs"
OURS = ("word_transform", "word_bias", "match_head", "code_", "answer_head", "mask_feature", "centroids")
TEXTS = [f"a {size} {colour} {thing} {where}" for size in ("large", "small") for colour in ("red", "blue", "yellow")
         for thing in ("house", "tree", "ball", "boat") for where in ("in the snow", "on the grass")]  # fmt: skip
TEXT = """Hugging Face's model is asked as the original asks it: all of it at every step, and a softmax over all codes
for all cells. *Plain* is our model in PyTorch; *engine* is what `Pipeline.paint` uses, the same model run by ONNX
Runtime. Weights are random (the trained ones are not ours to ship), scaled so that cells differ; codes are compared
cell by cell. The share of equal codes in 8-bit integers is measured with the shipped Storybook model instead."""


def engine(model: XLxmert, int8: bool = False) -> Engine:
    """The model's engine; its graphs are exported where they are not there."""
    found = onnx(model, folder=GRAPHS, int8=int8)
    if found is None:
        graphs.export(model, folder=GRAPHS, int8=int8)
        found = onnx(model, folder=GRAPHS, int8=int8)
    assert found is not None, "the bench needs ONNX Runtime"
    return found


def hugging_face(config: ModelConfig, dropout: float = 0.0) -> torch.nn.Module:
    """Their LxmertModel of the same sizes, with random weights."""
    from transformers import LxmertConfig, LxmertModel

    return LxmertModel(
        LxmertConfig(
            vocab_size=config.vocab_size, hidden_size=config.hidden, num_attention_heads=config.heads,
            intermediate_size=config.feed_forward, l_layers=config.language_layers, r_layers=config.visual_layers,
            x_layers=config.cross_layers, max_position_embeddings=config.positions,
            visual_feat_dim=config.feature_dim, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
        )
    ).eval()  # fmt: skip


def pair(config: ModelConfig, spread: float = 1.5) -> tuple[torch.nn.Module, XLxmert]:
    """Their model and ours with the same random weights, of a size at which cells stay different from each other."""
    torch.manual_seed(0)
    theirs, ours = hugging_face(config), XLxmert(config, torch.randn(config.codes, config.feature_dim)).eval()
    with torch.no_grad():
        for value in (*theirs.parameters(), *ours.parameters()):
            if value.dim() == 2:
                value.normal_(std=spread / config.hidden**0.5)
        for name, value in theirs.named_parameters():
            if name.endswith("output.dense.weight"):
                value.mul_(0.1)  # what a layer adds to its input; all of it would make all cells alike
    load_state(ours, from_lxmert(theirs.state_dict()), optional=OURS)
    return theirs, ours


@torch.inference_mode()
def original(theirs: torch.nn.Module, ours: XLxmert, words: Tensor, mask: Tensor, steps: int) -> Tensor:
    """The original's Mask-Predict: the whole model and the whole head for every cell at every step; codes [B, N]."""
    batch, cells = len(words), ours.config.cells
    codes = torch.zeros(batch, cells, dtype=torch.long, device=words.device)
    masked = torch.ones_like(codes, dtype=torch.bool)
    boxes = ours.boxes().expand(batch, -1, -1)
    for step in range(steps):
        features = torch.where(masked[..., None], ours.mask_feature, ours.embed_codes(codes))
        seen = theirs(words, features, boxes, mask.to(features)).vision_output
        sure, best = ours.code_logits(seen).float().softmax(-1).max(-1)  # [B, N]
        codes = torch.where(masked, best, codes)
        left = int(sampling.linear(step + 1, steps) * cells + 1e-6)
        masked = sampling.lowest(sure, torch.full_like(codes[:, 0], left))
    return codes


@torch.inference_mode()
def original_one_by_one(theirs: torch.nn.Module, ours: XLxmert, words: Tensor, mask: Tensor) -> Tensor:
    """The original's slow sampler: one cell a step, row by row, with all the work of a whole step; codes [B, N]."""
    codes = torch.zeros(len(words), ours.config.cells, dtype=torch.long)
    masked, boxes = torch.ones_like(codes, dtype=torch.bool), ours.boxes().expand(len(words), -1, -1)
    for cell in range(ours.config.cells):
        features = torch.where(masked[..., None], ours.mask_feature, ours.embed_codes(codes))
        seen = theirs(words, features, boxes, mask.float()).vision_output
        codes[:, cell] = ours.code_logits(seen).softmax(-1).argmax(-1)[:, cell]
        masked[:, cell] = False
    return codes


def words_for(config: ModelConfig, batch: int = 1) -> tuple[Tensor, Tensor]:
    """A sentence of the longest length, of random words."""
    source = torch.Generator().manual_seed(1)
    words = torch.randint(config.vocab_size, (batch, config.max_words), generator=source)
    return words, torch.ones_like(words, dtype=torch.bool)


def share_equal(a: Tensor, b: Tensor) -> float:
    """Share of equal codes."""
    return (a == b).float().mean().item()


def int8_share(steps: int, order: Order = sampling.halton, schedule: Schedule = sampling.cosine) -> float:
    """Share of codes that the shipped model paints the same in 8-bit integers."""
    painter = xlxmert_core.load("storybook")
    words, mask = painter.tokenizer.encode(TEXTS, painter.model.config.max_words)
    return share_equal(*(sampling.paint(model, words, mask, steps=steps, order=order, schedule=schedule)
                         for model in (painter.model, engine(painter.model, int8=True))))  # fmt: skip


def races(config: ModelConfig, repetitions: int) -> list[Race]:
    """The paper's four steps, and one cell a step."""
    theirs, ours = pair(config)
    models = {"plain": ours, "engine": engine(ours), "engine, int8": engine(ours, int8=True)}
    given = words_for(config)
    want = original(theirs, ours, *given, 4)
    four = {name: lambda m=model: sampling.paint(m, *given, steps=4) for name, model in models.items()}
    same = ", ".join(f"{name} {share_equal(case(), want):.1%}" for name, case in four.items())
    times = interleaved({"Hugging Face": lambda: original(theirs, ours, *given, 4)} | four, repetitions)
    said = f"codes equal to Hugging Face's ({want.unique().numel()} different ones): {same}"
    found = [Race("4 steps", times, {"engine": 1.7, "engine, int8": 2}, said)]

    slow = {"engine": lambda: sampling.paint(models["engine"], *given, steps=config.cells, order=sampling.raster)}
    equal = share_equal(slow["engine"](), original_one_by_one(theirs, ours, *given))
    times = interleaved({"Hugging Face": lambda: original_one_by_one(theirs, ours, *given)} | slow,
                        max(1, repetitions // 3), warm=0)  # fmt: skip
    return [*found, Race(f"{config.cells} one-cell steps", times, {"engine": 1.7}, f"codes equal: {equal:.1%}")]


def painted(small: bool, grid: int, batch: int, steps: int, codes: int) -> tuple[float, float]:
    """Seconds and MB added of one painting at these sizes; in a child, for the memory."""
    torch.manual_seed(0)
    config = replace(TINY if small else paper(), grid=grid, codes=codes)
    model = engine(XLxmert(config, torch.randn(config.codes, config.feature_dim)).eval())
    given = words_for(config, batch)
    memory = added_megabytes(lambda: sampling.paint(model, *given, steps=steps))
    return interleaved({"": lambda: sampling.paint(model, *given, steps=steps)}, 2, warm=0)[""].median, memory


TINY = replace(paper(), vocab_size=100, hidden=48, heads=3, feed_forward=96, language_layers=1, visual_layers=1,
               cross_layers=2, codes=2000, feature_dim=64, answers=3)  # fmt: skip


def growths(quick: bool) -> list[Growth]:
    """Cells, batch, steps and codes, each alone."""
    many = (2,) if quick else (1, 4, 16, 64)
    asked = {
        "cells": {side**2: (side, 1, 4, 10_000) for side in ((4,) if quick else (4, 8, 12, 16))},
        "pictures in a batch": {batch: (8, batch, 4, 10_000) for batch in many},
        "steps": {steps: (8, 1, steps, 10_000) for steps in many},
        "K": {codes: (8, 1, 4, codes) for codes in ((256,) if quick else (256, 1024, 4096, 16384, 65536))},
    }
    found = []
    for name, sizes in asked.items():
        got = {size: child("book.bench.painting:painted", quick, *given) for size, given in sizes.items()}
        found.append(Growth("painting", name, *({size: pair[i] for size, pair in got.items()} for i in (0, 1))))
    return found


def run(quick: bool) -> Family:
    """Race the painters at the paper's sizes, then let the sizes grow."""
    found = races(TINY if quick else paper(), 1 if quick else 9)
    shares = {8: (sampling.halton, sampling.cosine), 4: (sampling.mask_predict, sampling.linear)}
    limits = [
        Limit(f"Storybook codes equal in int8, {steps} steps, {order.__name__}",
              100 * int8_share(steps, order, schedule), "%", 95, at_least=True)
        for steps, (order, schedule) in shares.items()
    ]  # fmt: skip
    return Family("Painting at the paper's sizes", TEXT, [*found, *limits, *growths(quick)])
