"""Two hundred sentences as people write them: each states facts that a picture can show, no two are built alike.

An author of the book wrote ``sentences.json`` by hand on 2026-11-27, before the grammar of Storybook's wider language
existed. The sentences test whether a painter understands what its grammar cannot say: they must not be used for
training, nothing may be chosen by them, and no rule of the grammar made to fit them.

A fact is one of ["background", b], ["thing", size, colour, kind], ["count", n, size, colour, kind] (exactly n such
things), ["relation", [colour, kind], relation, [colour, kind]] (true of each thing of a count) and
["between", [colour, kind], [colour, kind], [colour, kind]] (the first between the others; a count of two, named
twice, stands on both sides). null is what the text leaves open. Where a text gives a sum and its parts ("three birds:
two green, one red"), all of them are facts.
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest

from xlxmert_core.data.storybook import BACKGROUNDS, COLOURS, HELD_OUT, KINDS, SIZES, Thing, overlap, places, stands

PATH = Path(__file__).with_name("sentences.json")
SENTENCES = json.loads(PATH.read_text(encoding="utf-8"))
RELATIONS = ("left of", "right of", "above", "below", "next to")
AT_LEAST = {
    "count": 70, "relation": 50, "next to": 12, "between": 6, "several colours": 15, "held-out pair": 15,
    "pronoun": 25, "order": 20, "place words": 25, "spelling/punctuation": 12,
}  # fmt: skip
BY_HAND = {"pronoun", "order", "place words", "spelling/punctuation"}  # the other tags follow from the facts
SIZE_WORDS = "small large big huge little tiny teeny giant enormous gigantic massive humongous tall itty-bitty".split()
NUMBER_WORDS = "two three 2 3 pair couple trio duo twin".split()


def of(entry: dict, *names: str) -> list[list]:
    """An entry's facts of some names."""
    return [fact for fact in entry["facts"] if fact[0] in names]


def known(fact: list) -> bool:
    """Whether a fact is built from what the world has."""

    def reference(colour, kind):
        return colour in (None, *COLOURS) and kind in KINDS

    match fact:
        case ["background", name]:
            return name in BACKGROUNDS
        case ["thing", size, colour, kind]:
            return size in (None, *SIZES) and reference(colour, kind)
        case ["count", n, size, colour, kind]:
            return n in (2, 3) and size in (None, *SIZES) and reference(colour, kind)
        case ["relation", [*a], relation, [*b]]:
            return relation in RELATIONS and reference(*a) and reference(*b)
        case ["between", [*a], [*b], [*c]]:
            return reference(*a) and reference(*b) and reference(*c)
    return False


def looks(entry: dict) -> list[tuple]:
    """(n, size, colour, kind) of all that is said to be there."""
    return [(1, *rest) if name == "thing" else tuple(rest) for name, *rest in of(entry, "thing", "count")]


def parts(look: tuple, entry: dict) -> list[tuple]:
    """What a count is the sum of: the other looks that it covers."""
    n, size, colour, kind = look
    others = [other for other in looks(entry) if n > 1 and other != look]
    return [o for o in others if size in (None, o[1]) and colour in (None, o[2]) and kind == o[3]]


def apart(entry: dict) -> list[tuple]:
    """The looks that are no sums: together all things of the scene, each once."""
    return [look for look in looks(entry) if not parts(look, entry)]


def wanted(entry: dict) -> list[tuple]:
    """(size, colour, kind) of each thing of the scene."""
    return [tuple(look) for n, *look in apart(entry) for _ in range(n)]


def meant(reference: list, entry: dict) -> list[tuple]:
    """The looks that [colour, kind] can mean."""
    colour, kind = reference
    return [look for look in apart(entry) if look[3] == kind and colour in (None, look[2])]


def references(entry: dict) -> list[list]:
    """Every [colour, kind] of the relations."""
    return [part for fact in of(entry, "relation", "between") for part in fact[1:] if isinstance(part, list)]


def facts_show(entry: dict) -> set[str]:
    """The tags that follow from the facts."""
    coloured = {(colour, kind) for _, _, colour, kind in looks(entry) if colour}
    shown = {
        "count": of(entry, "count"),
        "relation": of(entry, "relation", "between"),
        "next to": [fact for fact in of(entry, "relation") if fact[2] == "next to"],
        "between": of(entry, "between"),
        "several colours": [kind for kind, n in Counter(kind for _, kind in coloured).items() if n > 1],
        "held-out pair": coloured & HELD_OUT,
    }
    return {tag for tag, found in shown.items() if found}


