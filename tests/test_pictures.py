"""A folder gives its pictures, all of them and nothing else, by whatever form of id people ask with."""

import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from xlxmert_core.data.files import DataError
from xlxmert_core.data.images import open_image
from xlxmert_core.data.pictures import ByPicture, endings, find_pictures, is_picture, names_in, picture_key, walk


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(("name", "asked"), [
    ("1.jpg", [1, "1", "000000000001", "1.jpg", "000000000001.jpg", "val/1.jpg", np.int64(1)]),
    ("000000000001.jpg", [1, "1", "000000000001", "000000000001.png", "COCO_val2014_000000000001"]),
    ("COCO_val2014_000000000042.jpg", [42, "42", "000000000042", "COCO_val2014_000000000042", "42.jpg",
                                       "COCO_val2014_000000000042.jpg", "val2014/COCO_val2014_000000000042.jpg"]),
    ("house_7.PNG", [7, "7", "007", "house_7", "house_7.PNG"]),
    ("dev-850-0-img0.png", ["dev-850-0-img0", "dev-850-0-img0.png", 0]),
    ("caf\u00e9.webp", ["caf\u00e9", "cafe\u0301", "cafe\u0301.webp"]),
    ("v1.5.jpg", ["v1.5", "v1.5.jpg", 5]),
])  # fmt: skip
def test_a_picture_is_found_by_every_form_of_its_id(tmp_path, name, asked):
    put(tmp_path, f"inner/{name}")
    found = find_pictures(tmp_path)
    assert [found[key] for key in asked] == [tmp_path / "inner" / name] * len(asked)
    assert list(found) == [picture_key(os.path.splitext(name)[0])] and len(found) == 1
    assert all(other not in found for other in (2, "2", "", "house", "COCO_val2014_000000000099"))
    with pytest.raises(KeyError):
        found[99]


@pytest.mark.parametrize("ending", ["jpg", "JPEG", "png", "webp", "bmp", "gif", "tif", "tiff", "jfif", "ppm"])
def test_what_pillow_reads_is_a_picture(tmp_path, ending):
    path = tmp_path / f"5.{ending}"
    kind = Image.registered_extensions()[f".{ending.lower()}"]
    Image.new("RGB", (3, 2)).save(path, kind)
    assert find_pictures(tmp_path)[5] == path and open_image(path).size == (3, 2)


@pytest.mark.parametrize("name", [
    "._1.jpg", ".1.jpg", "Thumbs.db", "1.jpg:Zone.Identifier", "1.jpg~", "1.jpg.part", "1.json", "1.txt", "1", "1.h5",
    "1.pdf", "1.eps", "1.npy", "1.ds_store",
])  # fmt: skip
def test_companions_are_no_pictures(tmp_path, name):
    put(tmp_path, name, f"inner/{name}")
    assert not is_picture(name) and len(find_pictures(tmp_path)) == 0


def test_folders_that_systems_add_are_passed_over(tmp_path):
    put(
        tmp_path,
        "1.jpg",
        "__MACOSX/1.jpg",
        "@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg",
        ".ipynb_checkpoints/1.jpg",
        ".t/1.jpg",
    )
    (tmp_path / "2.jpg").mkdir()  # a folder, not a picture
    assert list(walk(tmp_path)) == [tmp_path / "1.jpg"]
    put(tmp_path / ".hidden", "3.jpg")
    assert find_pictures(tmp_path / ".hidden")[3].name == "3.jpg"  # whoever names it means it


@pytest.mark.parametrize("names", [("1.jpg", "1.png"), ("1.jpg", "inner/1.jpg"), ("1.jpg", "000000000001.jpg"),
                                   ("caf\u00e9.jpg", "cafe\u0301.png")])  # fmt: skip
def test_two_pictures_of_one_name_are_refused(tmp_path, names):
    put(tmp_path, *names)
    with pytest.raises(DataError, match=r"Two pictures are called .*: remove one of them\.") as caught:
        find_pictures(tmp_path)
    assert all(str(tmp_path / name) in str(caught.value) for name in names)


def test_a_number_that_two_pictures_share_is_refused_when_it_is_asked_for(tmp_path):
    put(tmp_path, "a_1.jpg", "b_1.jpg", "2.jpg", "c_2.jpg")
    found = find_pictures(tmp_path)
    with pytest.raises(DataError, match="Picture 1 may be .*a_1.jpg' or .*b_1.jpg': use one source"):
        found[1]
    assert found["a_1"].name == "a_1.jpg" and found[2].name == "2.jpg" and found["c_2"].name == "c_2.jpg"


def test_cocos_pictures_of_both_years_are_one_and_others_are_not(tmp_path):
    put(tmp_path, "train2014/COCO_train2014_000000000009.jpg", "train2017/000000000009.jpg")
    assert find_pictures(tmp_path)[9].stem.endswith("000000000009")
    with pytest.raises(DataError, match="Picture 9 may be '9' or 'COCO_train2014_000000000009': use one source"):
        ByPicture([("9", 0), ("COCO_train2014_000000000009", 1)])[9]


def test_in_a_store_only_cocos_names_end_in_a_number_that_counts():
    found = ByPicture([("n3", 0), ("COCO_val2014_000000000008", 1), (5, 2)])
    assert 3 not in found and found["n3"] == 0 and found[8] == 1 and found["000000000005.jpg"] == 2


def test_links_are_followed_and_those_that_lead_back_are_not(tmp_path):
    put(tmp_path / "elsewhere", "1.jpg")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "train").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "here")
    assert find_pictures(tmp_path / "here")[1] == tmp_path / "here" / "train" / "1.jpg"


def test_names_that_are_no_text_are_passed_by_and_can_be_told(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"\xff\xe9.jpg")).touch()
    except OSError:
        pytest.skip("this file system takes no such names")
    put(tmp_path, "1.jpg")
    found = find_pictures(tmp_path)
    assert found[1].name == "1.jpg" and len(found) == 2
    odd = next(key for key in found if key != "1")
    error = DataError(f"There is something wrong with {found[odd]}.")
    assert str(error).encode() and r"\xff" in str(error) or "udcff" in str(error)


def test_names_come_as_json_spells_them(tmp_path):
    (tmp_path / unicodedata.normalize("NFD", "é.jpg")).touch()
    assert names_in(tmp_path) == {"é.jpg": tmp_path / unicodedata.normalize("NFD", "é.jpg")}


def test_a_folder_that_is_not_there_is_named(tmp_path):
    put(tmp_path, "1.jpg")
    for wrong in (tmp_path / "nowhere", tmp_path / "1.jpg"):
        with pytest.raises(DataError, match=f"There is no folder {wrong}: put the pictures there"):
            find_pictures(wrong)


def test_no_ending_is_of_a_format_that_is_not_opened():
    assert {".jpg", ".png", ".webp", ".bmp", ".tif", ".gif", ".jp2"} <= endings()
    assert not {".pdf", ".eps", ".ps", ".h5", ".hdf", ".mpg", ".wmf"} & endings()


def test_postscript_is_not_handed_to_another_program(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    with pytest.raises(DataError, match="is broken"):
        open_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("image_id", [True, 1.0, None, [1]])
def test_what_is_no_id_is_refused(image_id):
    with pytest.raises(DataError, match="A picture's id is a whole number or a string, not"):
        picture_key(image_id)
