"""The visual vocabulary: an honest sample, k-means that finds the clusters, and exact nearest neighbours."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from xlxmert_core import kmeans
from xlxmert_core import vocabulary as library
from xlxmert_core.data.store import FeatureStore
from xlxmert_core.evaluate.scenes import code_probe
from xlxmert_core.kmeans import Nearest
from xlxmert_core.vocabulary import VisualVocabulary, check_codes, sample_rows, sample_to_file


@pytest.fixture
def numbered():
    """Features [10, 6, 2] whose first value is the cell's number."""
    cells = np.arange(60, dtype=np.float32)
    return np.stack([cells, -cells], 1).reshape(10, 6, 2)


@pytest.fixture(scope="module")
def clusters():
    """Features [40, 8, 4] around five far centres, and those centres."""
    rng = np.random.default_rng(0)
    centres = rng.permutation(np.eye(5, 4) * 20 + np.arange(5)[:, None] * 6)
    which = rng.permutation(np.arange(320) % 5).reshape(40, 8)
    return (centres[which] + rng.normal(0, 0.1, (40, 8, 4))).astype(np.float32), centres, which


def test_of_several_starts_the_best_is_kept():
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((9, 16)).astype(np.float32) * 3
    cells = (centres[rng.integers(9, size=2000)] + 0.3 * rng.standard_normal((2000, 16), dtype=np.float32))[:, None]

    def inertia(starts, seed):
        found = VisualVocabulary.fit(cells, 9, seed, plus_plus=False, starts=starts)
        return library.Nearest(found.centroids).search(cells[:, 0])[0].sum()

    one, ten = ([inertia(starts, seed) for seed in range(3)] for starts in (1, 10))
    assert max(ten) < 1.01 * min(ten) and min(one) > 1.5 * min(ten)  # from random rows one start loses a centre


class Counted:
    """An array that notes how many pictures are read at a time."""

    def __init__(self, array):
        self.array, self.largest = array, 0

    def __len__(self):
        return len(self.array)

    def __getitem__(self, rows):
        block = self.array[rows]
        self.largest = max(self.largest, len(block))
        return block


def draw(features, rows, seed=0, **options):
    return sample_rows(features, rows, np.random.default_rng(seed), **options)


def test_a_sample_is_of_distinct_cells_each_whole(numbered):
    sample = draw(numbered, 25)
    assert sample.shape == (25, 2) and sample.dtype == np.float32
    assert len(set(sample[:, 0])) == 25 and np.array_equal(sample[:, 1], -sample[:, 0])
    assert set(sample[:, 0]) <= set(range(60)) and not np.array_equal(sample, draw(numbered, 25, seed=1))
    assert sorted(draw(numbered, 1000)[:, 0]) == list(range(60))


@pytest.mark.parametrize("chunk", [1, 3, 10, 512])
def test_a_sample_does_not_depend_on_the_chunk_and_reads_no_more(numbered, chunk):
    counted = Counted(numbered)
    assert np.array_equal(draw(counted, 25, chunk=chunk), draw(numbered, 25))
    assert counted.largest <= chunk


def test_every_cell_is_drawn_equally_often(numbered):
    rng = np.random.default_rng(0)
    drawn = np.concatenate([sample_rows(numbered, 6, rng)[:, 0] for _ in range(2000)]).astype(int)
    counts = np.bincount(drawn, minlength=60)  # 200 each
    assert ((counts - 200) ** 2 / 200).sum() < 99  # 0.999 quantile, 59 degrees of freedom


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_no_number_is_refused(numbered, bad):
    numbered[4, 3, 1] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        draw(numbered, 60)


def test_no_features_are_refused():
    with pytest.raises(ValueError, match=r"empty.*chapter 02"):
        draw(np.empty((0, 6, 2), np.float32), 5)


@pytest.mark.parametrize("plus_plus", [True, False])
def test_fit_finds_clusters_that_lie_apart(clusters, plus_plus):
    features, centres, _ = clusters
    codes = 5 if plus_plus else 40  # random rows may miss a cluster, but hardly with eight times as many
    vocabulary = VisualVocabulary.fit(features, codes, seed=0, plus_plus=plus_plus)
    distance = np.linalg.norm(centres[:, None] - vocabulary.centroids, axis=-1)  # [5, K]
    assert len(vocabulary) == codes and distance.min(1).max() < 0.3 and distance.min(0).max() < 0.5


