"""The original's HDF5 files are read as a store is and written from one; what is wrong with them is one sentence."""

import errno
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from _thread import interrupt_main
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from test_store import light_start

from xlxmert_core.data import hdf5
from xlxmert_core.data.hdf5 import HDF5Features, write_hdf5
from xlxmert_core.data.store import FeatureStore, StoreError, UnknownPictureError

NAMES = ["000000000042", "COCO_train2014_000000000009", "n161313", "train-10171-0-img0"]
SIZES = {name: (640, 480) for name in NAMES}

# Exports while no file may grow beyond a limit: what a full disk does, for real; says what was raised.
EXPORT = """
import resource, signal, sys
from xlxmert_core.data.hdf5 import write_hdf5
from xlxmert_core.data.store import FeatureStore, StoreError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = FeatureStore(sys.argv[1], (4, 16))
for limit in map(int, sys.argv[3:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write_hdf5(store, sys.argv[2], grid=2)
    except StoreError as error:
        print(error)
"""


def grids(count, side=8, width=5):
    """[count, side, side, width]: different for every picture and in every place."""
    return np.arange(count * side * side * width, dtype="float32").reshape(count, side, side, width)


def original(path, features, names=NAMES, **more):
    """A file as the original's extraction writes it."""
    with h5py.File(path, "w") as file:
        for i, name in enumerate(names):
            file[f"{name}/features"] = features[i]
            for part, values in more.items():
                file[f"{name}/{part}"] = values[i]
    return path


