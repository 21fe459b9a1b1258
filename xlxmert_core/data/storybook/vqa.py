"""What can be asked about a storybook scene, the program that answers, and how far guessing goes.

The answer is chosen before the question, so that a question's words say little about its answer;
:func:`xlxmert_core.evaluate.scores.most_frequent` measures how little.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from xlxmert_core.data.storybook import grammar
from xlxmert_core.data.storybook.facts import find, matching
from xlxmert_core.data.storybook.scenes import OPPOSITE, RELATIONS, SIZES, SKY, Scene, Thing, stands
from xlxmert_core.data.storybook.text import describe, name, pick, related_pairs

Step = tuple[str, str, tuple[int, ...]]


@dataclass(frozen=True)
class Question:
    """A question with its one answer.

    ``program``: steps (operation, argument, indices of the steps it takes as input), as in GQA;
    ``kind_of_question``: one of KINDS_OF_QUESTION.
    """

    text: str
    answer: str
    kind_of_question: str
    program: tuple[Step, ...]


def questions(scene: Scene, rng: np.random.Generator, count: int) -> list[Question]:
    """Up to ``count`` different questions (a scene has at least twenty), every kind equally likely.

    What a scene cannot be asked becomes a question whose answer does not hang on how much is there;
    else a lonely thing, which has no relations, would be counted more often than a crowd.
    """
    found: dict[str, Question] = {}
    for _ in range(count):
        asked = ASK[pick(rng, KINDS_OF_QUESTION)](scene, rng)
        for _ in range(50):
            if asked is not None and asked.text not in found:
                found[asked.text] = asked
                break
            asked = ASK[pick(rng, ALWAYS)](scene, rng)
    return list(found.values())


def _select(thing: Thing, coloured: bool) -> tuple[Step, ...]:
    steps: tuple[Step, ...] = (("select", thing.kind, ()),)
    return (*steps, ("filter colour", thing.colour, (0,))) if coloured else steps


def the_one(scene: Scene, thing: Thing, but: str = "") -> tuple[str, tuple[Step, ...]] | None:
    """(words, program) that single the thing out: its kind, with its colour or its size where that is needed.

    ``but`` names what must not be told, "colour" or "size". None where nothing of it does.
    """
    steps: tuple[Step, ...] = (("select", thing.kind, ()),)
    if matching(scene.things, thing.kind) == [thing]:
        return thing.kind, steps
    if but != "colour" and matching(scene.things, thing.kind, thing.colour) == [thing]:
        return name(thing), (*steps, ("filter colour", thing.colour, (0,)))
    if but != "size" and matching(scene.things, thing.kind, None, thing.size) == [thing]:
        return f"{thing.size} {thing.kind}", (*steps, ("filter size", thing.size, (0,)))
    return None


def singled_out(scene: Scene, but: str = "") -> list[tuple[Thing, str, tuple[Step, ...]]]:
    """All things that can be asked about, as (thing, words, program)."""
    found = [(thing, the_one(scene, thing, but)) for thing in scene.things]
    return [(thing, *words) for thing, words in found if words is not None]


def worded(relation: str, scene: Scene, rng: np.random.Generator) -> str:
    """A relation in words, those of the grammar where the scene's world has so many."""
    return relation if scene.world.most == 1 else pick(rng, grammar.RELATIONS[relation])


def _colour(scene: Scene, rng: np.random.Generator) -> Question | None:
    if not (able := singled_out(scene, "colour")):
        return None
    thing, words, steps = pick(rng, able)
    text = pick(rng, ("what colour is the {}", "what is the colour of the {}")).format(words)
    return Question(text, thing.colour, "colour", (*steps, ("query", "colour", (len(steps) - 1,))))


def _size(scene: Scene, rng: np.random.Generator) -> Question | None:
    if not (able := singled_out(scene, "size")):
        return None
    thing, words, steps = pick(rng, able)
    text = pick(rng, ("what size is the {}", "is the {} small or large")).format(words)
    return Question(text, thing.size, "size", (*steps, ("query", "size", (len(steps) - 1,))))


def _background(scene: Scene, rng: np.random.Generator) -> Question:
    text = pick(rng, ("what is the background", "what background is there"))
    program = (("select", "scene", ()), ("query", "background", (0,)))
    return Question(text, scene.background, "background", program)


def _count(scene: Scene, rng: np.random.Generator) -> Question:
    if scene.world.most > 1 and (asked := _count_some(scene, rng)) is not None:
        return asked
    text = pick(rng, ("how many things are there", "how many things do we see"))
    program = (("select", "thing", ()), ("count", "", (0,)))
    return Question(text, str(len(scene.things)), "count", program)


