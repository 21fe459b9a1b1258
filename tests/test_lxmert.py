"""LXMERT's aggregated files give every sentence its picture, source and label, and a wrong entry is named."""

import json
from pathlib import Path

import pytest

from xlxmert_core.data import coco, lxmert, storybook
from xlxmert_core.data.coco import Record
from xlxmert_core.data.files import DataError
from xlxmert_core.data.lxmert import Example

SHARED = Path(__file__).parents[2] / "shared" / "data"
PICTURE = {
    "img_id": "COCO_val2014_000000042",
    "labelf": {"vqa": [{"2": 1.0, "two": 0.3}, {}], "gqa": [{"left": 1}]},
    "sentf": {
        "mscoco": ["A dog.", "Two dogs on a beach"],
        "vqa": ["How many dogs?", "Why?"],
        "gqa": ["Which side?"],
        "vg": ["a \u72ac"],
    },
}
SENTENCES = [
    Example(PICTURE["img_id"], "A dog.", "mscoco"),
    Example(PICTURE["img_id"], "Two dogs on a beach", "mscoco"),
    Example(PICTURE["img_id"], "How many dogs?", "vqa", {"2": 1.0, "two": 0.3}),
    Example(PICTURE["img_id"], "Why?", "vqa"),  # nobody agreed on an answer
    Example(PICTURE["img_id"], "Which side?", "gqa", {"left": 1}),
    Example(PICTURE["img_id"], "a \u72ac", "vg"),
]


def put(path: Path, content) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_an_official_entry_is_read(tmp_path):
    assert lxmert.read_aggregated(put(tmp_path / "a.json", [PICTURE])) == SENTENCES


def test_files_are_read_in_their_order(tmp_path):
    other = {"img_id": 9, "sentf": {"vg": ["grass"]}}  # no labels at all, as for captions
    first, second = put(tmp_path / "a.json", [PICTURE, other]), put(tmp_path / "b.json", [other])
    grass = Example("9", "grass", "vg")
    assert lxmert.read_aggregated(str(first), second) == [*SENTENCES, grass, grass]
    assert lxmert.read_aggregated(put(tmp_path / "c.json", [])) == []
    assert lxmert.read_aggregated() == []


def asked(*labels) -> list[Example]:
    return [Example("1", "?", "vqa", label) for label in labels]


def test_answers_are_ordered_by_frequency_then_alphabet():
    found = asked({"yes": 1}, {"no": 1}, {"yes": 0.3, "no": 0.9}, {"blue": 1}, {"yes": 1}, {"a dog": 1}, None)
    assert lxmert.answer_vocabulary(found) == ["no", "yes", "a dog", "blue"]
    assert lxmert.answer_vocabulary(reversed(found)) == ["no", "yes", "a dog", "blue"]


@pytest.mark.parametrize(("minimum", "answers"), [(1, ["a", "b", "c"]), (2, ["a", "b"]), (3, ["a"]), (4, [])])
def test_rare_answers_are_left_out(minimum, answers):
    found = asked(*[{"a": 1}] * 3, *[{"b": 1, "z": 0.6}] * 2, {"c": 1})
    assert lxmert.answer_vocabulary(iter(found), minimum) == answers


def test_captions_have_no_answers():
    assert lxmert.answer_vocabulary(lxmert.examples([{"img_id": 1, "sentf": {"mscoco": ["a", "b"]}}])) == []


def test_captions_come_back(tmp_path):
    records = [Record(42, Path("a.jpg"), ["A dog.", "Two dogs"]), Record(7, Path("b.jpg"), ["caf\u00e9"])]
    path = put(tmp_path / "a.json", lxmert.from_captions(records))
    found = lxmert.read_aggregated(path)
    assert [(int(e.image_id), e.sentence) for e in found] == [(42, "A dog."), (42, "Two dogs"), (7, "caf\u00e9")]
    assert {(e.source, e.label, len(e.image_id)) for e in found} == {("mscoco", None, 12)}


WRONG = {
    "no picture": {"sentf": {"vg": ["a"]}},
    "no sentences": {"img_id": 1},
    "sentences not by source": {"img_id": 1, "sentf": ["a"]},
    "more sentences than labels": {"img_id": 1, "sentf": {"vqa": ["a", "b"]}, "labelf": {"vqa": [{"x": 1}]}},
    "more labels than sentences": {"img_id": 1, "sentf": {"vqa": ["a"]}, "labelf": {"vqa": [{"x": 1}, {}]}},
    "label is text": {"img_id": 1, "sentf": {"vqa": ["a"]}, "labelf": {"vqa": ["yes"]}},
    "labels not by source": {"img_id": 1, "sentf": {"vqa": ["a"]}, "labelf": [{"x": 1}]},
    "fine-tuning layout": {"img_id": 1, "sent": "a?", "label": {"x": 1}},
    "a number": 5,
    "nothing": None,
}


@pytest.mark.parametrize("entry", WRONG.values(), ids=WRONG)
def test_a_wrong_entry_is_named(tmp_path, entry):
    path = put(tmp_path / "a.json", [PICTURE, PICTURE, entry, PICTURE])
    with pytest.raises(DataError, match="entry 2 is not LXMERT's aggregated layout") as caught:
        lxmert.read_aggregated(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_second_file_is_named(tmp_path):
    good, bad = put(tmp_path / "good.json", [PICTURE]), put(tmp_path / "bad.json", [{}])
    with pytest.raises(DataError, match="bad.json: entry 0"):
        lxmert.read_aggregated(good, bad)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"img_id": 1}, "is no list of pictures"),
        ('"text"', "is no list of entries"),
        ("[{", "is not JSON at line 1, column 3"),
        ("", "is not JSON at line 1, column 1"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, content, message):
    path = put(tmp_path / "a.json", content)
    with pytest.raises(DataError, match=message) as caught:
        lxmert.read_aggregated(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere.json is missing"):
        lxmert.read_aggregated(tmp_path / "nowhere.json")


def test_storybook_in_this_layout(tmp_path):
    folder = storybook.write(tmp_path / "storybook", 4, 2, 2, 2, seed=0)
    found = lxmert.read_aggregated(folder / "lxmert" / "train.json")
    records, _ = coco.read_captions(folder, "train")
    said = [(int(e.image_id), e.sentence) for e in found if e.source == lxmert.CAPTIONS]
    assert said == [(r.image_id, caption) for r in records for caption in r.captions]
    questions = [e for e in found if e.source == "vqa"]
    assert len(questions) == 24
    assert all(list(e.label.values()) == [1.0] for e in questions)
    assert set(lxmert.answer_vocabulary(found)) == {answer for e in questions for answer in e.label}


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared/data, with files in LXMERT's layout, is not here")
@pytest.mark.parametrize("split", ("train2017", "val2017"))
def test_captions_of_photographs(split):
    found = lxmert.read_aggregated(SHARED / "coco" / "converted" / f"lxmert_mscoco_{split}.json")
    records, report = coco.read_captions(SHARED / "coco", split)
    assert report.skipped == []
    assert sorted((e.image_id, e.sentence.strip()) for e in found) == sorted(
        (e.image_id, e.sentence) for e in lxmert.examples(lxmert.from_captions(records))
    )
    assert {e.source for e in found} == {lxmert.CAPTIONS}


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared/data, with files in LXMERT's layout, is not here")
def test_the_fine_tuning_layout_is_told_apart():
    path = SHARED / "daquar" / "converted" / "lxmert_vqa_daquar_test.json"
    with pytest.raises(DataError, match="lxmert_vqa_daquar_test.json: entry 0 is not"):
        lxmert.read_aggregated(path)