def boxed(path, boxes=None):
    """The box variant: 36 boxes a picture, in pixels of 640 x 480."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 400, (len(NAMES), 36, 2))
    boxes = np.concatenate([corner, corner + 80], -1).astype("float32") if boxes is None else boxes
    features = rng.standard_normal((len(NAMES), 36, 5), dtype="float32")
    four = len(NAMES)
    return original(path, features, boxes=boxes, img_w=[640] * four, img_h=[480] * four), features, boxes


def store_of(folder, features, names=NAMES):
    """A FeatureStore [N, F] with these grids."""
    width = features.shape[-1]
    store = FeatureStore(folder, (features[0].size // width, width))
    store.append(names, features.reshape(len(features), *store.shape))
    return store


def test_a_grid_is_read_row_by_row(tmp_path):
    features = grids(4)
    found = HDF5Features(original(tmp_path / "f.h5", features))
    assert (found.ids, len(found), found.shape, found.dtype) == (NAMES, 4, (64, 5), np.float32)
    assert (found.rows(NAMES)[1, 8 * 3 + 2] == features[1, 3, 2]).all()  # row 3, column 2
    assert (found.rows([NAMES[2], NAMES[0], NAMES[2]]) == features[[2, 0, 2]].reshape(3, 64, 5)).all()
    assert (found[1:3] == features[1:3].reshape(2, 64, 5)).all()
    assert (found[::-2] == features[::-2].reshape(2, 64, 5)).all()
    assert found[4:].shape == found.rows([]).shape == (0, 64, 5)
    assert (pickle.loads(pickle.dumps(found))[:] == found[:]).all()  # for another process


@pytest.mark.parametrize("image_id", [42, np.int64(42), "42", "042", "000000000042"])
def test_a_number_is_found_in_any_spelling(tmp_path, image_id):
    found = HDF5Features(original(tmp_path / "f.h5", grids(4)))
    assert (found.rows([image_id]) == grids(4)[:1].reshape(1, 64, 5)).all()


def test_boxes_are_relative_to_the_picture(tmp_path):
    path, features, boxes = boxed(tmp_path / "f.h5")
    found = HDF5Features(path)
    assert found.shape == (36, 5)
    assert (found.rows(NAMES[::-1]) == features[::-1]).all()
    relative = found.boxes([NAMES[3], 42])
    assert relative.dtype == np.float32
    for picture, expected in zip(relative, boxes[[3, 0]], strict=True):
        for (x0, y0, x1, y1), box in zip(expected, picture, strict=True):
            assert box == pytest.approx((x0 / 640, y0 / 480, x1 / 640, y1 / 480))


def test_a_grid_has_no_boxes(tmp_path):
    with pytest.raises(StoreError, match="f.h5 holds a grid for each picture, which has no boxes"):
        HDF5Features(original(tmp_path / "f.h5", grids(4))).boxes(NAMES)


@pytest.mark.parametrize("value", [-20, 700])
def test_boxes_outside_the_picture_are_refused(tmp_path, value):
    boxes = np.full((4, 36, 4), 10.0)
    boxes[:, :, 2] = 640.5  # half a pixel is rounding
    boxes[2, 7, 3] = value
    found = HDF5Features(boxed(tmp_path / "f.h5", boxes)[0])
    assert found.boxes(NAMES[:2])[0, 0] == pytest.approx([10 / 640, 10 / 480, 1, 10 / 480])
    with pytest.raises(StoreError, match="picture n161313 of 640 x 480 pixels has boxes outside of it"):
        found.boxes(NAMES)


def test_an_unknown_picture_is_named(tmp_path):
    found = HDF5Features(boxed(tmp_path / "f.h5")[0])
    for read in (found.rows, found.boxes):
        with pytest.raises(UnknownPictureError, match=r"There is no picture 43 in .*f\.h5"):
            read([42, 43])


def test_a_missing_file_and_an_empty_one(tmp_path):
    with pytest.raises(StoreError, match=r"There is no feature file .*f\.h5: check the path"):
        HDF5Features(tmp_path / "f.h5")
    h5py.File(tmp_path / "f.h5", "w").close()
    with pytest.raises(StoreError, match=r"f\.h5 holds no pictures: it is not in the layout /image_id/features"):
        HDF5Features(tmp_path / "f.h5")


@pytest.mark.parametrize("keep", [0, 3, 100, 3000, -1])
def test_a_file_that_is_cut_off_is_refused(tmp_path, keep):
    path = original(tmp_path / "f.h5", grids(4))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StoreError, match=r"f\.h5 is no whole HDF5 file .*: download or export it again") as caught:
        HDF5Features(path)
    assert "\n" not in str(caught.value)


def test_damage_anywhere_is_a_store_error_or_goes_unseen(tmp_path):
    """Bytes overwritten all over the file: never another exception, never a crash."""
    whole = original(tmp_path / "f.h5", grids(4, width=1)).read_bytes()
    path, rng, refused = tmp_path / "g.h5", np.random.default_rng(0), 0
    for start in range(0, len(whole), 64):
        path.write_bytes(whole[:start] + rng.bytes(48) + whole[start + 48 :])
        try:
            HDF5Features(path).rows(NAMES)
        except StoreError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
    assert refused > 20


def spoiled(path, change):
    """A good file, changed in one picture."""
    with h5py.File(original(path, grids(4)), "a") as file:
        change(file)
    return path


def replace(name, value):
    def change(file):
        del file[name]
        if value is not None:
            file[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replace("n161313/features", None), r"n161313/features cannot be read \(.*doesn't exist\)"),
        (replace("n161313", np.zeros(3)), r"n161313/features cannot be read"),
        (replace("n161313/features", grids(1, 4)[0]), r"n161313/features has the shape \[4, 4, 5\], not \[8, 8, 5\]"),
        (replace("n161313/features", np.zeros((64, 5))), r"n161313/features has the shape \[64, 5\], not \[8, 8, 5\]"),
        (lambda file: replace("n161313/features", None)(file) or file.create_group("n161313/features"), "is no array"),
        (replace("n161313/features", np.full((8, 8, 5), b"x")), "n161313/features cannot be read"),
        (
            replace("n161313/features", np.full((8, 8, 5), np.nan)),
            "features is not finite: extract picture n161313 again",
        ),
    ],
    ids=["lacking", "no group", "grid", "flat", "group", "text", "nan"],
)
def test_a_bad_entry_is_named_when_it_is_read(tmp_path, change, message):
    found = HDF5Features(spoiled(tmp_path / "f.h5", change))
    good = [name for name in NAMES if name != "n161313"]
    assert (found.rows(good) == grids(4)[[0, 1, 3]].reshape(3, 64, 5)).all()
    for read in (lambda: found.rows(NAMES), lambda: found[2:3]):
        with pytest.raises(StoreError, match=message) as caught:
            read()
        assert str(tmp_path / "f.h5") in str(caught.value)


def test_the_first_entry_says_the_layout(tmp_path):
    with pytest.raises(StoreError, match=r"features \[5\] are neither \[8, 8, F\] nor \[N, F\]"):
        HDF5Features(spoiled(tmp_path / "f.h5", replace(f"{NAMES[0]}/features", np.zeros(5))))
    with pytest.raises(StoreError, match="holds picture 000000000042 in two spellings|holds picture 42 in two"):
        HDF5Features(original(tmp_path / "g.h5", grids(2), ["000000000042", "42"]))


def test_a_store_is_exported_as_the_original_writes_it(tmp_path):
    store = store_of(tmp_path / "store", grids(4))
    write_hdf5(store, tmp_path / "deep" / "f.h5", progress="exporting")
    with h5py.File(tmp_path / "deep" / "f.h5") as file:
        assert list(file) == NAMES
        for name, features in zip(NAMES, grids(4), strict=True):
            assert list(file[name]) == ["features"]
            assert file[name]["features"].dtype == np.float32
            assert (file[name]["features"][()] == features).all()
    found = HDF5Features(tmp_path / "deep" / "f.h5")
    assert (found.rows(store.ids) == store[:]).all()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["f.h5"]


def test_boxes_are_exported_and_come_back(tmp_path):
    path, features, boxes = boxed(tmp_path / "f.h5")
    store = store_of(tmp_path / "store", features)
    write_hdf5(store, tmp_path / "g.h5", boxes=dict(zip(NAMES, boxes, strict=True)), sizes=SIZES)
    assert (HDF5Features(tmp_path / "g.h5").boxes(NAMES) == HDF5Features(path).boxes(NAMES)).all()
    write_hdf5(HDF5Features(path), tmp_path / "h.h5", boxes=dict(zip(NAMES, boxes, strict=True)), sizes=SIZES)
    assert (tmp_path / "h.h5").read_bytes() == (tmp_path / "g.h5").read_bytes()
    with h5py.File(tmp_path / "g.h5") as file:
        assert [file[f"n161313/{part}"][()] for part in ("img_w", "img_h")] == [640, 480]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"grid": 7}, r"Features \[64, 5\] are no 7 x 7 cells: name another grid, or give boxes"),
        ({"sizes": SIZES}, "needs both boxes and sizes"),
        ({"boxes": {}, "sizes": SIZES}, "Picture 000000000042 has no boxes or no size"),
        ({"boxes": {n: np.zeros((36, 4)) for n in NAMES}, "sizes": SIZES}, r"has boxes \[36, 4\], not \[64, 4\]"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_anything_is_written(tmp_path, arguments, message):
    store = store_of(tmp_path / "store", grids(4))
    with pytest.raises(StoreError, match=message):
        write_hdf5(store, tmp_path / "f.h5", **arguments)
    store.append(["a/b"], np.zeros((1, 64, 5)))
    with pytest.raises(StoreError, match="Picture 'a/b' cannot be exported"):
        write_hdf5(store, tmp_path / "f.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_disk_that_is_too_small_is_refused_at_once(tmp_path, monkeypatch):
    store = store_of(tmp_path / "store", grids(4))
    monkeypatch.setattr(hdf5.shutil, "disk_usage", lambda path: SimpleNamespace(free=2000))
    with pytest.raises(StoreError, match=r"f\.h5 takes 21.5 kB, but its disk has 2 kB left: name another disk"):
        write_hdf5(store, tmp_path / "f.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def exported(store, path, limits):
    """What exports said that met these limits on a file's length, one after another in one process."""
    command = [sys.executable, "-c", EXPORT, str(store.folder), str(path), *map(str, limits)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=path.parent)
    assert (done.returncode, done.stderr) == (0, ""), "HDF5 crashes the process when a write fails"
    return done.stdout.splitlines()


