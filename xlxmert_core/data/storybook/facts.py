"""Facts: what a text states of a picture, and whether it is so.

("background", b); ("thing", size, colour, kind), there is such a thing; ("count", n, size, colour, kind), there are
exactly n; ("relation", (colour, kind), relation, (colour, kind)), each such thing stands so to each of the others; and
("between", (colour, kind), (colour, kind), (colour, kind)), the first between the others, where two equal ones stand
for the two things that match. None in place of a size or a colour means any.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations, product
from typing import NamedTuple

from xlxmert_core.data.storybook.scenes import Scene, Thing, between, stands


class Look(NamedTuple):
    """How some things are described: so many of a size, a colour and a kind; None where nothing is told."""

    number: int
    size: str | None
    colour: str | None
    kind: str

    @property
    def fact(self) -> tuple:
        """That there is one, or that there are so many."""
        return ("thing", *self[1:]) if self.number == 1 else ("count", *self)

    @property
    def name(self) -> tuple[str | None, str]:
        """(colour, kind), by which relations refer to it."""
        return self.colour, self.kind


def matching(things: Iterable, kind: str, colour: str | None = None, size: str | None = None) -> list:
    """The things of a kind (and colour, and size)."""
    return [t for t in things if t.kind == kind and colour in (None, t.colour) and size in (None, t.size)]


def find(scene: Scene, kind: str, colour: str | None = None, size: str | None = None) -> Thing | None:
    """The first thing of a kind (and colour, and size), or None."""
    return next(iter(matching(scene.things, kind, colour, size)), None)


def facts_hold(scene: Scene, facts: Iterable[Sequence]) -> list[bool]:
    """Whether each fact is true of the scene; raises ValueError for what is no fact."""
    return [holds(fact, scene.background, scene.things) for fact in facts]


def holds(fact: Sequence, background: str, things: Sequence, stand: Callable = stands,
          among: Callable = between) -> bool:  # fmt: skip
    """Whether a fact is true of things with kind, colour and size.

    ``stand(a, relation, b)`` and ``among(a, b, c)`` say what is meant by a relation and by between. Raises ValueError
    for another fact.
    """
    match tuple(fact):
        case ("background", name):
            return background == name
        case ("thing", size, colour, kind):
            return bool(matching(things, kind, colour, size))
        case ("count", n, size, colour, kind):
            return len(matching(things, kind, colour, size)) == n
        case ("relation", (colour, kind), relation, (other, another)):
            pairs = list(product(matching(things, kind, colour), matching(things, another, other)))
            return bool(pairs) and all(stand(a, relation, b) for a, b in pairs)
        case ("between", (colour, kind), one, other):
            middle, first, second = (matching(things, kind, colour) for colour, kind in ((colour, kind), one, other))
            same = tuple(one) == tuple(other)
            sides = list(combinations(first, 2) if same else product(first, second))
            return bool(middle and sides) and all(among(m, a, b) for m in middle for a, b in sides)
    raise ValueError(f"{fact!r} is no storybook fact: begin it with background, thing, count, relation or between.")


def looks_of(scene: Scene, sized: Callable[[str], bool], coloured: Callable[[str], bool]) -> list[Look]:
    """All things of a scene, in its order: those that are described alike together.

    ``sized(kind)`` and ``coloured(kind)`` say whether a kind's sizes and colours are told.
    """
    found: dict[tuple, int] = {}
    for t in scene.things:
        key = (t.size if sized(t.kind) else None, t.colour if coloured(t.kind) else None, t.kind)
        found[key] = found.get(key, 0) + 1
    return [Look(number, *key) for key, number in found.items()]


def scene_facts(scene: Scene) -> list[tuple]:
    """The background and every thing with its size and colour, alike ones counted: what a full caption tells."""
    return [("background", scene.background), *(look.fact for look in looks_of(scene, bool, bool))]
