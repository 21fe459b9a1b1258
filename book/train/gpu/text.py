"""The transformer on coded photographs: paint cells, fill in words, tell matches from mismatches.

The module's own objective and batches, all on the device; only the exchange of a word in the matching task is written
for whole batches here. Axes: B batch, L words, N cells, K codes, V vocabulary, M pictures.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from book.train.gpu.common import (
    Clock,
    Data,
    Record,
    autocast,
    muon,
    save_tensors,
    say,
    train,
    wait_for,
)
from book.train.gpu.eye import COLOUR, GRID, load_codes
from xlxmert_core import checkpoints, polish
from xlxmert_core.config import ModelConfig
from xlxmert_core.data.lxmert import CAPTIONS, Example
from xlxmert_core.datasets.catalogue import Catalogue
from xlxmert_core.model import XLxmert
from xlxmert_core.sampling import Sampling
from xlxmert_core.skills import open_model
from xlxmert_core.text import Tokenizer
from xlxmert_core.train.pretraining import PairedText, Pretraining, PretrainingBatches
from xlxmert_core.train.recipes import TURNS, visual_options

MAX_WORDS = 20
ALONE = 0.35  # the share of the time that the visual task has to itself, as in the chapters' first phase
PAINTED_AT_ONCE = 128  # texts: of a step's K logits a cell, a GPU then holds a gigabyte or two
AS_TRAINED = Sampling(steps=12, temperature=0.8, guidance=1.0, candidates=1, polish=0)  # what the critic gets to see
SIZES: dict[str, Any] = dict(hidden=192, heads=6, feed_forward=768, language_layers=2, visual_layers=1, cross_layers=3)
SMALL: dict[str, Any] = dict(hidden=32, heads=2, feed_forward=64, language_layers=1, visual_layers=1, cross_layers=1)


class DeviceBatches(PretrainingBatches):
    """The module's batches, made on the device of the data, and without a loop over the sentences.

    ``spoken`` is the data set, of whose language they are.
    """

    def __init__(self, data: PairedText, tokenizer: Tokenizer, batch: int, spoken: Any = Catalogue, **options):
        self.device = data.words.device
        with torch.device(self.device):
            super().__init__(data, tokenizer, batch, TURNS, **visual_options(spoken, tokenizer), **options)
            self.group = torch.full((tokenizer.size,), -1)
        for number, group in enumerate(self.exchangeable):
            self.group[group[group >= tokenizer.first_word]] = number

    def __call__(self, step: int, generator: torch.Generator) -> dict:
        """As the module's, with every tensor made where the data lie."""
        with torch.device(self.device):
            return super().__call__(step, generator)

    def exchanged(self, words: Tensor, generator: torch.Generator) -> Tensor:
        """As :func:`xlxmert_core.train.pretraining.exchange_word`, for all sentences [B, L] at once."""
        rows, group = torch.arange(len(words)), self.group[words]  # [B], [B, L]
        place = torch.rand(words.shape, generator=generator).masked_fill(group < 0, -1).argmax(1)
        before, word, after = words[rows, place - 1], words[rows, place], words[rows, (place + 1) % words.shape[1]]
        others = (self.group == self.group[word][:, None]) & (self.group >= 0)  # [B, V]
        others &= self.known[before] & self.known[:, after].T
        others[rows, word] = False
        chosen = torch.rand(others.shape, generator=generator).masked_fill(~others, -1).argmax(1)
        changed = words.clone()
        changed[rows, place] = torch.where(others.any(1), chosen, word)
        return changed


class Texts:
    """All captions of some rows, tied to those pictures and, where ``mirrored``, to their mirror images too.

    Made before there are codes: :meth:`on` ties them to codes once these are there.
    """

    def __init__(self, data: Data, rows: Tensor, tokenizer: Tokenizer, mirrored: bool):
        sides, self.rows = 1 + mirrored, rows.cpu()
        ids = [str(i) for i in range(sides * len(rows))]
        examples = [Example(str(sides * i + side), text, CAPTIONS) for i, row in enumerate(self.rows.tolist())
                    for side in range(sides) for text in data.records[row].captions]  # fmt: skip
        nothing = torch.zeros(len(ids), GRID**2, dtype=torch.int32)
        self.sides, self.text = sides, PairedText.build(examples, ids, nothing, tokenizer, [], MAX_WORDS)

    def on(self, codes: Tensor) -> PairedText:
        """With codes [M, 2, N] of all pictures and mirror images, on the codes' device."""
        own = codes[self.rows.to(codes.device), : self.sides].flatten(0, 1).int()  # [sides * rows, N]
        return PairedText(
            own, *(values.to(codes.device) for name, values in vars(self.text).items() if name != "codes")
        )


