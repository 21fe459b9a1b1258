"""The visual vocabulary: k-means turns a continuous feature into one of K words of a picture.

Paper, section 3.1: faiss k-means, L2, 20 iterations. faiss reads at most 256 points per centroid,
so only that many rows are ever drawn from disk, whatever the size of the data set. When even those exceed the
memory (at the paper's K = 10 000 they are 21 GB), they go to a file and kmeans.py reads it block by block.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from xlxmert_core.config import check_number
from xlxmert_core.data.arrays import check_codes, check_features
from xlxmert_core.files import NO_ARRAYS, only_writer, replacing, why
from xlxmert_core.kmeans import BLOCK, Nearest, in_memory, lloyd, take

Features = np.ndarray | Sequence  # [M, N, F], or what is sliced like it
SEEDS = 2**31 - 1000  # the largest: faiss counts on from it in 32 bits
POINTS_PER_CENTROID = 256  # faiss's own limit


def sample_rows(features: Features, rows: int, rng: np.random.Generator, chunk: int = 512) -> np.ndarray:
    """Draw ``rows`` cells without replacement from features [M, N, F] (an array, memmap or store slice).

    Reads ``chunk`` pictures at a time: memory is the result float32 [rows, F] plus one chunk.
    Raises ValueError when there are no features or one of them is not finite.
    """
    cells, width = _size(features)
    sample, filled = np.empty((min(rows, cells), width), np.float32), 0
    for part in _drawn(features, rows, rng, chunk):
        sample[filled : filled + len(part)] = part
        filled += len(part)
    return sample


def sample_to_file(features: Features, rows: int, rng: np.random.Generator, path: Path, chunk: int = 512) -> None:
    """Like :func:`sample_rows`, the same cells, into a .npy file of the features' own type: memory is one chunk."""
    cells, width = _size(features)
    dtype = np.asarray(features[0:1]).dtype
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (min(rows, cells), width)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in _drawn(features, rows, rng, chunk):
            file.write(part.tobytes())


def _size(features: Features) -> tuple[int, int]:
    """How many cells there are in features [M, N, F], and F."""
    if len(features) == 0:
        raise ValueError("The feature set is empty: extract features first (chapter 02).")
    cells, width = np.asarray(features[0:1]).shape[1:]
    return len(features) * cells, width


def _enough(features: Features, codes: int) -> tuple[int, int]:
    check_number("codes", codes, 1)
    cells, width = _size(features)
    if cells < codes:
        raise ValueError(f"{cells} cells cannot make {codes} codes: use more pictures or fewer codes.")
    return cells, width


def _drawn(features: Features, rows: int, rng: np.random.Generator, chunk: int) -> Iterator[np.ndarray]:
    """The drawn cells [n, F] of each chunk of pictures, in their order."""
    pictures, (total, width) = len(features), _size(features)
    cells = total // pictures
    chosen = np.sort(rng.choice(total, size=min(rows, total), replace=False))
    for start in range(0, pictures, chunk):
        stop = min(start + chunk, pictures)
        low, high = np.searchsorted(chosen, [start * cells, stop * cells])
        if low == high:
            continue
        part = np.asarray(features[start:stop]).reshape(-1, width)[chosen[low:high] - start * cells]
        check_features(part)
        yield part


