"""k-means: faiss's in memory, and for more rows than memory holds Lloyd's iterations over blocks of a file.

faiss.Kmeans holds all its rows. At the paper's scale (section 3.1: K = 10 000, width 2048) faiss's 256 rows per
centroid are 2.56 M rows, 21 GB. Here every iteration reads the rows block by block, so that memory holds one
block, the centroids and their sums; what comes out is the same up to rounding.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from xlxmert_core import origins
from xlxmert_core.config import check_number
from xlxmert_core.data.arrays import check_features
from xlxmert_core.files import NO_ARRAYS, only_writer, why
from xlxmert_core.onednn import fast_linear

BLOCK = 8192  # rows read at a time: 67 MB at width 2048
AT_ONCE = 2**23  # distances worked out at a time: 34 MB
ROWS = 64  # rows that stand for all in a checkpoint
NUDGE = 1 / 1024  # how far the halves of a split cluster are moved apart, relative; faiss's own number


class Nearest:
    """features [..., F] -> codes int64 [...]: the nearest of the centroids [K, F] in L2, exactly.

    One matrix product on a torch ``device`` (the processor when None; on Intel's several times as fast as faiss's flat
    search). Pickled it is its centroids alone, so that other processes, with devices of their own, can map it over
    blocks.
    """

    def __init__(self, centroids: np.ndarray, device: str | torch.device | None = None):
        self.centroids = np.ascontiguousarray(centroids, dtype=np.float32)
        self.device = torch.device(device or "cpu")

    @cached_property
    def _moved(self) -> tuple[torch.Tensor, torch.Tensor]:
        moved = torch.tensor(self.centroids, device=self.device)
        lengths = moved.square().sum(1)
        return moved.mul_(-2), lengths

    def __reduce__(self):
        return Nearest, (self.centroids, self.device)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """float32 [..., F] -> the number of the nearest centroid int64 [...]."""
        flat = np.ascontiguousarray(features, dtype=np.float32).reshape(-1, self.centroids.shape[1])
        return self.search(flat)[1].reshape(np.shape(features)[:-1])

    def search(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float32 [n, F] -> squared distance to the nearest centroid float32 [n], its number int64 [n]."""
        distances, codes = np.empty(len(rows), np.float32), np.empty(len(rows), np.int64)
        few = max(1, AT_ONCE // len(self.centroids))
        for start in range(0, len(rows), few):
            part = slice(start, start + few)
            moved = torch.from_numpy(np.require(rows[part], requirements="W")).to(self.device)  # never a read-only map
            least, best = fast_linear(moved, *self._moved).min(1)  # of [n, K] numbers: |c|^2 - 2 x c
            distances[part] = (least + moved.square().sum(1)).clamp(min=0).cpu()
            codes[part] = best.cpu()
        return distances, codes


def in_memory(rows: np.ndarray, codes: int, iterations: int, seed: int,
              plus_plus: np.random.Generator | None = None) -> tuple[float, np.ndarray]:  # fmt: skip
    """faiss's k-means on all rows [n, F]: the inertia that its last iteration found, and the centroids [K, F].

    Args:
        plus_plus: draws k-means++ seeds (scikit-learn) to start from; None starts from random rows.
    """
    import faiss

    check_features(rows)  # faiss aborts the process
    start = None if plus_plus is None else _plus_plus(rows, codes, plus_plus)
    kmeans = faiss.Kmeans(
        rows.shape[1],
        codes,
        niter=iterations,
        seed=int(seed),
        max_points_per_centroid=len(rows),
        min_points_per_centroid=1,
    )
    kmeans.train(rows, init_centroids=start)
    return float(np.asarray(kmeans.obj)[-1]), np.asarray(kmeans.centroids).reshape(codes, -1).copy()


def _plus_plus(sample: np.ndarray, codes: int, rng: np.random.Generator) -> np.ndarray:
    from sklearn.cluster import kmeans_plusplus

    few = sample[rng.permutation(len(sample))[: 24 * codes]]
    seed = int(rng.integers(2**31))
    return kmeans_plusplus(few, codes, random_state=seed)[0].astype(np.float32)


def lloyd(
    rows: np.ndarray | str | os.PathLike, start: np.ndarray, iterations: int, seed: int = 0, block: int = BLOCK,
    device: str | torch.device | None = None, checkpoint: str | os.PathLike | None = None, progress: str | None = None,
) -> tuple[np.ndarray, list[float]]:  # fmt: skip
    """Move each of the centroids ``start`` [K, F] to the mean of the rows nearest to it, ``iterations`` times.

    Args:
        rows: [n, F] of any float type, n >= K: an array, or a .npy file, of which ``block`` rows are read at a time.
        seed: decides which clusters are halved when others have come out empty.
        device: where nearest centroids are looked for; see :class:`Nearest`.
        checkpoint: a .npz file, replaced after every iteration; when it is there, the iterations in it are not
            made again, and the result is that of a run without a break.
        progress: the title of a progress bar.

    Returns the centroids float32 [K, F] and, for each iteration, the inertia that it found: the sum of the squared
    distances to the nearest centroid before they moved.
    Raises ValueError for a checkpoint of another run (other rows, of which some are looked at, another start or seed,
    or more iterations), and for one that another process writes.
    """
    check_number("seed", seed, 0)
    centroids, inertia, total = np.array(start, dtype=np.float32), [], len(opened(rows))
    with nullcontext() if checkpoint is None else only_writer(checkpoint):
        made_from = {} if checkpoint is None else _origin(rows, centroids, seed)
        if checkpoint is not None and Path(checkpoint).exists():
            centroids, inertia = _resume(Path(checkpoint), made_from, iterations)
        bar = tqdm(desc=progress, disable=progress is None, initial=len(inertia) * total, total=iterations * total,
                   unit="row", unit_scale=True)  # fmt: skip
        with bar:
            for i in range(len(inertia), iterations):
                sums, counts, error = _totals(rows, Nearest(centroids, device), block, bar)
                centroids = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
                split_empty(centroids, counts, np.random.default_rng([seed, i]))
                inertia.append(error)
                bar.set_postfix(inertia=f"{error:.4g}")
                if checkpoint is not None:
                    origins.write_arrays(checkpoint, made_from, centroids=centroids, inertia=inertia)
    return centroids, inertia


def _origin(rows: np.ndarray | str | os.PathLike, start: np.ndarray, seed: int) -> dict:
    """What a k-means is made from: how many rows there are, and some numbers of some of them."""
    count = len(opened(rows))
    some = take(rows, np.unique(np.linspace(0, count - 1, min(count, ROWS)).astype(int)))
    return origins.origin(rows=[count, *(origins.mark(row) for row in some)], start=fingerprint(start), seed=seed)


def _totals(rows, nearest: Nearest, block: int, bar: tqdm) -> tuple[np.ndarray, np.ndarray, float]:
    """The sum [K, F] and the number [K] of the rows nearest to each centroid, and the inertia.

    Blocks are added in double precision: in single, millions of alike rows (an empty background) miss their mean.
    """
    shape = nearest.centroids.shape
    sums, counts, error = np.zeros(shape), np.zeros(shape[0], np.int64), 0.0
    for part in blocks(rows, block):
        check_features(part)
        distance, codes = nearest.search(part)
        sums += torch.zeros(shape).index_add_(0, torch.from_numpy(codes), torch.from_numpy(part)).numpy()
        counts += np.bincount(codes, minlength=len(counts))
        error += float(distance.sum(dtype=np.float64))
        bar.update(len(part))
    return sums, counts, error


def split_empty(centroids: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> None:
    """Give each cluster without rows half of a populous one, in place, as faiss does.

    centroids [K, F], counts int [K]; a cluster is drawn with a probability in proportion to its rows less one.
    """
    for empty in np.flatnonzero(counts == 0):
        spare = np.maximum(counts - 1, 0)
        full = rng.choice(len(counts), p=spare / spare.sum())
        nudge = np.where(np.arange(centroids.shape[1]) % 2, -NUDGE, NUDGE).astype(centroids.dtype)  # [F]
        centroids[empty], centroids[full] = centroids[full] * (1 + nudge), centroids[full] * (1 - nudge)
        counts[empty] = counts[full] // 2
        counts[full] -= counts[empty]


def opened(rows: np.ndarray | str | os.PathLike) -> np.ndarray:
    """Rows [n, F] themselves, or a .npy file of them, mapped and not yet read; ValueError when it is none."""
    if not isinstance(rows, str | os.PathLike):
        return rows
    try:
        return np.load(rows, mmap_mode="r")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{rows} is not there: name a .npy file of rows [n, F].") from error
    except NO_ARRAYS as error:
        raise ValueError(f"{rows} is no .npy file of rows ({why(error)}): save it again.") from error


def blocks(rows: np.ndarray | str | os.PathLike, size: int) -> Iterator[np.ndarray]:
    """float32 copies [<= size, F] of rows [n, F], one after another.

    A file is mapped anew for each block: a mapping that lives on keeps all that was read of it in memory.
    """
    for start in range(0, len(opened(rows)), size):
        yield np.array(opened(rows)[start : start + size], dtype=np.float32)


def take(rows: np.ndarray | str | os.PathLike, chosen: np.ndarray, size: int = 256) -> np.ndarray:
    """The chosen rows float32 [len(chosen), F], read ``size`` at a time."""
    parts = [chosen[i : i + size] for i in range(0, len(chosen), size)]
    return np.concatenate([np.array(opened(rows)[part], dtype=np.float32) for part in parts])


def fingerprint(centroids: np.ndarray) -> str:
    """SHA-256 of the centroids' numbers; 16 hex digits."""
    return hashlib.sha256(np.ascontiguousarray(centroids).data).hexdigest()[:16]


def _resume(checkpoint: Path, made_from: dict, iterations: int) -> tuple[np.ndarray, list[float]]:
    arrays, found = origins.read_arrays(checkpoint, "k-means checkpoint")
    if not {"centroids", "inertia"} <= arrays.keys():
        raise ValueError(f"{checkpoint} is no k-means checkpoint (it lacks centroids or inertia): remove it.")
    centroids, inertia = arrays["centroids"], arrays["inertia"].tolist()
    origins.check(checkpoint, found, made_from)
    if len(inertia) > iterations:
        raise ValueError(
            f"{checkpoint} holds {len(inertia)} iterations, more than {iterations}: remove it, or name another file."
        )
    return centroids, inertia
