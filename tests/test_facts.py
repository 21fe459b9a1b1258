"""Facts of scenes in which things repeat: counts are exact, relations hold of all that they name."""

import pytest

from xlxmert_core.data.storybook import Look, Scene, Thing, between, facts_hold, looks_of, scene_facts, stands

# A house between two trees, a star over it, two balls far right.
HOUSE, LEFT, RIGHT = (Thing("house", "red", "small", 6, 3), Thing("tree", "green", "small", 6, 0),
                      Thing("tree", "pink", "small", 5, 5))  # fmt: skip
STAR = Thing("star", "blue", "large", 0, 3)
SCENE = Scene("snow", (HOUSE, LEFT, RIGHT, STAR))


@pytest.mark.parametrize(("fact", "true"), [
    (("thing", None, None, "tree"), True), (("thing", "small", "pink", "tree"), True),
    (("thing", None, "red", "tree"), False), (("count", 2, None, None, "tree"), True),
    (("count", 2, "small", None, "tree"), True), (("count", 1, None, "pink", "tree"), True),
    (("count", 2, None, "pink", "tree"), False), (("count", 3, None, None, "tree"), False),
    (("relation", (None, "star"), "above", (None, "tree")), True),
    (("relation", ("red", "house"), "left of", (None, "tree")), False),  # of one tree only
    (("relation", ("red", "house"), "left of", ("pink", "tree")), True),
    (("relation", ("green", "tree"), "next to", ("red", "house")), True),
    (("relation", (None, "star"), "next to", ("red", "house")), False),  # above it
    (("relation", (None, "cup"), "left of", (None, "tree")), False),
    (("between", ("red", "house"), (None, "tree"), (None, "tree")), True),
    (("between", (None, "house"), ("pink", "tree"), ("green", "tree")), True),
    (("between", (None, "tree"), (None, "house"), (None, "star")), False),
    (("between", ("red", "house"), ("pink", "tree"), ("pink", "tree")), False),  # it is one
])  # fmt: skip
def test_facts_against_a_scene(fact, true):
    assert facts_hold(SCENE, [fact]) == [true]


@pytest.mark.parametrize("fact", [("weather", "rain"), ("between", ("red", "house")), ("thing", "tree"), ()])
def test_what_is_no_fact_is_named(fact):
    with pytest.raises(ValueError, match="begin it with background, thing, count, relation or between"):
        facts_hold(SCENE, [fact])


@pytest.mark.parametrize(("column", "row", "near"), [(2, 6, True), (3, 6, True), (4, 6, False), (2, 5, True),
                                                     (2, 4, False), (0, 4, False)])  # fmt: skip
def test_next_to_is_side_by_side_with_at_most_one_column_free(column, row, near):
    other = Thing("cup", "red", "small", row, column)
    assert stands(LEFT, "next to", other) == stands(other, "next to", LEFT) == near


def test_between_is_along_the_row_and_either_way_round():
    assert between(HOUSE, LEFT, RIGHT) and between(HOUSE, RIGHT, LEFT)
    assert not between(LEFT, HOUSE, RIGHT) and not between(HOUSE, LEFT, LEFT)


def test_alike_things_are_told_together():
    scene = Scene("sand", (LEFT, HOUSE, Thing("tree", "green", "small", 5, 6), Thing("tree", "green", "large", 4, 0)))
    assert looks_of(scene, bool, bool) == [Look(2, "small", "green", "tree"), Look(1, "small", "red", "house"),
                                           Look(1, "large", "green", "tree")]  # fmt: skip
    assert looks_of(scene, lambda kind: False, lambda kind: kind == "tree") == [
        Look(3, None, "green", "tree"), Look(1, None, None, "house")]  # fmt: skip
    assert scene_facts(scene)[:2] == [("background", "sand"), ("count", 2, "small", "green", "tree")]
    assert all(facts_hold(scene, scene_facts(scene)))
