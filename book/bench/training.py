"""A step of pretraining against Hugging Face's model in eager mode with AdamW."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch.optim import Optimizer

from book.bench.measure import Family, Growth, Limit, Race, added_megabytes, child, interleaved
from book.bench.painting import pair
from xlxmert_core.config import ModelConfig, paper
from xlxmert_core.model import XLxmert
from xlxmert_core.train import optimisers
from xlxmert_core.train.pretraining import IGNORED, Pretraining

SIZES = replace(paper(), vocab_size=3000, hidden=256, heads=4, feed_forward=1024, language_layers=2, visual_layers=1,
                cross_layers=3, positions=64, feature_dim=256, answers=64, dropout=0.0)  # fmt: skip
BERT = 0.02 * SIZES.hidden**0.5  # deviation 0.02, as BERT starts: larger weights make denormal numbers, which are slow
TEXT = """One step of the painting task: 256 wide, 2/1/3 layers, 10 000 codes, random batches with half of the cells
masked, without dropout so that both sides have the same loss. Hugging Face's side takes the loss of the masked cells
from logits of all cells, as the original does. Memory is what the steps add to a process that holds the models."""


def batch(size: int, sizes: ModelConfig = SIZES) -> dict:
    """A random batch of the painting task."""
    source = torch.Generator().manual_seed(1)
    words = torch.randint(sizes.vocab_size, (size, sizes.max_words), generator=source)
    codes = torch.randint(sizes.codes, (size, sizes.cells), generator=source)
    masked = torch.rand(codes.shape, generator=source) < 0.5
    return {"task": "visual", "words": words, "word_mask": torch.ones_like(words, dtype=torch.bool), "codes": codes,
            "masked": masked, "answers": torch.full((size,), IGNORED)}  # fmt: skip


def our_step(ours: XLxmert, optimiser: Optimizer, given: dict) -> float:
    """A step as ``loop.fit`` takes it; returns its loss."""
    optimiser.zero_grad()
    loss, _ = Pretraining(ours)(given)
    loss.backward()
    optimiser.step()
    return loss.item()


def their_step(theirs: torch.nn.Module, ours: XLxmert, optimiser: Optimizer, given: dict) -> float:
    """The same with their encoders and the head for every cell; returns its loss."""
    optimiser.zero_grad()
    features = torch.where(given["masked"][..., None], ours.mask_feature, ours.embed_codes(given["codes"]))
    boxes = ours.boxes().expand(len(features), -1, -1)
    seen = theirs(given["words"], features, boxes, given["word_mask"].float()).vision_output
    labels = torch.where(given["masked"], given["codes"], IGNORED)
    loss = F.cross_entropy(ours.code_logits(seen).flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
    loss.backward()
    optimiser.step()
    return loss.item()


def eager_adamw(theirs: torch.nn.Module, head: XLxmert) -> Optimizer:
    """torch's plain AdamW for their encoders, put in training mode, and our head for the codes."""
    hands = ("code_transform", "code_feature", "code_bias", "mask_feature")
    extra = [value for name, value in head.named_parameters() if name.startswith(hands)]
    return torch.optim.AdamW([*theirs.train().parameters(), *extra], lr=1e-4)


def cases(size: int) -> dict:
    """The two steps, from the same weights, each with an AdamW of its own."""
    (theirs, head), (_, ours), given = pair(SIZES, BERT), pair(SIZES, BERT), batch(size)
    eager = eager_adamw(theirs, head)
    optimiser = optimisers.adamw(ours.train(), 1e-4)
    return {
        "Hugging Face": lambda: their_step(theirs, head, eager, given),
        "ours": lambda: our_step(ours, optimiser, given),
    }


def memory(name: str, size: int) -> float:
    """MB that two steps of one side add; in a child."""
    step = cases(size)[name]
    return added_megabytes(lambda: [step(), step()])


def run(quick: bool) -> Family:
    """Time and memory of both, after their first losses are seen to agree."""
    size, both = 4 if quick else 64, cases(4 if quick else 64)
    first = {name: step() for name, step in both.items()}
    times = interleaved(both, 1 if quick else 7)
    said = "first loss: " + ", ".join(f"{name} {loss:.4f}" for name, loss in first.items())
    added = {name: child("book.bench.training:memory", name, size) for name in both}
    found: list[Race | Limit | Growth] = [Race(f"a step of {size}", times, {"ours": 1.4}, said)]
    found += [Limit(f"memory added, {name}", value, "MB") for name, value in added.items()]
    share = 100 * added["ours"] / max(added["Hugging Face"], 1e-9)
    return Family("Pretraining", TEXT, [*found, Limit("ours, of theirs", share, "%", 70)])
