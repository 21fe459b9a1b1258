"""Scenes drawn at random: which things, how they look, where they stand."""

from collections import Counter
from collections.abc import Sequence
from itertools import product

import numpy as np

from xlxmert_core.data.storybook.scenes import GRID, SIZES, SPAN, STORYBOOK, Scene, Thing, World, places

AGAIN, ALIKE = 0.55, 0.6  # how likely another thing is of a kind that is there, and then looks like it: guesses
Looks = list[tuple[str, str]]  # (colour, size) of each thing


def sample_scene(rng: np.random.Generator, held_out: bool = False, world: World = STORYBOOK,
                 held_count: bool = False) -> Scene:  # fmt: skip
    """A scene of a world; with ``held_out`` one of its things is a held-out pair, else none is.

    With ``held_count`` it has a number of one kind that training never shows, all of them alike.
    """
    background = world.backgrounds[rng.integers(len(world.backgrounds))]
    count = int(world.counts[rng.integers(len(world.counts))])
    fixed: list[str] = []
    if held_count:
        kind, number = sorted(world.held_counts)[rng.integers(len(world.held_counts))]
        fixed, count = [kind] * number, max(count, number)
    while True:
        kinds, looks = (_few if world.most == 1 else _crowd)(count, rng, world, fixed)
        if held_out:
            colour = next((c for c, k in world.held_out if k == kinds[0]), None)
            if colour is None:
                continue
            looks[0] = (colour, looks[0][1])
        if world.held_counts & numbers(kinds, looks) != {(kind, len(fixed)) for kind in fixed}:
            continue
        things = _place(kinds, looks, rng)
        if things is not None:
            order = rng.permutation(count)
            return Scene(background, tuple(things[i] for i in order), world)


def numbers(kinds: Sequence[str], looks: Sequence[tuple[str, str]]) -> set[tuple[str, int]]:
    """Every (kind, n) that can be told of the things: of a kind, and of its colours and sizes."""
    told = Counter((kind, colour if c else None, size if s else None)
                   for kind, (colour, size) in zip(kinds, looks, strict=True)
                   for c, s in product((True, False), repeat=2))  # fmt: skip
    return {(kind, n) for (kind, *_), n in told.items()}


def _few(count: int, rng: np.random.Generator, world: World, _: list[str]) -> tuple[list[str], Looks]:
    kinds = [world.kinds[i] for i in rng.permutation(len(world.kinds))[:count]]
    return kinds, [_sample_look(kind, rng, world) for kind in kinds]


def _crowd(count: int, rng: np.random.Generator, world: World, fixed: list[str]) -> tuple[list[str], Looks]:
    """Kinds that may repeat, the fixed ones first and alike; then some of what is there again, alike or not."""
    kinds, fresh = (
        list(fixed),
        [world.kinds[i] for i in rng.permutation(len(world.kinds)) if world.kinds[i] not in fixed],
    )
    while len(kinds) < count:
        again = [kind for kind in dict.fromkeys(kinds) if kinds.count(kind) < world.most and kind not in fixed]
        kinds.append(again[rng.integers(len(again))] if again and rng.random() < AGAIN else fresh.pop())
    looks: Looks = []
    for i, kind in enumerate(kinds):
        same = kind in kinds[:i] and (kind in fixed or rng.random() < ALIKE)
        looks.append(looks[kinds.index(kind)] if same else _sample_look(kind, rng, world))
    return kinds, looks


def _sample_look(kind: str, rng: np.random.Generator, world: World) -> tuple[str, str]:
    colours = [c for c in world.colours if (c, kind) not in world.held_out]
    return colours[rng.integers(len(colours))], SIZES[rng.integers(len(SIZES))]


def _place(kinds: Sequence[str], looks: Looks, rng: np.random.Generator) -> list[Thing] | None:
    """Put the things down one by one, each on a free place; None when one finds none.

    Things of one kind do not touch, so that each can be seen for itself.
    """
    taken = np.zeros((GRID, GRID), bool)
    around = {kind: np.zeros((GRID, GRID), bool) for kind in kinds}
    things = []
    for kind, (colour, size) in zip(kinds, looks, strict=True):
        span = SPAN[size]
        closed = taken | around[kind]
        free = [(r, c) for r, c in places(kind, size) if not closed[r : r + span, c : c + span].any()]
        if not free:
            return None
        row, column = free[rng.integers(len(free))]
        taken[row : row + span, column : column + span] = True
        around[kind][max(row - 1, 0) : row + span + 1, max(column - 1, 0) : column + span + 1] = True
        things.append(Thing(kind, colour, size, row, column))
    return things