def skeleton(text: str) -> str:
    """A text with masked kinds and numbers, without colours, sizes and punctuation."""
    words = []
    for word in re.findall(r"[\w'-]+", text.lower()):
        if word in KINDS or word.removesuffix("s") in KINDS:
            words.append("KIND")
        elif word in NUMBER_WORDS:
            words.append("NUMBER")
        elif word not in COLOURS and word not in SIZE_WORDS:
            words.append("a" if word in ("an", "one", "1") else word)
    return " ".join(words)


def holds(fact: list, things: list[Thing]) -> bool:
    """Whether a relation holds among the things put down so far."""

    def all_of(reference):
        return [t for t in things if t.kind == reference[1] and reference[0] in (None, t.colour)]

    if fact[0] == "between":
        middles, firsts, seconds = map(all_of, fact[1:])
        sides = combinations(firsts, 2) if fact[2] == fact[3] else [(a, b) for a in firsts for b in seconds]
        return all(stands(m, "right of", a) != stands(m, "right of", b) and
                   stands(m, "left of", a) != stands(m, "left of", b) for a, b in sides for m in middles)  # fmt: skip
    return all(related(a, fact[2], b) for a in all_of(fact[1]) for b in all_of(fact[3]))


def related(a: Thing, relation: str, b: Thing) -> bool:
    """Whether a stands in a relation to b; "next to" is side by side with at most one column free."""
    if relation != "next to":
        return stands(a, relation, b)
    gap = max(a.column - b.column - b.span, b.column - a.column - a.span)
    return 0 <= gap <= 1 and not stands(a, "above", b) and not stands(a, "below", b)


def paint(entry: dict, things: tuple[Thing, ...] = ()) -> tuple[Thing, ...] | None:
    """Things of which all facts hold, those put down already among them; None when there is no room for them."""
    if len(things) == len(wanted(entry)):
        return things
    size, colour, kind = wanted(entry)[len(things)]
    size = size or "small"
    for thing in (Thing(kind, colour, size, row, column) for row, column in places(kind, size)):
        more = (*things, thing)
        if not any(overlap(thing, t) for t in things) and all(holds(f, more) for f in of(entry, "relation", "between")):
            if (found := paint(entry, more)) is not None:
                return found
    return None


def wrong(right: Callable[[dict], bool]) -> list[str]:
    """The texts of the entries of which something does not hold."""
    return [entry["text"] for entry in SENTENCES if not right(entry)]


def test_there_are_two_hundred_different_texts():
    assert len(SENTENCES) == len({entry["text"].lower() for entry in SENTENCES}) == 200


def test_no_two_texts_share_a_skeleton():
    times = Counter(skeleton(entry["text"]) for entry in SENTENCES)
    assert [text for text, n in times.items() if n > 1] == []


def test_skeletons_hide_kinds_colours_sizes_and_numbers():
    assert skeleton("Two tiny red boats, please!") == skeleton("three big blue mushrooms please")
    assert skeleton("a boat on the sea") != skeleton("on the sea, a boat")


def test_entries_have_a_text_facts_and_known_tags():
    assert wrong(lambda entry: list(entry) == ["text", "facts", "tags"] and entry["facts"] != []) == []
    assert wrong(lambda entry: set(entry["tags"]) <= set(AT_LEAST)) == []
    assert wrong(lambda entry: len(set(entry["tags"])) == len(entry["tags"])) == []


def test_texts_are_plain_and_have_three_to_twenty_four_words():
    assert wrong(lambda entry: 3 <= len(entry["text"].split()) <= 24) == []
    assert wrong(lambda entry: entry["text"].isascii() and " ".join(entry["text"].split()) == entry["text"]) == []


def test_facts_name_only_what_the_world_has():
    assert wrong(lambda entry: all(map(known, entry["facts"]))) == []


@pytest.mark.parametrize(
    "fact",
    [
        ["background", "moon"],
        ["thing", "red", None, "ball"],
        ["thing", None, "grey", "ball"],
        ["count", 4, None, "red", "ball"],
        ["relation", ["red", "ball"], "behind", [None, "cup"]],
        ["between", [None, "ball"], [None, "cup"]],
        ["exist", None, None, "ball"],
    ],
    ids=str,
)
def test_other_facts_would_be_found(fact):
    assert not known(fact)