def test_codes_of_clusters_are_the_clusters(clusters):
    features, _, which = clusters
    codes = VisualVocabulary.fit(features, 5).encode(features)
    assert codes.shape == (40, 8) and codes.dtype == np.int64
    assert len(set(zip(codes.ravel(), which.ravel(), strict=True))) == 5  # one code a cluster, one cluster a code


def test_a_seed_decides_the_centroids():
    features = np.random.default_rng(1).normal(size=(40, 8, 4)).astype(np.float32)
    first, again, other = (VisualVocabulary.fit(features, 12, seed).centroids for seed in (3, 3, 4))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_more_iterations_lower_the_error():
    features = np.random.default_rng(1).normal(size=(60, 8, 4)).astype(np.float32)

    def error(iterations):
        vocabulary = VisualVocabulary.fit(features, 24, iterations=iterations, plus_plus=False)
        return ((features - vocabulary.decode(vocabulary.encode(features))) ** 2).mean()

    assert error(20) < 0.97 * error(1)


def test_codes_are_the_nearest_centroids():
    rng = np.random.default_rng(2)
    vocabulary = VisualVocabulary(rng.normal(size=(50, 7)) * rng.uniform(0.2, 3, (50, 1)))  # of unlike lengths
    features = rng.normal(size=(3, 2, 5, 7))
    square = ((features[..., None, :] - vocabulary.centroids.astype(np.float64)) ** 2).sum(-1)  # [3, 2, 5, 50]
    codes = vocabulary.encode(features)
    assert codes.shape == (3, 2, 5) and np.array_equal(codes, square.argmin(-1))
    assert not np.array_equal(codes, (features @ vocabulary.centroids.T).argmax(-1))  # not the inner product
    assert np.array_equal(vocabulary.decode(codes)[1, 0, 2], vocabulary.centroids[codes[1, 0, 2]])
    assert vocabulary.decode(codes).shape == features.shape


def test_encoding_the_centroids_gives_them_back():
    centroids = np.random.default_rng(3).normal(size=(30, 5)).astype(np.float32)
    vocabulary = VisualVocabulary(centroids)
    assert vocabulary.encode(centroids).tolist() == list(range(30))
    assert np.array_equal(vocabulary.decode(vocabulary.encode(centroids)), centroids)


def test_too_few_cells_are_refused(numbered):
    with pytest.raises(ValueError, match="60 cells cannot make 61 codes"):
        VisualVocabulary.fit(numbered, 61)
    assert sorted(VisualVocabulary.fit(numbered, 60).encode(numbered).ravel()) == list(range(60))


def test_features_of_another_encoder_are_refused():
    with pytest.raises(ValueError, match="6 wide, the vocabulary 5"):
        VisualVocabulary(np.zeros((3, 5))).encode(np.zeros((2, 6)))
    with pytest.raises(ValueError, match=r"must be \[K, F\].*\(2, 3, 4\)"):
        VisualVocabulary(np.zeros((2, 3, 4)))


def test_the_centroids_are_prepared_once(numbered, monkeypatch):
    made = []
    monkeypatch.setattr(library, "Nearest", lambda centroids: made.append(1) or Nearest(centroids))
    vocabulary = VisualVocabulary(numbered[0])
    assert made == []
    for _ in range(2):
        assert np.array_equal(vocabulary.encode(numbered[0]), np.arange(6))
    assert made == [1] and np.shares_memory(vocabulary._nearest.centroids, vocabulary.centroids)
    assert np.array_equal(pickle.loads(pickle.dumps(vocabulary)).encode(numbered[0]), np.arange(6))


def test_the_probe_votes_by_majority_and_guesses_for_unseen_codes():
    train_codes, train_labels = np.array([0, 0, 0, 1, 1, 1, 1, 3]), np.array([2, 2, 1, 0, 1, 1, 1, 0])
    # The votes: code 0 -> 2, code 1 -> 1, code 3 -> 0; codes 2 and 9 were never seen -> 1, the commonest.
    codes, labels = np.array([0, 0, 1, 3, 2, 9, 9, 1]), np.array([2, 1, 1, 0, 1, 1, 0, 4])
    assert code_probe(train_codes, train_labels, codes, labels) == 5 / 8
    assert code_probe(train_codes, train_labels, np.array([2, 9]), np.array([1, 1])) == 1.0


