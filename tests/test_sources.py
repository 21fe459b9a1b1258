"""The official folders are found as they are unpacked; what is missing or half there is said in a sentence."""

import shutil

import numpy as np
import pytest
from PIL import Image

from book.build.run_chapters import ROOT
from xlxmert_core.data.files import DataError
from xlxmert_core.data.hdf5 import HDF5Features, write_hdf5
from xlxmert_core.data.sources import SOURCES, available, picture_files, picture_key
from xlxmert_core.data.store import FeatureStore

DATA = ROOT.parent / "shared" / "data"


def touch(folder, *names):
    """Empty files: finding pictures does not open them."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.mark.parametrize(
    ("image_id", "key"),
    [
        (42, "42"),
        (np.int64(42), "42"),
        ("42", "42"),
        ("000000000042", "42"),
        ("0", "0"),
        ("000", "0"),
        (0, "0"),
        ("", ""),
        ("COCO_val2014_000000000042", "COCO_val2014_000000000042"),
        ("n161313", "n161313"),
        ("train-10171-0-img0", "train-10171-0-img0"),
        ("٤٢", "٤٢"),  # digits to isdigit(), no number of a data set
        (np.str_("007"), "7"),
    ],
)
def test_picture_key_has_one_spelling(image_id, key):
    assert picture_key(image_id) == key
    assert type(picture_key(image_id)) is str
    assert picture_key(picture_key(image_id)) == key


@pytest.mark.parametrize("image_id", [4.0, None, b"42", (42,)])
def test_picture_key_refuses_what_is_no_id(image_id):
    with pytest.raises(DataError, match="A picture's id is a whole number or a string, not"):
        picture_key(image_id)


@pytest.mark.parametrize("inner", [".", "images"])
def test_coco(tmp_path, inner):
    touch(
        tmp_path / inner,
        "train2014/COCO_train2014_000000000009.jpg",
        "train2014/COCO_train2014_000000000025.jpg",
        "val2014/COCO_val2014_000000000042.jpg",
        "val2014/._COCO_val2014_000000000042.jpg",  # a Mac's own
        "val2014/readme.txt",
        "thumbnails/x.jpg",
    )
    train = picture_files("coco", tmp_path, "train2014")
    assert list(train) == ["COCO_train2014_000000000009", "COCO_train2014_000000000025"]
    assert train["COCO_train2014_000000000009"] == tmp_path / inner / "train2014" / "COCO_train2014_000000000009.jpg"
    assert list(picture_files("coco", tmp_path)) == [*train, "COCO_val2014_000000000042"]


def test_visual_genome_lies_in_two_folders(tmp_path):
    touch(tmp_path, "VG_100K/2412112.jpg", "VG_100K/10.jpg", "VG_100K_2/1.jpg")
    assert set(picture_files("vg", tmp_path)) == {"2412112", "10", "1"}
    assert picture_files("vg", tmp_path, "all")["1"].parent.name == "VG_100K_2"


def test_gqa(tmp_path):
    touch(tmp_path, "images/n161313.jpg", "images/2354786.jpg")
    assert set(picture_files("gqa", tmp_path)) == {"n161313", "2354786"}


@pytest.mark.parametrize("inner", [".", "images"])
def test_nlvr2_has_numbered_folders(tmp_path, inner):
    names = ["train/0/train-10171-0-img0.png", "train/99/train-10171-0-img1.png", "dev/dev-850-0-img0.png"]
    touch(tmp_path / inner, *names, "test1/test1-0-1-img1.PNG")
    assert set(picture_files("nlvr2", tmp_path, "train")) == {"train-10171-0-img0", "train-10171-0-img1"}
    assert list(picture_files("nlvr2", tmp_path, "test1")) == ["test1-0-1-img1"]
    assert len(picture_files("nlvr2", tmp_path)) == 4


def test_two_files_of_one_name(tmp_path):
    touch(tmp_path, "VG_100K/7.jpg", "VG_100K_2/7.png")
    with pytest.raises(
        DataError, match=r"Two pictures are called 7, .*VG_100K/7.jpg and .*VG_100K_2/7.png: remove one"
    ):
        picture_files("vg", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("flickr",), "no source of pictures called 'flickr': use coco, vg, gqa, nlvr2"),
        (("coco", "train"), "COCO has no split 'train': use one of train2014, val2014, test2015"),
        (("coco", "val2014"), r"no pictures of COCO val2014 in .*: expected val2014/ there or in images/"),
        (("vg",), r"no pictures of Visual Genome in .*: expected VG_100K/, VG_100K_2/ there or in images/"),
    ],
)
def test_what_is_not_there_is_said(tmp_path, arguments, message):
    touch(tmp_path, "train2014/COCO_train2014_000000000009.jpg").joinpath("VG_100K").mkdir()
    with pytest.raises(DataError, match=message):
        picture_files(arguments[0], tmp_path, *arguments[1:])


@pytest.fixture
def small(monkeypatch):
    """Official numbers that a test can reach."""
    few = {"coco": {"train2014": 3, "val2014": 1}, "vg": {"all": 2}, "gqa": {"all": 1}}
    for source, numbers in few.items():
        splits = SOURCES[source].splits
        for split, number in numbers.items():
            monkeypatch.setitem(splits, split, (splits[split][0], number))


def test_two_of_the_sources_are_enough(tmp_path, small):
    touch(
        tmp_path / "coco",
        "val2014/COCO_val2014_000000000042.jpg",
        "train2014/a.jpg",
        "train2014/b.jpg",
        "train2014/c.jpg",
    )
    touch(tmp_path / "gqa", "images/n161313.jpg")
    (tmp_path / "vg").mkdir()
    folders = {name: tmp_path / name for name in ("gqa", "coco", "vg")}
    present, report = available(folders)
    assert present == {"gqa": {"all": 1}, "coco": {"train2014": 3, "val2014": 1}}
    assert report == (
        f"GQA (1) and COCO (train2014 3, val2014 1) are there; Visual Genome (no pictures in {tmp_path / 'vg'}) and "
        "NLVR2 (no folder given) are missing: Visual Genome's captions and questions and NLVR2's statements are "
        "passed over."
    )
    assert [len(picture_files(source, folders[source])) for source in present] == [1, 4]


def test_an_incomplete_download_is_said(tmp_path, monkeypatch):
    touch(tmp_path, *(f"train2014/{i}.jpg" for i in range(1200)))
    report = available({"coco": tmp_path})[1]
    assert report.startswith("COCO (train2014 1 200) is there; Visual Genome (no folder given), GQA")
    assert report.endswith(
        "COCO train2014 has 1 200 of 82 783 pictures: what is told about the others is passed over; finish the "
        "download to use it."
    )


def test_all_or_none(tmp_path, small):
    present, report = available({})
    assert present == {}
    assert report.startswith("COCO (no folder given), Visual Genome (no folder given), GQA (no folder given) and NLVR2")
    touch(tmp_path, "val2014/1.jpg", "VG_100K/2.jpg", "VG_100K_2/3.jpg", "images/4.jpg", "dev/5.png")
    present, report = available(dict.fromkeys(SOURCES, tmp_path))
    assert report == "All pictures are there: COCO (val2014 1), Visual Genome (2), GQA (1) and NLVR2 (dev 1)."
    with pytest.raises(DataError, match="no source of pictures called 'flickr'"):
        available({"flickr": tmp_path})


def test_features_are_read_when_the_pictures_are_gone(tmp_path):
    photographs = tmp_path / "gqa"
    touch(photographs, "images/n161313.jpg", "images/2354786.jpg")
    rng = np.random.default_rng(0)
    for path in (files := picture_files("gqa", photographs)).values():
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(path)
    store = FeatureStore(tmp_path / "store", (4, 3))
    features = np.stack([np.asarray(Image.open(path), dtype="float32")[0] for path in files.values()])
    store.append(list(files), features)
    shutil.rmtree(photographs)
    again = FeatureStore(tmp_path / "store", (4, 3))
    write_hdf5(again, tmp_path / "features.h5", grid=2)
    for reader in (again, HDF5Features(tmp_path / "features.h5")):
        assert (
            reader.rows(["n161313", 2354786]) == features[[list(files).index(n) for n in ("n161313", "2354786")]]
        ).all()


@pytest.mark.skipif(not DATA.is_dir(), reason="no real photographs beside the clone (shared/data)")
def test_real_folders():
    present, report = available({"coco": DATA / "coco", "gqa": DATA / "gqa", "nlvr2": DATA / "nlvr2"})
    assert present["coco"] == {"train2017": 162, "val2017": 126}
    assert "NLVR2 (no pictures in" in report and "162 of 118 287" in report
    files = picture_files("coco", DATA / "coco", "val2017")
    assert all(path.is_file() and f"{int(name):012d}" == name for name, path in files.items())
