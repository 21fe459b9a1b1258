"""Streamed k-means does what a plain loop and faiss do, in little memory, and goes on after it was killed."""

import errno
import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest

from xlxmert_core import kmeans, origins
from xlxmert_core.files import replacing
from xlxmert_core.kmeans import Nearest, lloyd, split_empty, take
from xlxmert_core.vocabulary import VisualVocabulary


@pytest.fixture(scope="module")
def rows():
    """20 000 rows of width 32 around 200 centres: overlapping clusters, as features are."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(200, 32))
    return (centres[rng.integers(200, size=20_000)] + rng.normal(0, 0.5, (20_000, 32))).astype(np.float32)


def random_start(rows, codes, seed=0):
    return rows[np.random.default_rng(seed).choice(len(rows), codes, replace=False)]


def plain_lloyd(rows, start, iterations):
    """The definition, in float64 and with all distances at once."""
    rows, centroids, inertia = rows.astype(np.float64), start.astype(np.float64), []
    for _ in range(iterations):
        squares = (rows**2).sum(1)[:, None] - 2 * rows @ centroids.T + (centroids**2).sum(1)  # [n, K]
        inertia.append(squares.min(1).sum())
        codes = squares.argmin(1)
        centroids = np.stack([rows[codes == k].mean(0) for k in range(len(centroids))])
    return centroids, inertia


@pytest.mark.parametrize("block", [999, 4000, 10**6])
@pytest.mark.parametrize("device", [None, "cpu"])
def test_streamed_iterations_are_the_plain_ones(rows, block, device):
    few = rows[:4000]
    start = random_start(few, 20)
    centroids, inertia = lloyd(few, start, 6, block=block, device=device)
    wanted, errors = plain_lloyd(few, start, 6)
    assert centroids.shape == (20, 32) and centroids.dtype == np.float32
    assert np.abs(centroids - wanted).max() < 1e-4 and np.allclose(inertia, errors, rtol=1e-5)
    assert len(inertia) == 6 and np.all(np.diff(inertia) < 0)


@pytest.mark.parametrize("codes", [64, 300])
def test_the_inertia_is_that_of_faiss(rows, codes):
    import faiss

    start = random_start(rows, codes)
    theirs = faiss.Kmeans(32, codes, niter=10, seed=1, max_points_per_centroid=10**6, min_points_per_centroid=1)
    theirs.train(rows, init_centroids=start)
    centroids, inertia = lloyd(rows, start, 10)
    assert np.allclose(inertia, theirs.obj, rtol=1e-4)
    ours, other = (Nearest(c).search(rows)[0].sum() for c in (centroids, theirs.centroids))
    assert abs(ours / other - 1) < 0.005


@pytest.mark.parametrize("device", [None, "cpu"])
def test_the_nearest_are_those_of_faiss(rows, device):
    import faiss

    index = faiss.IndexFlatL2(32)
    index.add(rows[:700])
    distance, codes = index.search(rows[5000:9000], 1)
    found = Nearest(rows[:700], device).search(rows[5000:9000])
    assert np.array_equal(found[1], codes[:, 0]) and np.abs(found[0] - distance[:, 0]).max() < 1e-4
    assert np.all(Nearest(rows[:700], device).search(rows[:700])[0] >= 0)  # rounding never makes a distance negative


def test_nearest_keeps_the_shape_takes_half_precision_and_travels(rows):
    nearest = Nearest(rows[:50])
    features = rows[:60].astype(np.float16).reshape(3, 2, 10, 32)
    codes = nearest(features)
    assert codes.shape == (3, 2, 10) and codes.dtype == np.int64
    assert codes.ravel()[:50].tolist() == list(range(50))
    assert np.array_equal(pickle.loads(pickle.dumps(nearest))(features), codes)


def test_a_file_of_half_precision_gives_what_the_array_gives(rows, tmp_path):
    half = rows[:3000].astype(np.float16)
    np.save(tmp_path / "rows.npy", half)
    start = random_start(half, 15)
    from_file = lloyd(tmp_path / "rows.npy", start, 3, block=700)
    from_array = lloyd(half.astype(np.float32), start, 3, block=700)
    assert np.array_equal(from_file[0], from_array[0]) and from_file[1] == from_array[1]


def test_chosen_rows_are_taken_in_their_order(rows, tmp_path):
    np.save(tmp_path / "rows.npy", rows)
    chosen = np.random.default_rng(1).permutation(20_000)[:600]
    assert np.array_equal(take(tmp_path / "rows.npy", chosen, size=100), rows[chosen])
    assert np.array_equal(take(rows, chosen), rows[chosen])


def test_an_empty_cluster_gets_half_of_a_populous_one():
    centroids, counts = np.array([[1.0, 2.0], [0.0, 0.0], [8.0, -4.0]], np.float32), np.array([1, 0, 9])
    split_empty(centroids, counts, np.random.default_rng(0))
    assert counts.tolist() == [1, 4, 5]  # one row cannot be halved, so it is always the other cluster
    up, down = 1 + 1 / 1024, 1 - 1 / 1024
    assert np.allclose(centroids, [[1, 2], [8 * up, -4 * down], [8 * down, -4 * up]], rtol=1e-6)


def test_many_empty_clusters_share_the_rows_by_size():
    counts = np.array([600, 300, 2] + [0] * 97)
    centroids = np.repeat(np.arange(100.0)[:, None], 4, 1)
    split_empty(centroids, counts, np.random.default_rng(0))
    assert counts.sum() == 902 and counts.min() >= 1
    halves = np.round(centroids[3:, 0] * 4) / 4  # near 0, 1 or 2: whose half it is (0 stays 0)
    assert (np.abs(halves) < 0.5).sum() > (np.abs(halves - 1) < 0.5).sum() > 5


def test_clusters_that_start_empty_find_rows(rows):
    start = np.concatenate([random_start(rows, 30), np.full((10, 32), 1e3, np.float32)])  # ten that no row is near
    centroids, inertia = lloyd(rows, start, 12)
    assert len(np.unique(Nearest(centroids)(rows))) == 40 and np.abs(centroids).max() < 10
    assert inertia[-1] < lloyd(rows, start[:30], 12)[1][-1]


def test_as_many_clusters_as_rows_and_equal_rows_end_well(rows):
    assert lloyd(rows[:40], rows[:40], 3)[1][-1] < 1e-3
    same = np.ones((10, 3), np.float32)
    assert np.abs(lloyd(same, same[:4], 3)[0] - 1).max() < 0.01


def test_the_seed_decides_the_halves(rows):
    start = np.concatenate([random_start(rows, 30), np.full((10, 32), 1e3, np.float32)])
    first, again, other = (lloyd(rows, start, 3, seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


# Three iterations, then the process is killed in the middle of the fourth; the folder is its argument.
KILLED = """
import os, signal, sys
import numpy as np
from xlxmert_core import kmeans
from xlxmert_core.files import replacing