def test_a_product_vocabulary_names_combinations_that_no_cell_ever_showed():
    rng = np.random.default_rng(0)
    shapes, colours = np.eye(3) * 9, np.eye(2) * 9
    seen = np.array([(s, c) for s in range(3) for c in range(2) if (s, c) != (2, 1)])
    which = seen[rng.integers(len(seen), size=(60, 8))]  # [M, N, 2]
    cells = np.concatenate([shapes[which[..., 0]], colours[which[..., 1]]], -1)
    cells = (cells + rng.normal(0, 0.1, cells.shape)).astype(np.float32)
    vocabulary = VisualVocabulary.fit_product(cells, (3, 2), (3, 2))
    assert vocabulary.centroids.shape == (6, 5)
    unseen = np.concatenate([shapes[2], colours[1]])
    code = vocabulary.encode(unseen[None])[0]
    assert code not in vocabulary.encode(cells)
    assert np.abs(vocabulary.decode(code) - unseen).max() < 0.2
    assert code // 2 in vocabulary.encode(cells[which[..., 0] == 2]) // 2  # its first index is the shape's


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("rows", [25, 1000])
def test_a_sample_on_disk_is_the_sample_in_memory(numbered, tmp_path, dtype, rows):
    features = numbered.astype(dtype)
    sample_to_file(features, rows, np.random.default_rng(4), tmp_path / "sample.npy", chunk=3)
    saved = np.load(tmp_path / "sample.npy")
    assert saved.dtype == dtype and np.array_equal(saved, draw(features, rows, seed=4))


def inertia(vocabulary, features):
    return float(((features - vocabulary.decode(vocabulary.encode(features))) ** 2).sum())


@pytest.fixture(scope="module")
def scenes():
    """Features [625, 32, 32], 20 000 cells around 150 centres."""
    rng = np.random.default_rng(5)
    cells = rng.normal(size=(150, 32))[rng.integers(150, size=20_000)] + rng.normal(0, 0.5, (20_000, 32))
    return cells.astype(np.float32).reshape(625, 32, 32)


def test_a_streamed_vocabulary_is_as_good_as_that_of_faiss(scenes):
    whole = VisualVocabulary.fit(scenes, 64, plus_plus=False)
    errors = [inertia(VisualVocabulary.fit(scenes, 64, seed, memory=1e6), scenes) for seed in (0, 0, 1)]
    assert errors[0] == errors[1] != errors[2]
    assert max(errors) < 1.02 * inertia(whole, scenes)  # other random starts; test_kmeans.py compares equal ones


def test_the_memory_decides_who_fits_and_nothing_is_left(scenes, tmp_path, monkeypatch):
    streamed = []
    monkeypatch.setattr(library, "lloyd", lambda *a: streamed.append(a) or (np.zeros((64, 32)), []))
    size = 64 * 256 * 32 * 4
    VisualVocabulary.fit(scenes, 64, memory=2 * size, scratch=tmp_path, plus_plus=False)
    assert not streamed and not list(tmp_path.iterdir())
    VisualVocabulary.fit(scenes, 64, memory=2 * size - 1, scratch=tmp_path)
    assert len(streamed) == 1 and not list(tmp_path.iterdir())  # the subsample is removed


