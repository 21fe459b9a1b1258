"""Folders in COCO's layout come out as pictures, captions and labels, and what is wrong is said in a sentence."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xlxmert_core.data import coco, lxmert
from xlxmert_core.data.files import DataError
from xlxmert_core.datasets.base import UNLABELLED
from xlxmert_core.datasets.coco import Coco, about_boxes

SPLIT = "val2017"
CAPTIONS, INSTANCES = f"annotations/captions_{SPLIT}.json", f"annotations/instances_{SPLIT}.json"
HUES = {7: (250, 0, 0), 3: (0, 250, 0), 12: (0, 0, 250)}
FAULTS = Path(__file__).parents[2] / "shared" / "spec" / "faults" / "coco_dup"
PHOTOS = Path(__file__).parents[2] / "shared" / "data" / "coco"
REAL = pytest.mark.skipif(not PHOTOS.is_dir(), reason="shared/data/coco, real photographs, is not here")


def captions() -> dict:
    images = [{"id": i, "file_name": f"{i:012d}.jpg", "width": 40, "height": 20} for i in HUES]
    said = [(12, "A blue picture. "), (7, "a red one"), (7, "red\n"), (3, "green")]
    annotations = [{"id": 90 + n, "image_id": i, "caption": text} for n, (i, text) in enumerate(said)]
    return {"info": {}, "licenses": [], "images": images, "annotations": annotations}


def instances() -> dict:
    """In pictures of 40 x 20: a dog on the left half of 7, a cat in the top right quarter of 3; 12 has none."""
    rows = [(7, [0, 0, 20, 20], 18), (3, [20, 0, 20, 10], 5)]
    annotations = [{"id": n, "image_id": i, "bbox": b, "category_id": c, "area": 1} for n, (i, b, c) in enumerate(rows)]
    categories = [{"id": 18, "name": "dog"}, {"id": 5, "name": "cat"}]
    return {"images": captions()["images"], "annotations": annotations, "categories": categories}


def put(folder: Path, name: str, value) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / SPLIT).mkdir()
    for image_id, hue in HUES.items():
        Image.new("RGB", (40, 20), hue).save(tmp_path / SPLIT / f"{image_id:012d}.jpg", quality=95)
    put(tmp_path, CAPTIONS, captions())
    put(tmp_path, INSTANCES, instances())
    return tmp_path


def sentence(error) -> str:
    """The message, which is one line that ends in a full stop."""
    text = str(error.value)
    assert "\n" not in text and text.endswith(".")
    return text


def test_captions_are_read(folder):
    records, report = coco.read_captions(folder, SPLIT)
    assert [record.image_id for record in records] == [7, 3, 12]  # the order of the images
    assert [record.captions for record in records] == [["a red one", "red"], ["green"], ["A blue picture."]]
    assert [record.path.name for record in records] == [f"{i:012d}.jpg" for i in (7, 3, 12)]
    assert report.skipped == []
    assert str(report) == "Nothing was skipped."


@pytest.mark.parametrize(("limit", "ids"), [(None, [7, 3, 12]), (2, [7, 3]), (1, [7]), (9, [7, 3, 12])])
def test_limit(folder, limit, ids):
    assert Coco(folder).split(SPLIT, limit, size=8).ids == ids


def test_pictures_may_lie_under_images(folder):
    (folder / "images").mkdir()
    (folder / SPLIT).rename(folder / "images" / SPLIT)
    assert Coco(folder).split(SPLIT, size=8).ids == [7, 3, 12]


def test_captions_without_their_picture_are_reported(folder):
    (folder / SPLIT / f"{7:012d}.jpg").unlink()
    content = captions()
    content["annotations"].append({"id": 1, "image_id": 555, "caption": "no such picture"})
    content["images"].append({"id": 8, "file_name": "uncaptioned.jpg"})
    put(folder, CAPTIONS, content)
    split = Coco(folder).split(SPLIT, size=8)
    assert split.ids == [3, 12]
    why = f"the picture is not in {folder / SPLIT}"
    assert split.report.skipped == [("2 caption(s) of picture 7", why), ("1 caption(s) of picture 555", why)]
    assert str(split.report).startswith("2 skipped:\n- 2 caption(s) of picture 7: the picture is not in")


def test_a_broken_picture_is_skipped_counted_and_listed(folder):
    path = folder / SPLIT / f"{3:012d}.jpg"
    path.write_bytes(path.read_bytes()[:200])
    split = Coco(folder).split(SPLIT, size=8)
    assert split.ids == [7, 12]
    assert len(split) == len(split.images) == len(split.labels["kind"]) == 2
    [(what, why)] = split.report.skipped
    assert what == "picture 3"
    assert str(path) in why
    assert str(split.report).startswith("1 skipped:\n- picture 3: ")


def test_a_long_report_is_cut():
    report = coco.Report()
    for number in range(23):
        report.skip(f"picture {number}", "broken")
    lines = str(report).splitlines()
    assert lines[0] == "23 skipped:"
    assert lines[-2:] == ["- picture 19: broken", "- and 3 more"]


def test_nothing_readable_is_an_error(folder):
    for path in (folder / SPLIT).iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=f"No picture of '{SPLIT}' in .* could be read: 3 skipped"):
        Coco(folder).split(SPLIT)


def test_pictures_and_labels_belong_together(folder):
    split = Coco(folder).split(SPLIT, size=16)
    assert split.images.shape == (3, 16, 16, 3)
    assert split.images.dtype == np.uint8
    assert np.abs(split.images.astype(int).mean((1, 2)) - list(HUES.values())).max() < 8
    dog, cat, unlabelled = split.labels["kind"]
    assert split.classes == {"kind": 3, "colour": 65}
    assert (dog[:, :4] == 2).all() and (dog[:, 4:] == 0).all()  # categories by id: cat 5, dog 18
    assert (cat[:4, 4:] == 1).all() and cat.sum() == 16
    assert (unlabelled == UNLABELLED).all()


def test_boxes_are_relative(folder):
    boxes, names = coco.read_boxes(folder, SPLIT)
    assert names == ["cat", "dog"]
    assert boxes == {7: [(0, 0, 0.5, 1, 1)], 3: [(0.5, 0, 0.5, 0.5, 0)]}


@pytest.mark.parametrize("name", [CAPTIONS])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(DataError, match="is missing: put the official annotations there") as caught:
        Coco(folder).split(SPLIT)
    assert str(folder / name) in sentence(caught)


def test_a_missing_folder_is_named(folder):
    for wrong in (folder / "nowhere", folder / SPLIT):
        with pytest.raises(DataError, match=f"no pictures of '{SPLIT}' in .*: expected the folder {SPLIT}/") as caught:
            Coco(wrong).split(SPLIT)
        assert str(wrong) in sentence(caught)


@pytest.mark.parametrize("name", [CAPTIONS, INSTANCES])
@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{\n "images": [,]}', "line 2, column 13"),
        ("", "line 1, column 1"),
        ('{"images": [', "line 1, column 13"),
        ("<html>", "line 1, column 1"),
    ],
)
def test_malformed_json_is_named_with_line_and_column(folder, name, text, where):
    put(folder, name, text)
    with pytest.raises(DataError, match=f"is not JSON at {where} .*: download it again") as caught:
        Coco(folder).split(SPLIT)
    assert str(folder / name) in sentence(caught)


def test_text_of_another_encoding_is_named(folder):
    (folder / CAPTIONS).write_bytes(b'{"images": "caf\xe9"}')
    with pytest.raises(DataError, match="is not UTF-8 text at byte 15") as caught:
        Coco(folder).split(SPLIT)
    assert str(folder / CAPTIONS) in sentence(caught)


def without(content: dict, part: str, key: str) -> dict:
    del content[part][0][key]
    return content


WRONG = [[], {}, "a", None, {"images": [1], "annotations": []}, {"images": {}, "annotations": 5}]
WRONG_CAPTIONS = [without(captions(), *at) for at in (("images", "id"), ("images", "file_name"))]
WRONG_CAPTIONS += [without(captions(), "annotations", key) for key in ("image_id", "caption")]
WRONG_CAPTIONS += [captions() | {"annotations": [{"image_id": 7, "caption": 5}]}]
WRONG_BOXES = [without(instances(), *at) for at in (("images", "width"), ("annotations", "bbox"), ("categories", "id"))]
WRONG_BOXES += [instances() | {"annotations": [{"image_id": 7, "category_id": 5, "bbox": [1, 2, 3]}]}]
WRONG_BOXES += [instances() | {"categories": []}, instances() | {"images": []}]


@pytest.mark.parametrize(
    ("name", "layout", "content"),
    [(CAPTIONS, "captions", c) for c in WRONG + WRONG_CAPTIONS]
    + [(INSTANCES, "instances", c) for c in WRONG + WRONG_BOXES],
)
def test_a_wrong_layout_is_named(folder, name, layout, content):
    put(folder, name, json.dumps(content))
    with pytest.raises(DataError, match=f"does not have COCO's {layout} layout") as caught:
        Coco(folder).split(SPLIT)
    assert str(folder / name) in sentence(caught)


@REAL
@pytest.mark.parametrize("name", ("train2017", "val2017"))
def test_photographs(name):
    split = Coco(PHOTOS).split(name)
    content = json.loads((PHOTOS / "annotations" / f"captions_{name}.json").read_text(encoding="utf-8"))
    said = {row["image_id"] for row in content["annotations"]}
    assert split.ids == [image["id"] for image in content["images"] if image["id"] in said]
    assert sum(len(record.captions) for record in split.records) == len(content["annotations"])
    assert split.report.skipped == []
    assert split.images.shape == (len(split), 128, 128, 3)
    assert split.images.dtype == np.uint8
    assert (split.images.std((1, 2, 3)) > 5).all()
    kinds = split.labels["kind"]
    assert kinds.shape == (len(split), 8, 8)
    assert split.classes == {"kind": 81, "colour": 65}
    assert set(np.unique(kinds)) <= {UNLABELLED, *range(81)} and kinds.max() > 0


def test_ids_have_one_spelling(folder):
    content, boxes = captions(), instances()
    for image in content["images"]:
        image["id"] = f"{image['id']:012d}"
    for row in (*content["annotations"], *boxes["annotations"]):
        row["image_id"] = str(row["image_id"])
    put(folder, CAPTIONS, content)
    put(folder, INSTANCES, boxes)
    split = Coco(folder).split(SPLIT, size=8)
    assert split.ids == [7, 3, 12] and split.report.skipped == []
    assert [len(those) for those in split.regions] == [1, 1, 0]


def test_names_serve_as_ids(folder):
    content = captions()
    for part, key in (("images", "id"), ("annotations", "image_id")):
        for row in content[part]:
            row[key] = f"picture {row[key]}"
    put(folder, CAPTIONS, content)
    (folder / INSTANCES).unlink()
    assert Coco(folder).split(SPLIT, size=8).ids == ["picture 7", "picture 3", "picture 12"]
    records, _ = coco.read_captions(folder, SPLIT)
    assert lxmert.from_captions(records)[0]["img_id"] == "picture 7"


@pytest.mark.parametrize(("name", "said"), [(CAPTIONS, "captions"), (INSTANCES, "instances")])
@pytest.mark.parametrize("twin", [7, "7", "000000000007"])
def test_two_pictures_of_one_id_are_refused(folder, name, said, twin):
    content = json.loads((folder / name).read_text())
    content["images"].append(content["images"][1] | {"id": twin})
    put(folder, name, content)
    with pytest.raises(DataError, match=f"{said} layout .two pictures have the id {twin!r}: every id must"):
        Coco(folder).split(SPLIT)


def test_two_categories_of_one_id_are_refused(folder):
    content = instances()
    content["categories"].append({"id": 5, "name": "cow"})
    put(folder, INSTANCES, content)
    with pytest.raises(DataError, match="two categories have one id"):
        coco.read_boxes(folder, SPLIT)


@pytest.mark.parametrize(("change", "said"), [
    ({"bbox": [0, 0, float("nan"), 1]}, "at annotation 0 .its 'bbox' is .*not a list of finite numbers"),
    ({"bbox": [0, 0, 1]}, "at annotation 0 .a box is four numbers"),
    ({"image_id": 99}, "at annotation 0 .a box is four numbers, of a picture and a category that are listed"),
    ({"category_id": None}, "at annotation 0 .its 'category_id' is null"),
])  # fmt: skip
def test_a_box_that_is_none_is_named(folder, change, said):
    content = instances()
    content["annotations"][0] |= change
    put(folder, INSTANCES, content)
    with pytest.raises(DataError, match=said):
        coco.read_boxes(folder, SPLIT)


def test_a_caption_that_is_no_text_is_named_by_its_entry(folder):
    content = captions()
    content["annotations"][2]["caption"] = None
    put(folder, CAPTIONS, content)
    with pytest.raises(DataError, match="captions layout at annotation 2 .its 'caption' is null, not text"):
        coco.read_captions(folder, SPLIT)


def test_accents_of_file_names_have_two_spellings(folder):
    content = captions()
    content["images"][0]["file_name"] = "\u00e9.jpg"  # JSON's
    (folder / SPLIT / f"{7:012d}.jpg").rename(folder / SPLIT / "e\u0301.jpg")  # macOS's
    put(folder, CAPTIONS, content)
    assert Coco(folder).split(SPLIT, size=8).ids == [7, 3, 12]


def test_pictures_may_lie_deeper(folder):
    content = captions()
    for image in content["images"]:
        image["file_name"] = f"deep/{image['file_name']}"
    (folder / SPLIT).rename(folder / "deep")
    (folder / SPLIT).mkdir()
    (folder / "deep").rename(folder / SPLIT / "deep")
    put(folder, CAPTIONS, content)
    assert Coco(folder).split(SPLIT, size=8).ids == [7, 3, 12]


def test_captions_alone_are_enough(folder):
    (folder / INSTANCES).unlink()
    split = Coco(folder).split(SPLIT, size=16)
    assert (split.labels["kind"] == UNLABELLED).all() and split.labelled == ["colour"]
    assert split.classes == {"kind": 1, "colour": 65} and list(split.probes) == ["colour"]
    assert split.report.skipped == [("boxes", f"{folder / INSTANCES} is not there")]
    assert [[region.words[0] for region in those] for those in split.regions] == [[], ["green"], ["blue", "picture"]]
    assert {region.box for those in split.regions for region in those} == {(0.0, 0.0, 1.0, 1.0)}
    asked = about_boxes(split, folder)
    assert {q.text for q in asked.tasks["vqa"]} >= {"is there a blue", "is there a green"}


def test_boxes_are_for_all_splits_or_for_none(folder):
    (folder / INSTANCES).unlink()
    put(folder, "annotations/instances_train2017.json", instances())
    with pytest.raises(DataError, match=f"instances_{SPLIT}.json is missing, instances_train2017.json is not"):
        Coco(folder).split(SPLIT)


@pytest.mark.skipif(not FAULTS.is_dir(), reason="shared/spec/faults is not here")
def test_a_folder_that_others_reported():
    split = Coco(FAULTS).split("train2017", size=8)
    assert split.ids == [1] and split.records[0].captions == ["x"]
