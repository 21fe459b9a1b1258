"""GQA's question files and scene graphs are read as they are, and faults are named."""

import json
from pathlib import Path

import pytest

from xlxmert_core.data import gqa
from xlxmert_core.data.files import DataError
from xlxmert_core.data.vqa import Question

SHARED = Path(__file__).parents[2] / "shared" / "data" / "gqa"
ENTRY = {
    "imageId": "n161313", "question": "Is it red?", "answer": "no", "entailed": ["02"], "isBalanced": True,
    "types": {"structural": "verify", "semantic": "attr", "detailed": "verifyAttr"},
}  # fmt: skip


def put(path: Path, content) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_split_is_read(tmp_path):
    hidden = {"imageId": "5", "question": "What?"}  # a test split has no answers
    found = gqa.read(put(tmp_path / "q.json", {"01": ENTRY, "02": hidden}))
    kinds = ("verify", "attr", "verifyAttr")
    assert found == [Question("01", ("n161313",), "Is it red?", ("no",), "no", kinds, ("02",)),
                     Question("02", ("5",), "What?")]  # fmt: skip


def test_faults_are_named(tmp_path):
    text = json.dumps({"01": ENTRY})
    with pytest.raises(DataError, match="asks question '01' twice"):
        gqa.read(put(tmp_path / "q.json", f"{text[:-1]}, {text[1:]}"))
    with pytest.raises(DataError, match="question '01' is not in GQA's layout .*imageId"):
        gqa.read(put(tmp_path / "q.json", {"01": {"question": "?"}}))
    with pytest.raises(DataError, match="question '02' is not in GQA's layout"):
        gqa.read(put(tmp_path / "q.json", {"01": ENTRY, "02": "Is it red?"}))
    with pytest.raises(DataError, match="line 1, column 7"):
        gqa.read(put(tmp_path / "q.json", '{"01": }'.replace(": ", " ")))


@pytest.mark.parametrize("read", [gqa.read, gqa.read_regions])
@pytest.mark.parametrize("entry", [ENTRY, {"img_id": "5", "sent": "What?"}, ["01", ENTRY]])
def test_lists_are_refused(tmp_path, read, entry):
    with pytest.raises(DataError, match="is a list: GQA's files are objects"):
        read(put(tmp_path / "q.json", [entry]))


def test_objects_of_scene_graphs_are_described_regions(tmp_path):
    thing = {"name": "umbrella", "attributes": ["orange"], "x": 10, "y": 20, "w": 30, "h": 40, "relations": []}
    path = put(tmp_path / "g.json", {"7": {"width": 100, "height": 200, "objects": {"1": thing}}})
    assert gqa.read_regions(path) == [("7", "an orange umbrella", (0.1, 0.1, 0.4, pytest.approx(0.3)))]
    with pytest.raises(DataError, match="graph of picture '7' is not in GQA's layout"):
        gqa.read_regions(put(tmp_path / "g.json", {"7": {"width": 1}}))


@pytest.mark.skipif(not SHARED.is_dir(), reason="no GQA sample beside the clone (shared/data/gqa)")
def test_the_official_samples_load():
    questions = gqa.read(SHARED / "questions" / "val_balanced_questions.json")
    assert len(questions) == 5 and all(q.answer and len(q.kinds) == 3 for q in questions)
    regions = gqa.read_regions(SHARED / "sceneGraphs" / "val_sceneGraphs.json")
    assert len({picture for picture, *_ in regions}) == 70  # three graphs of the 73 are empty
    assert all(x0 <= x1 and y0 <= y1 for _, _, (x0, y0, x1, y1) in regions)
