"""Captions of storybook scenes, drawn from the words of :mod:`.grammar`, and never saying what does not hold.

A caption is made in two steps: what is told (:class:`Content`), then how (one of the forms of ``grammar.FORM``). Counts
are exact: "a red ball" is said where there is one such ball, "two red balls" where there are two.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

import numpy as np

from xlxmert_core.data.gqa import with_article
from xlxmert_core.data.storybook import grammar
from xlxmert_core.data.storybook.facts import Look, facts_hold, looks_of, matching
from xlxmert_core.data.storybook.scenes import NEXT, RELATIONS, Scene
from xlxmert_core.data.storybook.text import Caption, pick, plain_captions

MOST_WORDS = 30  # in any caption
WITH_IDLE, POLITELY = 0.04, 0.04  # shares of things called pretty, and of captions that say please: guesses
# Words that can stand for each other: a caption with one of them exchanged is false, and sounds as good.
EXCHANGEABLE = (
    grammar.COLOURS, tuple(grammar.PLURALS), tuple(grammar.PLURALS.values()), ("two", "three"), ("2", "3"),
    ("left", "right"), ("above", "below"), ("over", "under"), *zip(*grammar.SIZES.values(), strict=True),
)  # fmt: skip
# What a caption that says where things stand has in it, though "by" is also said of water.
RELATION_WORDS = tuple(
    words for said in (*grammar.RELATIONS.values(), grammar.BETWEEN) for words in said if words != "by"
)


@dataclass(frozen=True)
class Content:
    """What a caption tells: looks, a place or None, and a fact about where some of the looks stand, or None.

    ``relation``: (numbers of looks: subject, object, or subject and the two on its sides; relation).
    """

    looks: tuple[Look, ...]
    place: str | None
    relation: tuple[tuple[int, ...], str] | None

    @property
    def facts(self) -> tuple[tuple, ...]:
        """As ``facts_hold`` takes them."""
        place = [("background", self.place)] if self.place else []
        return (*place, *(look.fact for look in self.looks), *(() if self.relation is None else [self.stands]))

    @property
    def stands(self) -> tuple:
        """The relation as a fact."""
        assert self.relation is not None
        return relation_of([self.looks[i] for i in self.relation[0]], self.relation[1])


@dataclass(frozen=True)
class _Form:
    """How a relation is told: what the sentence opens with, parts of its list, a clause that closes it.

    bare: the list is a sentence already ("a house is near a tree"), before which no "there is" may stand.
    """

    parts: list[str]
    opens: str = ""
    closes: str = ""
    bare: bool = False


def relation_of(looks: Sequence[Look], relation: str) -> tuple:
    """A relation between looks as a fact; of two looks "between", the second is on both sides."""
    if relation == "between":
        return ("between", looks[0].name, looks[1].name, looks[-1].name)
    return ("relation", looks[0].name, relation, looks[1].name)


def captions(scene: Scene, rng: np.random.Generator, count: int = 5) -> list[Caption]:
    """``count`` captions; the first tells all (things, colours, sizes, place, one relation), the others less.

    Different from each other where the scene has that much to say; of worlds without repetition, in few words.
    """
    if scene.world.most == 1:
        return plain_captions(scene, rng, count)
    result: list[Caption] = []
    for i in range(count):
        for _ in range(10):
            caption = _told(scene, rng, _whole if i == 0 else _loose if i < 3 else _part)
            if all(caption.text != other.text for other in result):
                break
        result.append(caption)
    return result


def _told(scene, rng, contents) -> Caption:
    while True:
        content = contents(scene, rng)
        text = say(content, rng, later=contents is not _whole)
        if len(text.split()) <= MOST_WORDS:
            return Caption(text, content.facts)


def _whole(scene: Scene, rng: np.random.Generator) -> Content:
    looks = _shuffled(looks_of(scene, bool, bool), rng)
    return Content(looks, scene.background, _relation(scene, looks, rng))


def _loose(scene: Scene, rng: np.random.Generator) -> Content:
    """All things, not all about them."""
    sized = dict.fromkeys(grammar.PLURALS, rng.random() < 0.3)
    coloured = {kind: rng.random() < 0.9 for kind in grammar.PLURALS}
    looks = _shuffled(looks_of(scene, sized.__getitem__, coloured.__getitem__), rng)
    place = scene.background if rng.random() < 0.7 else None
    return Content(looks, place, _relation(scene, looks, rng) if rng.random() < 0.7 else None)


def _part(scene: Scene, rng: np.random.Generator) -> Content:
    """Some of the things, most often those that stand in a relation."""
    whole = _loose(scene, rng)
    kept = list(whole.relation[0]) if whole.relation else [int(rng.integers(len(whole.looks)))]
    others = [i for i in range(len(whole.looks)) if i not in kept]
    if others and rng.random() < 0.3:
        kept.append(pick(rng, others))
    relation = (tuple(range(len(whole.relation[0]))), whole.relation[1]) if whole.relation else None
    place = whole.place if rng.random() < 0.6 else None
    return Content(tuple(whole.looks[i] for i in kept), place, relation)


def _shuffled(looks: list[Look], rng: np.random.Generator) -> tuple[Look, ...]:
    return tuple(looks[i] for i in rng.permutation(len(looks)))


def _relation(scene: Scene, looks: Sequence[Look], rng: np.random.Generator) -> tuple[tuple[int, ...], str] | None:
    """One that holds; None where there is none. Those that seldom hold are told twice as readily as the others."""
    named = [i for i, look in enumerate(looks)
             if len(matching(scene.things, look.kind, look.colour)) == look.number]  # fmt: skip
    found: dict[str, list[tuple[int, ...]]] = {}
    pairs = [(i, j) for i, j in product(named, named) if i != j]
    # "between two balls" says it all: what else is beside comes first
    sides = [sorted(two, key=lambda i: looks[i].number == 2) for two in combinations(named, 2)]
    trios = [(i, *two) for i in named for two in sides if i not in two and looks[two[0]].number != 2]
    trios += [(i, j) for i, j in pairs if looks[j].number == 2]
    for relation in (*RELATIONS, NEXT, "between"):
        for those in trios if relation == "between" else pairs:
            if facts_hold(scene, [relation_of([looks[i] for i in those], relation)])[0]:
                found.setdefault(relation, []).append(those)
    if not found:
        return None
    relation = pick(rng, [*found, *(seldom for seldom in (NEXT, "between") if seldom in found)])
    return pick(rng, found[relation]), relation


def say(content: Content, rng: np.random.Generator, later: bool = True) -> str:
    """A content in one of the grammar's forms; with ``later`` a colour or a size may be told at the end."""
    before, afterwards = _told_later(content, rng) if later else (content, "")
    told = content.relation[0] if content.relation else ()
    rest = [_thing(look, rng) for i, look in enumerate(before.looks) if i not in told]
    form = _related(before, rng) if told else _Form([])
    last = form.closes.startswith(("it ", "they ")) or (rng.random() < 0.3 and not form.opens and not form.bare)
    parts = [*rest, *form.parts] if last else [*form.parts, *rest]
    return _framed(content.place, form, parts, [clause for clause in (form.closes, afterwards) if clause], rng)


