"""What can be asked about products, in VQA's way, and what can be said of two of them, in NLVR2's.

Words alone should tell little. So a yes-or-no question is asked about two products at once that differ in it, true of
one and false of the other; and two products of a statement have the same value as often as not, its truth being drawn
apart from that. No word knows left from right: all is as true of mirror images.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from xlxmert_core.data.catalogue.products import KINDS, Product
from xlxmert_core.data.catalogue.text import FOR_WHOM, noun_phrase

STATEMENTS = 3  # for every two products, each told both ways round
TRIES = 20  # partners looked at before a statement is given up


class Question(NamedTuple):
    """A question with its one answer and its kind, "colour" or, where the answer is yes or no, "is colour"."""

    text: str
    answer: str
    kind: str


class Statement(NamedTuple):
    """A sentence about two products, and whether it is true of them in this order and in the other one."""

    first: Product
    second: Product
    sentence: str
    truths: tuple[bool, bool]


def questions(products: Sequence[Product], rng: np.random.Generator) -> dict[int, list[Question]]:
    """The questions of a split, by product: what it is, its colour, for whom, its pattern, and yes or no about each."""
    asked: dict[int, list[Question]] = {product.id: _open(product, rng) for product in products}
    for name, (value, group, text) in CHECKS.items():
        for one, other in _differing(products, value, group, rng):
            true = one if rng.random() < 0.5 else other
            for product in (one, other):
                answer = "yes" if product is true else "no"
                asked[product.id].append(Question(text(true), answer, f"is {name}"))
    return asked


def _open(product: Product, rng: np.random.Generator) -> list[Question]:
    """Questions with one word of an answer, where it is known; that of a colour only where there is one."""
    kind = KINDS[product.type]
    found = [Question(_pick(rng, ("what is this", "what do we see")), kind.one, "type")]
    if _one_colour(product):
        noun = kind.one if kind.one == "flip flop" else kind.one.split()[-1]  # a casual shoe is a shoe
        named = f"what colour {'are' if kind.paired else 'is'} the {noun}"
        found.append(Question(_pick(rng, ("what colour is it", named)), product.colour, "colour"))
    if product.gender:
        found.append(Question("who is it for", FOR_WHOM[product.gender], "gender"))
    if product.pattern:
        found.append(Question("what pattern does it have", product.pattern, "pattern"))
    return found


def _one_colour(product: Product) -> str:
    return "" if product.second else product.colour


def _one_gender(product: Product) -> str:
    """For whom it is; "" also where that is everyone: what is for everyone is for men too."""
    return "" if product.gender == "Unisex" else product.gender


def _thing(product: Product) -> str:
    return _one_colour(product) and noun_phrase(product.type, product.colour)


def _is_this(product: Product, words: str) -> str:
    return f"are these {words}" if KINDS[product.type].paired else f"is this {words}"


# name: what must differ, what must be alike, the question that is true of a product
CHECKS: dict[str, tuple[Callable, Callable, Callable]] = {
    "type": (lambda p: p.type, lambda p: "", lambda p: _is_this(p, noun_phrase(p.type))),
    "colour": (_one_colour, lambda p: "", lambda p: f"is it {p.colour}"),
    "gender": (_one_gender, lambda p: "", lambda p: f"is it for {FOR_WHOM[p.gender]}"),
    "pattern": (lambda p: p.pattern, lambda p: "", lambda p: f"is it {p.pattern}"),
    "thing": (_thing, lambda p: p.type, lambda p: _is_this(p, _thing(p))),  # another colour, the same type
}


def _differing(products: Sequence[Product], value: Callable, group: Callable,
               rng: np.random.Generator) -> Iterator[tuple[Product, Product]]:  # fmt: skip
    """Pairs of one group with different values, no product twice; those whose value is unknown are left out."""
    groups = defaultdict(list)
    for i in rng.permutation(len(products)):
        if value(products[i]):
            groups[group(products[i])].append(products[i])
    for those in groups.values():
        pairs = zip(those[:-1:2], those[1::2], strict=True)
        yield from ((a, b) for a, b in pairs if value(a) != value(b))


# name: what two products may have in common, how a product of it is called, and what they share
ALIKE: dict[str, tuple[Callable, Callable, str]] = {
    "type": (lambda p: p.type, lambda p: noun_phrase(p.type), "the same kind of thing"),
    "colour": (_one_colour, lambda p: f"something {p.colour}", "the same colour"),
    "gender": (_one_gender, lambda p: f"something for {FOR_WHOM[p.gender]}", "things for the same people"),
}  # fmt: skip


def statements(products: Sequence[Product], rng: np.random.Generator) -> list[Statement]:
    """Three sentences for every two products of a split, fewer where too few of them differ or agree."""
    found, names = [], tuple(ALIKE)
    pools = {name: defaultdict(list) for name in names}
    for name, (value, _, _) in ALIKE.items():
        for product in products:
            pools[name][value(product)].append(product)
    for number in range(len(products) * STATEMENTS // 2):
        one, name, alike = products[number % len(products)], _pick(rng, names), bool(rng.random() < 0.5)
        value = ALIKE[name][0]
        pool = pools[name][value(one)] if alike else products
        others = [pool[i] for i in rng.integers(len(pool), size=TRIES)]
        fit = (p for p in others if p.id != one.id and value(p) and (value(p) == value(one)) == alike)
        other = next(fit, None) if value(one) else None
        if other is not None and (statement := _statement(one, other, name, alike, rng)):
            found.append(statement)
    return found


def _statement(one: Product, other: Product, name: str, alike: bool, rng: np.random.Generator) -> Statement | None:
    """A sentence about two products that are alike in ``name`` or not; None where both are the same thing."""
    _, call, shared = ALIKE[name]
    truth, form = bool(rng.random() < 0.5), rng.random()
    if form < 0.4:
        how = "both pictures show" if alike == truth else "only one picture shows"
        return Statement(one, other, f"{how} {call(one)}", (truth, truth))
    if form < 0.6:
        how = "show" if alike == truth else "do not show"
        return Statement(one, other, f"the two pictures {how} {shared}", (truth, truth))
    things = _thing(one), _thing(other)
    if not all(things) or things[0] == things[1]:
        return None
    sentence = f"the {'first' if truth else 'second'} picture shows {things[0]}"
    return Statement(one, other, sentence, (truth, not truth))


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]