def test_a_disk_that_fills_up_leaves_nothing_half_written(tmp_path, monkeypatch):
    light_start(monkeypatch, tmp_path)
    store = store_of(tmp_path / "store", grids(200, 2, 16), range(200))
    path = tmp_path / "f.h5"
    path.write_bytes(b"an export of before")
    limits = [0, 1, 99, 1000, 2048, 5000, 20_000, 50_001, 100_000, 150_000]
    said = exported(store, path, limits)
    assert len(said) == len(limits)
    for sentence in said:
        assert sentence.startswith(f"{path} could not be written (File too large): the features are safe in the store;")
        assert sentence.endswith("make sure that its disk has room for 870.4 kB, then export them again.")
    assert path.read_bytes() == b"an export of before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.h5", "light", "store"]
    assert len(exported(store, path, [5000, 10**9])) == 1
    assert (HDF5Features(path).rows(store.ids) == store[:]).all()


def test_an_error_of_the_disk_is_one_sentence(tmp_path, monkeypatch):
    store = store_of(tmp_path / "store", grids(4))

    def fail(file):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match=r"f\.h5 could not be written \(Disk quota exceeded\)"):
        write_hdf5(store, tmp_path / "f.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_what_is_kept_after_the_first_error_is_read_back(tmp_path):
    """HDF5 must find what it wrote, also what the disk did not take."""
    with open(tmp_path / "file", "w+b", buffering=0) as file:
        sink, expected, rng = hdf5._Sink(file), bytearray(1000), np.random.default_rng(0)
        for step in range(300):
            if step == 100:
                sink.error = OSError(errno.ENOSPC, "full")
            start, count = int(rng.integers(0, 900)), int(rng.integers(1, 100))
            content = rng.bytes(count)
            sink.seek(start)
            assert sink.write(content) == count
            expected[start : start + count] = content
        target = bytearray(1000)
        sink.seek(0)
        sink.readinto(memoryview(target))
        assert target[:990] == expected[:990]


def test_control_c_stops_the_export_cleanly(tmp_path):
    store = store_of(tmp_path / "store", grids(5000, 2, 16), range(5000))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in the background
    try:
        with pytest.raises(KeyboardInterrupt):
            threading.Timer(0.2, interrupt_main).start()
            write_hdf5(store, tmp_path / "f.h5", grid=2)
            time.sleep(10)  # the interrupt came too late: fail on what is on disk
    finally:
        signal.signal(signal.SIGINT, before)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    (tmp_path / "f.h5.tmp").write_bytes(b"left by an export that was killed")
    write_hdf5(store_of(tmp_path / "few", grids(4)), tmp_path / "f.h5")
    assert len(HDF5Features(tmp_path / "f.h5")) == 4


def test_memory_does_not_grow_with_the_store(tmp_path):
    peaks = []
    for count in (100, 800):
        store = store_of(tmp_path / f"store{count}", grids(count, 8, 64), range(count))  # 16 kB a picture
        tracemalloc.start()
        write_hdf5(store, tmp_path / f"{count}.h5")
        found = HDF5Features(tmp_path / f"{count}.h5")
        for start in range(0, count, 50):
            found[start : start + 50]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 1_000_000 < 800 * 16_384


def test_opening_does_not_touch_the_entries(tmp_path, monkeypatch):
    path = original(tmp_path / "f.h5", grids(300, 1, 2), [str(i) for i in range(300)])
    opened, get = [], h5py.Group.__getitem__
    monkeypatch.setattr(h5py.Group, "__getitem__", lambda group, name: opened.append(name) or get(group, name))
    found = HDF5Features(path)
    assert len(found) == 300
    assert len(opened) == 1
    found.rows([5, 7])
    assert len(opened) == 3


def test_a_file_that_another_process_writes_to_is_called_locked(tmp_path):
    path = original(tmp_path / "x.h5", grids(4))
    write = "import h5py, sys; file = h5py.File(sys.argv[1], 'a'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", write, path], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(StoreError, match="x.h5 is locked: another process writes to it, wait for it to end"):
            HDF5Features(path)
        other.stdin.close()
    assert len(HDF5Features(path)) == 4
