"""Whatever bytes a reader is given: a result, or one sentence, and every file as it was."""

import copy
import io
import json
import math
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from xlxmert_core.data import catalogue, coco, files, flickr8k, gqa, lxmert, nlvr2, vqa
from xlxmert_core.data.hdf5 import HDF5Features
from xlxmert_core.data.images import open_image, picture_size
from xlxmert_core.data.store import FeatureStore
from xlxmert_core.display.recipe import Recipe, Stroke, read_png, save_png
from xlxmert_core.text import SPECIAL, Tokenizer
from xlxmert_core.vocabulary import VisualVocabulary


def picture(kind: str) -> bytes:
    stream = io.BytesIO()
    pixels = np.arange(12 * 8 * 3, dtype=np.uint8).reshape(8, 12, 3)
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def painted() -> bytes:
    stream = io.BytesIO()
    save_png(stream, np.zeros((8, 8, 3), np.uint8), Recipe.from_json(json.dumps(RECIPE)))
    return stream.getvalue()


def hdf5() -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["42/features"] = np.zeros((2, 3), np.float32)
        file["42/boxes"], file["42/img_w"], file["42/img_h"] = np.zeros((2, 4), np.float32), 8, 8
    return stream.getvalue()


def centroids() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.eye(3, dtype=np.float32))
    return stream.getvalue()


def text(value) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


IMAGES = [
    {"id": 1, "file_name": "1_a.png", "width": 12, "height": 8},
    {"id": 2, "file_name": "é.png", "width": 1, "height": 1},
]
CAPTIONS = {
    "images": IMAGES,
    "annotations": [{"image_id": 1, "caption": "a dog"}, {"image_id": 2, "caption": "zwei\u2028Hunde"}],
}
BOXES = {
    "images": IMAGES, "categories": [{"id": 3, "name": "dog"}],
    "annotations": [{"image_id": 1, "bbox": [0, 0, 6, 4], "category_id": 3}],
}  # fmt: skip
ASKED = {"questions": [{"question_id": 7, "image_id": 42, "question": "How many?"}]}
ANSWERED = {"annotations": [{
    "question_id": 7, "image_id": 42, "question_type": "how many", "answer_type": "number",
    "multiple_choice_answer": "2", "answers": [{"answer": "2"}, {"answer": "two"}],
}]}  # fmt: skip
GQA = {"01": {
    "imageId": "n7", "question": "Is it red?", "answer": "yes", "entailed": ["02"],
    "types": {"structural": "verify", "semantic": "attr", "detailed": None},
}}  # fmt: skip
THING = {"x": 1, "y": 2, "w": 3, "h": 4, "attributes": ["red"], "name": "house"}
GRAPHS = {"7": {"width": 20, "height": 10, "objects": {"1": THING}}}
TOLD = [
    {"img_id": 42, "labelf": {"vqa": [{"yes": 1.0}, {}]}, "sentf": {"vqa": ["is it", "or not"], "mscoco": ["a dog"]}}
]
PAIR = {"identifier": "dev-8-1-0", "sentence": "Two dogs.", "label": "True", "left_url": "a", "right_url": "b"}
RECIPE = json.loads(Recipe("0" * 16, (Stroke("a house"),), (1, 2)).to_json())
LISTED = [{"identifier": "dev-8-1-0", "sent": "Two dogs.", "label": 1, "img0": "l", "img1": "r"}]


class Reader(NamedTuple):
    """What reads a file of this name, and whole ones: JSON values, or bytes."""

    name: str
    read: Callable[[Path], object]
    whole: tuple


def features(path: Path):
    found = HDF5Features(path)
    return found.ids, found.rows(found.ids[:2]), found.boxes(found.ids[:2]) if found.shape[0] == 2 else None


