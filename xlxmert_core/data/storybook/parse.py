"""Captions read back into facts, whoever wrote them: the inverse of :mod:`.captions`."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from xlxmert_core.data.spelling import plain
from xlxmert_core.data.storybook.facts import Look
from xlxmert_core.data.storybook.grammar import (
    COLOURS,
    FORM,
    KIND_OF,
    NUMBER_OF,
    ONCE,
    PHRASES,
    PLACE_OF,
    RELATION_OF,
    SIZE_OF,
    THING,
)
from xlxmert_core.data.storybook.scenes import STORYBOOK, World
from xlxmert_core.data.storybook.text import plain_facts

Phrase = tuple[str, str]  # its mark (see grammar.FORM) and its words


def stated_facts(text: str, world: World = STORYBOOK) -> tuple[tuple, ...]:
    """The facts that a caption of a world states.

    Words that make no sentence of its grammar, and a thing or a place told twice, give a last fact ("nonsense",
    text), which is true of no scene; of such a text things and places alone are read.
    """
    if world.most == 1:
        return plain_facts(text)
    phrases, whole = split(plain(text))
    marks = "".join("&" if mark == "and" else mark for mark, _ in phrases)
    places = [PLACE_OF[words] for mark, words in phrases if mark == "p"]
    reading = _Reading()
    sound = whole and FORM.fullmatch(marks) is not None and len(places) < 2 and len(ONCE.findall(marks)) < 2
    try:
        reading.follow(phrases if sound else [p for p in phrases if p[0] == "m"])
    except NonsenseError:
        sound = False
    facts = [*(("background", name) for name in dict.fromkeys(places)), *reading.facts()]
    sound = sound and len({look[1:] for look in reading.looks}) == len(reading.looks)
    return tuple(facts) if sound else (*facts, ("nonsense", text))


def is_sentence(text: str, world: World = STORYBOOK) -> bool:
    """Whether the text belongs to a world's language: each of its captions does."""
    return not any(fact[0] == "nonsense" for fact in stated_facts(text, world))


def split(text: str) -> tuple[list[Phrase], bool]:
    """(phrases, whether the whole text was made of them); words that are none are passed over."""
    found, at, whole = [], 0, bool(text)
    while at < len(text):
        place = PHRASES.match(text, at)
        thing = THING.match(text, at) if place is None or place.lastgroup not in ("p", "o") else None
        match = thing or place
        if match is None:
            at, whole = (text.find(" ", at) + 1 or len(text)), False
            continue
        mark = ("d" if thing["the"] else "m") if thing else str(match.lastgroup)
        found.append((mark, match.group()))
        at = match.end() + 1
    return found, whole


class NonsenseError(Exception):
    """A pronoun or a repetition that refers to nothing."""


@dataclass
class _Reading:
    """What has been told so far. Relations name looks by their numbers; ``order`` has each look that is mentioned."""

    looks: list[Look] = field(default_factory=list)
    relations: list[tuple] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    subject: list[int] = field(default_factory=list)  # of whom it is told
    waiting: tuple | None = None  # relation and objects whose subject comes later: "above a house there is ..."

    def facts(self) -> list[tuple]:
        """Things, then relations between them by colour and kind."""
        named = [tuple(self.looks[p].name if isinstance(p, int) else p for p in told) for told in self.relations]
        return [look.fact for look in self.looks] + list(dict.fromkeys(named))

    def follow(self, phrases: list[Phrase]) -> None:
        """Read the phrases of a sentence; raises NonsenseError."""
        rest = phrases[::-1]
        while rest:
            mark, words = phrase = rest.pop()
            if mark in "md":
                self.subject = [self.mention(phrase)]
                if self.waiting is not None:
                    self.relate(*self.waiting)
                    self.waiting = None
            elif mark in "it":
                self.subject = self.meant(mark)
            elif mark in "rb":
                told = (RELATION_OF.get(words, "between"), self.objects(mark, rest))
                if self.subject:
                    self.relate(*told)
                else:
                    self.waiting = told
            elif mark == "e":
                one, other = self.meant("both")
                self.relations.append(("relation", one, "next to", other))
            elif mark in "cz":
                self.describe(words)
        if self.waiting is not None:
            raise NonsenseError

    def mention(self, phrase: Phrase) -> int:
        """The number of the look that a phrase tells, or tells again."""
        mark, words = phrase
        match = THING.fullmatch(words)
        assert match is not None, "split() finds things by the same rule"
        size, colour, kind = SIZE_OF.get(match["size"]), match["colour"], KIND_OF[match["kind"]]
        number = NUMBER_OF.get(match["again"] if mark == "d" else match["number"])
        told = (number, size, colour, kind)
        fits = [i for i, look in enumerate(self.looks)
                if mark == "d" and all(a in (None, b) for a, b in zip(told, look, strict=True))]  # fmt: skip
        if mark == "d" and len(fits) != 1:
            raise NonsenseError
        if not fits:
            self.looks.append(Look(number or 1, size, colour, kind))
        self.order.append(fits[0] if fits else len(self.looks) - 1)
        return self.order[-1]

    def meant(self, pronoun: str, but: Sequence[int] = ()) -> list[int]:
        """Whom "it" (the single thing mentioned last), "them" (the last count, or the last two) or both are."""
        order = [i for i in dict.fromkeys(reversed(self.order)) if i not in but]
        if pronoun == "i":
            order = [i for i in order if self.looks[i].number == 1][:1]
        elif pronoun == "t" and order and self.looks[order[0]].number > 1:
            order = order[:1]
        else:
            order = order[1::-1] if len(order) > 1 else []
        if not order:
            raise NonsenseError
        return order

    def objects(self, mark: str, rest: list[Phrase]) -> list[int]:
        """What a relation relates to, taken off the phrases that follow it."""
        if rest[-1][0] in "it":
            return self.meant(rest.pop()[0], self.subject)
        first = self.mention(rest.pop())
        if mark == "r" or self.looks[first].number == 2:
            return [first]
        if not rest or rest[-1][0] != "and":
            raise NonsenseError
        rest.pop()
        return [first, self.mention(rest.pop())]

    def relate(self, relation: str, objects: list[int]) -> None:
        """Each subject stands so to each object."""
        for one in self.subject:
            if relation == "between":
                self.relations.append(("between", one, objects[0], objects[-1]))
            else:
                self.relations += [("relation", one, relation, other) for other in objects]

    def describe(self, word: str) -> None:
        """A colour or a size that is told afterwards."""
        for i in self.subject:
            look = self.looks[i]
            new = look._replace(colour=word) if word in COLOURS else look._replace(size=SIZE_OF[word])
            if any(was not in (None, now) for was, now in zip(look, new, strict=True)):
                raise NonsenseError
            self.looks[i] = new
