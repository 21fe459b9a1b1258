"""NLVR2's lines and LXMERT's list say the same; a statement about one picture is refused."""

import json
from pathlib import Path

import pytest

from xlxmert_core.data import nlvr2
from xlxmert_core.data.files import DataError
from xlxmert_core.data.vqa import Question

SHARED = Path(__file__).parents[2] / "shared" / "data" / "nlvr2"
LINE = {"identifier": "dev-8-1-0", "sentence": "Two dogs.", "label": "True", "left_url": "a", "right_url": "b"}
STATEMENT = Question("dev-8-1-0", ("dev-8-1-img0", "dev-8-1-img1"), "Two dogs.", ("True",), "True", ("dev-8-0",))


def lines(path: Path, *entries) -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def test_official_lines_name_their_pictures_by_the_identifier(tmp_path):
    assert nlvr2.read(lines(tmp_path / "x.json", LINE)) == [STATEMENT]


def test_other_layouts_name_them_outright(tmp_path):
    (found,) = nlvr2.read(lines(tmp_path / "x.json", LINE | {"left_image": 3, "right_image": 4}))
    assert found.images == (3, 4)
    theirs = {"identifier": "dev-8-1-0", "sent": "Two dogs.", "label": 1, "img0": "l", "img1": "r", "uid": "u"}
    (tmp_path / "y.json").write_text(json.dumps([theirs]))
    (found,) = nlvr2.read(tmp_path / "y.json")
    assert found.images == ("l", "r") and found.answer == "True"


def test_a_hidden_test_has_no_labels(tmp_path):
    (found,) = nlvr2.read(lines(tmp_path / "x.json", {k: v for k, v in LINE.items() if k != "label"}))
    assert found.answers == () and found.answer == ""


@pytest.mark.parametrize(("change", "message"), [
    ({"right_url": None}, "line 2 has left_url but not right_url"),
    ({"left_image": 5}, "line 2 has left_image but not right_image"),
    ({"left_url": "", "right_url": ""}, "line 2 names no pictures"),
    ({"identifier": "dev-8-1-0"}, "line 2 repeats the identifier 'dev-8-1-0'"),
    ({"identifier": "dev-8"}, "line 2 has the identifier 'dev-8', not split-set-pair-sentence"),
    ({"label": "perhaps"}, "line 2 has the label 'Perhaps'"),
    ({"sentence": None}, "line 2 is not in NLVR2's layout"),
])  # fmt: skip
def test_faults_are_named_with_their_line(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        nlvr2.read(lines(tmp_path / "x.json", LINE, LINE | {"identifier": "dev-8-2-0"} | change))


def test_a_malformed_line_is_named_by_line_and_column(tmp_path):
    path = lines(tmp_path / "x.json", LINE)
    path.write_text(path.read_text() + '{"identifier" 3}\n')
    with pytest.raises(DataError, match="line 2, column 15"):
        nlvr2.read(path)
    with pytest.raises(DataError, match="is missing"):
        nlvr2.read(tmp_path / "none.json")


def test_faults_of_a_list_are_named_with_their_entry(tmp_path):
    theirs = {"identifier": "dev-8-1-0", "sent": "Two dogs.", "label": 1, "img0": "l", "img1": "r"}
    for wrong in (theirs | {"img1": None}, theirs, {"identifier": "dev-8-1-0"}, 5):
        (tmp_path / "x.json").write_text(json.dumps([theirs, wrong]))
        with pytest.raises(DataError, match=r"x\.json, entry 2 "):
            nlvr2.read(tmp_path / "x.json")


@pytest.mark.skipif(not SHARED.is_dir(), reason="no NLVR2 sample beside the clone (shared/data/nlvr2)")
def test_both_layouts_of_the_official_split_agree():
    official = nlvr2.read(SHARED / "dev.json")
    assert len(official) == 5231
    assert official == nlvr2.read(SHARED / "converted" / "lxmert_nlvr2_dev.json")
