"""Storybook's language: what it says holds, what it says is read back, and what is held out it never says."""

import re
from collections import Counter
from functools import partial

import numpy as np
import pytest
from test_sentences import SENTENCES

from xlxmert_core.data import storybook as sb
from xlxmert_core.data.spelling import plain
from xlxmert_core.data.storybook import grammar
from xlxmert_core.data.storybook.captions import EXCHANGEABLE, MOST_WORDS, RELATION_WORDS
from xlxmert_core.data.storybook.parse import split

stated_facts = partial(sb.stated_facts, world=sb.WIDE)
KINDS_OF_SCENE = ({}, {"held_out": True}, {"held_count": True}, {})


@pytest.fixture(scope="module")
def told():
    """(which of KINDS_OF_SCENE, a scene, its captions) of 2 000 scenes."""
    rng = np.random.default_rng(5)
    scenes = [(i % 4, sb.sample_scene(rng, world=sb.WIDE, **KINDS_OF_SCENE[i % 4])) for i in range(2000)]
    return [(which, scene, sb.captions(scene, rng)) for which, scene in scenes]


def test_every_caption_says_what_holds_and_is_read_back_into_its_facts(told):
    for _, scene, captions in told:
        assert len(captions) == 5
        for caption in captions:
            assert caption.facts and all(sb.facts_hold(scene, caption.facts)), caption
            stated = stated_facts(caption.text)
            assert len(stated) == len(caption.facts) and {*stated} == {*caption.facts}, caption


def test_captions_are_plain_and_short_enough_for_the_model(told):
    texts = [caption.text for _, _, captions in told for caption in captions]
    assert all(plain(text) == text for text in texts)
    assert max(len(text.split()) for text in texts) <= MOST_WORDS == 30
    assert np.mean([len({c.text for c in captions}) for _, _, captions in told]) > 4.7


def test_the_first_caption_tells_everything(told):
    for _, scene, (first, *_) in told:
        assert {*sb.scene_facts(scene)} <= {*first.facts}
        others = [fact for fact in first.facts if fact[0] in ("relation", "between")]
        looks = sb.looks_of(scene, bool, bool)
        clear = len({look.name for look in looks}) == len(looks) == len(scene.things)  # each by its colour and kind
        assert len(others) == (clear and len(looks) > 1) or (not clear and len(others) <= 1)


def test_every_word_and_every_form_is_used(told):
    texts = [caption.text for _, _, captions in told for caption in captions]
    words, marks = Counter(), Counter()
    for text in texts:
        words.update(text.split())
        marks.update(mark for mark, _ in split(text)[0])
    tables = [*grammar.KIND_OF, *grammar.COLOURS, *grammar.SIZE_OF, *grammar.NUMBER_OF, *grammar.PLACE_OF,
              *grammar.RELATION_OF, *grammar.BETWEEN, *grammar.TOGETHER, *grammar.OPENINGS]  # fmt: skip
    assert {word for phrase in tables for word in phrase.split()} <= words.keys()
    assert min(words.values()) >= 3 and 110 < len(words) < 200
    assert marks.keys() == {*"mdivczpoxrbetw", "t", "and"}


def test_facts_of_all_sorts_are_stated(told):
    facts = Counter((fact[0], fact[2] if fact[0] == "relation" else fact[1] if fact[0] == "count" else "")
                    for _, _, captions in told for caption in captions for fact in caption.facts)  # fmt: skip
    wanted = [("relation", name) for name in grammar.RELATIONS] + [("between", ""), ("count", 2), ("count", 3)]
    assert all(facts[fact] > 150 for fact in wanted), facts


def named(facts) -> tuple[set, set]:
    """The (colour, kind) and the (kind, n) that facts name."""
    looks = [sb.Look(*fact[1:]) if fact[0] == "count" else sb.Look(1, *fact[1:])
             for fact in facts if fact[0] in ("thing", "count")]  # fmt: skip
    return {look.name for look in looks}, {(look.kind, look.number) for look in looks}


def test_training_never_says_or_shows_what_it_holds_out(told):
    for which, scene, captions in told:
        pairs, numbers = map(lambda sets: set().union(*sets), zip(*(named(c.facts) for c in captions), strict=True))
        together = set(Counter(t.kind for t in scene.things).items())
        assert bool({(t.colour, t.kind) for t in scene.things} & sb.HELD_OUT) == (which == 1)
        assert bool(together & sb.HELD_COUNTS) == (which == 2)
        assert which == 1 or not pairs & sb.HELD_OUT
        assert which == 2 or not numbers & sb.HELD_COUNTS
        if which == 2:
            assert named(captions[0].facts)[1] & sb.HELD_COUNTS


