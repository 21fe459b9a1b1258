"""A shipped world as ONNX graphs for a browser, and one model.json: what the page "Paint in this page" loads.

A page paints one sentence at a time, so nothing is padded and no graph needs a mask of words.
Axes: L words, N cells, M that are asked for, H hidden, K codes, C likely codes of a cell, A answers, S pixels a side.
"""

import json
from pathlib import Path
from typing import NamedTuple

import onnx
import torch
from onnxscript import optimizer
from torch import Tensor, nn

from book.build.narrow import narrowed
from xlxmert_core.engine import graphs
from xlxmert_core.folder import shipped_names
from xlxmert_core.model import XLxmert
from xlxmert_core.pipeline import Pipeline, load
from xlxmert_core.polish import DOUBT
from xlxmert_core.text import Tokenizer

FOLDED = 2**24  # numbers: more than any table has that a graph is made from


class World(NamedTuple):
    """What a page shows of a world before a reader writes: sentences to try, and a question."""

    examples: tuple[str, ...]
    question: str


WORLDS = {
    "storybook": World((
        "a small red house on the grass",
        "a large yellow star above a blue boat at night",
        "a purple balloon left of a green tree in the snow",
        "a large pink car and a small orange cup on the sand",
    ), "how many things are there"),
    "catalogue": World((
        "a striped blue shirt for men",
        "a plain red handbag for women",
        "brown leather formal shoes for men",
        "a floral yellow dress for women",
        "a black digital watch",
    ), "what colour is it"),
}  # fmt: skip


class Step(nn.Module):
    """One step: what the model thinks of some cells, and whether text and picture belong together."""

    def __init__(self, painter: Pipeline):
        super().__init__()
        self.cells, self.head = graphs.Cells(painter.model, graphs.fused), graphs.Head(painter.model)
        self.match = painter.model.match_head

    def forward(self, text: Tensor, codes: Tensor, masked: Tensor, asked: Tensor) -> tuple[Tensor, ...]:
        """text [1, L, H], codes int64 [1, N], masked bool [1, N], asked int64 [M] -> logits [M, K], match [1, 2].

        Of many codes the logits are of the likely ones, [M, C], and their names int32 [M, C] come third.
        """
        cells, pooled = self.cells(text, None, codes, masked)
        said, match = self.head(cells[0, asked]), self.match(pooled)
        return (said, match) if isinstance(said, Tensor) else (said[0], match, said[1].to(torch.int32))


class Answers(nn.Module):
    """The skill "vqa": a question and the codes of a picture -> logits of the answers."""

    def __init__(self, painter: Pipeline):
        super().__init__()
        skill = painter.skills["vqa"]
        model, self.count = skill.model, len(skill.answers)
        assert isinstance(model, XLxmert), "a question is about one picture"
        self.text, self.cells = graphs.Text(model, graphs.fused), graphs.Cells(model, graphs.fused)
        self.head = model.answer_head

    def forward(self, words: Tensor, codes: Tensor) -> Tensor:
        """words int64 [1, L], codes int64 [1, N] -> [1, A]."""
        _, pooled = self.cells(self.text(words), None, codes, torch.zeros_like(codes, dtype=torch.bool))
        return self.head(pooled)[:, : self.count]


class Pixels(nn.Module):
    """The generator, up to the bytes that a canvas takes."""

    def __init__(self, painter: Pipeline):
        super().__init__()
        assert painter.generator is not None, "without a generator there are no pixels"
        self.picture = graphs.Picture(painter.generator, painter.model)

    def forward(self, codes: Tensor) -> Tensor:
        """codes int64 [1, N] -> red, green, blue and opacity uint8 [S, S, 4]."""
        image = self.picture(codes)[0].permute(1, 2, 0)  # [S, S, 3]
        image = ((image.clamp(-1, 1) + 1) * 127.5).round()
        return torch.cat([image, torch.full_like(image[..., :1], 255)], -1).to(torch.uint8)


def export(painter: Pipeline, folder: Path, world: str = "storybook") -> dict:
    """Write text, cells, generator and answers.onnx and, last, model.json; returns what model.json says.

    A painter that answers no questions has no answers.onnx. ``world``: whose sentences the page shows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    length = torch.export.Dim("length", min=2, max=painter.model.config.max_words)
    asked = torch.export.Dim("asked", min=1, max=painter.model.config.cells)
    words = torch.tensor([[painter.tokenizer.cls, 5, 6, painter.tokenizer.sep]])
    codes = torch.zeros(1, painter.model.config.cells, dtype=torch.long)
    with torch.no_grad():
        text, _ = painter.model.encode_text(words), painter.render(codes)  # a render fills resize_taps' cache
    said = ["logits", "match", *([] if painter.model.few_codes else ["names"])]
    made = {
        "text": (graphs.Text(painter.model, graphs.fused), {"words": words}, {"words": {1: length}}, ["text"]),
        "cells": (Step(painter), {"text": text, "codes": codes, "masked": codes == 0, "asked": torch.arange(4)},
                  {"text": {1: length}, "codes": None, "masked": None, "asked": {0: asked}}, said),
        "generator": (Pixels(painter), {"codes": codes}, None, ["picture"]),
    }  # fmt: skip
    if "vqa" in painter.skills:
        made["answers"] = (Answers(painter), {"words": words, "codes": codes}, {"words": {1: length}, "codes": None},
                           ["answers"])  # fmt: skip
    for name, (module, inputs, axes, outputs) in made.items():
        graph = graphs.to_onnx(module, inputs, axes, outputs)
        if not painter.model.few_codes:  # parts of the table of codes, in place of all of it
            graph = optimizer.optimize(graph, input_size_limit=FOLDED, output_size_limit=FOLDED)
        onnx.save(narrowed(graph), folder / f"{name}.onnx")
    about = describe(painter, world)
    (folder / "model.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return about


def export_shipped(folder: Path) -> None:
    """Export each world whose weights are shipped into a folder of its name."""
    for world in WORLDS.keys() & set(shipped_names()):
        export(load(world), folder / world, world)


def describe(painter: Pipeline, world: str) -> dict:
    """What the page must know besides the graphs: words, sizes, answers (none without the skill), things to try."""
    config, skill = painter.model.config, painter.skills.get("vqa")
    return {
        "max_words": config.max_words,
        "grid": config.grid,
        "codes": config.codes,
        "pixels": painter.generator.config.image_size,
        "doubt": DOUBT,
        "words": vocabulary(painter.tokenizer),
        "question_words": vocabulary(skill.tokenizer) if skill else [],
        "answers": skill.answers if skill else [],
        "examples": list(WORLDS[world].examples),
        "question": WORLDS[world].question,
    }


def vocabulary(tokenizer: Tokenizer) -> list[str]:
    """The tokens, each at the place of its id."""
    table = tokenizer.backend.get_vocab()
    return sorted(table, key=lambda word: table[word])
