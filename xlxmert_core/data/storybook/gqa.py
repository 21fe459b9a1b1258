"""Questions that take several steps, as in GQA: compositions of select, relate, filter, query and compare.

Every question has a program that answers it on the scene graph, GQA's two types, and the questions that its
answer *entails*: who says that the ball is red must not deny it when asked "is the ball red".
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from xlxmert_core.data.storybook.facts import matching
from xlxmert_core.data.storybook.scenes import RELATIONS, SIZES, Scene, Thing, stands
from xlxmert_core.data.storybook.text import describe, name, pick
from xlxmert_core.data.storybook.vqa import Step, near_miss, singled_out, the_one, worded


@dataclass(frozen=True)
class Compound:
    """A question of several steps; ``types`` is GQA's (structural, semantic, detailed).

    ``entailed`` follow from the answer.
    """

    text: str
    answer: str
    types: tuple[str, str, str]
    program: tuple[Step, ...]
    entailed: tuple["Compound", ...] = ()


def compounds(scene: Scene, rng: np.random.Generator, count: int) -> list[Compound]:
    """``count`` questions with different texts, drawn from TEMPLATES where the scene allows it.

    What a question entails is asked too, so that consistency can be measured, and counts as a question.
    """
    found: dict[str, Compound] = {}
    while len(found) < count:
        asked = pick(rng, TEMPLATES)(scene, rng)
        if asked is None or asked.text in found:
            continue
        found[asked.text] = asked
        for implied in asked.entailed:
            found.setdefault(implied.text, implied)
    return list(found.values())[:count]


def _refer(scene: Scene, rng: np.random.Generator, but: str = "") -> tuple[Thing, str, tuple[Step, ...]] | None:
    """A thing, by what it is or by where it stands: (thing, words, program that selects it).

    Its colour or size, whichever is ``but``, is not told. None where nothing singles a thing out.
    """
    anchors = [(anchor, words) for anchor in scene.things if (words := the_one(scene, anchor)) is not None]
    ways = [
        (thing, f"the thing {relation} the {words}", (*steps, ("relate", relation, (len(steps) - 1,))))
        for anchor, (words, steps) in anchors
        for relation in RELATIONS
        for thing in scene.things
        if [t for t in scene.things if t is not anchor and stands(t, relation, anchor)] == [thing]
    ]
    if ways and rng.random() < 0.5:
        thing, words, steps = pick(rng, ways)
        relation = steps[-1][1]
        return thing, words.replace(f" {relation} ", f" {worded(relation, scene, rng)} ", 1), steps
    if not (able := singled_out(scene, but)):
        return None
    thing, words, steps = pick(rng, able)
    return thing, f"the {words}", steps


def _another(thing: Thing, attribute: str, scene: Scene, rng: np.random.Generator) -> str:
    """Another colour or size than the thing has; in a training scene no pair that training holds out."""
    if attribute == "size":
        return SIZES[1 - SIZES.index(thing.size)]
    others = [c for c in scene.world.colours if c != thing.colour]
    return pick(rng, [c for c in others if (c, thing.kind) not in scene.hidden])


def _verify(thing, words, steps, attribute, scene, rng) -> Compound:
    true = bool(rng.random() < 0.5)
    value = getattr(thing, attribute) if true else _another(thing, attribute, scene, rng)
    program = (*steps, (f"verify {attribute}", value, (len(steps) - 1,)))
    return Compound(f"is {words} {value}", "yes" if true else "no", ("verify", "attr", f"verify {attribute}"), program)


def _query(scene: Scene, rng: np.random.Generator) -> Compound | None:
    if (found := _refer(scene, rng, "colour" if scene.world.most > 1 else "")) is None:
        return None
    thing, words, steps = found
    attribute = pick(rng, ("colour", "colour", "size"))
    if attribute == "size" and steps[-1][0] == "filter size":  # told already
        attribute = "colour"
    program = (*steps, ("query", attribute, (len(steps) - 1,)))
    implied = _verify(thing, words, steps, attribute, scene, rng)
    text = f"what {attribute} is {words}"
    return Compound(text, getattr(thing, attribute), ("query", "attr", f"query {attribute}"), program, (implied,))


def _choose(scene: Scene, rng: np.random.Generator) -> Compound | None:
    """Small or large; a choice of two colours would tell half of the answer."""
    if (found := _refer(scene, rng, "size")) is None:
        return None
    thing, words, steps = found
    program = (*steps, ("choose size", "small|large", (len(steps) - 1,)))
    implied = _verify(thing, words, steps, "size", scene, rng)
    first, second = pick(rng, (SIZES, SIZES[::-1]))
    text = f"is {words} {first} or {second}"
    return Compound(text, thing.size, ("choose", "attr", "choose size"), program, (implied,))


def _which(scene: Scene, rng: np.random.Generator) -> Compound | None:
    """What stands there; None where the thing would be named by its kind."""
    found = _refer(scene, rng)
    if found is None or found[2][-1][0] != "relate":
        return None
    thing, words, steps = found
    program = (*steps, ("query", "kind", (len(steps) - 1,)))
    return Compound(f"what is {words}", thing.kind, ("query", "rel", "query kind"), program)


def _logical(scene: Scene, rng: np.random.Generator) -> Compound | None:
    """Two things joined by "and" or "or"; what is not there differs from something that is by one attribute."""
    if len(scene.things) < 2:
        return None
    distinct = [t for i, t in enumerate(scene.things) if name(t) not in map(name, scene.things[:i])]
    a, b = (distinct[i] for i in rng.permutation(len(distinct))[:2]) if len(distinct) > 1 else distinct * 2
    joints = ("and", "or") if len(distinct) > 1 else ("or",)  # "and" could not be true
    joint, true = pick(rng, joints), bool(rng.random() < 0.5)
    if (joint == "and") != true:  # one of them is missing
        a = near_miss(a, False, scene, rng)
    elif not true:
        a, b = (near_miss(t, False, scene, rng) for t in (a, b))
    if rng.random() < 0.5:
        a, b = b, a
    if name(a) == name(b) or (scene.world.most == 1 and a.kind == b.kind):
        return None
    program: tuple[Step, ...] = ()
    for thing in (a, b):
        start = len(program)
        program += (("select", thing.kind, ()), ("filter colour", thing.colour, (start,)), ("exist", "", (start + 1,)))
    text = f"is there {describe(a, False)} {joint} {describe(b, False)}"
    return Compound(
        text, "yes" if true else "no", ("logical", "obj", f"logical {joint}"), (*program, (joint, "", (2, 5)))
    )


def _compare(scene: Scene, rng: np.random.Generator) -> Compound | None:
    """Two things, their colours or sizes; asked only where the scene could have given either answer."""
    options = []
    alone = [t for t in scene.things if matching(scene.things, t.kind) == [t]]
    for attribute in ("colour", "size"):
        pairs = [(a, b) for a in alone for b in alone if a is not b]
        same = [p for p in pairs if getattr(p[0], attribute) == getattr(p[1], attribute)]
        different = [p for p in pairs if p not in same]
        if same and different:
            options.append((attribute, same, different))
    if not options:
        return None
    attribute, same, different = pick(rng, options)
    true = bool(rng.random() < 0.5)
    a, b = pick(rng, same if true else different)
    program = (("select", a.kind, ()), ("select", b.kind, ()), (f"same {attribute}", "", (0, 1)))
    text = f"are the {a.kind} and the {b.kind} the same {attribute}"
    return Compound(text, "yes" if true else "no", ("compare", "attr", f"compare {attribute}"), program)


TEMPLATES: tuple[Callable[[Scene, np.random.Generator], Compound | None], ...] = (
    _query, _query, _choose, _which, _which, _logical, _logical, _compare, _compare,
)  # fmt: skip