class Killed(kmeans.Nearest):
    searches = 0
    def search(self, rows):
        Killed.searches += 1
        if Killed.searches == 3 * 5 + 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().search(rows)

kmeans.Nearest = Killed
folder = sys.argv[1]
kmeans.lloyd(folder + "/rows.npy", np.load(folder + "/start.npy"), 6, block=4000, checkpoint=folder + "/saved.npz")
"""


def test_a_killed_run_goes_on_where_it_was(rows, tmp_path, monkeypatch):
    start = np.concatenate([random_start(rows, 30), np.full((10, 32), 1e3, np.float32)])
    np.save(tmp_path / "rows.npy", rows)
    np.save(tmp_path / "start.npy", start)
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], env=os.environ, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    with np.load(tmp_path / "saved.npz") as saved:
        assert len(saved["inertia"]) == 3
    searches, search = [], Nearest.search
    monkeypatch.setattr(kmeans.Nearest, "search", lambda self, part: searches.append(1) or search(self, part))
    resumed = lloyd(tmp_path / "rows.npy", start, 6, block=4000, checkpoint=tmp_path / "saved.npz")
    assert len(searches) == 3 * 5  # the first three iterations are not made again
    whole = lloyd(rows, start, 6, block=4000)
    assert np.abs(resumed[0] - whole[0]).max() < 1e-5 and np.allclose(resumed[1], whole[1])
    searches.clear()
    again = lloyd(tmp_path / "rows.npy", start, 6, block=4000, checkpoint=tmp_path / "saved.npz")
    assert not searches and np.array_equal(again[0], resumed[0])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rows.npy", "saved.npz", "start.npy"]


def test_a_checkpoint_of_another_run_is_refused(rows, tmp_path):
    path, start = tmp_path / "saved.npz", random_start(rows, 10)
    lloyd(rows, start, 2, checkpoint=path)
    others = {
        "other start": (rows, start[::-1], 2),
        "other rows": (rows[1:], start, 2),
        "other rows.": (rows + 0.1, start, 2),  # as many
        "seed 0 there, 7 here": (rows, start, 2, 7),
        "holds 2 iterations, more than 1": (rows, start, 1),
    }
    for said, other in others.items():
        with pytest.raises(ValueError, match=f"saved.npz .*{said}.*remove it"):
            lloyd(*other, checkpoint=path)
    assert len(lloyd(rows, start, 3, checkpoint=path)[1]) == 3  # more iterations of the same go on
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"saved.npz is no k-means checkpoint .*: remove it"):
        lloyd(rows, start, 2, checkpoint=path)


def test_a_bar_shows_the_rows_and_the_inertia(rows, capsys):
    lloyd(rows, rows[:10], 2, progress="k-means")
    shown = capsys.readouterr().err
    assert "k-means: 100%" in shown and "40.0k/40.0k" in shown and "inertia=" in shown
    lloyd(rows, rows[:10], 2)
    assert capsys.readouterr().err == ""


def test_millions_of_alike_rows_keep_their_mean():
    """Added one by one in single precision, 3 million times 0.3 is 2.6 % too much."""
    rows = np.full((3_000_000, 1), 0.3, np.float32)
    (centroid,), _ = lloyd(rows, np.zeros((1, 1)), 1)
    assert centroid[0] == pytest.approx(0.3, rel=1e-4)


def test_what_cannot_be_written_is_one_sentence_and_what_was_there_stays(tmp_path):
    path = tmp_path / "centroids.npy"
    path.write_bytes(b"old")

    def full(file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match=r"centroids.npy cannot be written \(No space left on device\): free some space"):
        with replacing(path) as temporary, open(temporary, "wb") as file:
            full(file)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_damaged_file_of_numbers_is_one_sentence_for_all_who_read_one(tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, np.eye(3, dtype=np.float32))
    damaged = bytearray(path.read_bytes())
    damaged[10] = 0  # numpy asks Python's tokenizer, which raises an error of its own from 3.12 on
    path.write_bytes(damaged)
    for read in (VisualVocabulary.load, origins.read_arrays, lambda path: next(kmeans.blocks(path, 2))):
        with pytest.raises(ValueError, match="rows.npy") as said:
            read(path)
        assert "\n" not in str(said.value)
    with pytest.raises(FileNotFoundError, match="absent.npy is not there"):
        next(kmeans.blocks(tmp_path / "absent.npy", 2))
