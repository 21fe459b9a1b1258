"""Flickr8k becomes a folder in COCO's layout, alone or beside COCO's photographs; what is wrong is named."""

import json
from pathlib import Path

import pytest
from PIL import Image

from xlxmert_core.data import flickr8k
from xlxmert_core.data.coco import read_boxes, read_captions
from xlxmert_core.data.files import DataError
from xlxmert_core.datasets.coco import Coco

REAL = Path(__file__).parents[2] / "shared" / "data" / "flickr8k"


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three photographs: two to learn from, one of the test split, and one whose file is missing."""
    place = tmp_path / "flickr"
    (place / "images").mkdir(parents=True)
    for number in (11, 12, 13):
        Image.new("RGB", (40, 30), (number, 0, 0)).save(place / "images" / f"{number}_ab.jpg")
    lines = [f"{n}_ab.jpg#{k}\ta dog {k} of {n} .\n" for n in (11, 12, 13, 14) for k in range(2)]
    (place / "Flickr8k.token.txt").write_text("".join(lines))
    (place / "Flickr_8k.trainImages.txt").write_text("12_ab.jpg\n11_ab.jpg\n14_ab.jpg\n")
    (place / "Flickr_8k.testImages.txt").write_text("13_ab.jpg\n")
    return place


@pytest.fixture
def coco(tmp_path) -> Path:
    place = tmp_path / "coco"
    (place / "annotations").mkdir(parents=True)
    for name, number in (("train2017", 5), ("val2017", 6)):
        (place / name).mkdir()
        Image.new("RGB", (30, 30)).save(place / name / f"{number:012d}.jpg")
        image = {"id": number, "file_name": f"{number:012d}.jpg", "width": 30, "height": 30}
        captions = {"images": [image], "annotations": [{"image_id": number, "caption": "a cat"}]}
        boxes = {"images": [image], "categories": [{"id": 17, "name": "cat"}]}
        boxes["annotations"] = [{"image_id": number, "bbox": [0, 0, 15, 30], "category_id": 17}]
        (place / "annotations" / f"captions_{name}.json").write_text(json.dumps(captions))
        (place / "annotations" / f"instances_{name}.json").write_text(json.dumps(boxes))
    return place


def test_a_split_has_the_photographs_that_are_there_in_its_order(folder):
    found = flickr8k.read(folder, "train")
    assert [path.name for path, _ in found] == ["12_ab.jpg", "11_ab.jpg"]
    assert found[0][1] == ["a dog 0 of 12 .", "a dog 1 of 12 ."]


def test_alone_it_reads_like_coco(folder, tmp_path):
    out = flickr8k.write_coco(folder, tmp_path / "out")
    records, report = read_captions(out, "train2017")
    assert [r.image_id for r in records] == [12, 11] and not report.skipped
    assert read_captions(out, "val2017")[0][0].captions == ["a dog 0 of 13 .", "a dog 1 of 13 ."]
    assert (out / "train2017" / "12_ab.jpg").is_symlink()


def test_beside_coco_both_are_one_data_set_and_written_twice_is_the_same(folder, coco, tmp_path):
    for _ in range(2):
        out = flickr8k.write_coco(folder, tmp_path / "out", beside=coco)
    split = Coco(out).split("train2017", size=8)
    assert split.ids == [5, 12, 11] and split.classes["kind"] == 2
    assert (split.labels["kind"][0, :, :4] == 1).all() and (split.labels["kind"][1:] == -100).all()
    assert read_boxes(out, "val2017")[1] == ["cat"]
    assert len(list((out / "train2017").iterdir())) == 3


def test_what_is_missing_or_malformed_is_named(folder, tmp_path):
    (folder / "Flickr8k.token.txt").write_text("11_ab.jpg#0\ta dog\n12_ab.jpg#0 no tab\n")
    with pytest.raises(DataError, match="Flickr8k.token.txt, line 2 has no caption after a tab"):
        flickr8k.read(folder, "train")
    (folder / "Flickr8k.token.txt").unlink()
    with pytest.raises(DataError, match="Flickr8k.token.txt is missing"):
        flickr8k.read(folder, "train")
    (folder / "Flickr8k.token.txt").write_text("11_ab.jpg#0\ta dog\n")
    with pytest.raises(DataError, match="None of the 1 photographs of 'test' is in"):
        flickr8k.read(folder, "test")
    with pytest.raises(DataError, match="no pictures of 'train2017'"):
        flickr8k.write_coco(folder, tmp_path / "out", beside=tmp_path / "nowhere")
    with pytest.raises(DataError, match="has neither images nor Flicker8k_Dataset"):
        flickr8k.read(tmp_path, "train")


@pytest.mark.skipif(not REAL.is_dir(), reason="shared/data/flickr8k, real photographs, is not here")
def test_the_real_one_has_five_captions_a_photograph():
    found = flickr8k.read(REAL, "train")
    assert len(found) == 2281 and all(len(captions) == 5 for _, captions in found)
