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
    number = rng.choice([rng.random(), -1e-7, 10**60, rng.randrange(10**9)])
    return (number, rng.randrange(10), 'a"\n é😀\\' * rng.randrange(9), None, True)[kind]


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


def damage(rng: random.Random, text: str) -> str:
    """The text with a character too many, too few or wrong, or cut short; its first one stays."""
    place, character = rng.randrange(1, len(text)), rng.choice('{}[],:" x1-.\n\x01')
    rest = rng.choice([character + text[place:], text[place + 1 :], character + text[place + 1 :], ""])
    return rng.choice([text[:place] + rest, text + character])


@pytest.mark.parametrize("shape", [list, dict])
def test_a_damaged_file_is_named_with_the_place(tmp_path, shape):
    rng, path, count = random.Random(0), tmp_path / "x.json", 0
    for _ in range(500):
        items = [(str(i), value(rng)) for i in range(4)]
        document = dict(items) if shape is dict else [v for _, v in items]
        damaged = damage(rng, json.dumps(document, indent=rng.choice([None, 1])))
        path.write_text(damaged)
        try:
            json.loads(damaged)
        except json.JSONDecodeError as error:
            if error.msg.startswith("Illegal trailing comma"):  # from Python 3.13 on it is the comma that is named
                continue
            with pytest.raises(DataError) as found:
                list(stream(path))
            line, column = re.search(r"line (\d+), column (\d+)", str(found.value)).groups()
            assert (int(line), int(column)) == (error.lineno, error.colno), damaged
            count += 1
    assert count > 200


@pytest.mark.parametrize("text", ["[1, ]", '{"a": 1, }', "{1: 2}", "[1] [2]", '{"a": 1}\n{"a": 2}', "[1}", '{"a" 1}'])
def test_what_is_nearly_json_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match="is not JSON at line"):
        list(stream(tmp_path / "x.json"))


def test_what_comes_after_the_wanted_list_is_not_looked_at(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"info": {"a": [1]}, "questions": [1, 2], nonsense')
    assert list(stream(path, "questions")) == [1, 2]
    assert next(stream(path)) == ("info", {"a": [1]})


@pytest.mark.parametrize("text", ["{}", "[]", '[{"questions": [1]}]', '{"info": {"questions": [1]}}'])
def test_a_missing_list_is_named(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match="has no 'questions': it is not in the official layout"):
        list(stream(tmp_path / "x.json", "questions"))


@pytest.mark.parametrize("before", [0, 100, 100_000])
def test_text_of_another_encoding_is_named_by_its_byte(tmp_path, before):
    path = tmp_path / "x.json"
    path.write_bytes(b'{"a": 1}\n' + b" " * before + b'"caf\xe9"')
    for read in (read_lines, stream):
        with pytest.raises(DataError, match=f"is not UTF-8 text at byte {before + 13}:"):
            list(read(path))


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.json is missing"):
        list(stream(tmp_path / "none.json"))
    path = tmp_path / "x.json"
    path.write_text("[1, 2")
    with pytest.raises(DataError, match="line 1, column 6"):
        list(stream(path))
    path.write_text('{"questions": 5}')
    with pytest.raises(DataError, match="is no list of entries"):
        list(stream(path, "questions"))


def test_lines_are_counted_and_must_be_objects(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 2}\n')
    assert list(read_lines(path)) == [(1, {"a": 1}), (3, {"a": 2})]
    path.write_text('{"a": 1}\n\n{"a" 2}\n')
    with pytest.raises(DataError, match="line 3, column 6"):
        list(read_lines(path))
    path.write_text('{"a": 1}\n{"a": 2\n{"a": 3}\n')  # cut short
    with pytest.raises(DataError, match="line 2, column 8"):
        list(read_lines(path))
    path.write_text("[1]\n")
    with pytest.raises(DataError, match="line 1 is no JSON object"):
        list(read_lines(path))
    with pytest.raises(DataError, match="is missing"):
        list(read_lines(tmp_path / "none"))
