"""The visual vocabulary: an honest sample, k-means that finds the clusters, and exact nearest neighbours."""

import numpy as np
import pytest

from xlxmert_core.vocabulary import VisualVocabulary, code_probe, sample_rows


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
