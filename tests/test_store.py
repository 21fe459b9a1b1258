"""The feature store keeps every picture once, whatever moment the process that fills it is killed at."""

import json
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import xlxmert_core
from xlxmert_core.data import store as module
from xlxmert_core.data.store import FeatureStore, StoreError, UnknownPictureError, size_text

SHAPE = (2, 3)

# Fills the store without end, as a chapter does, and says how many pictures are safe; folder and batch are arguments.
FILL = """
import sys
import numpy as np
from xlxmert_core.data.store import FeatureStore

store, size = FeatureStore(sys.argv[1], (2, 3)), int(sys.argv[2])
while True:
    print(len(store), flush=True)
    batch = range(len(store), len(store) + size)
    store.append(batch, np.stack([np.arange(6, dtype="float32").reshape(2, 3) + 10 * i for i in batch]))
"""


def vectors(ids):
    """What belongs to these pictures: different for every one and in every place."""
    return np.array([np.arange(6) + 10 * i for i in ids], "float32").reshape(-1, *SHAPE)


def filled(folder, *batches):
    store = FeatureStore(folder, SHAPE)
    for batch in batches:
        store.append(batch, vectors(batch))
    return store


def assert_holds(store, ids):
    assert store.ids == list(ids)
    assert len(store) == len(ids)
    assert (store[:] == vectors(ids)).all()
    assert (store.rows(ids) == vectors(ids)).all()


def test_what_is_appended_is_read_back(tmp_path):
    store = filled(tmp_path / "deep" / "store", [7, 3], [12])
    assert_holds(store, [7, 3, 12])
    assert_holds(FeatureStore(store.folder, SHAPE), [7, 3, 12])
    assert store[:].dtype == np.float32
    assert (store[1:3] == vectors([3, 12])).all()
    assert (store.rows([12, 7, 12]) == vectors([12, 7, 12])).all()
    with pytest.raises(KeyError):
        store.rows([99])


def test_an_unknown_picture_is_named_in_a_sentence(tmp_path):
    store = filled(tmp_path, [7, 3])
    with pytest.raises(UnknownPictureError) as caught:
        store.rows([3, 99, 98])
    assert str(caught.value) == f"There is no picture 99 in {tmp_path}: extract its features first."
    assert isinstance(caught.value, StoreError) and isinstance(caught.value, KeyError)


NAMES = ["COCO_train2014_000000000009", "2412112", "train-10171-0-img0", "n161313"]


def test_names_are_ids_as_well(tmp_path):
    store = FeatureStore(tmp_path, SHAPE)
    store.append(NAMES[:2], vectors([0, 1]))
    store.append([np.int64(5), *NAMES[2:]], vectors([2, 3, 4]))
    for opened in (store, FeatureStore(tmp_path, SHAPE)):
        assert opened.ids == [*NAMES[:2], 5, *NAMES[2:]]
        assert [type(i) for i in opened.ids] == [str, str, int, str, str]
        assert (opened.rows([NAMES[3], 5, NAMES[0]]) == vectors([4, 2, 0])).all()
        assert opened.missing(["n1", NAMES[1], 9, np.int64(5)]) == ["n1", 9]


def test_one_picture_has_several_spellings(tmp_path):
    store = FeatureStore(tmp_path, SHAPE)
    store.append(["000000000042", 7], vectors([1, 2]))
    assert (store.rows([42, "42", "007"]) == vectors([1, 1, 2])).all()
    assert store.missing(["42", "COCO_val2014_000000000042"]) == ["COCO_val2014_000000000042"]
    for twice in ([42], ["42"], ["8", 8]):
        with pytest.raises(StoreError, match="is in .* already"):
            store.append(twice, vectors(range(len(twice))))
    with pytest.raises(ValueError, match="whole number or a string, not 7.5"):
        store.append([7.5], vectors([1]))


def test_stores_of_before_are_read(tmp_path):
    (tmp_path / "index.jsonl").write_text('{"shape": [2, 3], "dtype": "float32"}\n[7, 3]\n[12]\n')
    (tmp_path / "features.bin").write_bytes(vectors([7, 3, 12]).tobytes())
    assert_holds(FeatureStore(tmp_path, SHAPE), [7, 3, 12])


def test_an_empty_store_is_empty(tmp_path):
    store = FeatureStore(tmp_path, SHAPE)
    assert len(store) == 0
    assert store[:].shape == store.rows([]).shape == (0, *SHAPE)
    assert store.missing([5, 4]) == [5, 4]


def test_missing_keeps_the_order(tmp_path):
    store = filled(tmp_path, [5, 6], [9])
    assert store.missing([8, 9, 5, 1, 6, 2]) == [8, 1, 2]
    assert store.missing(store.ids) == []


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_types_and_shapes(tmp_path, dtype):
    store = FeatureStore(tmp_path, [4], dtype)
    store.append([1, 2], np.array([[1, 2, 3, 4], [5, 6, 7, 8]]))
    again = FeatureStore(tmp_path, (4,), dtype)
    assert again[:].dtype == np.dtype(dtype)
    assert again.rows([2]).tolist() == [[5, 6, 7, 8]]