def _count_some(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Things of a kind, or of a kind and a colour, 0 to 3 as likely as the scene allows; often None where none repeats.

    That there are none is asked of what is nearly there.
    """
    pairs = [(t.kind, colour) for t in scene.things for colour in (None, t.colour)]
    numbers = {(kind, colour): len(matching(scene.things, kind, colour)) for kind, colour in pairs}
    if rng.random() < (0.75 if max(numbers.values()) == 1 else 0.3):
        return None
    number = pick(rng, sorted({0, *numbers.values()}))
    if number:
        kind, colour = pick(rng, [pair for pair, n in numbers.items() if n == number])
    else:
        thing = near_miss(pick(rng, scene.things), False, scene, rng)
        kind, colour = thing.kind, thing.colour
        if not matching(scene.things, kind) and rng.random() < 0.5:
            colour = None
    noun = f"{colour} {grammar.PLURALS[kind]}" if colour else grammar.PLURALS[kind]
    text = pick(rng, ("how many {} are there", "how many {} do we see")).format(noun)
    steps: tuple[Step, ...] = (("select", kind, ()), *([("filter colour", colour, (0,))] if colour else []))
    return Question(text, str(number), "count", (*steps, ("count", "", (len(steps) - 1,))))


def _exist(scene: Scene, rng: np.random.Generator) -> Question:
    """Half yes; a "no" changes one thing about something that is there."""
    thing, answer, sized = pick(rng, scene.things), "yes", bool(rng.random() < 0.5)
    if rng.random() < 0.5:
        thing, answer = near_miss(thing, sized, scene, rng), "no"
    text = pick(rng, ("is there {}", "do we see {}")).format(describe(thing, sized))
    program = _select(thing, True) + ((("filter size", thing.size, (1,)),) if sized else ())
    return Question(text, answer, "exist", (*program, ("exist", "", (len(program) - 1,))))


def near_miss(thing: Thing, sized: bool, scene: Scene, rng: np.random.Generator) -> Thing:
    """The thing with another colour, kind or, where the text says it, size; not in the scene."""
    change = pick(rng, ("colour", "kind", "size") if sized else ("colour", "kind"))
    if change == "size":
        other = replace(thing, size=next(s for s in SIZES if s != thing.size))
        if not find(scene, other.kind, other.colour, other.size):
            return other
        change = pick(rng, ("colour", "kind"))
    values = scene.world.colours if change == "colour" else scene.world.kinds
    options = [replace(thing, **{change: value}) for value in values]
    # Asking a training scene for a held-out pair would teach that such a thing never is.
    return pick(rng, [
        t for t in options if not find(scene, t.kind, t.colour) and (t.colour, t.kind) not in scene.hidden
    ])  # fmt: skip


def _what(scene: Scene, rng: np.random.Generator) -> Question | None:
    """The answer is drawn first; None when no relation singles it out.

    Above and below are asked within the sky or the ground only: across, the words give it away.
    """
    answer = pick(rng, scene.things)
    usable = [
        (relation, anchor)
        for anchor in scene.things
        for relation in RELATIONS
        if [t for t in scene.things if t is not anchor and stands(t, relation, anchor)] == [answer]
        and _fair(answer, relation, anchor)
        and matching(scene.things, anchor.kind, anchor.colour) == [anchor]
    ]
    if not usable:
        return None
    relation, anchor = pick(rng, usable)
    steps = _select(anchor, True)
    program = (*steps, ("relate", relation, (1,)), ("query", "kind", (2,)))
    return Question(f"what is {worded(relation, scene, rng)} the {name(anchor)}", answer.kind, "relation", program)


def _verify(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Half yes; a "no" asks for the opposite of what holds."""
    able = {thing: (words, steps) for thing, words, steps in singled_out(scene)}
    pairs = [pair for pair in related_pairs(scene) if _fair(*pair) and pair[0] in able and pair[2] in able]
    if not pairs:
        return None
    a, relation, b = pick(rng, pairs)
    answer = "yes" if rng.random() < 0.5 else "no"
    asked = relation if answer == "yes" else OPPOSITE[relation]
    (first, of_a), (second, of_b) = able[a], able[b]
    start = len(of_a)
    later = tuple((operation, argument, tuple(start + i for i in inputs)) for operation, argument, inputs in of_b)
    program = (*of_a, *later, ("verify relation", asked, (start - 1, start + len(of_b) - 1)))
    return Question(f"is the {first} {worded(asked, scene, rng)} the {second}", answer, "verify", program)


def _fair(a: Thing, relation: str, b: Thing) -> bool:
    return relation in ("left of", "right of") or (a.kind in SKY) == (b.kind in SKY)


ASK: dict[str, Callable[[Scene, np.random.Generator], Question | None]] = {
    "colour": _colour, "size": _size, "background": _background, "count": _count,
    "exist": _exist, "relation": _what, "verify": _verify,
}  # fmt: skip
KINDS_OF_QUESTION = tuple(ASK)
ALWAYS = ("colour", "size", "exist")
