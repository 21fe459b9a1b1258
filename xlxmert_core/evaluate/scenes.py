"""How good is a picture? An independent reader looks at it and lists what it sees.

Storybook scenes have exact scene graphs, so a painting can be checked fact by fact: a small convolution
network, trained on rendered scenes only and sharing nothing with the model under test, reads the picture
back into a scene, and the facts of the text are looked up in that scene.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from xlxmert_core.data.storybook import (
    BACKGROUNDS,
    COLOURS,
    KINDS,
    NEXT,
    SIZES,
    STORYBOOK,
    Scene,
    World,
    facts_hold,
    matching,
    scene_facts,
    stated_facts,
)
from xlxmert_core.data.storybook.facts import holds as holds_of
from xlxmert_core.data.storybook.grammar import NUMBERS, PLURALS
from xlxmert_core.data.storybook.scenes import APART, SPAN
from xlxmert_core.data.storybook.text import PLACE
from xlxmert_core.features import SmallBackbone, extract

LABELS = {"kind": len(KINDS) + 1, "colour": len(COLOURS) + 1, "size": len(SIZES) + 1, "background": len(BACKGROUNDS)}
APART_BY = {"part": 14}  # also read where kinds repeat
# part -> (row and column in its box, side of the box), see storybook.cell_labels
PARTS = {1 + i: (i // 3, i % 3, 3) for i in range(9)} | {10 + i: (i // 2, i % 2, 2) for i in range(4)}


class Seen(NamedTuple):
    """A thing in a picture; (row, column) is the centre of its box, in cells."""

    kind: str
    colour: str | None
    size: str | None
    row: float
    column: float

    @property
    def span(self) -> float:
        """Side of the box, in cells."""
        return SPAN[self.size] if self.size else 2.5


def labels_read(world: World) -> dict[str, int]:
    """{what is read of each cell: number of classes}."""
    return LABELS if world.most == 1 else LABELS | APART_BY


class SceneReader(nn.Module):
    """The independent recogniser: five plain convolutions, one label head per attribute of a world's things.

    ``forward(images [-1, 1] [B, 3, 128, 128]) -> features [B, 64, 96]``; trained with
    :class:`xlxmert_core.train.labels.LabelObjective`, like the grid encoder, but from other weights and data.
    """

    def __init__(self, width: int = 96, world: World = STORYBOOK):
        super().__init__()
        self.body = SmallBackbone((24, 48, 72, width))
        self.heads = nn.ModuleDict({name: nn.Linear(width, size) for name, size in labels_read(world).items()})

    def forward(self, images: Tensor) -> Tensor:
        """images [-1, 1] [B, 3, S, S] -> features [B, N, width]."""
        return self.body(images).flatten(2).transpose(1, 2)  # [B, N, width]

    def label_logits(self, features: Tensor) -> dict[str, Tensor]:
        """features [B, N, width] -> {name: [B, N, classes]}."""
        return {name: head(features) for name, head in self.heads.items()}

    @torch.inference_mode()
    def read(self, images: np.ndarray) -> list[dict]:
        """uint8 [M, 128, 128, 3] -> per picture {"background": str, "things": [Seen]}.

        A kind is seen where at least two cells say so; what it looks like is their majority, and the centre their mean.
        Where kinds repeat, connected cells are a thing, and those of several boxes are told apart by the parts that
        they show.
        """
        features = torch.from_numpy(extract(self, images)).to(next(self.parameters()).device)
        labels = {name: logits.argmax(-1).cpu().numpy() for name, logits in self.label_logits(features).items()}
        return [_assemble({name: values[i] for name, values in labels.items()}) for i in range(len(images))]


def pooled_features(reader: SceneReader, images: np.ndarray) -> np.ndarray:
    """What the Fréchet distance compares: the reader's features, averaged over cells; float32 [M, width]."""
    return extract(reader, images).mean(1)


