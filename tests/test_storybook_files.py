"""Storybook on disk: each official file says what the scene graph says, in the same bytes."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image
from test_storybook import judge, plainly_stands
from test_storybook_gqa import run

from xlxmert_core.data import storybook as sb

SIZES = {"train": 60, "val": 20, "test": 21, "composition": 20}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sb.write(tmp_path_factory.mktemp("data") / "storybook", *SIZES.values(), seed=7)


def test_what_is_drawn_said_and_asked_stays_as_it_was(folder):
    """Whatever other worlds learn, the shipped painter's has the same pictures, texts and questions."""
    whole = hashlib.sha256()
    for path in sorted(part for part in folder.rglob("*") if part.is_file() and part.name != "manifest.json"):
        content = path.read_bytes()
        if path.suffix == ".png":  # of another library other bytes, but the same pixels
            content = np.asarray(Image.open(path)).tobytes()
        whole.update(str(path.relative_to(folder)).encode() + content)
    assert whole.hexdigest() == "56d07f592b69b9b034734d48e7939a98e875bc3793e37f06fa0cd1a0aeea427a"


def read(path):
    return json.loads(path.read_text())


@pytest.mark.parametrize("split", SIZES)
def test_files_agree_with_the_scenes(folder, split):
    scenes = {int(i): sb.Scene.from_json(s) for i, s in read(folder / f"scenes/{split}.json").items()}
    assert len(scenes) == SIZES[split]
    coco = read(folder / f"annotations/captions_{split}.json")
    assert [image["id"] for image in coco["images"]] == list(scenes)
    for image in coco["images"]:
        with Image.open(folder / "images" / split / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])
            assert (np.asarray(picture) == sb.render(scenes[image["id"]])).all()
    assert len(coco["annotations"]) == 5 * len(scenes)
    assert len({a["id"] for a in coco["annotations"]}) == 5 * len(scenes)
    for row in coco["annotations"]:
        assert all(sb.facts_hold(scenes[row["image_id"]], row["facts"]))
    for row in read(folder / f"lxmert/{split}.json"):
        assert int(row["img_id"]) in scenes
        assert len(row["labelf"]["vqa"]) == len(row["sentf"]["vqa"]) == 6
        assert len(row["sentf"]["mscoco"]) == 5
    lines = (folder / f"nlvr2/{split}.json").read_text().splitlines()
    assert len(lines) == 6 * (len(scenes) // 2)  # three statements of a pair and of the pair exchanged
    rows = list(map(json.loads, lines))
    told = {row["identifier"]: row for row in rows}
    assert len(told) == len(rows)
    for one, other in zip(rows[::2], rows[1::2], strict=True):
        assert one["sentence"] == other["sentence"]
        assert (one["left_image"], one["right_image"]) == (other["right_image"], other["left_image"])
        name, number, turn, statement = one["identifier"].split("-")
        assert (name, turn, told[f"{name}-{number}-1-{statement}"]) == (split, "0", other)
    for row in rows:
        left, right = scenes[row["left_image"]], scenes[row["right_image"]]
        assert str(judge(row["sentence"], left, right)) == row["label"]


@pytest.mark.parametrize("split", SIZES)
def test_vqa_and_gqa_files(folder, split):
    scenes = {i: sb.Scene.from_json(s) for i, s in read(folder / f"scenes/{split}.json").items()}
    asked = read(folder / f"vqa/v2_OpenEnded_storybook_{split}_questions.json")["questions"]
    answers = read(folder / f"vqa/v2_storybook_{split}_annotations.json")["annotations"]
    gqa = read(folder / f"gqa/{split}_balanced_questions.json")
    assert len(asked) == len(answers) == len(gqa) == 6 * len(scenes)
    for question, answer in zip(asked, answers, strict=True):
        assert question["question_id"] == answer["question_id"]
        assert len(answer["answers"]) == 10
    for question in gqa.values():
        steps = [(s["operation"], s["argument"], s["dependencies"]) for s in question["semantic"]]
        assert run(steps, scenes[question["imageId"]]) == question["answer"]
        for other in map(gqa.get, question["entailed"]):
            assert other["imageId"] == question["imageId"] and other["types"]["structural"] == "verify"
            claimed = other["question"].split()[-1]
            assert other["answer"] == ("yes" if claimed == question["answer"] else "no")
    assert all(len({q["question"] for q in gqa.values() if q["imageId"] == i}) == 6 for i in scenes)
    assert any(question["entailed"] for question in gqa.values())
    for image_id, graph in read(folder / f"gqa/{split}_sceneGraphs.json").items():
        things = scenes[image_id].things
        assert graph["location"] == scenes[image_id].background
        for key, thing in graph["objects"].items():
            t = things[int(key)]
            assert [thing["name"], *thing["attributes"]] == [t.kind, t.size, t.colour]
            box = (thing["x"], thing["y"], thing["w"], thing["h"])
            assert box == (16 * t.column, 16 * t.row, 16 * t.span, 16 * t.span)
            for relation in thing["relations"]:
                short = relation["name"].removeprefix("to the ")
                assert plainly_stands(t, short, things[int(relation["object"])])


def test_no_scene_is_in_two_splits(folder):
    keys = [
        (s["background"], frozenset(map(tuple, s["things"])))
        for split in SIZES
        for s in read(folder / f"scenes/{split}.json").values()
    ]
    assert len(set(keys)) == len(keys) == sum(SIZES.values())


def snapshot(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_writing_is_deterministic_and_done_once(folder, tmp_path):
    calls = []
    again = sb.write(tmp_path / "again", *SIZES.values(), seed=7, progress=lambda done, total: calls.append(done))
    assert snapshot(again) == snapshot(folder)
    assert calls == list(range(1, sum(SIZES.values()) + 1))
    sb.write(again, *SIZES.values(), seed=7, progress=lambda *_: pytest.fail("it wrote again"))
    (again / "scenes/val.json").write_text("{}")  # damaged, so not complete
    sb.write(again, *SIZES.values(), seed=7)
    assert snapshot(again) == snapshot(folder)
    sb.write(again, 5, 2, 2, 2, seed=8)
    assert len(list((again / "images").rglob("*.png"))) == 11
    assert [p.name for p in tmp_path.iterdir()] == ["again"]


def test_more_training_leaves_the_other_splits_alone(folder, tmp_path):
    other = sb.write(tmp_path / "other", 10, *list(SIZES.values())[1:], seed=7)
    for split in ("val", "test", "composition"):
        assert read(other / f"scenes/{split}.json") == read(folder / f"scenes/{split}.json")


def test_write_refuses_what_it_cannot_do(tmp_path):
    with pytest.raises(ValueError, match="val=-1"):
        sb.write(tmp_path / "x", 1, -1, 1, 1, seed=0)
    (tmp_path / "diary.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="other files"):
        sb.write(tmp_path, 1, 1, 1, 1, seed=0)
    assert (tmp_path / "diary.txt").read_text() == "mine"
