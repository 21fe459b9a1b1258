"""What a run on photographs leaves for chapter 13: the numbers of all chapters, a strip of paintings, no photograph."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from book.build.run_chapters import Run
from xlxmert_core.chapters.assemble import assemble
from xlxmert_core.chapters.begin import begin
from xlxmert_core.evaluate.judges import Judge
from xlxmert_core.evaluate.scenes import frechet_distance
from xlxmert_core.files import write_json
from xlxmert_core.model import batches
from xlxmert_core.pipeline import Pipeline
from xlxmert_core.train.loop import SILENT

WAYS: dict[str, dict[str, Any]] = {
    "painted as on Storybook": {},
    "painted, plainly drawn": dict(steps=64, temperature=1.0, candidates=1, polish=0),
}


def record(run: Run) -> Path:
    """Paint held-out captions with what the chapters have made, and measure; returns the folder of the record."""
    budgets, data, files = begin(run.profile, run.dataset, run.seed, run.artifacts)
    recorded = sorted((files.folder / "metrics").glob("0*.json"))
    numbers = {path.stem: json.loads(path.read_text()) for path in recorded}
    own, unseen = assemble(files, budgets), data.split("held_out", budgets.held_out)
    lines = unseen.texts
    codes = own.encode(unseen.images)
    sets = {"other photographs": unseen.images, "rebuilt": own.render(codes)}
    for name, way in WAYS.items():
        sets[name] = own.paint(lines, seed=run.seed, **way).images
    numbered = [(i, name) for i, name in enumerate(unseen.ids) if isinstance(name, int)]
    chosen = [i for i, name in numbered if name < 1_000_000][:8]  # COCO's own
    sheet = np.stack([sets[name][chosen] for name in ("rebuilt", *WAYS)])  # [3, 8, S, S, 3]
    folder = files.path("photographs")
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.concatenate(np.concatenate(sheet, 1), 1)).save(folder / "paintings.png")
    judge = data.judge(unseen, budgets, run.seed, SILENT)
    numbers["fidelity"] = fidelity(judge, sets)
    numbers["grounding"] = {"right_text": right_text(own, codes, lines)}
    numbers["captions"] = [lines[i] for i in chosen]
    write_json(folder / "record.json", numbers)
    return folder


def fidelity(judge: Judge, sets: dict[str, np.ndarray]) -> dict[str, float]:
    """Fréchet distances to half of the photographs, as an uninvolved eye sees them."""
    half = len(sets["rebuilt"]) // 2
    yard = judge.embed(sets["other photographs"][:half])
    return {name: float(frechet_distance(judge.embed(x[half:]), yard)) for name, x in sets.items()}


@torch.inference_mode()
def right_text(own: Pipeline, codes: Tensor, lines: list[str]) -> float:
    """How often a photograph's codes, int64 [M, N], are likelier under its caption than under another's."""
    likely = []
    for texts in (lines, lines[1:] + lines[:1]):
        words, word_mask = own.tokenizer.encode(texts, own.model.config.max_words)
        found = []
        for some in batches(len(codes)):
            hidden = torch.ones_like(codes[some], dtype=torch.bool)  # nothing but the text
            out = own.model(words[some], word_mask[some], own.model.embed_codes(codes[some]), hidden)
            logs = own.model.code_logits(out.cells).log_softmax(-1)  # [b, N, K]
            found.append(logs.gather(-1, codes[some][..., None]).sum((1, 2)))
        likely.append(torch.cat(found))
    return float((likely[0] > likely[1]).float().mean())
