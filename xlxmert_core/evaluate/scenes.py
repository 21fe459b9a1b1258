"""How good is a picture? An independent reader looks at it and lists what it sees.

Storybook scenes have exact scene graphs, so a painting can be checked fact by fact: a small convolution
network, trained on rendered scenes only and sharing nothing with the model under test, reads the picture
back into a scene, and the facts of the text are looked up in that scene.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from xlxmert_core.data.storybook import (
    BACKGROUNDS,
    COLOURS,
    KINDS,
    SIZES,
    Scene,
    facts_hold,
    find,
    scene_facts,
    stated_facts,
)
from xlxmert_core.data.storybook.text import PLACE
from xlxmert_core.features import SmallBackbone, extract

LABELS = {"kind": len(KINDS) + 1, "colour": len(COLOURS) + 1, "size": len(SIZES) + 1, "background": len(BACKGROUNDS)}


class SceneReader(nn.Module):
    """The independent recogniser: five plain convolutions, one label head per attribute.

    ``forward(images [-1, 1] [B, 3, 128, 128]) -> features [B, 64, 96]``; trained with
    :class:`xlxmert_core.train.labels.LabelObjective`, like the grid encoder, but from other weights and data.
    """

    def __init__(self, width: int = 96):
        super().__init__()
        self.body = SmallBackbone((24, 48, 72, width))
        self.heads = nn.ModuleDict({name: nn.Linear(width, size) for name, size in LABELS.items()})

    def forward(self, images: Tensor) -> Tensor:
        """images [-1, 1] [B, 3, S, S] -> features [B, N, width]."""
        return self.body(images).flatten(2).transpose(1, 2)  # [B, N, width]

    def label_logits(self, features: Tensor) -> dict[str, Tensor]:
        """features [B, N, width] -> {name: [B, N, classes]}."""
        return {name: head(features) for name, head in self.heads.items()}

    @torch.inference_mode()
    def read(self, images: np.ndarray) -> list[dict]:
        """uint8 [M, 128, 128, 3] -> per picture {"background": str, "things": {kind: {...}}}.

        A thing is {"colour": str, "size": str, "row": float, "column": float} (centre, in cells); a kind is
        seen when at least two cells say so, its colour and size are those cells' majority.
        """
        features = torch.from_numpy(extract(self, images)).to(next(self.parameters()).device)
        labels = {name: logits.argmax(-1).cpu().numpy() for name, logits in self.label_logits(features).items()}
        return [_assemble({name: values[i] for name, values in labels.items()}) for i in range(len(images))]


def pooled_features(reader: SceneReader, images: np.ndarray) -> np.ndarray:
    """What the Fréchet distance compares: the reader's features, averaged over cells; float32 [M, width]."""
    return extract(reader, images).mean(1)


