"""The shipped model as ONNX graphs for a browser, and one model.json: what the page "Paint in this page" loads.

A page paints one sentence at a time, so nothing is padded and no graph needs a mask of words.
Axes: L words, N cells, H hidden, K codes, A answers, S pixels along a side.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from xlxmert_core.engine import graphs
from xlxmert_core.model import XLxmert
from xlxmert_core.pipeline import Pipeline
from xlxmert_core.polish import DOUBT
from xlxmert_core.text import Tokenizer

SMALLEST = 64  # numbers an initializer must have to be worth storing in half precision
EXAMPLES = (
    "a small red house on the grass",
    "a large yellow star above a blue boat at night",
    "a purple balloon left of a green tree in the snow",
    "a large pink car and a small orange cup on the sand",
)


class Step(nn.Module):
    """One step: what the model thinks of every cell, and whether text and picture belong together."""

    def __init__(self, painter: Pipeline):
        super().__init__()
        self.cells, self.head = graphs.Cells(painter.model, graphs.fused), graphs.Head(painter.model)
        self.match = painter.model.match_head

    def forward(self, text: Tensor, codes: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
        """text [1, L, H], codes int64 [1, N], masked bool [1, N] -> logits [1, N, K], match [1, 2]."""
        cells, pooled = self.cells(text, None, codes, masked)
        return self.head(cells), self.match(pooled)


class Answers(nn.Module):
    """The skill "vqa": a question and the codes of a picture -> logits of the answers."""

    def __init__(self, painter: Pipeline):
        super().__init__()
        model = painter.skills["vqa"].model
        assert isinstance(model, XLxmert), "a question is about one picture"
        self.text, self.cells = graphs.Text(model, graphs.fused), graphs.Cells(model, graphs.fused)
        self.head = model.answer_head

    def forward(self, words: Tensor, codes: Tensor) -> Tensor:
        """words int64 [1, L], codes int64 [1, N] -> [1, A]."""
        _, pooled = self.cells(self.text(words), None, codes, torch.zeros_like(codes, dtype=torch.bool))
        return self.head(pooled)


class Pixels(nn.Module):
    """The generator, up to the bytes that a canvas takes."""

    def __init__(self, painter: Pipeline):
        super().__init__()
        assert painter.generator is not None, "without a generator there are no pixels"
        self.picture = graphs.Picture(painter.generator, painter.model.centroids)

    def forward(self, codes: Tensor) -> Tensor:
        """codes int64 [1, N] -> red, green, blue and opacity uint8 [S, S, 4]."""
        image = self.picture(codes)[0].permute(1, 2, 0)  # [S, S, 3]
        image = ((image.clamp(-1, 1) + 1) * 127.5).round()
        return torch.cat([image, torch.full_like(image[..., :1], 255)], -1).to(torch.uint8)


def export(painter: Pipeline, folder: Path) -> dict:
    """Write text, cells, generator and answers.onnx and, last, model.json; returns what model.json says."""
    folder.mkdir(parents=True, exist_ok=True)
    length = torch.export.Dim("length", min=2, max=painter.model.config.max_words)
    words = torch.tensor([[painter.tokenizer.cls, 5, 6, painter.tokenizer.sep]])
    codes = torch.zeros(1, painter.model.config.cells, dtype=torch.long)
    with torch.no_grad():
        text, _ = painter.model.encode_text(words), painter.render(codes)  # a render fills resize_taps' cache
    made = {
        "text": (graphs.Text(painter.model, graphs.fused), {"words": words}, {"words": {1: length}}, ["text"]),
        "cells": (Step(painter), {"text": text, "codes": codes, "masked": codes == 0},
                  {"text": {1: length}, "codes": None, "masked": None}, ["logits", "match"]),
        "generator": (Pixels(painter), {"codes": codes}, None, ["picture"]),
        "answers": (Answers(painter), {"words": words, "codes": codes}, {"words": {1: length}, "codes": None},
                    ["answers"]),
    }  # fmt: skip
    for name, (module, inputs, axes, outputs) in made.items():
        onnx.save(halved(graphs.to_onnx(module, inputs, axes, outputs)), folder / f"{name}.onnx")
    about = describe(painter)
    (folder / "model.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return about


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store what float16 holds exactly as float16, with a Cast behind it: the same numbers in half the bytes."""
    for initializer in list(model.graph.initializer):
        values = numpy_helper.to_array(initializer)
        half = values.astype(np.float16) if values.dtype == np.float32 else values
        if half is values or values.size < SMALLEST or not np.array_equal(half.astype(np.float32), values):
            continue
        name = initializer.name
        initializer.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        model.graph.node.insert(0, helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    return model


def describe(painter: Pipeline) -> dict:
    """What the page must know besides the graphs: words, sizes, answers, and some sentences to try."""
    config, skill = painter.model.config, painter.skills["vqa"]
    return {
        "max_words": config.max_words,
        "grid": config.grid,
        "codes": config.codes,
        "pixels": painter.generator.config.image_size,
        "doubt": DOUBT,
        "words": vocabulary(painter.tokenizer),
        "question_words": vocabulary(skill.tokenizer),
        "answers": skill.answers,
        "examples": list(EXAMPLES),
    }


def vocabulary(tokenizer: Tokenizer) -> list[str]:
    """The tokens, each at the place of its id."""
    table = tokenizer.backend.get_vocab()
    return sorted(table, key=lambda word: table[word])