def _assemble(cells: dict[str, np.ndarray]) -> dict:
    side = int(round(len(cells["kind"]) ** 0.5))
    grids = {name: values.reshape(side, side) for name, values in cells.items()}
    things = []
    for index in np.unique(cells["kind"]):
        for where in _apart(grids["kind"] == index, grids.get("part")) if index else ():
            colour, size = (_majority(grids[name][tuple(where.T)]) for name in ("colour", "size"))
            row, column = _centre(where, grids["part"][tuple(where.T)]) if "part" in grids else where.mean(0).tolist()
            look = (COLOURS[colour - 1] if colour else None, SIZES[size - 1] if size else None)
            things.append(Seen(KINDS[index - 1], *look, row, column))
    return {"background": BACKGROUNDS[np.argmax(np.bincount(cells["background"]))], "things": things}


def _apart(mask: np.ndarray, parts: np.ndarray | None) -> list[np.ndarray]:
    """Cells [side, side] of one kind -> (row, column) [n, 2] of each thing of two cells or more; without parts, one."""
    if parts is None:
        return [np.argwhere(mask)] if mask.sum() > 1 else []
    from scipy.ndimage import label

    found = []
    patches, count = label(mask, np.ones((3, 3)))
    for patch in range(1, count + 1):
        where = np.argwhere(patches == patch)
        several = _by_corner(where, parts) if np.ptp(where, axis=0).max() >= max(SPAN.values()) else []
        found += several or [where]
    return [where for where in found if len(where) > 1]


def _by_corner(where: np.ndarray, parts: np.ndarray) -> list[np.ndarray]:
    """Cells that touch, by the box that the part of each belongs to."""
    boxes: dict[tuple, list] = {}
    for row, column in where:
        if (part := PARTS.get(int(parts[row, column]))) is not None:
            boxes.setdefault((row - part[0], column - part[1], part[2]), []).append((row, column))
    return [np.array(cells) for cells in boxes.values() if len(cells) > 1]


def _centre(where: np.ndarray, parts: np.ndarray) -> tuple[float, float]:
    """Of the box that most cells' parts belong to, else of the cells."""
    boxes = Counter(
        (r - PARTS[p][0], c - PARTS[p][1], PARTS[p][2]) for (r, c), p in zip(where, parts, strict=True) if p
    )
    if not boxes:
        row, column = where.mean(0)
        return float(row), float(column)
    (row, column, span), _ = boxes.most_common(1)[0]
    return float(row + (span - 1) / 2), float(column + (span - 1) / 2)


def _majority(labels: np.ndarray) -> int:
    labels = labels[labels > 0]
    return int(np.argmax(np.bincount(labels))) if len(labels) else 0


class CodeReader:
    """Reads codes without a picture: each code stands for the label it most often had in training.

    Args:
        codes: int64 [M, N]; labels: name -> int64 [M, grid, grid] for each of the world's :func:`labels_read`.
    """

    def __init__(self, codes: np.ndarray, labels: dict[str, np.ndarray], world: World = STORYBOOK):
        self.votes = {}
        for name, classes in labels_read(world).items():
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
    "left of": lambda a, b: a.column < b.column,
    "right of": lambda a, b: a.column > b.column,
    "above": lambda a, b: a.row < b.row,
    "below": lambda a, b: a.row > b.row,
}


def holds(fact: Sequence, seen: dict) -> bool:
    """Whether one fact of a text is true of what the reader saw (see :mod:`xlxmert_core.data.storybook.facts`).

    Centres decide what is left of, right of, above, below and between; "next to" is as in scenes.
    """
    return fact[0] != "nonsense" and holds_of(fact, seen["background"], seen["things"], _stands, _between)


def _stands(a: Seen, relation: str, b: Seen) -> bool:
    if relation != NEXT:
        return RELATIONS[relation](a, b)
    reach = (a.span + b.span) / 2
    return abs(a.row - b.row) < reach and abs(a.column - b.column) - reach <= APART


