"""What is wrong in a caption, in words: nothing in a true one, and each false fact once."""

import numpy as np
import pytest
from test_judges import judge_of, split_of

from xlxmert_core.data.storybook import WIDE, Scene, Thing, captions, sample_scene
from xlxmert_core.evaluate.judges import PhotographJudge
from xlxmert_core.evaluate.scenes import faults

SCENE = Scene("snow", (Thing("house", "red", "large", 4, 0), Thing("tree", "blue", "small", 5, 5)))


@pytest.mark.parametrize(("text", "wrong"), [
    ("a large red house left of a small blue tree in the snow", []),
    ("a large red house on the grass", ["it is in the snow"]),
    ("a small green house in the snow", ["the house is large and red"]),
    ("a large red ball in the snow", ["there is no ball"]),
    ("a large red house right of a small blue tree", ["the house is not right of the tree"]),
    ("a large blue house left of a small blue tree", ["the house is large and red", "there is no blue house"]),
    ("a house house the", ["something is told twice, or the words make no sentence"]),
])  # fmt: skip
def test_each_false_fact_is_said_once(text, wrong):
    assert faults(SCENE, text) == wrong


@pytest.mark.parametrize(("text", "wrong"), [
    ("two red houses in the snow", ["there is one red house"]),
    ("three trees", ["there is one tree"]),
    ("a large red house next to a small blue tree", ["the house is not next to the tree"]),
    ("a red house between two blue trees", ["there is one blue tree", "the house is not between the tree"]),
    ("a big red house and a tiny tree", []),
])  # fmt: skip
def test_false_counts_are_said_where_kinds_repeat(text, wrong):
    assert faults(Scene(SCENE.background, SCENE.things, WIDE), text) == wrong


def test_true_captions_have_no_fault_and_other_scenes_have_some():
    scenes = [sample_scene(np.random.default_rng(i)) for i in range(12)]
    split = split_of(scenes)
    assert judge_of(scenes).faults(split.texts, split) == [""] * 12
    wrong = judge_of(scenes).faults(split.texts, split.shifted())
    assert sum(map(bool, wrong)) >= 11


def test_every_scene_and_every_caption_of_it_is_told_truly():
    rng = np.random.default_rng(0)
    for _ in range(20):
        scene = sample_scene(rng)
        assert [faults(scene, caption.text) for caption in captions(scene, rng)] == [[]] * 5


def test_of_photographs_the_nearest_caption_of_a_person_is_shown():
    split = split_of([SCENE])
    split.records[0].captions[:] = ["A dog runs", "two cats on a sofa"]
    assert PhotographJudge.faults(None, ["cats on a bed"], split) == ["a person wrote “two cats on a sofa”"]
