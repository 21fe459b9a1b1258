"""What is said of scenes in few words: captions where no kind repeats, statements about two pictures of any.

No capitals, no punctuation: the smallest language that still has colours, sizes, numbers, places and relations. A
sentence never says what the scene graph does not hold. The captions of the wide world are in :mod:`.captions`.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xlxmert_core.data.gqa import with_article
from xlxmert_core.data.storybook.facts import find, scene_facts
from xlxmert_core.data.storybook.grammar import NUMBERS, PLURALS
from xlxmert_core.data.storybook.scenes import COLOURS, KINDS, RELATIONS, SIZES, Scene, Thing, stands

PLACE = {
    "grass": "on the grass",
    "sand": "on the sand",
    "snow": "in the snow",
    "night": "at night",
    "water": "by the water",
}
MOST_WORDS = 28  # in any caption
# Words that can stand for each other: a caption with one of them exchanged is false, and sounds as good.
EXCHANGEABLE = (COLOURS, KINDS, SIZES, ("grass", "sand"), ("left", "right"), ("above", "below"))


@dataclass(frozen=True)
class Caption:
    """A sentence and the facts it states (see ``facts_hold``)."""

    text: str
    facts: tuple[tuple, ...]


def pick(rng: np.random.Generator, options: Sequence) -> Any:
    """One of the options, all equally likely."""
    return options[int(rng.integers(len(options)))]


def describe(thing: Thing, sized: bool = True) -> str:
    """The thing in words: "a small red house", or without its size "a red house"."""
    return with_article(f"{thing.size} {thing.colour} {thing.kind}" if sized else name(thing))


def name(thing: Thing) -> str:
    """Colour and kind, "red house": enough where a scene has one thing of a kind."""
    return f"{thing.colour} {thing.kind}"


def related_pairs(scene: Scene) -> list[tuple[Thing, str, Thing]]:
    """All (a, relation, b) that clearly hold, in a fixed order."""
    pairs = ((a, b) for a in scene.things for b in scene.things if a is not b)
    return [(a, relation, b) for a, b in pairs for relation in RELATIONS if stands(a, relation, b)]


def thing_fact(thing: Thing, sized: bool = True) -> tuple:
    """("thing", size or None, colour, kind)."""
    return ("thing", thing.size if sized else None, thing.colour, thing.kind)


def relation_fact(a: Thing, relation: str, b: Thing) -> tuple:
    """("relation", (colour, kind), relation, (colour, kind))."""
    return ("relation", (a.colour, a.kind), relation, (b.colour, b.kind))


def plain_captions(scene: Scene, rng: np.random.Generator, count: int) -> list[Caption]:
    """``count`` captions in few words; the first tells all (things, place, one relation), the others parts.

    Different from each other where the scene has that much to say.
    """
    result = [_full_caption(scene, rng)]
    while len(result) < count:
        for _ in range(10):
            caption = _partial_caption(scene, rng)
            if all(caption.text != other.text for other in result):
                break
        result.append(caption)
    return result


def _full_caption(scene: Scene, rng: np.random.Generator) -> Caption:
    facts = scene_facts(scene)
    if pairs := related_pairs(scene):
        a, relation, b = pick(rng, pairs)
        rest = [t for t in scene.things if t is not a and t is not b]
        parts = [f"{describe(a)} {relation} {describe(b)}", *(describe(t) for t in rest)]
        facts.append(relation_fact(a, relation, b))
    else:
        parts = [describe(t) for t in scene.things]
    listing, place = " and ".join(parts), PLACE[scene.background]
    frames = (f"{place} there is {listing}", f"{place} we see {listing}", f"{listing} {place}")
    return Caption(pick(rng, frames), tuple(facts))


def _partial_caption(scene: Scene, rng: np.random.Generator) -> Caption:
    sized, placed, pairs = rng.random() < 0.5, rng.random() < 0.3, related_pairs(scene)
    place = f" {PLACE[scene.background]}" if placed else ""
    facts: list[tuple] = [("background", scene.background)] if placed else []
    if pairs and rng.random() < 0.7:
        a, relation, b = pick(rng, pairs)
        facts += [thing_fact(a, sized), thing_fact(b, sized)]
        first, second = describe(a, sized), describe(b, sized)
        if rng.random() < 0.25:
            return Caption(f"we see {first} and {second}{place}", tuple(facts))
        facts.append(relation_fact(a, relation, b))
        frames = (f"{first} {relation} {second}", f"there is {first} {relation} {second}")
        return Caption(pick(rng, frames) + place, tuple(facts))
    thing = pick(rng, scene.things)
    text = describe(thing, sized)
    frame = pick(rng, ("there is {}", "we see {}", "a picture of {}", "{}"))
    return Caption(frame.format(text) + place, (*facts, thing_fact(thing, sized)))


_THING = rf"an? (?:({'|'.join(SIZES)}) )?({'|'.join(COLOURS)}) ({'|'.join(KINDS)})\b"
_JOINT = rf" ({'|'.join(RELATIONS)}|and) "
_PLACE = "|".join(PLACE.values())
_SENTENCE = re.compile(
    rf"(?:({_PLACE}) )?(?:there is |we see |a picture of )?(?:{_THING}(?:{_JOINT}{_THING})*)(?: ({_PLACE}))?"
)


def plain_facts(text: str) -> tuple[tuple, ...]:
    """The facts that a caption states, whoever wrote it: the inverse of :func:`plain_captions`.

    Words that say nothing in Storybook's grammar, and a thing or a place told twice, give a last fact ("nonsense",
    text), which is true of no scene.
    """
    things = [match.groups() for match in re.finditer(_THING, text)]
    joints = re.findall(_JOINT, re.sub(_THING, "@", text))
    facts: list[tuple] = [("background", name) for name, words in PLACE.items() if words in text]
    facts += [("thing", *thing) for thing in things]
    whole = _SENTENCE.fullmatch(text) is not None
    if whole:
        pairs = zip(things[:-1], joints, things[1:], strict=True)
        facts += [("relation", a[1:], joint, b[1:]) for a, joint, b in pairs if joint != "and"]
    twice = len({kind for _, _, kind in things}) < len(things) or len(re.findall(_PLACE, text)) > 1
    if not whole or twice:
        facts.append(("nonsense", text))
    return tuple(facts)


# Statements about two pictures (NLVR2's task). A template gives (statements that hold, statements
# that do not). It is used only where both lists have something, and a coin chooses the list: so the
# sentence alone says nothing about the answer.


def pair_statements(left: Scene, right: Scene, rng: np.random.Generator) -> tuple[str, bool]:
    """A sentence about two pictures and whether it is true, each answer equally likely."""
    templates = templates_of(left)
    usable = (templates[i](left, right) for i in rng.permutation(len(templates)))
    true, false = next((t, f) for t, f in usable if t and f)  # the count template always is
    truth = bool(rng.random() < 0.5)
    return pick(rng, true if truth else false), truth


def statement_holds(sentence: str, left: Scene, right: Scene) -> bool:
    """Whether a statement that :func:`pair_statements` made of two pictures, in either order, is true of them.

    Raises ValueError for a sentence that no template gives for these pictures.
    """
    for template in templates_of(left):
        true, false = template(left, right)
        if sentence in true or sentence in false:
            return sentence in true
    raise ValueError(f"{sentence!r} is no statement about these two pictures: it names what neither shows.")


def _shows(left: Scene, right: Scene) -> tuple[list[str], list[str]]:
    true, false = [], []
    for side, here, there in (("left", left, right), ("right", right, left)):
        form = f"the {side} picture shows "
        true += [form + describe(t, False) for t in here.things]
        false += [form + describe(t, False) for t in there.things if not find(here, t.kind, t.colour)]
    return true, false


def _kinds(left: Scene, right: Scene) -> tuple[list[str], list[str]]:
    first, second = ({t.kind for t in scene.things} for scene in (left, right))
    return [k for k in KINDS if k in first & second], [k for k in KINDS if k in first ^ second]


def _both_show(left: Scene, right: Scene) -> tuple[list[str], list[str]]:
    shared, single = _kinds(left, right)
    form = "both pictures show {}".format
    return [form(with_article(k)) for k in shared], [form(with_article(k)) for k in single]


def _only_one_shows(left: Scene, right: Scene) -> tuple[list[str], list[str]]:
    shared, single = _kinds(left, right)
    form = "only one picture shows {}".format
    return [form(with_article(k)) for k in single], [form(with_article(k)) for k in shared]


def _count(left: Scene, right: Scene) -> tuple[list[str], list[str]]:
    total = len(left.things) + len(right.things)
    form = "there are {} things in the two pictures".format
    sums = [a + b for a in left.world.counts for b in left.world.counts]  # false totals as likely as true ones
    return [form(total)], [form(n) for n in sums if n != total]


def _more(left: Scene, right: Scene) -> tuple[list[str], list[str]]:
    if len(left.things) == len(right.things):
        return [], []
    forms = [f"the {a} picture has more things than the {b} picture" for a, b in _SIDES]
    more = int(len(right.things) > len(left.things))
    return [forms[more]], [forms[1 - more]]


def _place(left: Scene, right: Scene) -> tuple[list[str], list[str]]:
    if left.background == right.background:
        form = "both pictures are {}".format
        others = [b for b in left.world.backgrounds if b != left.background]
        return [form(PLACE[left.background])], [form(PLACE[b]) for b in others]
    here = {"left": PLACE[left.background], "right": PLACE[right.background]}
    true = [f"the {a} picture is {here[a]}" for a, _ in _SIDES]
    return true, [f"the {a} picture is {here[b]}" for a, b in _SIDES]


def _numbers(left: Scene, right: Scene) -> tuple[list[str], list[str]]:
    """How many of a kind there are on one side; two or three, so that the words tell little."""
    true, false, untold = [], [], left.untold & right.untold
    for side, here, there in (("left", left, right), ("right", right, left)):
        shown, other = (Counter(t.kind for t in scene.things) for scene in (here, there))
        for kind, n in ((kind, n) for kind in KINDS for n in (2, 3) if (kind, n) not in untold):
            text = f"the {side} picture shows {NUMBERS[n][0]} {PLURALS[kind]}"
            if shown[kind] == n:
                true.append(text)
            elif shown[kind] + other[kind] > 1:
                false.append(text)
    return true, false


def templates_of(scene: Scene) -> tuple[Callable[[Scene, Scene], tuple[list[str], list[str]]], ...]:
    """What can be stated of two pictures of a scene's world."""
    return TEMPLATES if scene.world.most == 1 else (*TEMPLATES, _numbers)


_SIDES = (("left", "right"), ("right", "left"))
TEMPLATES: tuple[Callable[[Scene, Scene], tuple[list[str], list[str]]], ...] = (
    _shows, _both_show, _only_one_shows, _count, _more, _place,
)  # fmt: skip