def kill_while_filling(folder, size, wait):
    """How many pictures a process had called safe when it was killed, ``wait`` seconds after it began to write."""
    command = [sys.executable, "-c", FILL, str(folder), str(size)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder.parent) as process:
        said = process.stdout.readline()
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        said += process.stdout.read()
    assert process.returncode == -signal.SIGKILL
    return int(said[: said.rindex("\n")].split()[-1])


def light_start(monkeypatch, tmp_path):
    """Let the processes import the store without the rest of the package, which takes seconds."""
    package = tmp_path / "light" / "xlxmert_core"
    package.mkdir(parents=True)
    package.joinpath("__init__.py").write_text(f"__path__ = {list(xlxmert_core.__path__)!r}\n")
    monkeypatch.setenv("PYTHONPATH", str(package.parent))


def test_killed_processes_lose_and_repeat_nothing(tmp_path, monkeypatch):
    light_start(monkeypatch, tmp_path)
    folder, rng, before = tmp_path / "store", random.Random(0), 0
    for size in (1, 2, 3, 1, 5, 2, 1, 50, 1, 7):
        safe = kill_while_filling(folder, size, rng.uniform(0, 0.02))
        store = FeatureStore(folder, SHAPE)
        assert before <= safe <= len(store) <= safe + size
        assert_holds(store, range(len(store)))
        before = len(store)
    assert before > 0, "no process was given the time to write"
    left = store.missing(range(before + 30))
    store.append(left, vectors(left))
    assert_holds(FeatureStore(folder, SHAPE), range(before + 30))


@pytest.mark.parametrize("tail", [b"[", b"[3, 4", b"[3, 4]", b"[3"])
def test_a_torn_index_line_is_cut_off(tmp_path, tail):
    filled(tmp_path, [1, 2])
    whole = (tmp_path / "index.jsonl").read_bytes()
    (tmp_path / "index.jsonl").write_bytes(whole + tail)
    with open(tmp_path / "features.bin", "ab") as file:
        file.write(vectors([3, 4]).tobytes())  # as append() does before its line
    store = FeatureStore(tmp_path, SHAPE)
    assert_holds(store, [1, 2])
    store.append([8], vectors([8]))
    assert (tmp_path / "index.jsonl").read_bytes() == whole + b"[8]\n"
    assert (tmp_path / "features.bin").stat().st_size == 3 * 24
    assert_holds(FeatureStore(tmp_path, SHAPE), [1, 2, 8])


@pytest.mark.parametrize("surplus", [1, 23, 24, 100])
def test_surplus_vectors_are_cut_off(tmp_path, surplus):
    filled(tmp_path, [1, 2])
    with open(tmp_path / "features.bin", "ab") as file:
        file.write(b"\x7f" * surplus)
    store = FeatureStore(tmp_path, SHAPE)
    assert_holds(store, [1, 2])
    store.append([3], vectors([3]))
    assert (tmp_path / "features.bin").stat().st_size == 3 * 24
    assert_holds(FeatureStore(tmp_path, SHAPE), [1, 2, 3])


def test_a_torn_first_line_starts_anew(tmp_path):
    (tmp_path / "index.jsonl").write_bytes(b'{"shape": [2,')
    assert_holds(filled(tmp_path, [4]), [4])
    assert_holds(FeatureStore(tmp_path, SHAPE), [4])


def test_opening_changes_nothing_while_another_process_appends(tmp_path):
    store = filled(tmp_path, [1, 2])
    data, index = tmp_path / "features.bin", tmp_path / "index.jsonl"
    with open(data, "ab") as file:  # another process is in the middle of append()
        file.write(vectors([3]).tobytes())
    reader = FeatureStore(tmp_path, SHAPE)
    assert_holds(reader, [1, 2])
    assert data.stat().st_size == 3 * 24
    with open(index, "ab") as file:  # and now it is done
        file.write(b"[3]\n")
    assert_holds(FeatureStore(tmp_path, SHAPE), [1, 2, 3])
    with pytest.raises(StoreError, match="Picture 3 is in"):
        store.append([3], vectors([3]))
    store.append([4], vectors([4]))
    assert_holds(FeatureStore(tmp_path, SHAPE), [1, 2, 3, 4])


def test_an_append_that_is_interrupted_after_its_line_counts(tmp_path, monkeypatch):
    store = filled(tmp_path, [1])
    write = module._write_durably

    def interrupted(path, content, mode):
        write(path, content, mode)
        if path.name == "index.jsonl":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "_write_durably", interrupted)
        store.append([2, 3], vectors([2, 3]))
    store.append([4], vectors([4]))
    assert_holds(store, [1, 2, 3, 4])
    assert_holds(FeatureStore(tmp_path, SHAPE), [1, 2, 3, 4])


