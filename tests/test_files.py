"""JSON is streamed as it would be loaded whole, and whatever is wrong is named with its line and column."""

import json
import random
import re

import pytest

from xlxmert_core.data import files
from xlxmert_core.data.files import DataError, read_lines, stream


@pytest.fixture(autouse=True)
def tiny_blocks(monkeypatch):
    monkeypatch.setattr(files, "BLOCK", 37)  # so that every value meets a border


def value(rng: random.Random, depth: int = 0):
    kind = rng.randrange(7 if depth < 3 else 5)
    if kind == 5:
        return [value(rng, depth + 1) for _ in range(rng.randrange(5))]
    if kind == 6:
        return {str(i): value(rng, depth + 1) for i in range(rng.randrange(4))}
    return (rng.random(), rng.randrange(10**9), 'a"\n é\\' * rng.randrange(4), None, True)[kind]


@pytest.mark.parametrize("seed", range(60))
def test_entries_are_those_of_the_whole_file(tmp_path, seed):
    rng, path = random.Random(seed), tmp_path / "x.json"
    items = [value(rng) for _ in range(rng.randrange(20))]
    document = {"info": value(rng), "questions": items, "more": 1}
    path.write_text(json.dumps(document, indent=rng.choice([None, 1]), ensure_ascii=rng.random() < 0.5), "utf-8")
    assert list(stream(path, "questions")) == items
    assert dict(stream(path)) == document
    path.write_text(json.dumps(items), "utf-8")
    assert list(stream(path)) == items


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_file_is_named_with_the_place(tmp_path, seed):
    rng, path = random.Random(seed), tmp_path / "x.json"
    text = json.dumps({str(i): value(rng) for i in range(9)}, indent=rng.choice([None, 1]))
    place = rng.randrange(len(text))
    damaged = text[:place] + "\x01" + text[place + 1 :]
    path.write_text(damaged)
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads(damaged)
    with pytest.raises(DataError) as found:
        list(stream(path))
    line, column = re.search(r"line (\d+), column (\d+)", str(found.value)).groups()
    assert (int(line), int(column)) == (caught.value.lineno, caught.value.colno)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.json is missing"):
        list(stream(tmp_path / "none.json"))
    path = tmp_path / "x.json"
    path.write_text('{"info": 1}')
    with pytest.raises(DataError, match="has no 'questions'"):
        list(stream(path, "questions"))
    path.write_bytes(b'["\xff"]')
    with pytest.raises(DataError, match="is not UTF-8"):
        list(stream(path))
    path.write_text("[1, 2")
    with pytest.raises(DataError, match="line 1, column 6"):
        list(stream(path))


def test_lines_are_counted_and_must_be_objects(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 2}\n')
    assert list(read_lines(path)) == [(1, {"a": 1}), (3, {"a": 2})]
    path.write_text('{"a": 1}\n\n{"a" 2}\n')
    with pytest.raises(DataError, match="line 3, column 6"):
        list(read_lines(path))
    path.write_text("[1]\n")
    with pytest.raises(DataError, match="line 1 is no JSON object"):
        list(read_lines(path))
    with pytest.raises(DataError, match="is missing"):
        list(read_lines(tmp_path / "none"))