def new_model(tokenizer: Tokenizer, centroids: Tensor, colours: int, small: bool) -> XLxmert:
    """The transformer of this world, about five million parameters; tiny in the smoke run. centroids [K, F]."""
    return XLxmert(ModelConfig(
        vocab_size=tokenizer.size, positions=64, max_words=MAX_WORDS, codes=len(centroids),
        feature_dim=centroids.shape[1], answers=128, learned_positions=True, colour_codes=colours,
        colour_dim=COLOUR, mixture=6, **(SMALL if small else SIZES),
    ), centroids.cpu())  # fmt: skip


def train_transformer(data: Data, work: Path, clock: Clock, batch: int, colours: int, small: bool = False) -> None:
    """Get the texts ready, wait for codes.pt, train until the clock says so.

    Writes transformer.safetensors and tokenizer.json into work/model.
    """
    record, device = Record(work, "transformer"), data.images.device
    rows = data.rows["trainable"]
    tokenizer = Tokenizer.from_corpus(text for row in rows.tolist() for text in data.records[row].captions)
    tokenizer.save(work / "model" / "tokenizer.json")
    lessons, tests = Texts(data, rows, tokenizer, True), Texts(data, data.rows["val"], tokenizer, False)
    say(f"[transformer] {len(lessons.text.words)} sentences, {tokenizer.size} words, waits for codes")
    wait_for(work / "codes.pt", clock.end)
    centroids, codes = load_codes(work, device)
    model = new_model(tokenizer, centroids, colours, small).to(device)
    clock = Clock(clock.end, clock.steps)
    pretrain(Pretraining(model, answers=False), DeviceBatches(lessons.on(codes), tokenizer, batch),
             DeviceBatches(tests.on(codes), tokenizer, min(batch, 96), caption_dropout=0.0), record, clock)  # fmt: skip
    checkpoints.save(model.eval(), work / "model" / "transformer.safetensors", bits=16)


def pretrain(objective: Pretraining, batches: DeviceBatches, unseen: DeviceBatches, record: Record,
             clock: Clock) -> None:  # fmt: skip
    """Train until the clock says so, the visual task alone and then the three in turn; ``unseen`` is measured on."""
    objective, model, device = objective.train(), objective.model, batches.device
    optimisers, draws = muon(objective, lr=0.01, adam_lr=1.5e-3), torch.Generator(device).manual_seed(1)
    say(f"[transformer] {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters")

    def lesson(share: float) -> tuple[Tensor, dict]:
        given = batches(clock.step if share > ALONE else 0, draws)
        with autocast(device.type):
            return objective(given)

    train(clock, record, objective, optimisers, lesson, 1.0, 8, lambda: _validate(objective, unseen))
    record.save(steps=clock.step, val=_validate(objective, unseen, 4), model=asdict(model.config))


@torch.no_grad()
def _validate(objective: Pretraining, unseen: DeviceBatches, rounds: int = 1) -> dict[str, float]:
    """Each task's numbers on validation photographs, ``val_`` before their names."""
    objective.eval()
    draws, found = torch.Generator(unseen.device).manual_seed(2), {}
    for step in (1, 2, 3) * rounds:
        for name, value in objective(unseen(step, draws))[1].items():
            found.setdefault(f"val_{name}", []).append(float(value))
    objective.train()
    return {name: sum(values) / len(values) for name, values in found.items()}


def load_model(work: Path, device: torch.device | str) -> tuple[XLxmert, Tokenizer]:
    """What :func:`train_transformer` left."""
    file = work / "model" / "transformer.safetensors"
    model = open_model(file, checkpoints.read_config(file), file)
    return model.to(device).eval(), Tokenizer.load(work / "model" / "tokenizer.json")


@torch.no_grad()
def paint_codes(
    model: XLxmert, tokenizer: Tokenizer, texts: list[str], seed: int, how: Sampling = AS_TRAINED
) -> Tensor:
    """Paint texts with the module's sampler: int64 [texts, N]."""
    device = model.centroids.device
    (words, mask), (none, there) = (tokenizer.encode(given, MAX_WORDS) for given in (texts, [""]))
    words, mask, draws = words.to(device), mask.to(device), torch.Generator().manual_seed(seed)
    return polish.paint_best(model, words, mask, how, draws, uncond=(none.to(device), there.to(device)))[0]


def paint_training_texts(data: Data, work: Path, clock: Clock, most: int) -> None:
    """Paint captions of training photographs until the clock says so: painted.pt, int32 [paintings, N].

    The generator's critic looks at these too, so that sampled codes come out as sharp as photographs' own.
    """
    model, tokenizer = load_model(work, data.images.device)
    rows = data.rows["trainable"].cpu()
    rows = rows[torch.randperm(len(rows))][:most].tolist()
    texts = [data.records[row].captions[i % 5] for i, row in enumerate(rows)]
    found = []
    for _ in clock:
        start = clock.step * PAINTED_AT_ONCE
        if start >= len(texts):
            break
        found.append(paint_codes(model, tokenizer, texts[start : start + PAINTED_AT_ONCE], clock.step))
    save_tensors(work / "painted.pt", torch.cat(found).int().cpu())
    say(f"[transformer] painted {sum(len(f) for f in found)} training texts")