def test_it_opens_quickly_at_cocos_scale(tmp_path):
    count = 120_000
    batches = [[f"COCO_train2014_{i:012d}" for i in range(n, n + 16)] for n in range(0, count, 16)]
    lines = [{"shape": [2, 3], "dtype": "float32"}, *batches]
    (tmp_path / "index.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "features.bin").write_bytes(bytes(count * 24))
    start = time.process_time()
    store = FeatureStore(tmp_path, SHAPE)
    assert time.process_time() - start < 1
    assert len(store) == count
    assert store.rows([batches[-1][-1]]).shape == (1, *SHAPE)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (b"no JSON\n", "is no feature store .*Expecting value"),
        (b"[1, 2]\n", "is no feature store"),
        (b'{"shape": [2, 3]}\n', "is no feature store"),
        (b'{"shape": [2, 3], "dtype": "float32"}\n[1.5]\n', "is no feature store .*whole number or a string"),
        (b'{"shape": [2, 3], "dtype": "float32"}\n[1]\n["01"]\n', "lists picture 1 twice, as when two processes"),
        (b'{"shape": [2, 3], "dtype": "float32"}\n\xff\n', "is no feature store"),
    ],
)
def test_a_damaged_index_is_one_sentence(tmp_path, index, message):
    (tmp_path / "index.jsonl").write_bytes(index)
    (tmp_path / "features.bin").write_bytes(bytes(48))
    with pytest.raises(StoreError, match=message) as caught:
        FeatureStore(tmp_path, SHAPE)
    assert str(tmp_path) in str(caught.value) and "extract again" in str(caught.value)


def test_features_without_their_ids_are_not_overwritten(tmp_path):
    filled(tmp_path, [1, 2])
    (tmp_path / "index.jsonl").rename(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="index.jsonl with their ids is missing: put it back"):
        FeatureStore(tmp_path, SHAPE)
    (tmp_path / "elsewhere").rename(tmp_path / "index.jsonl")
    assert_holds(FeatureStore(tmp_path, SHAPE), [1, 2])


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (131_072, "131.1 kB"), (33_554_432, "33.6 MB"), (62e12, "62000 GB")],
)
def test_sizes_are_said_as_people_say_them(count, text):
    assert size_text(count) == text


def test_vectors_that_are_too_short_are_reported(tmp_path):
    filled(tmp_path, [1, 2])
    data = tmp_path / "features.bin"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(StoreError, match="is 47 bytes long but lists 48: .* remove the folder") as caught:
        FeatureStore(tmp_path, SHAPE)
    assert str(data) in str(caught.value)


@pytest.mark.parametrize(("shape", "dtype"), [((3, 2), "float32"), ((6,), "float32"), (SHAPE, "float16")])
def test_a_store_of_another_kind_is_refused(tmp_path, shape, dtype):
    filled(tmp_path, [1])
    with pytest.raises(StoreError, match=r"holds features of shape \[2, 3\] \(float32\), not") as caught:
        FeatureStore(tmp_path, shape, dtype)
    assert str(tmp_path) in str(caught.value)
    assert_holds(FeatureStore(tmp_path, SHAPE), [1])  # untouched


def not_finite(value):
    features = vectors([8, 9])
    features[1, 0, 2] = value
    return features


@pytest.mark.parametrize(
    ("ids", "features", "message"),
    [
        ([8, 9], vectors([8]), r"features \[1, 2, 3\] for 2 ids of \[2, 3\]"),
        ([8], np.zeros((1, 3, 2)), r"features \[1, 3, 2\] for 1 ids of \[2, 3\]"),
        ([8], np.zeros(SHAPE), r"features \[2, 3\] for 1 ids"),
        ([8, 2], vectors([8, 2]), "Picture 2 is in .* already"),
        ([8, 8], vectors([8, 8]), "Picture 8 is in .* already"),
        ([8, 9], not_finite(np.nan), "features of picture 9 are not finite"),
        ([8, 9], not_finite(-np.inf), "features of picture 9 are not finite"),
    ],
    ids=["too few", "shape", "no batch", "stored", "twice", "nan", "infinite"],
)
def test_append_refuses_and_leaves_the_store_alone(tmp_path, ids, features, message):
    store = filled(tmp_path, [1, 2])
    with pytest.raises(StoreError, match=message):
        store.append(ids, features)
    assert store.missing([8, 9]) == [8, 9]
    store.append([3], vectors([3]))
    assert_holds(FeatureStore(tmp_path, SHAPE), [1, 2, 3])


@pytest.mark.parametrize("number", [300, -129, 1.5, np.nan])
def test_a_number_that_the_type_cannot_hold_is_refused(tmp_path, number):
    store = FeatureStore(tmp_path, (2,), "int8")
    with pytest.raises(StoreError, match="numbers that int8 in .* cannot hold: use a wider type"):
        store.append([1], np.array([[number, 1]]))
    store.append([1], np.array([[127.0, -128]]))
    assert store[:].tolist() == [[127, -128]]