def _framed(where: str | None, form: _Form, parts: list[str], clauses: list[str], rng: np.random.Generator) -> str:
    """Opening, list, place and what is told afterwards."""
    joint = " and " if len(parts) < 3 or rng.random() < 0.4 else " "  # where a writer puts commas
    if len(parts) == 2 and not clauses and rng.random() < 0.1:
        joint = " with "
    listing = joint.join(parts) if len(parts) < 3 else joint.join(parts[:-1]) + " and " + parts[-1]
    one, many = pick(rng, list(grammar.OPENINGS.items()))
    first = parts[0].split()[0]
    single = grammar.NUMBER_OF[first] == 1
    opening = (one if single else many) if rng.random() < 0.5 and not form.bare else ""
    if form.opens:  # "above a house there is a star"
        opening = pick(rng, ("there is" if single else "there are", "we see"))
    sentence = [form.opens, opening, listing]
    if where:
        place = pick(rng, grammar.PLACES[where])
        if place.startswith("it is"):
            sentence = [place, "and" if opening and not form.opens else "", *sentence]
        else:
            sentence = [place, *sentence] if rng.random() < 0.4 else [*sentence, place]
    please = [pick(rng, grammar.POLITE)] if rng.random() < POLITELY else []
    return " ".join(part for part in [*sentence, *clauses, *please] if part)


