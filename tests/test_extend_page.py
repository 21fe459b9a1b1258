"""The code of "How to extend it" runs, block after block, and does what the page says."""

import re

import pytest

from book.build.bars import read_bars
from book.build.run_chapters import ROOT

PAGE = (ROOT / "book" / "extend.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.slow
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def names():
    """What the page's Python leaves behind."""
    found = {}
    for kind, block in BLOCKS:
        if kind == "python":
            exec(block, found)
    return found


def test_the_order_works_outwards_and_late(names):
    kept, painted = names["first_kept"], names["painting"]
    assert painted.images.shape == (1, 128, 128, 3)
    assert kept.sum() == 64 - int(64 * (1 - (4 / 16) ** 2))
    assert bool(kept[3:5, 3:5].all()) and not bool(kept[[0, 0, 7, 7], [0, 7, 0, 7]].any())


def test_the_picture_comes_back_in_cocos_layout(names):
    split = names["split"]
    assert split.records[0].captions == ["a small blue house by the water"]
    assert (split.images[0] == names["painting"].images[0]).all() and not split.report.skipped
    assert (split.labels["kind"] < 0).all() and (split.labels["colour"] >= 0).all()


def test_the_skill_answers_a_new_question(names):
    commonest = max(sum(q.answer == a for q in names["ask"]) for a in ("late", "early")) / len(names["ask"])
    assert not names["report"].skipped and len(names["ask"]) > 30
    assert names["right"] >= 0.95 > commonest + 0.1
    assert names["painter"].answer(names["painting"].images, "is it late or early") == ["early"]


def test_the_metric_is_nought_for_the_same_picture_only(names):
    painter, variety = names["painter"], names["variety"]
    same = {"temperature": 0.0, "candidates": 1, "polish": 0}
    assert variety(painter, ["a red ball on the grass"], **same) == 0 < names["found"]


def test_the_bar_is_written_as_the_book_reads_it(names, tmp_path):
    [bar] = [block for kind, block in BLOCKS if kind == "toml"]
    (tmp_path / "bars.toml").write_text(bar)
    [(metric, limits)] = read_bars(tmp_path / "bars.toml")["07_painting"].items()
    assert metric == "variety" and limits["min"] < names["found"]


def test_every_file_that_it_names_is_there():
    known = re.findall(r"`((?:xlxmert_core|tests|book)/[\w/]+\.(?:py|toml))`", PAGE)
    assert known and [path for path in known if not (ROOT / path).exists()] == ["xlxmert_core/datasets/mine.py"]
