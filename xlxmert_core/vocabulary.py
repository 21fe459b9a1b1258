"""The visual vocabulary: k-means turns a continuous feature into one of K words of a picture.

Paper, section 3.1: faiss k-means, L2, 20 iterations. faiss reads at most 256 points per centroid,
so only that many rows are ever drawn from disk, whatever the size of the data set.
"""

from collections.abc import Sequence

import numpy as np

POINTS_PER_CENTROID = 256  # faiss's own limit


def sample_rows(features: Sequence, rows: int, rng: np.random.Generator, chunk: int = 512) -> np.ndarray:
    """Draw ``rows`` cells without replacement from features [M, N, F] (an array, memmap or store slice).

    Reads ``chunk`` pictures at a time: memory is the result plus one chunk.
    Raises ValueError when there are no features or one of them is not finite.
    """
    pictures = len(features)
    if pictures == 0:
        raise ValueError("The feature set is empty: extract features first (chapter 02).")
    cells = np.asarray(features[0:1]).shape[1]
    total = pictures * cells
    chosen = np.sort(rng.choice(total, size=min(rows, total), replace=False))
    parts = []
    for start in range(0, pictures, chunk):
        stop = min(start + chunk, pictures)
        low, high = np.searchsorted(chosen, [start * cells, stop * cells])
        if low == high:
            continue
        block = np.asarray(features[start:stop]).reshape((stop - start) * cells, -1)
        parts.append(block[chosen[low:high] - start * cells])
    sample = np.concatenate(parts).astype(np.float32, copy=False)
    if not np.isfinite(sample).all():
        raise ValueError("The features hold NaN or infinite values: extract the pictures they belong to again.")
    return sample


class VisualVocabulary:
    """K centroids [K, F]; ``encode`` looks up the nearest, ``decode`` gives it back."""

    def __init__(self, centroids: np.ndarray):
        self.centroids = np.ascontiguousarray(centroids, dtype=np.float32)
        if self.centroids.ndim != 2:
            raise ValueError(f"Centroids must be [K, F], got the shape {self.centroids.shape}.")
        self._index = None

    def __len__(self) -> int:
        return len(self.centroids)

    @classmethod
    def fit(cls, features: Sequence, codes: int, seed: int = 0, iterations: int = 20,
            plus_plus: bool = True) -> "VisualVocabulary":  # fmt: skip
        """k-means on a streamed subsample of features [M, N, F].

        Args:
            codes: K; must not exceed the number of cells.
            plus_plus: start from k-means++ seeds (scikit-learn) instead of random rows: background cells
                are most of a picture, and random seeds leave rare object parts without a centroid.
        """
        import faiss

        rng = np.random.default_rng(seed)
        sample = sample_rows(features, codes * POINTS_PER_CENTROID, rng)
        if len(sample) < codes:
            raise ValueError(f"{len(sample)} cells cannot make {codes} codes: use more pictures or fewer codes.")
        kmeans = faiss.Kmeans(
            sample.shape[1], codes, niter=iterations, seed=seed + 1, max_points_per_centroid=POINTS_PER_CENTROID,
            min_points_per_centroid=1,
        )  # fmt: skip
        start = _plus_plus(sample, codes, rng) if plus_plus else None
        kmeans.train(sample, init_centroids=start)
        return cls(kmeans.centroids.reshape(codes, -1).copy())

    @classmethod
    def fit_product(cls, features: Sequence, codes: Sequence[int], widths: Sequence[int], seed: int = 0,
                    iterations: int = 20) -> "VisualVocabulary":  # fmt: skip
        """Product quantisation (Jégou et al., 2011): k-means on each part of the features, then all combinations.

        With parts for shape and colour every shape gets every colour, also those that no picture has combined.

        Args:
            codes: entries of each part's vocabulary; K is their product. Code = first index x codes[1] + second.
            widths: how many of the F numbers belong to each part.
        """
        rng = np.random.default_rng(seed)
        sample = sample_rows(features, max(codes) * POINTS_PER_CENTROID, rng)
        parts = np.split(sample, np.cumsum(widths)[:-1], axis=1)
        fitted = [
            cls.fit(part[:, None], size, seed + i, iterations).centroids
            for i, (part, size) in enumerate(zip(parts, codes, strict=True))
        ]
        choices = np.indices(codes).reshape(len(codes), -1)  # [parts, K]
        return cls(np.concatenate([c[i] for c, i in zip(fitted, choices, strict=True)], axis=1))

    def encode(self, features: np.ndarray) -> np.ndarray:
        """features [..., F] -> codes int64 [...]: the nearest centroid in L2 (exact flat search)."""
        import faiss

        features = np.asarray(features, dtype=np.float32)
        if features.shape[-1] != self.centroids.shape[1]:
            raise ValueError(
                f"These features are {features.shape[-1]} wide, the vocabulary {self.centroids.shape[1]}: "
                "use the encoder that the vocabulary was made with."
            )
        if self._index is None:
            self._index = faiss.IndexFlatL2(self.centroids.shape[1])
            self._index.add(self.centroids)
        flat = np.ascontiguousarray(features.reshape(-1, features.shape[-1]))
        return self._index.search(flat, 1)[1].reshape(features.shape[:-1])

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """codes int [...] -> centroids float32 [..., F]."""
        return self.centroids[np.asarray(codes)]


def _plus_plus(sample: np.ndarray, codes: int, rng: np.random.Generator) -> np.ndarray:
    from sklearn.cluster import kmeans_plusplus

    few = sample[rng.permutation(len(sample))[: 24 * codes]]
    seed = int(rng.integers(2**31))
    return kmeans_plusplus(few, codes, random_state=seed)[0].astype(np.float32)


def count_labels(codes: np.ndarray, labels: np.ndarray, size: int, classes: int) -> np.ndarray:
    """How often each code came with each label: codes and labels int [M] -> int64 [size, classes]."""
    votes = np.zeros((size, classes), dtype=np.int64)
    np.add.at(votes, (codes, labels), 1)
    return votes


def code_probe(train_codes: np.ndarray, train_labels: np.ndarray, codes: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy of reading a label off a code by majority vote.

    The vote is learned on the training pairs (codes [M], labels [M]); a code never seen there votes for the
    most common label. Chance is the share of that label.
    """
    size = int(max(train_codes.max(), codes.max())) + 1
    votes = count_labels(train_codes, train_labels, size, int(max(train_labels.max(), labels.max())) + 1)
    best = votes.argmax(1)
    best[votes.sum(1) == 0] = np.bincount(train_labels).argmax()
    return float((best[codes] == labels).mean())