def _assemble(cells: dict[str, np.ndarray]) -> dict:
    side = int(round(len(cells["kind"]) ** 0.5))
    things = {}
    for index in np.unique(cells["kind"]):
        where = (cells["kind"] == index).nonzero()[0]
        if index == 0 or len(where) < 2:
            continue
        colour, size = (_majority(cells[name][where]) for name in ("colour", "size"))
        things[KINDS[index - 1]] = {
            "colour": COLOURS[colour - 1] if colour else None,
            "size": SIZES[size - 1] if size else None,
            "row": float((where // side).mean()),
            "column": float((where % side).mean()),
        }
    return {"background": BACKGROUNDS[np.argmax(np.bincount(cells["background"]))], "things": things}


def _majority(labels: np.ndarray) -> int:
    labels = labels[labels > 0]
    return int(np.argmax(np.bincount(labels))) if len(labels) else 0


class CodeReader:
    """Reads codes without a picture: each code stands for the label it most often had in training.

    Args:
        codes: int64 [M, N]; labels: name -> int64 [M, grid, grid] for kind, colour, size and background.
    """

    def __init__(self, codes: np.ndarray, labels: dict[str, np.ndarray]):
        self.votes = {}
        for name, classes in LABELS.items():
            values = labels[name].reshape(codes.shape)
            known = values >= 0
            votes = count_labels(codes[known], values[known], int(codes.max()) + 1, classes)
            self.votes[name] = votes.argmax(1)

    def read(self, codes: np.ndarray) -> list[dict]:
        """Codes int64 [B, N] -> scenes, as :meth:`SceneReader.read`; a code unknown to training reads as nothing."""
        known = np.minimum(codes, len(self.votes["kind"]) - 1)
        seen = {name: np.where(codes == known, votes[known], 0) for name, votes in self.votes.items()}
        return [_assemble({name: values[i] for name, values in seen.items()}) for i in range(len(codes))]


RELATIONS = {
    "left of": lambda a, b: a["column"] < b["column"],
    "right of": lambda a, b: a["column"] > b["column"],
    "above": lambda a, b: a["row"] < b["row"],
    "below": lambda a, b: a["row"] > b["row"],
}


def holds(fact: Sequence, seen: dict) -> bool:
    """Whether one fact of a text is true of what the reader saw (see ``storybook.captions`` for the facts)."""
    things = seen["things"]
    if fact[0] == "background":
        return seen["background"] == fact[1]
    if fact[0] == "thing":
        _, size, colour, kind = fact
        thing = things.get(kind)
        return thing is not None and thing["colour"] == colour and size in (None, thing["size"])
    _, (colour_a, kind_a), relation, (colour_b, kind_b) = fact
    a, b = things.get(kind_a), things.get(kind_b)
    if a is None or b is None or (a["colour"], b["colour"]) != (colour_a, colour_b):
        return False
    return RELATIONS[relation](a, b)


def scene_accuracy(seen: Sequence[dict], facts: Sequence[Sequence[Sequence]]) -> dict[str, float]:
    """Shares of facts that hold, over all texts: "facts", per type, and "all_right" (texts with every fact)."""
    outcome: dict[str, list[bool]] = {"facts": [], "all_right": []}
    for picture, stated in zip(seen, facts, strict=True):
        truth = [holds(fact, picture) for fact in stated]
        outcome["facts"] += truth
        outcome["all_right"].append(all(truth))
        for fact, true in zip(stated, truth, strict=True):
            outcome.setdefault(str(fact[0]), []).append(true)
    return {name: float(np.mean(values)) for name, values in outcome.items() if values}


def caption_accuracy(scenes: Sequence[Scene], texts: Sequence[str]) -> dict[str, float]:
    """What captions say of scenes, and how much of it is true.

    "precision" is the share of stated facts that hold; "all_right" that of captions whose every fact holds; "recall"
    that of things (with size and colour) and backgrounds that are stated; "grammar" that of captions in Storybook's
    language: what is not counts as a fact that does not hold.
    """
    stated = [stated_facts(text) for text in texts]
    held = [[fact[0] != "nonsense" and facts_hold(scene, [fact])[0] for fact in facts]
            for scene, facts in zip(scenes, stated, strict=True)]  # fmt: skip
    mentioned = [fact in facts for scene, facts in zip(scenes, stated, strict=True) for fact in scene_facts(scene)]
    return {
        "precision": float(np.mean([h for those in held for h in those])),
        "all_right": float(np.mean([bool(those) and all(those) for those in held])),
        "recall": float(np.mean(mentioned)),
        "grammar": float(np.mean([all(fact[0] != "nonsense" for fact in facts) for facts in stated])),
    }


def fault(scene: Scene, fact: Sequence) -> str:
    """What is so in place of a stated fact that does not hold: "the house is small and blue", "there is no house"."""
    if fact[0] == "background":
        return f"it is {PLACE[scene.background]}"
    if fact[0] == "thing":
        thing = find(scene, fact[3])
        return f"the {fact[3]} is {thing.size} and {thing.colour}" if thing else f"there is no {fact[3]}"
    if fact[0] == "relation":
        _, (colour, kind), relation, (other_colour, other) = fact
        for one, its_colour in ((kind, colour), (other, other_colour)):
            if find(scene, one, its_colour) is None:
                return f"there is no {its_colour} {one}"
        return f"the {kind} is not {relation} the {other}"
    return "something is told twice, or the words make no sentence"


def faults(scene: Scene, text: str) -> list[str]:
    """What is wrong in a caption, one sentence for each stated fact that does not hold; none are repeated."""
    stated = stated_facts(text)
    wrong = [fact for fact in stated if fact[0] == "nonsense" or not facts_hold(scene, [fact])[0]]
    return list(dict.fromkeys(fault(scene, fact) for fact in wrong))


def round_trip(texts: Sequence[str], captions: Sequence[str]) -> dict[str, float]:
    """Texts that were painted against captions of the paintings.

    Shares of the texts' backgrounds and things that are told again ("facts"), and of texts whose every one is
    ("all_right"). Relations are left out: a caption tells one of many.
    """
    wanted = [[f for f in stated_facts(text) if f[0] in ("background", "thing")] for text in texts]
    found = [[f in stated_facts(c) for f in facts] for facts, c in zip(wanted, captions, strict=True)]
    return {"facts": float(np.mean(sum(found, []))), "all_right": float(np.mean([all(f) for f in found]))}


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance between Gaussians fitted to two sets of vectors [M, D] (Heusel et al., 2017).

    Raises ValueError for fewer than two vectors on a side, vectors of different widths, or ones that are not finite.
    """
    from scipy.linalg import sqrtm

    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"A Fréchet distance needs two sets of two vectors or more, got {a.shape} and {b.shape}.")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("A Fréchet distance needs finite vectors: look at the pictures that they were made from.")
    mean = ((a.mean(0) - b.mean(0)) ** 2).sum()
    cov_a, cov_b = (np.atleast_2d(np.cov(side, rowvar=False)) for side in (a, b))
    root = sqrtm(cov_a @ cov_b).real
    return float(mean + np.trace(cov_a + cov_b - 2 * root))


def count_labels(codes: np.ndarray, labels: np.ndarray, size: int, classes: int) -> np.ndarray:
    """How often each code came with each label: codes and labels int [M] -> int64 [size, classes]."""
    votes = np.zeros((size, classes), dtype=np.int64)
    np.add.at(votes, (codes, labels), 1)
    return votes


def code_probe(train_codes: np.ndarray, train_labels: np.ndarray, codes: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy of reading a label off a code by majority vote.

    The vote is learned on the training pairs (codes [M], labels [M]); a code never seen there votes for the
    most common label. Chance is the share of that label.
    """
    size = int(max(train_codes.max(), codes.max())) + 1
    votes = count_labels(train_codes, train_labels, size, int(max(train_labels.max(), labels.max())) + 1)
    best = votes.argmax(1)
    best[votes.sum(1) == 0] = np.argmax(np.bincount(train_labels))
    return float((best[codes] == labels).mean())
