"""The shipped weights paint what a text they never met says; chapter 01 has the bars on how soon."""

import json

import numpy as np
import pytest
import torch

import xlxmert_core
from xlxmert_core import sampling
from xlxmert_core.data.storybook import captions, sample_scene
from xlxmert_core.evaluate.scenes import LABELS, _assemble, scene_accuracy


@pytest.fixture(scope="module")
def painter():
    return xlxmert_core.load("storybook")


def read(painter, images) -> list[dict]:
    """What the grid encoder's own label heads see: not independent, but quick."""
    features = torch.from_numpy(painter.features(images))
    with torch.inference_mode():
        labels = {n: v.argmax(-1).numpy() for n, v in painter.encoder.label_logits(features).items() if n in LABELS}
    return [_assemble({n: v[i] for n, v in labels.items()}) for i in range(len(images))]


@pytest.mark.slow
@pytest.mark.parametrize("count", [8, pytest.param(24, marks=pytest.mark.nightly)])
@pytest.mark.parametrize(("held_out", "share"), [(False, 0.9), (True, 0.85)], ids=["seen-pairs", "new-pairs"])
def test_they_paint_what_new_texts_say(painter, held_out, share, count):
    rng = np.random.default_rng(20_000)  # no split of the data set draws from this stream
    said = [captions(sample_scene(rng, held_out), rng)[0] for _ in range(count)]
    images = painter.paint([caption.text for caption in said], seed=1).images
    scores = scene_accuracy(read(painter, images), [caption.facts for caption in said])
    assert scores["facts"] >= share, scores


def test_the_default_is_among_the_best_of_the_recorded_table():
    table = json.loads((xlxmert_core.folder.SHIPPED / "storybook" / "samplers.json").read_text())
    default = {name: getattr(value, "__name__", value) for name, value in dict(sampling.DEFAULT).items()}
    (row,) = [r for r in table if default.items() <= r.items()]
    assert row["all_right"] >= max(r["all_right"] for r in table) - 0.1  # 16 texts: one more or less is 0.06
    assert callable(getattr(sampling, row["order"]))