def test_no_fact_is_there_twice_and_no_scene_has_two_backgrounds():
    assert wrong(lambda entry: len({json.dumps(fact) for fact in entry["facts"]}) == len(entry["facts"])) == []
    assert wrong(lambda entry: len(of(entry, "background")) <= 1) == []


def test_texts_name_every_kind_of_their_facts_and_just_their_colours():
    assert wrong(lambda entry: all(kind in entry["text"].lower() for *_, kind in looks(entry))) == []

    def colours_agree(entry):
        return set(re.findall("|".join(COLOURS), entry["text"].lower().replace("coloured", ""))) == {
            colour for *_, colour, _ in looks(entry) if colour
        }

    assert wrong(colours_agree) == []


def test_scenes_have_at_most_five_things_and_three_of_a_kind():
    assert wrong(lambda entry: 1 <= len(wanted(entry)) <= 5) == []
    assert wrong(lambda entry: max(Counter(kind for *_, kind in wanted(entry)).values()) <= 3) == []


def test_parts_add_up_to_their_sum():
    assert wrong(lambda entry: all(sum(p[0] for p in parts(a, entry)) in (0, a[0]) for a in looks(entry))) == []


def test_things_of_one_kind_differ_in_a_stated_colour_or_size():
    def differ(a, b):
        return a[3] != b[3] or any(x and y and x != y for x, y in zip(a[1:3], b[1:3], strict=True))

    assert wrong(lambda entry: all(differ(a, b) for a, b in combinations(apart(entry), 2))) == []


def test_relations_refer_to_just_one_thing_or_count_of_the_facts():
    assert wrong(lambda entry: all(len(meant(reference, entry)) == 1 for reference in references(entry))) == []


def test_nothing_is_related_to_itself():
    assert wrong(lambda entry: all(fact[1] != fact[3] for fact in of(entry, "relation"))) == []
    assert wrong(lambda entry: all(fact[1] not in fact[2:] for fact in of(entry, "between"))) == []


def test_only_a_count_of_two_stands_on_both_sides():
    twice = [(entry, fact[2]) for entry in SENTENCES for fact in of(entry, "between") if fact[2] == fact[3]]
    assert twice and all(meant(reference, entry)[0][0] == 2 for entry, reference in twice)


def test_all_facts_of_a_sentence_fit_into_one_picture():
    assert wrong(lambda entry: paint(entry) is not None) == []


def test_what_fits_into_no_picture_would_be_found():
    assert paint({"facts": [["count", 3, "large", None, "star"]]}) is None
    house, star = ["thing", None, None, "house"], ["thing", None, None, "star"]
    assert paint({"facts": [house, star, ["relation", [None, "star"], "below", [None, "house"]]]}) is None
    assert paint({"facts": [house, star, ["relation", [None, "star"], "above", [None, "house"]]]}) is not None


def test_tags_say_what_the_facts_show():
    assert wrong(lambda entry: set(entry["tags"]) - BY_HAND == facts_show(entry)) == []
    assert wrong(lambda entry: "place words" not in entry["tags"] or of(entry, "background") != []) == []


@pytest.mark.parametrize("tag", AT_LEAST)
def test_enough_sentences_have_a_tag(tag):
    assert sum(tag in entry["tags"] for entry in SENTENCES) >= AT_LEAST[tag]


@pytest.mark.parametrize("tag", [tag for tag in AT_LEAST if tag not in BY_HAND])
def test_the_facts_of_enough_sentences_show_it_too(tag):
    assert sum(tag in facts_show(entry) for entry in SENTENCES) >= AT_LEAST[tag]


def test_kinds_colours_sizes_and_backgrounds_are_spread_evenly():
    said = Counter(word for entry in SENTENCES for _, *look in looks(entry) for word in look)
    said += Counter(fact[1] for entry in SENTENCES for fact in of(entry, "background"))
    for words in (KINDS, COLOURS, SIZES, BACKGROUNDS):
        assert 2 * min(said[word] for word in words) > max(said[word] for word in words)


def test_every_held_out_pair_is_named():
    assert {(colour, kind) for entry in SENTENCES for *_, colour, kind in looks(entry)} >= HELD_OUT


def test_the_package_never_reads_the_sentences():
    modules = PATH.parents[1].joinpath("xlxmert_core").rglob("*.py")
    assert [module.name for module in modules if PATH.name in module.read_text(encoding="utf-8")] == []
