"""Storybook scenes: what is where, drawn in cells, with everything known exactly.

A picture is 128 pixels wide, an 8 x 8 grid of 16-pixel cells. Objects stand on whole cells: a large
one in 3 x 3, a small one in 2 x 2. An object always gives the same cells, so a code can name them.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from xlxmert_core.data.storybook import sprites

GROUND = ("house", "tree", "car", "boat", "flower", "mushroom", "ball", "cup")
SKY = ("star", "balloon", "kite", "bird")
KINDS = GROUND + SKY
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
SIZES = ("small", "large")
BACKGROUNDS = ("grass", "sand", "snow", "night", "water")
SPAN = {"small": 2, "large": 3}  # side of the box, in cells
GRID, CELL = 8, 16  # cells a side; pixels a cell
PIXELS = GRID * CELL
COVERED = 0.04  # a cell belongs to an object when this share of it is painted

# (colour, kind) pairs that training never shows: can the model combine what it knows apart?
HELD_OUT = frozenset({
    ("red", "boat"), ("orange", "house"), ("yellow", "mushroom"), ("green", "cup"),
    ("blue", "tree"), ("purple", "car"), ("pink", "star"), ("brown", "balloon"),
})  # fmt: skip
# (kind, number) that training never shows: can the model count what it has not counted?
HELD_COUNTS = frozenset({("tree", 2), ("cup", 2), ("kite", 2), ("house", 3), ("flower", 3), ("star", 3)})


@dataclass(frozen=True)
class World:
    """What scenes are made of: all of Storybook, or so much of it that a model learns it in minutes.

    counts: how many things a scene has, drawn evenly from this list, as far as there are scenes of so few that are not
    drawn yet; held_out: (colour, kind) pairs that training never shows; most: things of one kind, at most; held_counts:
    (kind, n), of which training never shows n together, nor n that are alike.
    """

    kinds: tuple[str, ...]
    colours: tuple[str, ...]
    backgrounds: tuple[str, ...]
    counts: tuple[int, ...]
    held_out: frozenset[tuple[str, str]]
    most: int = 1
    held_counts: frozenset[tuple[str, int]] = frozenset()


STORYBOOK = World(KINDS, COLOURS, BACKGROUNDS, (1, 2, 3, 4), HELD_OUT)
WIDE = World(KINDS, COLOURS, BACKGROUNDS, (1, 2, 3, 4, 5), HELD_OUT, 3, HELD_COUNTS)
JUNIOR = World(
    ("house", "tree", "ball", "star"), ("red", "yellow", "blue"), ("grass", "night"), (1, 1, 2),
    frozenset({("blue", "tree")}),
)  # fmt: skip

# relation -> (axis of (row, column), sign): "left of" means the smaller column.
RELATIONS = {"left of": (1, -1), "right of": (1, 1), "above": (0, -1), "below": (0, 1)}
NEXT, APART = "next to", 1  # side by side, with at most so many columns free between them
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


@dataclass(frozen=True)
class Thing:
    """One object; (row, column) is the top left cell of its box."""

    kind: str
    colour: str
    size: str
    row: int
    column: int

    @property
    def span(self) -> int:
        """Side of the box, in cells."""
        return SPAN[self.size]


@dataclass(frozen=True)
class Scene:
    """A background and some things of a world, at most ``world.most`` of one kind, no two boxes overlapping."""

    background: str
    things: tuple[Thing, ...]
    world: World = STORYBOOK

    def to_json(self) -> dict:
        """Plain lists and dicts; :meth:`from_json` is the way back."""
        things = [[t.kind, t.colour, t.size, t.row, t.column] for t in self.things]
        return {"background": self.background, "things": things}

    @classmethod
    def from_json(cls, value: dict, world: World = STORYBOOK) -> "Scene":
        """The scene that :meth:`to_json` wrote, which does not say of which world."""
        return cls(value["background"], tuple(Thing(*fields) for fields in value["things"]), world)

    @property
    def hidden(self) -> frozenset[tuple[str, str]]:
        """Pairs that no text about this scene may name: the held-out ones, unless the scene shows one itself."""
        shown = any((t.colour, t.kind) in self.world.held_out for t in self.things)
        return frozenset() if shown else self.world.held_out

    @property
    def untold(self) -> frozenset[tuple[str, int]]:
        """(kind, n) that no text about this scene may name: the held-out ones, unless the scene shows one itself."""
        shown = set(Counter(t.kind for t in self.things).items()) & self.world.held_counts
        return frozenset() if shown else self.world.held_counts


def stands(a: Thing, relation: str, b: Thing) -> bool:
    """Whether a is clearly left of, right of, above or below b, apart along that axis, or next to it."""
    if relation == NEXT:
        gap = max(a.column - b.column - b.span, b.column - a.column - a.span)
        return 0 <= gap <= APART and not stands(a, "above", b) and not stands(a, "below", b)
    axis, sign = RELATIONS[relation]
    first, second = (a, b) if sign < 0 else (b, a)
    return (first.row, first.column)[axis] + first.span <= (second.row, second.column)[axis]


def between(a: Thing, b: Thing, c: Thing) -> bool:
    """Whether a is right of one of b and c and left of the other."""
    return any(stands(x, "left of", a) and stands(a, "left of", y) for x, y in ((b, c), (c, b)))


def overlap(a: Thing, b: Thing) -> bool:
    """Whether two boxes share a cell."""
    return not any(stands(a, relation, b) for relation in RELATIONS)


def places(kind: str, size: str) -> list[tuple[int, int]]:
    """All (row, column) a kind may have: the sky's in rows 0-3, others with feet in rows 4-7."""
    span = SPAN[size]
    rows = range(0, 5 - span) if kind in SKY else range(5 - span, GRID + 1 - span)
    return [(row, column) for row in rows for column in range(GRID + 1 - span)]


