"""The same pictures make the same store: in any order, with any number of workers, killed anywhere, begun again."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from book.build.run_chapters import ROOT
from xlxmert_core.data.images import ImageError, open_image
from xlxmert_core.data.store import FeatureStore, StoreError
from xlxmert_core.scale.detector import Detector, resized
from xlxmert_core.scale.extraction import batches, extract, extract_boxes, picture_size
from xlxmert_core.scale.workers import ClusterError

PHOTOGRAPHS = ROOT.parent / "shared" / "data" / "coco" / "val2017"
SHAPES = ((64, 48), (48, 64), (64, 48), (50, 50), (64, 48))  # of the pictures, in turn


def half(width: int, height: int) -> tuple[int, int]:
    return width // 2, height // 2


def colours(pixels: np.ndarray) -> np.ndarray:
    """An eye with two cells, the left and the right half: [B, H, W, 3] -> mean colours [B, 2, 3]."""
    middle = pixels.shape[2] // 2
    return np.stack([pixels[:, :, :middle].mean((1, 2)), pixels[:, :, middle:].mean((1, 2))], 1)


def store_at(folder) -> FeatureStore:
    return FeatureStore(folder, (2, 3))


def look(pictures, folder, eye=colours, **options):
    """extract() as most tests here call it."""
    return extract(eye, pictures, store_at(folder), **{"size": half, "progress": None, "batch": 3} | options)


def content(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Twenty pictures of three shapes: {key: path}."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    found = {}
    for key in rng.permutation(20).tolist():
        width, height = SHAPES[key % len(SHAPES)]
        found[key] = folder / f"{key}.png"
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(found[key])
    return found


@pytest.fixture
def whole(pictures, tmp_path):
    """The store of an extraction that nothing disturbed."""
    assert not look(pictures, tmp_path / "whole").skipped
    return content(tmp_path / "whole")


def test_features_are_those_of_each_picture(pictures, tmp_path):
    assert str(look(pictures, tmp_path)) == "Nothing was skipped."
    store = store_at(tmp_path)
    order = sorted(pictures, key=lambda key: (half(*SHAPES[key % 5]), key))  # by shape, then by key
    assert store.ids == order
    for key, path in pictures.items():
        image = open_image(path)
        small = np.asarray(image.resize(half(*image.size), Image.Resampling.BILINEAR))
        assert np.allclose(store.rows([key])[0], colours(small[None])[0])


def test_batches_hold_one_shape_and_no_padding(pictures, tmp_path):
    seen = []
    look(pictures, tmp_path, eye=lambda pixels: [seen.append(pixels.shape), colours(pixels)][1], batch=5)
    # 12 of 64x48, 4 of 48x64 and 4 of 50x50, at half their size, narrow ones first
    assert seen == [(4, 32, 24, 3), (4, 25, 25, 3), (5, 24, 32, 3), (5, 24, 32, 3), (2, 24, 32, 3)]


def test_the_plan_follows_from_the_list_alone():
    rng = np.random.default_rng(1)
    sizes = {int(key): tuple(rng.integers(100, 900, 2).tolist()) for key in rng.permutation(300)}
    sizes["a"] = sizes["b"] = sizes[7]
    plan = batches(sizes, resized, 8)
    assert plan == batches(dict(sorted(sizes.items(), key=str)), resized, 8)
    assert sorted(map(str, sizes)) == sorted(str(key) for _, keys in plan for key in keys)
    shapes = [shape for shape, _ in plan]
    assert shapes == sorted(shapes) and all(len(keys) <= 8 for _, keys in plan)
    for shape, keys in plan:
        assert {resized(*sizes[key]) for key in keys} == {shape}
        numbers = [key for key in keys if isinstance(key, int)]
        assert keys[: len(numbers)] == sorted(numbers)
    full = [shape for shape, keys in plan if len(keys) < 8]
    assert len(full) == len(set(full)), "only a shape's last batch is smaller"


@pytest.mark.parametrize("workers", [0, 1, 5])
def test_the_number_of_workers_changes_nothing(pictures, tmp_path, whole, workers):
    backwards = dict(reversed(pictures.items()))
    look(backwards, tmp_path / "other", workers=workers)
    assert content(tmp_path / "other") == whole


@pytest.mark.parametrize("after", [0, 1, 4, 6])
def test_an_interrupted_extraction_goes_on(pictures, tmp_path, whole, after):
    seen = []

    def tired(pixels):
        if len(seen) == after:
            raise KeyboardInterrupt
        seen.append(len(pixels))
        return colours(pixels)

    with pytest.raises(KeyboardInterrupt):
        look(pictures, tmp_path / "other", eye=tired)
    assert len(store_at(tmp_path / "other")) == sum(seen)
    counted = []
    look(pictures, tmp_path / "other", eye=lambda pixels: [counted.append(len(pixels)), colours(pixels)][1])
    assert content(tmp_path / "other") == whole
    assert sum(counted) == 20 - sum(seen) + (after > 0), "one picture alone is looked at twice, to compare it"
    look(pictures, tmp_path / "other", eye=None)  # nothing is left to do


# Extracts slowly; the folders of the store and of the pictures are arguments.
SLOWLY = """
import sys, time
from pathlib import Path
import test_extraction as test