def _told_later(content: Content, rng: np.random.Generator) -> tuple[Content, str]:
    """Sometimes a colour or a size is told at the end: (what is told before, "the house is red"), else ""."""
    able = [(i, name) for i, look in enumerate(content.looks) for name in ("size", "colour") if getattr(look, name)
            and sum(other.kind == look.kind for other in content.looks) == 1]  # fmt: skip
    if not able or rng.random() > 0.1:
        return content, ""
    i, name = pick(rng, able)
    looks, word = list(content.looks), getattr(content.looks[i], name)
    looks[i] = looks[i]._replace(**{name: None})
    told = pick(rng, grammar.SIZES[word]) if name == "size" else word
    verb = "is" if looks[i].number == 1 else "are"
    return replace(content, looks=tuple(looks)), f"{_again(looks, i, rng)} {verb} {told}"


def _related(content: Content, rng: np.random.Generator) -> _Form:
    """Where the looks of the relation stand."""
    assert content.relation is not None
    those, relation = content.relation
    looks, [subject, *objects] = content.looks, [content.looks[i] for i in those]
    a, others = _thing(subject, rng), [_thing(look, rng) for look in objects]
    where = pick(rng, grammar.BETWEEN if relation == "between" else grammar.RELATIONS[relation])
    them = "them" if relation == "between" or objects[0].number > 1 else "it"
    both, form = " and ".join(others), rng.random()
    clear = len(objects) == 1 or all(look.number == 1 for look in objects)
    if form < 0.35:
        return _Form([f"{a} {_verb(grammar.WHO, subject, rng)}{where} {both}"])
    if form < 0.45:
        return _Form([f"{a} {_verb(grammar.VERBS, subject, rng)}{where} {both}"], bare=True)
    if form < 0.65 and clear:
        who = _verb(grammar.WHO, subject, rng)
        return _Form([f"{both} {pick(rng, ('and', 'with'))} {a} {who}{where} {them}"])
    if form < 0.75 and len(looks) == len(those):
        return _Form([a], opens=f"{where} {both}")
    if form < 0.82 and relation == NEXT and len(looks) == len(those):
        return _Form([f"{a} and {both} {pick(rng, grammar.TOGETHER)}"])
    verb = _verb(grammar.VERBS, subject, rng)
    if form < 0.9:
        told = " and ".join(_again(looks, i, rng) for i in those[1:])
        return _Form([a, *others], closes=f"{_again(looks, those[0], rng)} {verb}{where} {told}")
    return _Form([a], closes=f"{'it' if subject.number == 1 else 'they'} {verb}{where} {both}")


def _verb(verbs: dict[str, str], look: Look, rng: np.random.Generator) -> str:
    """A verb and a space, the first of the table three times in four."""
    one, many = next(iter(verbs.items())) if rng.random() < 0.75 else pick(rng, list(verbs.items()))
    verb = one if look.number == 1 else many
    return f"{verb} " if verb else ""


def _thing(look: Look, rng: np.random.Generator) -> str:
    """A look in words: "a small red house", "two big trees"."""
    idle = pick(rng, grammar.IDLE) if rng.random() < WITH_IDLE else ""
    size = pick(rng, grammar.SIZES[look.size]) if look.size else ""
    noun = look.kind if look.number == 1 else grammar.PLURALS[look.kind]
    words = " ".join(part for part in (idle, size, look.colour, noun) if part)
    if look.number == 1 and rng.random() < 0.9:
        return with_article(words)
    return f"{pick(rng, grammar.NUMBERS[look.number])} {words}"


def _again(looks: Sequence[Look], i: int, rng: np.random.Generator) -> str:
    """A look that was told before: "the house", with its colour and size where others are of its kind."""
    look = looks[i]
    alone = sum(other.kind == look.kind for other in looks) == 1
    size = pick(rng, grammar.SIZES[look.size]) if look.size and not alone else ""
    colour = look.colour if look.colour and (not alone or rng.random() < 0.4) else ""
    noun = look.kind if look.number == 1 else grammar.PLURALS[look.kind]
    number = pick(rng, grammar.NUMBERS[look.number]) if look.number > 1 and (not alone or rng.random() < 0.3) else ""
    return " ".join(part for part in ("the", number, size, colour, noun) if part)