def render(scene: Scene) -> np.ndarray:
    """The picture, uint8 [128, 128, 3]."""
    picture = sprites.background(scene.background, PIXELS).copy()
    for thing in scene.things:
        image = sprites.sprite(thing.kind, thing.colour, thing.span * CELL)
        sprites.paste(picture, image, thing.row * CELL, thing.column * CELL)
    return picture


def cell_labels(scene: Scene) -> dict[str, np.ndarray]:
    """What each cell shows, int64 [8, 8] each.

    kind 0-12, colour 0-8, size 0-2 and part 0-13 (1-9 in a large box, 10-13 in a small one, row by
    row), all 0 where no object is, also in a corner of a box that the object leaves empty;
    background 0-4 everywhere.
    """
    labels = {name: np.zeros((GRID, GRID), np.int64) for name in ("kind", "colour", "size", "part")}
    for t in scene.things:
        n = t.span
        window = (slice(t.row, t.row + n), slice(t.column, t.column + n))
        alpha = sprites.sprite(t.kind, t.colour, n * CELL)[..., 3].reshape(n, CELL, n, CELL)
        covered = alpha.mean((1, 3)) > COVERED * 255  # [n, n]
        part = np.arange(n * n).reshape(n, n) + (1 if n == 3 else 10)
        labels["kind"][window] = covered * (KINDS.index(t.kind) + 1)
        labels["colour"][window] = covered * (COLOURS.index(t.colour) + 1)
        labels["size"][window] = covered * (SIZES.index(t.size) + 1)
        labels["part"][window] = covered * part
    labels["background"] = np.full((GRID, GRID), BACKGROUNDS.index(scene.background), np.int64)
    return labels


def centre_cell(thing: Thing) -> tuple[int, int]:
    """(row, column) of the middle cell of the box; in a 2 x 2 box, the lower right of the four."""
    return thing.row + thing.span // 2, thing.column + thing.span // 2
