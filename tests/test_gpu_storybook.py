"""The wide world's run on one GPU, end to end on a few scenes, two steps a stage; and what its scenes are."""

import json
import tarfile

import numpy as np
import pytest
import torch

import xlxmert_core
from book.train.gpu import scenes, storybook
from xlxmert_core.data import lxmert
from xlxmert_core.data import storybook as drawn
from xlxmert_core.data.storybook.text import statement_holds
from xlxmert_core.datasets.wide import Wide
from xlxmert_core.skills import NAMES
from xlxmert_core.text import Tokenizer
from xlxmert_core.train.pretraining import PairedText


@pytest.fixture(scope="module")
def world():
    return scenes.draw_world(train=24, held=4, judged=40, seed=0, workers=1)


def test_training_has_no_scene_that_is_measured_on_and_nothing_held_out(world):
    keys = {split: {scenes.key_of(scene) for scene in fields["scenes"]} for split, fields in world.items()}
    assert {split: len(fields["scenes"]) for split, fields in world.items()} == {
        **dict.fromkeys(scenes.TESTS, 4), "train": 24, "judged": 40}  # fmt: skip
    assert not any((keys["train"] | keys["judged"]) & keys[split] for split in scenes.TESTS)
    looks = {split: {(t.colour, t.kind) for s in fields["scenes"] for t in s.things} for split, fields in world.items()}
    assert not looks["train"] & drawn.HELD_OUT and looks["composition"] & drawn.HELD_OUT and looks["judged"] & (
        drawn.HELD_OUT)  # fmt: skip


def test_test_scenes_are_the_data_sets(world):
    again = drawn.sample_splits({"train": 0, "val": 4, "test": 4}, 0, drawn.WIDE)
    assert world["test"]["scenes"] == list(again["test"].values())


def test_what_is_said_and_asked_of_a_picture_is_so(world):
    told = world["train"]
    for scene, captions, image in zip(told["scenes"], told["captions"], told["images"], strict=True):
        assert len(captions) == 5 and all(all(drawn.facts_hold(scene, facts)) for _, facts in captions)
        assert np.array_equal(image, drawn.render(scene))
    for task in ("vqa", "gqa"):
        assert [q.images for q in told[task]] == [(row,) for row in range(24) for q in told[task] if q.images == (row,)]
    for q in told["nlvr2"]:
        left, right = (told["scenes"][row] for row in q.images)
        assert q.answers == (q.answer,) == (str(statement_holds(q.text, left, right)),)
    assert len(told["nlvr2"]) == 24 // 2 * 3 * 2 and len({q.id for q in told["nlvr2"]}) == 24 // 2 * 3 * 2


def test_blocks_are_joined_with_their_own_rows(monkeypatch):
    monkeypatch.setattr(scenes, "BLOCK", 4)
    found = scenes.draw_world(train=10, held=2, judged=2, seed=1, workers=1)["train"]
    assert len(found["scenes"]) == len(found["captions"]) == len(found["images"]) == 10
    assert {row for q in found["gqa"] for row in q.images} == {*range(10)}
    for q in found["nlvr2"]:
        assert q.answer == str(statement_holds(q.text, *(found["scenes"][row] for row in q.images)))


def test_codes_are_those_of_the_shipped_vocabulary(world):
    painter, images = xlxmert_core.load("storybook"), world["test"]["images"]
    seen = scenes.see(painter, images, "cpu")
    assert seen["features"].shape == (4, 64, 64) and seen["features"].dtype == torch.float16
    assert (seen["codes"] == painter.encode(images)).float().mean() > 0.99  # a tie may fall either way


def test_sentences_are_paired_by_several_processes_as_by_one(world, tmp_path):
    scenes.keep(tmp_path, "train", world["train"])
    told, codes = scenes.sentences(tmp_path, "train"), torch.arange(24 * 64, dtype=torch.int32).view(24, 64)
    given = Tokenizer.from_corpus(e.sentence for e in told), lxmert.answer_vocabulary(told), 32
    whole = PairedText.build(told, range(24), codes, *given)
    for workers in (1, 3):
        found = scenes.paired(told, codes, *given, workers)
        assert all(torch.equal(value, getattr(whole, name)) for name, value in vars(found).items())


def test_relations_of_captions_are_checked_alone():
    left, right = drawn.Thing("tree", "red", "small", 5, 0), drawn.Thing("house", "blue", "small", 5, 5)
    scene = drawn.Scene("grass", (left, right), drawn.WIDE)
    lines = ["a red tree left of a blue house", "a red tree right of a blue house", "a green car"]
    assert storybook.relations([scene] * 3, lines) == 0.5
    assert storybook.relations([scene], ["a green car"]) is None


@pytest.mark.slow
def test_the_whole_run(tmp_path):
    out, work = tmp_path / "out", tmp_path / "work"
    assert storybook.main(["--out", str(out), "--work", str(work), "--device", "cpu", "--smoke"]) == 0
    files = {path.name: path.stat().st_size for path in out.iterdir()}
    assert files.keys() == {"model.tar", *(f"{name}.tar" for name in NAMES), "reader.safetensors", "paintings.png",
                            "record.json"}  # fmt: skip
    assert len(files) <= 8 and max(files.values()) < 16 * 2**20
    record = json.loads((out / "record.json").read_text())
    assert record.keys() == {"about", "draw", "transformer", "judge", *NAMES, "evaluation"}
    assert record["evaluation"]["numbers"].keys() == {*Wide.tests, "captions", "lines"}
    for name in ("model", *NAMES):
        with tarfile.open(out / f"{name}.tar") as tar:
            tar.extractall(tmp_path, filter="data")
    painter = xlxmert_core.load(tmp_path / "model")
    assert painter.skills.keys() == {*NAMES} and painter.model.config.codes == 2304
    made = painter.paint("two red houses", steps=2, candidates=1, polish=0)
    assert made.images.shape == (1, 128, 128, 3) and isinstance(painter.caption(made.images)[0], str)


def test_a_failing_stage_loses_nothing(tmp_path, monkeypatch, capsys):
    def fail(run, stage):
        raise RuntimeError("no such luck")

    monkeypatch.setattr(storybook, "perform", fail)
    given = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), "--device", "cpu", "--smoke"]
    assert storybook.main(given) == 1
    assert (tmp_path / "out" / "record.json").is_file()
    assert "no such luck" in capsys.readouterr().err


def test_other_runs_are_begun_with_all_that_was_given(tmp_path):
    given = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), "--seconds", "100", "--seed", "3"]
    options = storybook.options_of([*given, "--device", "cpu", "--smoke"])
    run = storybook.Run(options)
    again = storybook.options_of(run.command("vqa")[3:])
    assert vars(again) == vars(options) | {"stage": "vqa", "begin": run.begin}