def _between(a: Seen, b: Seen, c: Seen) -> bool:
    return min(b.column, c.column) < a.column < max(b.column, c.column)


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
    stated = [stated_facts(text, scene.world) for scene, text in zip(scenes, texts, strict=True)]
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
    match tuple(fact):
        case ("background", _):
            return f"it is {PLACE[scene.background]}"
        case ("thing", size, colour, kind):
            things = matching(scene.things, kind)
            if len(things) == 1:
                return f"the {kind} is {things[0].size} and {things[0].colour}"
            named = " ".join(word for word in (size, colour, kind) if word)
            return f"there is no {named if things else kind}"
        case ("count", _, size, colour, kind):
            return there_are(len(matching(scene.things, kind, colour, size)), size, colour, kind)
        case ("relation" | "between", *parts):
            names = [part for part in parts if not isinstance(part, str)]
            for colour, kind in names:
                if not matching(scene.things, kind, colour):
                    return there_are(0, None, colour, kind)
            relation = parts[1] if fact[0] == "relation" else "between"
            first, *others = (kind for _, kind in names)
            return f"the {first} is not {relation} the {' and the '.join(dict.fromkeys(others))}"
    return "something is told twice, or the words make no sentence"


def there_are(number: int, size: str | None, colour: str | None, kind: str) -> str:
    """In words: "there is one red house", "there are two houses", "there is no house"."""
    words = " ".join(word for word in (size, colour, kind if number < 2 else PLURALS[kind]) if word)
    told = NUMBERS[number][0] if number in NUMBERS else str(number)
    return f"there are {told} {words}" if number > 1 else f"there is {'one' if number else 'no'} {words}"


def faults(scene: Scene, text: str) -> list[str]:
    """What is wrong in a caption, one sentence for each stated fact that does not hold; none are repeated."""
    stated = stated_facts(text, scene.world)
    wrong = [fact for fact in stated if fact[0] == "nonsense" or not facts_hold(scene, [fact])[0]]
    return list(dict.fromkeys(fault(scene, fact) for fact in wrong))


def round_trip(texts: Sequence[str], captions: Sequence[str], world: World = STORYBOOK) -> dict[str, float]:
    """Texts that were painted against captions of the paintings.

    Shares of the texts' backgrounds, things and counts that the captions tell again ("facts"), and of texts whose every
    one is ("all_right"), word for word, or in substance where kinds repeat. Relations are left out: a caption tells one
    of many.
    """
    kinds = ("background", "thing", "count")
    wanted = [[f for f in stated_facts(text, world) if f[0] in kinds] for text in texts]
    told = [stated_facts(caption, world) for caption in captions]
    found = [[f in again if world.most == 1 else holds(f, picture_of(again)) for f in facts]
             for facts, again in zip(wanted, told, strict=True)]  # fmt: skip
    return {"facts": float(np.mean(sum(found, []))), "all_right": float(np.mean([all(f) for f in found]))}


def picture_of(facts: Sequence[Sequence]) -> dict:
    """What one sees who knows facts alone, as :meth:`SceneReader.read` gives it; nobody knows where things stand."""
    looks = [(1, *fact[1:]) if fact[0] == "thing" else fact[1:] for fact in facts if fact[0] in ("thing", "count")]
    things = [Seen(kind, colour, size, 0, 0) for n, size, colour, kind in looks for _ in range(n)]
    return {"background": next((fact[1] for fact in facts if fact[0] == "background"), ""), "things": things}


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance between Gaussians fitted to two sets of vectors [M, D] (Heusel et al., 2017).

    Raises ValueError for fewer than two vectors on a side, vectors of different widths, or ones that are not finite.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"A Fréchet distance needs two sets of two vectors or more, got {a.shape} and {b.shape}.")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("A Fréchet distance needs finite vectors: look at the pictures that they were made from.")
    means = [side.mean(0, dtype=np.float64) for side in (a, b)]
    # covariance = R^T R: the root of A B has for its trace the singular values' sum of R_a R_b^T, however few vectors
    roots = [np.linalg.qr(side - mean, "r") / (len(side) - 1) ** 0.5 for side, mean in zip((a, b), means, strict=True)]
    both = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    return float(((means[0] - means[1]) ** 2).sum() + sum((root**2).sum() for root in roots) - 2 * both)


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
