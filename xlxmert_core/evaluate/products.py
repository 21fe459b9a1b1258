"""Who reads product photographs: a network that has seen real ones alone, and the judge that asks it."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xlxmert_core.data import catalogue
from xlxmert_core.data.catalogue.text import Fact
from xlxmert_core.evaluate.judges import Edits
from xlxmert_core.features import Backbone, to_float

AT_ONCE = 64  # pictures read together
Known = dict[str, list[str]]  # attribute: its values, the main one first


def known(facts: Iterable[Fact]) -> Known:
    """What facts say by attribute: {"type": ["Shirts"], "colour": ["black", "white"]}."""
    found: Known = {}
    for name, value in facts:
        found.setdefault(name, []).append(value)
    return {name: list(dict.fromkeys(values)) for name, values in found.items()}


def known_of(record: Any) -> Known:
    """All that a record's captions state of its product; the first caption comes first."""
    return known(fact for facts in record.facts for fact in facts)


class ProductReader(nn.Module):
    """The independent recogniser: EfficientNet-Lite0 from ImageNet, all of it trained, one head per attribute.

    ``forward(images [-1, 1] [B, 3, S, S]) -> {attribute: logits [B, classes]}`` for type, colour, gender and pattern;
    trained with :class:`xlxmert_core.train.labels.PictureObjective`. It is built like the eye that it judges, but
    shares no weights with it and sees whole pictures.
    """

    def __init__(self, imagenet: bool = True):
        super().__init__()
        self.backbone = Backbone().load_imagenet() if imagenet else Backbone()
        self.norm, self.dropout = nn.BatchNorm1d(2 * Backbone.width), nn.Dropout(0.2)
        self.heads = nn.ModuleDict({f"is_{name}": nn.Linear(2 * Backbone.width, len(values))
                                    for name, values in catalogue.LABELS.items()})  # fmt: skip

    def pooled(self, images: Tensor) -> Tensor:
        """images [-1, 1] [B, 3, S, S] -> the last map's mean and maximum over the picture, [B, 224]."""
        cells = self.backbone(images).flatten(2)  # [B, 112, N]
        return torch.cat([cells.mean(2), cells.amax(2)], 1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images [-1, 1] [B, 3, S, S] -> {attribute: logits [B, classes]}."""
        found = self.dropout(self.norm(self.pooled(images)))
        return {name: self.heads[f"is_{name}"](found) for name in catalogue.LABELS}

    @torch.inference_mode()
    def read(self, images: np.ndarray) -> list[dict[str, str]]:
        """uint8 [M, S, S, 3] -> per picture {attribute: value}, what it and its mirror image look most like."""
        device, found = next(self.eval().parameters()).device, []
        for start in range(0, len(images), AT_ONCE):
            unit = to_float(images[start : start + AT_ONCE]).to(device)
            one, mirrored = self(unit), self(unit.flip(3))
            best = {name: (one[name].softmax(1) + mirrored[name].softmax(1)).argmax(1).tolist() for name in one}
            found += [{name: catalogue.LABELS[name][those[i]] for name, those in best.items()}
                      for i in range(len(unit))]  # fmt: skip
        return found

    @torch.inference_mode()
    def embed(self, images: np.ndarray) -> np.ndarray:
        """uint8 [M, S, S, 3] -> :meth:`pooled`, float32 [M, 224]."""
        device = next(self.eval().parameters()).device
        parts = [self.pooled(to_float(images[i : i + AT_ONCE]).to(device)) for i in range(0, len(images), AT_ONCE)]
        return torch.cat(parts).cpu().numpy()


class ProductJudge:
    """Reads pictures of products, and looks up what texts state (:class:`xlxmert_core.evaluate.judges.Judge`).

    Args:
        train_reader: gives the reader; called when the first picture is to be read.
    """

    measures: tuple[str, ...] = ("type", "colour", "both", "gender", "pattern")
    learned: tuple[str, ...] = ("type", "colour")
    true, whole = "precision", "all_right"

    def __init__(self, train_reader: Callable[[], ProductReader]):
        self._train_reader = train_reader

    @cached_property
    def reader(self) -> ProductReader:
        """The reader, trained when the first picture is to be read."""
        return self._train_reader()

    def paintings(self, images: np.ndarray, split: Any) -> dict[str, float]:
        """Shares of the pictures in which each attribute of the first caption is read, "both": type and colour.

        Either of two colours will do. An attribute that no caption states has no share.
        """
        outcome: dict[str, list[bool]] = {}
        for seen, record in zip(self.reader.read(images), split.records, strict=True):
            wanted = known(record.facts[0])
            right = {name: seen[name] in wanted[name] for name in catalogue.LABELS if name in wanted}
            if "colour" in right:
                right["both"] = right["type"] and right["colour"]
            for name, value in right.items():
                outcome.setdefault(name, []).append(value)
        return {name: float(np.mean(outcome[name])) for name in self.measures if name in outcome}

    def captions(self, lines: Sequence[str], split: Any) -> dict[str, float]:
        """What sentences state, and how much of it is true of their pictures.

        "precision" is the share of stated facts that hold, of those whose attribute is known of the product;
        "all_right" that of sentences that state something and nothing false; "type_and_colour" that of sentences that
        state both, whether true or not; "recall" that of the types and colours that are stated.
        """
        held, whole, told, recall = [], [], [], []
        for line, record in zip(lines, split.records, strict=True):
            facts, truth = catalogue.stated_facts(line), known_of(record)
            own = [verdict for fact in facts if (verdict := _holds(fact, truth)) is not None]
            held += own
            whole.append(bool(own) and all(own))
            told.append({"type", "colour"} <= {name for name, _ in facts})
            recall += [(name, truth[name][0]) in facts for name in ("type", "colour") if name in truth]
        outcome = {"precision": held, "all_right": whole, "recall": recall, "type_and_colour": told}
        return {name: float(np.mean(values)) if values else 0.0 for name, values in outcome.items()}

    def faults(self, lines: Sequence[str], split: Any) -> list[str]:
        """What is wrong in each sentence: "the colour is red, not blue"; "" where all that is stated is true."""
        found = []
        for line, record in zip(lines, split.records, strict=True):
            truth, facts = known_of(record), catalogue.stated_facts(line)
            wrong = [f"the {name} is {' and '.join(truth[name])}, not {value}"
                     for name, value in facts if _holds((name, value), truth) is False]  # fmt: skip
            found.append("; ".join(wrong) if facts else "it states nothing")
        return found

    def regions(self, lines: Sequence[str], regions: Sequence) -> dict[str, float]:
        """Of sentences about one product each: "right", its words' facts are stated; "alone", one type is."""
        facts = [catalogue.stated_facts(line) for line in lines]
        right = [{*catalogue.stated_facts(" ".join(region.words))} <= {*stated}
                 for region, stated in zip(regions, facts, strict=True)]  # fmt: skip
        alone = [sum(name == "type" for name, _ in stated) == 1 for stated in facts]
        return {"right": float(np.mean(right)), "alone": float(np.mean(alone))}

    def retold(self, texts: Sequence[str], lines: Sequence[str]) -> dict[str, float]:
        """Sentences about paintings of texts: shares of the texts' facts told again, and of texts told whole."""
        pairs = zip(map(catalogue.stated_facts, texts), map(catalogue.stated_facts, lines), strict=True)
        found = [[fact in told for fact in wanted] for wanted, told in pairs]
        return {"facts": float(np.mean(sum(found, []))), "all_right": float(np.mean([all(f) for f in found]))}

    def embed(self, images: np.ndarray) -> np.ndarray:
        """The reader's features, averaged over cells and their maxima, float32 [M, 224]."""
        return self.reader.embed(images)

    def edits(self, split: Any, rng: np.random.Generator) -> Edits:
        """Each product gets another colour, of no pair of HELD_OUT; training may never have shown it on that type."""
        found = [recoloured(record, rng) for record in split.records]
        masks = catalogue.covered_cells(catalogue.product_masks(split.images))
        return Edits([text for text, _ in found], masks, [wanted for _, wanted in found])

    def edited(self, before: np.ndarray, after: np.ndarray, edits: Edits) -> dict[str, float]:
        """Whether each product has its new colour, and whether it is read as the same type as before."""
        old, new = self.reader.read(before), self.reader.read(after)
        right = [seen["colour"] == colour for seen, (_, colour) in zip(new, edits.wanted, strict=True)]
        same = [a["type"] == b["type"] for a, b in zip(old, new, strict=True)]
        return {"repaint_right": float(np.mean(right)), "repaint_rest_same": float(np.mean(same))}


def recoloured(record: Any, rng: np.random.Generator) -> tuple[str, tuple[str, str]]:
    """(a text with another colour, (type, that colour)) for a record; no pair of HELD_OUT."""
    truth = known_of(record)
    kind = truth["type"][0]
    free = [c for c in catalogue.COLOURS if c not in truth.get("colour", ()) and (kind, c) not in catalogue.HELD_OUT]
    colour = free[rng.integers(len(free))]
    return catalogue.noun_phrase(kind, *truth.get("pattern", ())[:1], colour), (kind, colour)


def _holds(fact: Fact, truth: Known) -> bool | None:
    """Whether a fact is known to be true; None where nothing is known of its attribute."""
    return fact[1] in truth[fact[0]] if fact[0] in truth else None