NAMES, TOKENS = "1_a.png\né.png\n".encode(), "1_a.png#0\ta dog\né.png#0\ta cat\n".encode()
LINES, STORE = text(PAIR) + b"\n\n" + text(PAIR).replace(b"-8-", b"-9-"), b'{"shape": [3], "dtype": "float32"}\n[42]\n'
PIECES = "\n".join([*SPECIAL, "hund", "hünd"]).encode()
TABLE = (",".join(catalogue.COLUMNS) + "\n1,Men,a,b,Shirts,Red,Fall,2011,Casual,Lee Men é, red\n").encode()
READERS = {
    "coco captions": Reader(
        "annotations/captions_a.json", lambda p: coco.read_captions(p.parents[1], "a"), (CAPTIONS,)
    ),
    "coco boxes": Reader("annotations/instances_a.json", lambda p: coco.read_boxes(p.parents[1], "a"), (BOXES,)),
    "flickr captions": Reader("Flickr8k.token.txt", lambda p: flickr8k.read(p.parent, "train"), (TOKENS,)),
    "flickr names": Reader("Flickr_8k.devImages.txt", lambda p: flickr8k.read(p.parent, "dev"), (NAMES,)),
    "flickr as coco": Reader(
        "Flickr_8k.testImages.txt", lambda p: flickr8k.write_coco(p.parent, p.with_name("out")), (b"1_a.png\n",)
    ),
    "products": Reader("styles.csv", lambda p: catalogue.read(p.parent), (TABLE,)),
    "splits of products": Reader(
        "splits.json", lambda p: catalogue.read(p.parent), ({"train": [1], "val": [], "test": [2]},)
    ),
    "vqa questions": Reader("q.json", vqa.read, (ASKED,)),
    "vqa annotations": Reader("a.json", lambda p: vqa.read(p.with_name("asked.json"), p), (ANSWERED,)),
    "vqa answers": Reader("ans.json", vqa.read_answers, ({"b": 1, "a": 0}, ["a", "b"], [{"ans": "a"}])),
    "gqa": Reader("g.json", gqa.read, (GQA,)),
    "gqa regions": Reader("r.json", gqa.read_regions, (GRAPHS,)),
    "lxmert": Reader("l.json", lxmert.read_aggregated, (TOLD,)),
    "nlvr2": Reader("n.json", nlvr2.read, (PAIR, LISTED, LINES)),
    "json": Reader("j.json", files.read_json, (CAPTIONS,)),
    "json lines": Reader("j.jsonl", lambda p: list(files.read_lines(p)), (PAIR, LINES)),
    "streamed json": Reader("s.json", lambda p: list(files.stream(p)), (CAPTIONS, TOLD)),
    "streamed list": Reader("k.json", lambda p: list(files.stream(p, "questions")), (ASKED,)),
    "picture": Reader("p.png", open_image, tuple(map(picture, ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP")))),
    "picture's size": Reader("p.jpg", picture_size, tuple(map(picture, ("PNG", "JPEG", "WEBP", "TIFF")))),
    "painted picture": Reader("own.png", read_png, (painted(),)),
    "recipe": Reader("recipe.json", lambda p: Recipe.from_json(p.read_bytes().decode("latin-1")), (RECIPE,)),
    "hdf5": Reader("h.h5", features, (hdf5(),)),
    "store": Reader("store/index.jsonl", lambda p: FeatureStore(p.parent, (3,)).rows([42]), (STORE,)),
    "vocabulary": Reader("v.npy", VisualVocabulary.load, (centroids(),)),
    "word pieces": Reader("vocab.txt", Tokenizer.from_word_pieces, (PIECES,)),
}


@pytest.fixture
def folder(tmp_path):
    """What the readers need besides their own file."""
    home = tmp_path / "home"
    for name in ("annotations", "a", "images", "store"):
        (home / name).mkdir(parents=True)
    for name in ("a/1_a.png", "a/é.png", "images/1_a.png", "images/é.png", "images/1.jpg"):
        (home / name).write_bytes(picture("PNG"))
    (home / "Flickr8k.token.txt").write_bytes(TOKENS)
    for name in ("train", "dev", "test"):
        (home / f"Flickr_8k.{name}Images.txt").write_text("1_a.png\n", "utf-8")
    (home / "asked.json").write_bytes(text(ASKED))
    (home / "styles.csv").write_bytes(TABLE)
    (home / "store" / "features.bin").write_bytes(np.zeros(3, np.float32).tobytes())
    return home


def places(value, at: tuple = ()) -> list[tuple]:
    """The way to every part of a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at] + [place for key, part in inner for place in places(part, (*at, key))]


def changed(value, at: tuple, change: Callable):
    """The value with one part changed; with ``None`` for a change it is left out."""
    if not at:
        return change(value)
    value = copy.deepcopy(value)
    part = value
    for key in at[:-1]:
        part = part[key]
    part[at[-1]] = change(part[at[-1]])
    return value


NUMBERS = [0, -1, 1.0, 10**400, math.nan, math.inf, 5e-324]
ODD = st.sampled_from([None, True, *NUMBERS, "", "000000000001", "1", "\ud83d", "é", [], {}])
JSON = st.recursive(
    ODD | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
AROUND = st.sampled_from([b"", b"\xef\xbb\xbf", b"\xff\xfe", b"\n", b" ", b"\0"])


@st.composite
def mistyped(draw, value):
    """A JSON value with another value in one place, or twice what it has once."""
    at = draw(st.sampled_from(places(value)))
    twice = lambda part: part + part if isinstance(part, list) else part  # noqa: E731
    change = draw(st.one_of(JSON.map(lambda new: lambda _: new), st.just(twice)))
    escaped = draw(st.booleans())
    return json.dumps(changed(value, at, change), ensure_ascii=escaped).encode("utf-8", "surrogatepass")


@st.composite
def damaged(draw, content: bytes):
    """Bytes with some of them left out, put in, or another in their place."""
    start = draw(st.integers(0, len(content)))
    stop = min(len(content), start + draw(st.sampled_from([0, 1, 2, 9, len(content)])))
    return content[:start] + draw(st.binary(max_size=9)) + content[stop:]


def contents(reader: Reader):
    """Bytes for a reader: any, and those that are nearly right."""
    kinds = [st.binary(max_size=99), st.sampled_from([b"[" * 100_000, b"9" * 5000, b'{"a":' * 50_000])]
    for whole in reader.whole:
        raw = whole if isinstance(whole, bytes) else text(whole)
        kinds += [damaged(raw)] * 2 + ([] if isinstance(whole, bytes) else [mistyped(whole)] * 3)
    return st.builds(lambda before, content: before + content, AROUND, st.one_of(kinds))


def snapshot(folder: Path) -> list[tuple]:
    """What a write would change: the files, their sizes and times."""
    inner = [(inner, entry.stat()) for inner, _, _ in os.walk(folder) for entry in os.scandir(inner)]
    return sorted((place, s.st_ino, s.st_size, s.st_mtime_ns) for place, s in inner)


def is_ours(error: Exception) -> bool:
    """Whether the package raised it, as one sentence that can be shown."""
    said, (last, _) = str(error), [*traceback.walk_tb(error.__traceback__)][-1]
    said.encode()
    ours = last.f_globals["__name__"].startswith("xlxmert_core")
    return ours and isinstance(error, ValueError) and "\n" not in said and said.endswith(".")


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("examples", [60, pytest.param(10_000, marks=pytest.mark.nightly)])
def test_a_reader_gives_a_result_or_one_sentence(folder, name, examples):
    reader = READERS[name]
    path, opened = folder / reader.name, 0
    for whole in reader.whole:
        path.write_bytes(whole if isinstance(whole, bytes) else text(whole))
        assert reader.read(path) is not None, "what is whole is read"

    @settings(max_examples=examples, deadline=None, database=None, derandomize=examples == 60,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(contents(reader))
    def holds(content: bytes):
        nonlocal opened
        path.write_bytes(content)
        before = snapshot(folder)
        try:
            reader.read(path)
            opened += 1
        except Exception as error:
            assert is_ours(error), f"{type(error).__name__}: {error}"
            assert snapshot(folder) == before, "nothing is half-written"

    holds()
    assert opened < examples, "some are wrong"