class VisualVocabulary:
    """K centroids [K, F]; ``encode`` looks up the nearest, ``decode`` gives it back.

    The centroids stay as they are: what the first ``encode`` made of them is kept.
    """

    def __init__(self, centroids: np.ndarray):
        self.centroids = np.ascontiguousarray(centroids, dtype=np.float32)
        if self.centroids.ndim != 2:
            raise ValueError(f"Centroids must be [K, F], got the shape {self.centroids.shape}.")
        check_features(self.centroids, "The centroids", "fit a vocabulary again")

    def __len__(self) -> int:
        return len(self.centroids)

    @classmethod
    def fit(cls, features: Features, codes: int, seed: int = 0, iterations: int = 20, plus_plus: bool = True,
            memory: float = 8e9, scratch: str | os.PathLike | None = None, device: str | None = None,
            progress: str | None = None, starts: int = 1) -> "VisualVocabulary":  # fmt: skip
        """k-means on a streamed subsample of features [M, N, F].

        Args:
            codes: K; must not exceed the number of cells.
            starts: run k-means so many times, from other seeds, and keep the centroids with the least inertia.
            plus_plus: start from k-means++ seeds (scikit-learn) instead of random rows: background cells
                are most of a picture, and random seeds leave rare object parts without a centroid.
            memory: bytes; a subsample of more than half of it stays on disk, for :meth:`fit_streamed`, which alone
                uses ``scratch``, ``device`` and ``progress`` and has neither ``plus_plus`` nor ``starts``.
        """
        check_number("seed", seed, 0, SEEDS)
        cells, width = _enough(features, codes)
        if min(codes * POINTS_PER_CENTROID, cells) * width * 4 > memory / 2:
            return cls.fit_streamed(features, codes, seed, iterations, memory, scratch, device, progress)
        rng = np.random.default_rng(seed)
        sample = sample_rows(features, codes * POINTS_PER_CENTROID, rng)
        runs = [in_memory(sample, codes, iterations, seed + 1 + i, rng if plus_plus else None) for i in range(starts)]
        return cls(min(runs, key=lambda run: run[0])[1])

    @classmethod
    def fit_streamed(
        cls, features: Features, codes: int, seed: int = 0, iterations: int = 20, memory: float = 8e9,
        scratch: str | os.PathLike | None = None, device: str | None = None, progress: str | None = None,
    ) -> "VisualVocabulary":  # fmt: skip
        """k-means on a subsample of features [M, N, F] that lies on disk and is read once an iteration.

        It starts from random rows, as faiss does: k-means++ would read its 24 rows per centroid K times over, at
        K = 10 000 and width 2048 ten thousand passes over 2 GB.

        Args:
            memory: bytes that the blocks and centroids may take, besides what Python and its libraries do.
            scratch: the folder for the subsample (256 K rows of the features' own type; removed at the end) and
                the centroids after each iteration (kept), from which the same call goes on after an interruption.
                Without it: a temporary folder.
            device: a torch device that looks for the nearest centroids; None is the processor.
            progress: the title of a progress bar.

        Raises ValueError when the disk is too small, or ``scratch`` holds another run or one that is going on.
        """
        check_number("seed", seed, 0, SEEDS)
        (cells, width), rng = _enough(features, codes), np.random.default_rng(seed)
        rows = min(codes * POINTS_PER_CENTROID, cells)
        chunk = int(np.clip(memory / 16 / np.asarray(features[0:1], np.float32).nbytes, 1, 512))
        block = int(np.clip(memory / 16 / (width * 4), 1, BLOCK))
        with tempfile.TemporaryDirectory() if scratch is None else contextlib.nullcontext(scratch) as folder:
            sample = Path(folder) / "sample.npy"
            with only_writer(sample):
                sample.unlink(missing_ok=True)  # a killed run's, which takes the space of this one
                _require_space(sample.parent, rows * width * np.asarray(features[0:1]).itemsize)
                try:
                    sample_to_file(features, rows, rng, sample, chunk)
                    start = take(sample, np.sort(rng.choice(rows, codes, replace=False)))
                    return cls(lloyd(sample, start, iterations, seed, block, device, sample.with_name("centroids.npz"),
                                     progress)[0])  # fmt: skip
                finally:
                    sample.unlink(missing_ok=True)

    @classmethod
    def fit_product(cls, features: Features, codes: Sequence[int], widths: Sequence[int], seed: int = 0,
                    iterations: int = 20) -> "VisualVocabulary":  # fmt: skip
        """Product quantisation (Jégou et al., 2011): k-means on each part of the features, then all combinations.

        With parts for shape and colour every shape gets every colour, also those that no picture has combined.
        Where nine centroids stand for nine colours, a start may lose one of them: few codes start often.

        Args:
            codes: entries of each part's vocabulary; K is their product. Code = first index x codes[1] + second.
            widths: how many of the F numbers belong to each part.
        """
        check_number("seed", seed, 0, SEEDS)
        rng = np.random.default_rng(seed)
        sample = sample_rows(features, max(codes) * POINTS_PER_CENTROID, rng)
        parts = np.split(sample, np.cumsum(widths)[:-1], axis=1)
        fitted = [
            cls.fit(part[:, None], size, seed + i, iterations, starts=max(1, 64 // size)).centroids
            for i, (part, size) in enumerate(zip(parts, codes, strict=True))
        ]
        choices = np.indices(codes).reshape(len(codes), -1)  # [parts, K]
        return cls(np.concatenate([c[i] for c, i in zip(fitted, choices, strict=True)], axis=1))

    def encode(self, features: np.ndarray) -> np.ndarray:
        """features [..., F] -> codes int64 [...]: the nearest centroid in L2, exactly.

        Raises ValueError for features of another width, and for NaN, infinite or endlessly large ones.
        """
        features = np.asarray(features, dtype=np.float32)
        self.check_width(features.shape[-1])
        check_features(features)
        return self._nearest(features)

    @cached_property
    def _nearest(self) -> Nearest:
        return Nearest(self.centroids)

    def check_width(self, width: int) -> None:
        """Refuse features of another width than the centroids', with a ValueError."""
        if width != self.centroids.shape[1]:
            raise ValueError(
                f"These features are {width} wide, the vocabulary {self.centroids.shape[1]}: "
                "use the encoder that the vocabulary was made with."
            )

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """codes int [...] -> centroids float32 [..., F]; ValueError for a code that is none of these."""
        codes = np.asarray(codes)
        check_codes(codes, len(self))
        return self.centroids[codes if codes.size else codes.astype(np.int64)]

    def save(self, path: str | os.PathLike) -> None:
        """Write the centroids as a .npy file (a temporary file first, then renamed)."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.save(file, self.centroids)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "VisualVocabulary":
        """What :meth:`save` wrote; FileNotFoundError or ValueError say what is wrong with ``path``."""
        try:
            return cls(np.load(path))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{path} is not there: fit a vocabulary and save it (chapter 03).") from error
        except NO_ARRAYS as error:
            raise ValueError(f"{path} is no visual vocabulary ({why(error)}): fit one and save it again.") from error


def _require_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise ValueError(
            f"The subsample takes {size / 1e9:.3g} GB, but {folder} has {free / 1e9:.3g} GB left: "
            "name a folder on a larger disk with scratch=."
        )