def eye(pixels):
    time.sleep(0.4)
    return test.colours(pixels)

paths = Path(sys.argv[2]).glob("*.png")
test.look({int(path.stem): path for path in paths}, sys.argv[1], eye=eye)
"""


@pytest.mark.slow
def test_a_killed_process_changes_nothing(pictures, tmp_path, whole, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    folder = tmp_path / "killed"
    index, source = folder / "index.jsonl", next(iter(pictures.values())).parent
    with subprocess.Popen([sys.executable, "-c", SLOWLY, str(folder), str(source)]) as process:
        while process.poll() is None and not (index.exists() and index.read_bytes().count(b"\n") > 3):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert 0 < len(store_at(folder)) < 20
    look(pictures, folder)
    assert content(folder) == whole


def test_another_eyes_features_are_not_mixed_in(pictures, tmp_path):
    some = {key: pictures[key] for key in (0, 1, 3)}
    look(some, tmp_path / "store")
    before = content(tmp_path / "store")
    for other in (lambda pixels: 2 * colours(pixels), lambda pixels: colours(pixels)[:, ::-1]):
        with pytest.raises(ValueError, match="store holds other features of picture . than this eye sees now"):
            look(pictures, tmp_path / "store", eye=other)
    exchanged = pictures | {0: pictures[3], 1: pictures[4], 3: pictures[0]}
    with pytest.raises(ValueError, match="go on with the same eye and pictures, or name another folder"):
        look(exchanged, tmp_path / "store")
    assert content(tmp_path / "store") == before
    look(pictures, tmp_path / "store", eye=lambda pixels: colours(pixels) * (1 + 1e-6))  # another processor's rounding
    assert len(store_at(tmp_path / "store")) == 20


@pytest.fixture
def with_broken(pictures, tmp_path):
    """The pictures, of which two are cut off, one is text and one is not there: (all, broken keys)."""
    found = dict(pictures)
    for key, kept in ((3, 0.5), (100, 0.8)):
        data = pictures[3].read_bytes()
        (tmp_path / f"{key}.png").write_bytes(data[: int(len(data) * kept)])
        found[key] = tmp_path / f"{key}.png"
    found[101] = tmp_path / "text.jpg"
    found[101].write_text("no picture")
    found[102] = tmp_path / "nowhere.jpg"
    return found, {3, 100, 101, 102}


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_pictures_are_reported_once_each(with_broken, tmp_path, workers):
    found, broken = with_broken
    report = look(found, tmp_path / "store", workers=workers)
    assert sorted(what for what, _ in report.skipped) == sorted(f"picture {key}" for key in broken)
    why = dict(report.skipped)
    assert "text.jpg is broken" in why["picture 101"] and "nowhere.jpg is not there" in why["picture 102"]
    assert all(sentence.count("\n") == 0 for sentence in why.values())
    store = store_at(tmp_path / "store")
    assert set(store.ids) == set(found) - broken
    again = look(found, tmp_path / "store", workers=workers)  # they are tried again, and nothing else is
    assert sorted(again.skipped) == sorted(report.skipped) and store_at(tmp_path / "store").ids == store.ids


def test_a_batch_of_broken_pictures_only(with_broken, tmp_path):
    found, _ = with_broken
    report = look({key: found[key] for key in (3, 100)}, tmp_path / "store")
    assert len(report.skipped) == 2 and len(store_at(tmp_path / "store")) == 0


def test_pictures_that_are_deleted_after_extraction_are_still_stored(pictures, tmp_path):
    found = {key: tmp_path / f"{key}.png" for key in pictures}
    for key, path in found.items():
        path.write_bytes(pictures[key].read_bytes())
    store = tmp_path / "store"
    look({key: path for key, path in found.items() if key not in (3, 9)}, store)
    before = content(store)["features.bin"]
    for key in (0, 5, 9):
        found[key].unlink()
    report = look(found, store)
    assert [what for what, _ in report.skipped] == ["picture 9"], "0 and 5 are stored, 9 never was"
    assert content(store)["features.bin"].startswith(before) and set(store_at(store).ids) == set(found) - {9}


def test_features_that_are_not_finite_name_the_picture(pictures, tmp_path):
    look(pictures, tmp_path / "good")
    key = store_at(tmp_path / "good").ids[9]
    image = open_image(pictures[key])
    marked = np.asarray(image.resize(half(*image.size), Image.Resampling.BILINEAR))

    def eye(pixels):
        values = colours(pixels)
        values[[(p.shape == marked.shape and (p == marked).all()) for p in pixels]] = np.nan
        return values

    with pytest.raises(StoreError, match=rf"picture {key} (are|is) not finite"):
        look(pictures, tmp_path / "bad", eye=eye)
    assert len(store_at(tmp_path / "bad")) == 3 + 1 + 3 + 1, "whole batches before it stay"


def test_two_keys_of_one_picture_are_refused_at_once(pictures, tmp_path):
    with pytest.raises(ValueError, match="keys 7 and '007' name one picture"):
        look({7: pictures[7], "007": pictures[7], "a": pictures[3]}, tmp_path)


def test_sizes_are_read_from_headers_and_follow_the_orientation(tmp_path, pictures):
    assert all(picture_size(path) == SHAPES[key % 5] for key, path in pictures.items())
    for name in ("turned.jpg", "turned.png"):
        exif = Image.Exif()
        exif[274] = 6
        Image.new("RGB", (40, 20)).save(tmp_path / name, exif=exif)
        assert picture_size(tmp_path / name) == open_image(tmp_path / name).size == (20, 40)
    data = pictures[0].read_bytes()
    (tmp_path / "head.png").write_bytes(data[:200])  # the pixels are missing
    assert picture_size(tmp_path / "head.png") == SHAPES[0]
    with pytest.raises(ImageError, match="none.jpg is not there"):
        picture_size(tmp_path / "none.jpg")


def test_names_are_keys_too(pictures, tmp_path):
    named = {f"COCO_{key:03}": path for key, path in pictures.items()}
    look(named, tmp_path / "names")
    look(pictures, tmp_path / "numbers")
    names, numbers = store_at(tmp_path / "names"), store_at(tmp_path / "numbers")
    assert names.ids == [f"COCO_{key:03}" for key in numbers.ids] and (names[:] == numbers[:]).all()


def test_progress_counts_what_was_there_before(pictures, tmp_path, capsys):
    look(dict(list(pictures.items())[:5]), tmp_path)
    look(pictures, tmp_path, progress="looking")
    shown = capsys.readouterr().err
    assert "looking" in shown and "20/20" in shown and ("picture/s" in shown or "s/picture" in shown)
    look(pictures, tmp_path)
    assert capsys.readouterr().err == ""


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return Detector(shorter=64, longer=96)


def three_stores(folder, count=4):
    shapes = {"features": (count, 1024), "boxes": (count, 4), "sizes": (2,)}
    return {name: FeatureStore(folder / name, shape) for name, shape in shapes.items()}


def test_boxes_features_and_sizes_of_each_picture(detector, pictures, tmp_path):
    some = {key: pictures[key] for key in (0, 1, 3, 5)}
    stores = three_stores(tmp_path)
    assert not extract_boxes(detector, some, **stores, progress=None).skipped
    assert stores["features"].ids == stores["boxes"].ids == stores["sizes"].ids
    for key, path in some.items():
        boxes, features = detector.detect(path, 4)
        got = {name: store.rows([key])[0] for name, store in stores.items()}
        assert np.allclose(got["boxes"], boxes, atol=1e-4) and np.allclose(got["features"], features, atol=1e-2)
        assert got["sizes"].tolist() == list(SHAPES[key % 5])


def test_boxes_that_are_a_batch_ahead_of_the_features(detector, pictures, tmp_path, monkeypatch):
    some = {key: pictures[key] for key in (0, 1, 3, 5)}
    extract_boxes(detector, some, **three_stores(tmp_path / "whole"), progress=None, batch=2)
    stores, append = three_stores(tmp_path / "killed"), FeatureStore.append

    def killed(store, *values):
        if store is stores["features"] and len(store) == 2:
            raise KeyboardInterrupt
        append(store, *values)

    monkeypatch.setattr(FeatureStore, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        extract_boxes(detector, some, **stores, progress=None, batch=2)
    monkeypatch.undo()
    stores = three_stores(tmp_path / "killed")
    assert len(stores["boxes"]) > len(stores["features"])
    extract_boxes(detector, some, **stores, progress=None, batch=2)
    for name in stores:
        assert content(tmp_path / "killed" / name) == content(tmp_path / "whole" / name)


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="no real photographs beside the clone (shared/data)")
def test_real_photographs_of_two_shapes(detector, tmp_path):
    paths = {int(path.stem): path for path in sorted(PHOTOGRAPHS.glob("*.jpg"))[:8]}
    store = FeatureStore(tmp_path / "store", (64, 1024))
    assert not extract(detector, paths, store, batch=4, progress=None).skipped
    assert set(store.ids) == set(paths) and np.isfinite(store[:]).all() and (store[:] >= 0).all()
    assert len({detector.size(*picture_size(path)) for path in paths.values()}) >= 2
    for key in store.ids[::3]:
        want = detector.features(paths[key])[0]
        assert np.abs(store.rows([key])[0] - want).max() <= 1e-4 * want.max()
    other = FeatureStore(tmp_path / "other", (64, 1024))
    extract(detector, dict(reversed(paths.items())), other, batch=4, workers=0, progress=None)
    assert content(tmp_path / "other") == content(tmp_path / "store")


def test_a_class_is_made_once_where_it_is_used(pictures, tmp_path, whole):
    made = []

    class Eye:
        def __init__(self):
            made.append(self)

        def __call__(self, pixels):
            return colours(pixels)

    look(pictures, tmp_path / "other", eye=Eye)
    assert len(made) == 1 and content(tmp_path / "other") == whole


def test_a_cluster_needs_ray_and_a_start(monkeypatch, pictures, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r'pip install "ray\[data\]"'):
        look(pictures, tmp_path, ray_workers=2)
    assert store_at(tmp_path).ids == []
