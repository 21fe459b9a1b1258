"""Workers of a Ray cluster make the same stores as this machine alone, also when one of them is killed."""

import os
import signal
import time

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from xlxmert_core.data.images import open_image
from xlxmert_core.data.store import FeatureStore
from xlxmert_core.scale import workers
from xlxmert_core.scale.assign import assign
from xlxmert_core.scale.extraction import extract
from xlxmert_core.vocabulary import VisualVocabulary

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "OMP_NUM_THREADS": "1"}


def make_eye(marker=None):
    """A small network, made inside a function so that it travels to the workers whole; the first one may be killed."""

    class Eye(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Conv2d(3, 5, 3)

        @torch.inference_mode()
        def forward(self, pixels):
            if marker is not None and pixels.shape[1] < pixels.shape[2] and not marker.exists():
                marker.write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGKILL)
            images = torch.as_tensor(pixels).permute(0, 3, 1, 2) / 255
            return self.layer(images).mean((2, 3))[:, None]  # [B, 1, 5]

    return Eye


@pytest.fixture(scope="module")
def ray():
    """Two workers on this machine."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    pytest.importorskip("ray.data", reason="Ray Data is not installed")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in QUIET.items():
            patch.setenv(name, value)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as in the workers
        try:
            ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
            yield ray
        finally:
            ray.shutdown()
            torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Forty pictures of three shapes, one of them broken."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    found = {key: folder / f"{key}.png" for key in range(40)}
    for key, path in found.items():
        shape = ((40, 60), (60, 40), (50, 50))[key % 3]
        Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(path)
    found[17].write_bytes(found[17].read_bytes()[:1000])
    return found


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def look(eye, pictures, folder, **options):
    store = FeatureStore(folder, (1, 5))
    report = extract(eye, pictures, store, size=lambda w, h: (w, h), batch=3, progress=None, **options)
    assert [what for what, _ in report.skipped] == ["picture 17"]
    return content(folder)


@pytest.mark.nightly
def test_a_killed_worker_changes_nothing(ray, pictures, tmp_path):
    """Each worker makes the network from its class; the first two batches were there before."""
    here = look(make_eye(), pictures, tmp_path / "here")
    whole, part = (FeatureStore(tmp_path / name, (1, 5)) for name in ("here", "there"))
    for start in (0, 3):
        part.append(whole.ids[start : start + 3], whole[start : start + 3])
    marker = tmp_path / "killed"
    assert look(make_eye(marker), pictures, part.folder, ray_workers=2) == here
    assert marker.read_text() != str(os.getpid()) and len(FeatureStore(part.folder, (1, 5))) == 39


@pytest.mark.nightly
def test_results_come_in_order_and_errors_come_back(ray):
    def sevenths(item):
        return np.full(3, 42 // (item - 7))

    results = workers.parallel_map(sevenths, iter([9, 8, 7, 6]), 2)
    assert next(results).tolist() == [21, 21, 21] and next(results).tolist() == [42, 42, 42]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(workers.parallel_map(sevenths, [], 2)) == []


@pytest.mark.nightly
def test_what_cannot_travel_is_said(ray):
    class UnknownError(Exception):
        def __init__(self, place, reason):
            super().__init__(f"{place}: {reason}")

    def fail(item):
        raise UnknownError("picture 3", "no eye")

    with pytest.raises(workers.ClusterError, match="UnknownError: picture 3: no eye"):
        list(workers.parallel_map(fail, [3], 1))


@pytest.mark.nightly
def test_codes_are_assigned_as_here_and_in_the_same_order(ray, tmp_path):
    rng = np.random.default_rng(0)
    features = FeatureStore(tmp_path / "features", (32, 32), "float16")
    features.append([7 * i for i in range(100)], rng.normal(size=(100, 32, 32)))
    vocabulary, codes = VisualVocabulary(rng.normal(size=(50, 32))), FeatureStore(tmp_path / "codes", (32,), "int32")
    assert assign(vocabulary, features, codes, block=7, ray_workers=2) == 100
    assert codes.ids == features.ids and np.array_equal(codes[:], vocabulary.encode(features[:]))
    with open(features.folder / "features.bin", "r+b") as file:
        file.seek(61 * 32 * 32 * 2)
        file.write(np.float16(np.nan).tobytes())
    other = FeatureStore(tmp_path / "other", (32,), "int32")
    with pytest.raises(ValueError, match=f"picture {7 * 61} are NaN or infinite: extract it again"):
        assign(vocabulary, features, other, block=40, ray_workers=1)


@pytest.mark.nightly
def test_an_item_that_kills_every_worker_is_given_up(ray, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "RETRIES", 1)  # quicker

    def die(item):
        with open(tmp_path / str(item), "a") as file:
            file.write("x")
        if item == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    with pytest.raises(workers.ClusterError, match="died on one item 2 times"):
        list(workers.parallel_map(die, [0, 1, 2], 1))
    assert (tmp_path / "1").read_text() == "xx"


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_threads_keep_the_order_and_do_not_run_away(threads):
    started = []

    def slow(item):
        started.append(item)
        time.sleep(0.01 if item % 3 == 0 else 0)
        return item * item

    for position, result in enumerate(workers.prefetch(slow, range(12), threads)):
        assert result == position**2 and len(started) <= position + 1 + threads
    assert sorted(started) == list(range(12))


def test_mapped_is_map_without_a_cluster():
    assert list(workers.parallel_map(abs, iter([-3, 1]))) == [3, 1]
    made = []

    class Doubler:
        def __init__(self):
            made.append(self)

        def __call__(self, item):
            return 2 * item

    assert list(workers.parallel_map(Doubler, [3, 1])) == [6, 2] and len(made) == 1


def test_without_a_cluster_a_sentence_says_what_to_call(monkeypatch):
    module = pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setattr(module, "is_initialized", lambda: False)
    with pytest.raises(workers.ClusterError, match=r"call ray.init\(\)"):
        list(workers.parallel_map(open_image, ["a"], 1))
