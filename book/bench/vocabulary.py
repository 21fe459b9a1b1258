"""The visual vocabulary: k-means and the assignment of codes, against faiss itself and scikit-learn."""

import tempfile

import faiss
import numpy as np

from book.bench.measure import Family, Growth, Limit, Race, added_megabytes, child, interleaved
from xlxmert_core.kmeans import BLOCK, Nearest, blocks, lloyd
from xlxmert_core.vocabulary import VisualVocabulary

TEXT = """k-means makes the codes (20 iterations from random rows for each), and a flat search over the centroids
assigns them. Rows are random, gathered in clusters. *fit* holds its rows in memory and is faiss inside; *lloyd* reads
them from a file, block by block, and is what the paper's size needs. Inertia is relative to raw faiss's: lower is
better. The assignment reads a file of rows block by block, so that its memory does not grow with the rows."""
WIDTH = 1280


def rows(count: int, width: int, seed: int = 0) -> np.ndarray:
    """float32 [count, width], around 1000 centres."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((1000, width), dtype=np.float32)
    return centres[rng.integers(1000, size=count)] + 0.7 * rng.standard_normal((count, width), dtype=np.float32)


def raw(data: np.ndarray, codes: int, iterations: int) -> np.ndarray:
    """faiss.Kmeans alone, on the rows that it would draw itself."""
    kmeans = faiss.Kmeans(data.shape[1], codes, niter=iterations, seed=1)
    kmeans.train(data)
    return np.asarray(kmeans.centroids)


def mini(data: np.ndarray, codes: int) -> np.ndarray:
    """scikit-learn's MiniBatchKMeans."""
    from sklearn.cluster import MiniBatchKMeans

    return MiniBatchKMeans(codes, batch_size=4096, n_init=1, random_state=0).fit(data).cluster_centers_


def inertia(data: np.ndarray, centroids: np.ndarray) -> float:
    """Sum of squared distances to the nearest centroid."""
    return float(Nearest(centroids).search(data)[0].sum(dtype=np.float64))


def fits(data: np.ndarray, codes: int, iterations: int) -> list:
    """Raw faiss, ours in memory and from blocks, and MiniBatch: time, and how good the centroids are."""
    pictures, centroids = data[:, None], {}
    start = data[np.random.default_rng(0).choice(len(data), codes, replace=False)]
    makers = {
        "faiss": lambda: raw(data, codes, iterations),
        "fit": lambda: VisualVocabulary.fit(pictures, codes, iterations=iterations, plus_plus=False).centroids,
        "fit, k-means++": lambda: VisualVocabulary.fit(pictures, codes, iterations=iterations).centroids,
        "lloyd, streamed": lambda: lloyd(data, start, iterations)[0],
        "scikit-learn MiniBatch": lambda: mini(data, codes),
    }

    def keep(name):
        return lambda: centroids.update({name: makers[name]()})

    times = interleaved({name: keep(name) for name in makers}, 1 if len(data) > 50_000 else 3, warm=0)
    error = {name: inertia(data, found) for name, found in centroids.items()}
    said = "inertia: " + ", ".join(f"{name} {e / error['faiss'] - 1:+.2%}" for name, e in error.items())
    return [Race(f"k-means, K = {codes}, {len(data)} rows", times, {"fit": 0.95}, said)]


def streamed(codes: int, count: int, width: int) -> tuple[float, float]:
    """Seconds and MB added of assigning ``count`` rows of a file, block by block; in a child."""
    nearest = Nearest(rows(codes, width, 1))
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        np.lib.format.open_memmap(file.name, "w+", np.float32, (count, width))[:] = rows(count, width)
        memory = added_megabytes(lambda: assign(nearest, file.name))
        return interleaved({"": lambda: assign(nearest, file.name)}, 3, warm=0)[""].median, memory


def assign(nearest: Nearest, path: str) -> np.ndarray:
    """Codes of all rows of a file."""
    return np.concatenate([nearest(part) for part in blocks(path, BLOCK)])


def searches(codes: int, count: int, width: int) -> Race:
    """faiss's flat index with all rows in memory, against blocks of a file."""
    data, nearest = rows(count, width), Nearest(rows(codes, width, 1))
    index = faiss.IndexFlatL2(width)
    index.add(nearest.centroids)
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        np.save(file, data)
        file.flush()
        ours = {"ours, streamed": lambda: assign(nearest, file.name)}
        same = (assign(nearest, file.name) == index.search(data, 1)[1][:, 0]).mean()
        times = interleaved({"faiss flat": lambda: index.search(data, 1)} | ours, 5)
    return Race(f"assignment, K = {codes}, {count} rows", times, {"ours, streamed": 0.95}, f"equal: {same:.2%}")


def run(quick: bool) -> Family:
    """K-means, assignment, and how both grow."""
    count, width, codes = (4000, 16, 16) if quick else (200_000, WIDTH, 1024)
    found = fits(rows(count, width), codes, 20)
    found.append(searches(codes, count // 10, width))
    sizes = (16,) if quick else (256, 1024, 4096, 16384, 65536)
    got = {size: child("book.bench.vocabulary:streamed", size, 2000 if quick else 8192, width) for size in sizes}
    found.append(Growth("assignment", "K", *({size: pair[i] for size, pair in got.items()} for i in (0, 1))))
    for times in (1, 4):
        memory = child("book.bench.vocabulary:streamed", codes, times * (2000 if quick else 20_000), width)[1]
        found.append(Limit(f"memory added, {times * (2000 if quick else 20_000)} rows assigned", memory, "MB"))
    return Family("The visual vocabulary", TEXT, found)