def test_an_interrupted_streamed_fit_goes_on_in_its_folder(scenes, tmp_path, monkeypatch):
    whole, left = VisualVocabulary.fit_streamed(scenes, 40, 3, iterations=5), []

    def tired(self, rows, search=library.Nearest.search):
        if len(np.load(tmp_path / "centroids.npz")["inertia"]) == 3:
            raise KeyboardInterrupt
        return search(self, rows)

    VisualVocabulary.fit_streamed(scenes, 40, 3, iterations=2, scratch=tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(library.Nearest, "search", tired)
        VisualVocabulary.fit_streamed(scenes, 40, 3, iterations=5, scratch=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["centroids.npz"]
    (tmp_path / "sample.npy").write_bytes(b"left by kill -9")
    monkeypatch.setattr(library, "_require_space", lambda folder, size: left.extend(folder.glob("sample.npy")))
    resumed = VisualVocabulary.fit_streamed(scenes, 40, 3, iterations=5, scratch=tmp_path)
    assert not left and [p.name for p in tmp_path.iterdir()] == ["centroids.npz"]
    assert np.allclose(resumed.centroids, whole.centroids, atol=1e-5)
    with pytest.raises(ValueError, match=r"centroids.npz holds the progress of something else .*seed 3 there, 4 here"):
        VisualVocabulary.fit_streamed(scenes, 40, 4, iterations=5, scratch=tmp_path)


def test_a_small_disk_and_bad_features_are_refused_before_the_work(scenes, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="20000 cells cannot make 20001 codes"):
        VisualVocabulary.fit_streamed(scenes, 20_001)
    broken = scenes.copy()
    broken[400, 3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        VisualVocabulary.fit_streamed(broken, 100, scratch=tmp_path)
    monkeypatch.setattr(library.shutil, "disk_usage", lambda folder: type("Disk", (), {"free": 1_000_000}))
    with pytest.raises(ValueError, match=r"takes 0.0021 GB, but .* has 0.001 GB left: .* scratch="):
        VisualVocabulary.fit_streamed(scenes, 64, scratch=tmp_path)
    assert not list(tmp_path.iterdir())


# Fits and assigns with 30 MB a file of 98 MB (197 MB as float32) and says how much more memory that took, in bytes.
LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np
from xlxmert_core.data.store import FeatureStore
from xlxmert_core.scale.assign import assign
from xlxmert_core.vocabulary import VisualVocabulary

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

folder, rng = Path(sys.argv[1]), np.random.default_rng(0)
features = FeatureStore(folder / "features", (64, 512), "float16")
for i in range(15):
    features.append(range(100 * i, 100 * i + 100), rng.standard_normal((100, 64, 512), "float32"))
small = rng.normal(size=(40, 8, 512))
VisualVocabulary.fit_streamed(small, 20, iterations=1).encode(small)  # loads what has to be loaded
before = peak()
vocabulary = VisualVocabulary.fit(features, 100, iterations=2, memory=30e6, scratch=folder)
assert assign(vocabulary, features, FeatureStore(folder / "codes", (64,), "int32")) == 1500
print(peak() - before)
"""


@pytest.mark.slow
def test_memory_stays_within_the_budget_whatever_the_size_of_the_file(tmp_path):
    done = subprocess.run([sys.executable, "-c", LITTLE_MEMORY, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 30e6
    codes = FeatureStore(tmp_path / "codes", (64,), "int32")
    assert len(codes) == 1500 and codes[:].max() < 100 and len(np.unique(codes[:])) > 90


def test_codes_beyond_the_vocabulary_are_refused():
    vocabulary = VisualVocabulary(np.eye(4))
    check_codes(np.array([0, 3]), 4)
    check_codes(np.array([], int), 4)
    for codes in ([0, 4], [-1, 2]):
        with pytest.raises(ValueError, match=f"go from {min(codes)} to {max(codes)} but the vocabulary has 4 entries"):
            vocabulary.decode(codes)


def test_a_vocabulary_is_saved_whole_and_loaded_or_refused(tmp_path):
    vocabulary, path = (
        VisualVocabulary(np.random.default_rng(6).normal(size=(50, 32))),
        tmp_path / "new" / "vocabulary.npy",
    )
    vocabulary.save(path)
    assert np.array_equal(VisualVocabulary.load(path).centroids, vocabulary.centroids)
    assert [p.name for p in path.parent.iterdir()] == ["vocabulary.npy"]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"vocabulary.npy is no visual vocabulary .*: fit one"):
        VisualVocabulary.load(path)
    with pytest.raises(FileNotFoundError, match=r"none.npy is not there: fit a vocabulary"):
        VisualVocabulary.load(tmp_path / "none.npy")


@pytest.mark.parametrize("value", [3e19, -3e19, np.nan, np.inf])
def test_features_that_would_end_the_process_are_refused(value):
    features = np.random.default_rng(0).normal(size=(20, 4, 6)).astype(np.float32)
    vocabulary = VisualVocabulary.fit(features, 4)
    features[3, 2, 1] = value
    calls = {
        "fit": lambda: VisualVocabulary.fit(features, 4),
        "fit_streamed": lambda: VisualVocabulary.fit_streamed(features, 4),
        "fit_product": lambda: VisualVocabulary.fit_product(features, (2, 2), (3, 3)),
        "encode": lambda: vocabulary.encode(features),
        "in_memory": lambda: kmeans.in_memory(features.reshape(-1, 6), 4, 2, 0),
        "lloyd": lambda: kmeans.lloyd(features.reshape(-1, 6), np.eye(4, 6), 2),
    }
    for call in calls.values():
        with pytest.raises(ValueError, match="The features are (NaN or infinite|as large as 3e)"):
            call()
    with pytest.raises(ValueError, match="The centroids are (NaN or infinite|as large as 3e)"):
        VisualVocabulary(features[3])


def test_codes_are_whole_numbers():
    with pytest.raises(ValueError, match="Codes are whole numbers, not float64"):
        VisualVocabulary(np.eye(4)).decode([0.0, 1.0])
    assert VisualVocabulary(np.eye(4)).decode([]).shape == (0, 4)
