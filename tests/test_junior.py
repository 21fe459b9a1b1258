"""Junior is Storybook with fewer things: what is drawn, said and asked keeps to its kinds, colours and places."""

import hashlib
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_painter

import xlxmert_core
from xlxmert_core.data import storybook as sb
from xlxmert_core.datasets import open_dataset
from xlxmert_core.datasets.profiles import PROFILES, profile
from xlxmert_core.features import GridEncoder

JUNIOR = sb.JUNIOR
WORDS = {*JUNIOR.kinds, *JUNIOR.colours, *JUNIOR.backgrounds}
STRANGE = {*sb.KINDS, *sb.COLOURS, *sb.BACKGROUNDS} - WORDS


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    found = open_dataset("junior", tmp_path_factory.mktemp("data") / "junior")
    found.prepare(replace(profile("smoke"), train=120, held_out=20), seed=0)
    return found


@pytest.mark.parametrize("name", ["train", "held_out", "test", "composition"])
def test_scenes_keep_to_their_world(data, name):
    split = data.split(name)
    for scene in split.scenes:
        assert scene.world is JUNIOR and scene.background in JUNIOR.backgrounds
        assert len(scene.things) in JUNIOR.counts
        assert {t.kind for t in scene.things} <= set(JUNIOR.kinds)
        assert {t.colour for t in scene.things} <= set(JUNIOR.colours)
        shown = {(t.colour, t.kind) for t in scene.things} & JUNIOR.held_out
        assert bool(shown) == (name == "composition")


def test_the_world_is_as_large_as_the_book_promises():
    assert len(JUNIOR.kinds) >= 4 and len(JUNIOR.colours) >= 3 and len(JUNIOR.backgrounds) >= 2
    rng = np.random.default_rng(0)
    scenes = [sb.sample_scene(rng, world=JUNIOR) for _ in range(600)]
    pairs = np.mean([bool(sb.related_pairs(scene)) for scene in scenes])
    assert 0.28 < pairs < 0.39  # a third, within three standard errors


@pytest.mark.parametrize("part", ["annotations", "vqa", "gqa", "nlvr2", "lxmert"])
def test_nothing_is_said_or_asked_of_what_is_not_in_the_world(data, part):
    text = " ".join(path.read_text() for path in (data.folder / part).iterdir())
    found = set(re.findall(r"[a-z]+", text))
    assert WORDS <= found and not STRANGE & found


def test_training_never_names_a_pair_that_it_holds_out(data):
    pairs = [f"{colour} {kind}" for colour, kind in JUNIOR.held_out]
    said = [example.sentence for example in data.texts("train")]
    assert said and not any(pair in text for pair in pairs for text in said)
    questions = data.questions("train").tasks
    assert not any(pair in q.text for pair in pairs for those in questions.values() for q in those)


def test_totals_of_two_pictures_are_those_that_two_pictures_can_have(data):
    lines = (data.folder / "nlvr2/train.json").read_text().splitlines()
    totals = {int(n) for line in lines for n in re.findall(r"there are (\d+) things", json.loads(line)["sentence"])}
    assert totals <= {a + b for a in JUNIOR.counts for b in JUNIOR.counts} and len(totals) > 1


def test_another_world_in_the_same_folder_is_drawn_anew(tmp_path):
    small = sb.write(tmp_path / "x", 2, 1, 1, 1, 0, world=JUNIOR)
    before = (small / "manifest.json").read_bytes()
    sb.write(tmp_path / "x", 2, 1, 1, 1, 0)
    assert (small / "manifest.json").read_bytes() != before


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_has_budgets_that_fit_its_vocabulary(data, name):
    run = data.budgets(name)
    shapes, colours = run.code_parts
    assert shapes * colours == run.codes == run.model.codes and colours == len(JUNIOR.colours) + 1
    assert (
        run.painter == "pipeline"
        and run.speaker == ("pipeline" if name == "train" else "storybook")
        and "blind" not in run.recorded
    )


def test_a_small_eye_is_saved_and_opened_again(tmp_path):
    painter = tiny_painter(encoder=False)
    painter.encoder = GridEncoder(10, {"kind": 3, "colour": 2}, 4, small=True).eval()
    painter.save(tmp_path)
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        seen, again = (part.encoder(images) for part in (painter, xlxmert_core.load(tmp_path)))
    assert torch.equal(seen, again) and seen.shape == (2, 16, 10)


def test_what_is_drawn_said_and_asked_stays_as_it_was(data):
    """Whatever Storybook learns, the junior world and its chapters keep to the same pictures, texts and questions."""
    whole = hashlib.sha256()
    for path in sorted(part for part in data.folder.rglob("*") if part.is_file() and part.name != "manifest.json"):
        content = path.read_bytes()
        if path.suffix == ".png":  # of another library other bytes, but the same pixels
            content = np.asarray(Image.open(path)).tobytes()
        whole.update(str(path.relative_to(data.folder)).encode() + content)
    assert whole.hexdigest() == "21245c5435fd92a815a50b57bb998483072b3a92108674a34eb7743148d44fb0"


def test_what_the_judge_learns_from_stays_as_it_was(data):
    split = data.seen_by_judge(data.split("train"), 0)
    found = hashlib.sha256(split.images.tobytes())
    assert found.hexdigest() == "506440c41e53ce0a8cb58d04154ad8666a934f578004f691507fdcc2f84d8480"
