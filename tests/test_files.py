"""JSON is streamed as it would be loaded whole, and whatever is wrong is named with its line and column."""

import codecs
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


@pytest.mark.parametrize("value", [{"a": [1]}, [1, "\u00e9"], {"questions": [{}]}])
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path, value):
    path = tmp_path / "x.json"
    path.write_bytes(codecs.BOM_UTF8 + json.dumps(value, ensure_ascii=False).encode() + b"\n")
    assert files.read_json(path) == value
    assert list(stream(path)) == (list(value.items()) if isinstance(value, dict) else value)
    if isinstance(value, dict):
        assert list(read_lines(path)) == [(1, value)]
    path.write_bytes(codecs.BOM_UTF8 + b'{"a" 1}')
    for read in (files.read_json, read_lines, stream):
        with pytest.raises(DataError, match="line 1, column 6"):
            list(read(path))
    path.write_bytes(codecs.BOM_UTF8 + b'{"a": "caf\xe9"}')
    for read in (files.read_json, read_lines, stream):
        with pytest.raises(DataError, match="is not UTF-8 text at byte 13: save it as UTF-8, or download it again"):
            list(read(path))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_other_encodings_are_named(tmp_path, encoding):
    path = tmp_path / "x.json"
    path.write_text('{"a": "\u00e9"}', encoding)
    for read in (files.read_json, read_lines, stream):
        with pytest.raises(DataError, match="x.json is not (UTF-8 text at byte|JSON at line 1, column)"):
            list(read(path))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[" + "9" * 5000 + "]"])
def test_json_beyond_all_measure_is_refused_in_one_sentence(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    for read in (files.read_json, read_lines, stream):
        with pytest.raises(DataError, match="x.json (has brackets within brackets|cannot be read|is not JSON)"):
            list(read(path))


def test_only_a_newline_ends_a_line(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes("a\u2028b\u0085c\x0bd\x1ce\r\n\r\nf".encode())
    assert list(files.text_lines(path)) == [(1, "a\u2028b\u0085c\x0bd\x1ce"), (2, ""), (3, "f")]
    path.write_text(json.dumps({"a": "b\u2028c"}, ensure_ascii=False) + "\n", "utf-8")
    assert list(read_lines(path)) == [(1, {"a": "b\u2028c"})]


@pytest.mark.parametrize(("entry", "said"), [
    (None, "(it is null, not an object)"), ([1], "(it is [1], not an object)"), ({}, "(it has no 'text')"),
    ({"text": None}, "(its 'text' is null, not text)"), ({"text": 5}, "(its 'text' is 5, not text)"),
    ({"text": "half \ud83d"}, '(its \'text\' is "half \\ud83d", not text)'),
    ({"text": "a", "id": True}, "(its 'id' is true, not a whole number or a name)"),
    ({"text": "a", "id": 1.0}, "(its 'id' is 1.0, not a whole number or a name)"),
    ({"text": "a", "id": 1, "size": float("nan")}, "(its 'size' is NaN, not a finite number)"),
    ({"text": "a", "id": 1, "size": "5"}, "(its 'size' is \"5\", not a finite number)"),
    ({"text": "a", "id": 1, "size": 10**400}, "0000000000..., not a finite number)"),
])  # fmt: skip
def test_what_an_entry_lacks_is_named_with_its_field(entry, said):
    with pytest.raises(DataError, match="^x.json, entry 3 is none ") as caught:
        files.take(entry, "x.json, entry 3 is none", text="text", id="id", size="number")
    assert said in str(caught.value) and str(caught.value).endswith(").")


def test_what_is_right_is_taken():
    entry = {"text": "\u00e9", "id": "7", "size": 1.5, "box": [1, 2.5], "more": {}, "list": []}
    wanted = dict(text="text", id="id", size="number", box="numbers", more="object", list="list")
    assert files.take(entry, "x", **wanted) == tuple(entry.values())