def test_the_hand_written_sentences_are_none_of_the_grammars():
    """Whatever the grammar makes, the parser reads as a sentence (above): what it does not read was not made."""
    assert len(SENTENCES) == 200
    assert [entry["text"] for entry in SENTENCES if sb.is_sentence(entry["text"], sb.WIDE)] == []


BALL, TREE = ("thing", None, "red", "ball"), ("thing", None, None, "tree")


@pytest.mark.parametrize(("text", "facts"), [
    ("Two red balls on the grass!", [("background", "grass"), ("count", 2, None, "red", "ball")]),
    ("a red ball and a blue ball", [BALL, ("thing", None, "blue", "ball")]),
    ("A green house, a yellow house and a big red house.", [
        ("thing", None, "green", "house"), ("thing", None, "yellow", "house"), ("thing", "large", "red", "house")]),
    ("At night-time, 3 tiny stars", [("background", "night"), ("count", 3, "small", None, "star")]),
    ("a tree and a red ball beneath it", [TREE, BALL, ("relation", ("red", "ball"), "below", (None, "tree"))]),
    ("a tree and a red ball. it is left of a tiny cup", [
        TREE, BALL, ("thing", "small", None, "cup"), ("relation", ("red", "ball"), "left of", (None, "cup"))]),
    ("two cars with a red ball between them", [
        ("count", 2, None, None, "car"), BALL, ("between", ("red", "ball"), (None, "car"), (None, "car"))]),
    ("a tree and a cup and a red ball between them", [
        TREE, ("thing", None, None, "cup"), BALL, ("between", ("red", "ball"), (None, "tree"), (None, "cup"))]),
    ("between a tree and a cup there is a red ball", [
        TREE, ("thing", None, None, "cup"), BALL, ("between", ("red", "ball"), (None, "tree"), (None, "cup"))]),
    ("a ball and a tree side by side. the ball is red", [
        BALL, TREE, ("relation", ("red", "ball"), "next to", (None, "tree"))]),
    ("a tree near two boats, they are pink and huge", [
        TREE, ("count", 2, "large", "pink", "boat"), ("relation", (None, "tree"), "next to", ("pink", "boat"))]),
    ("it is night and there are two cars by the water", [("nonsense",)]),  # two places
])  # fmt: skip
def test_sentences_state_what_people_mean(text, facts):
    stated = stated_facts(text)
    if facts == [("nonsense",)]:
        assert stated[-1] == ("nonsense", text)
    else:
        assert {*stated} == {*facts}


@pytest.mark.parametrize("text", [
    "a red ball ball on the sand", "a red ball left of", "on the sand we see", "a red ball and a red ball",
    "a red ball and two red balls", "a red ball the sand", "what colour is the ball", "a ball red", "", "it is red",
    "a red ball on the sand on the sand we see a red ball", "a red ball at night night", "the balls are red",
    "on the sand a red ball on the sand", "a red ball the ball is blue", "a star between three balls",
    "a red ball and a blue ball the ball is small", "two balls and a star above it", "above a house",
    "a star above it",
])  # fmt: skip
def test_what_is_no_caption_states_nonsense(text):
    assert stated_facts(text)[-1] == ("nonsense", text)


def test_what_can_be_read_of_nonsense_is_read():
    facts = stated_facts("a small red balloon balloon in the snow")
    assert facts[:-1] == (("background", "snow"), ("thing", "small", "red", "balloon"))


def test_an_exchanged_word_makes_a_caption_false(told):
    """As the matching task needs it: seldom does the exchanged caption hold as well."""
    opposite = {a: b for group in EXCHANGEABLE for a, b in zip(group, (*group[1:], group[0]), strict=True)}
    held, rng = [], np.random.default_rng(0)
    for _, scene, (caption, *_) in told[:500]:
        words = caption.text.split()
        able = [i for i, word in enumerate(words) if word in opposite]
        i = int(rng.choice(able))
        words[i] = opposite[words[i]]
        facts = stated_facts(" ".join(words))
        held.append(facts[-1][0] != "nonsense" and all(sb.facts_hold(scene, facts)))
    assert np.mean(held) < 0.03


def test_relation_words_find_the_captions_with_a_relation(told):
    for _, _, captions in told[:300]:
        for caption in captions:
            related = any(fact[0] in ("relation", "between") for fact in caption.facts)
            words = (*RELATION_WORDS, "by", *grammar.TOGETHER)
            found = any(re.search(rf"\b{said}\b", caption.text) for said in words)
            assert found or not related
