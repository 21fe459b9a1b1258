"""The codes of all pictures of a large data set, block by block, here or on a cluster, into a signed store."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from xlxmert_core.data.arrays import check_features
from xlxmert_core.data.files import DataError, read_json
from xlxmert_core.data.hdf5 import HDF5Features
from xlxmert_core.data.store import FeatureStore
from xlxmert_core.files import write_json
from xlxmert_core.kmeans import Nearest, fingerprint
from xlxmert_core.origins import OriginError
from xlxmert_core.scale import workers
from xlxmert_core.vocabulary import VisualVocabulary

AGAIN = 4  # pictures that stand for all when a store is gone on with
UNLIKE = 0.1  # of a picture's codes: more are not explained by rounding


def assign(vocabulary: VisualVocabulary, features: FeatureStore | HDF5Features, store: FeatureStore, block: int = 256,
           progress: str | None = None, device: str | None = None, ray_workers: int = 0,
           **resources) -> int:  # fmt: skip
    """Store the codes of all pictures that ``store`` misses, ``block`` pictures at a time; returns how many.

    Interrupt it anywhere and call it again: finished blocks are in the store and are not made twice.

    Args:
        features: a FeatureStore of shape (N, F), or what reads like one (``ids``, ``shape``, slices).
        store: a FeatureStore of shape (N,) and type int32; ``vocabulary.json`` in its folder says whose codes
            they are.
        progress: the title of a progress bar.
        device: a torch device that looks for the nearest centroids; None is the processor.
        ray_workers: instead of here, on as many workers of a Ray cluster, which read the features themselves and
            each have these ``resources`` (see :func:`.workers.parallel_map`).

    Raises ValueError for features of another width, NaN or infinite ones (naming the picture), a store of another
    shape, type or vocabulary or of other features (some are looked at again), and one that another process fills.
    """
    vocabulary.check_width(features.shape[-1])
    cells = tuple(features.shape[:-1])
    if (tuple(store.shape), store.dtype) != (cells, np.int32):
        raise ValueError(
            f"{store.folder} is for {store.dtype} {list(store.shape)} a picture, these codes are int32 {list(cells)}: "
            "open a store for them in another folder."
        )
    ids, before = list(features.ids), len(store)
    coder = _Coder(features, Nearest(vocabulary.centroids, device))
    with store.writing():
        bind_vocabulary(store, vocabulary)
        _look_again(coder, ids, store)
        with tqdm(desc=progress, disable=progress is None, initial=before, total=len(ids), unit="picture") as bar:
            for places, codes in workers.parallel_map(coder, _missing(ids, store, block), ray_workers, **resources):
                store.append([ids[place] for place in places], codes)
                bar.update(len(places))
    return len(store) - before


def _look_again(coder: "_Coder", ids: list, store: FeatureStore) -> None:
    """Refuse a store of other features' codes: those of some pictures in it are looked up again."""
    lacking = set(store.missing(ids))
    stored = [place for place, name in enumerate(ids) if name not in lacking]
    for place in stored[:: max(1, -(-len(stored) // AGAIN))]:
        if (coder([place])[1] != store.rows([ids[place]])).mean() > UNLIKE:
            raise OriginError(
                f"{store.folder} holds other codes of picture {ids[place]} than these features have: "
                "go on with the same features, or name another folder."
            )


def _missing(ids: list, store: FeatureStore, block: int) -> Iterator[list[int]]:
    """The places, in each block of the list, of the ids that the store misses."""
    for start in range(0, len(ids), block):
        lacking = set(store.missing(ids[start : start + block]))
        places = [i for i in range(start, min(start + block, len(ids))) if ids[i] in lacking]
        if places:
            yield places


@dataclass
class _Coder:
    """Places of pictures in one block -> (places, codes [b, N]); small to send to another process."""

    features: FeatureStore | HDF5Features
    nearest: Nearest

    def __call__(self, places: list[int]) -> tuple[list[int], np.ndarray]:
        first, last = places[0], places[-1]
        part = np.asarray(self.features[first : last + 1], dtype=np.float32)  # [b, N, F], mapped where it can be
        if len(places) <= last - first:
            part = part[[place - first for place in places]]
        distance, codes = self.nearest.search(np.ascontiguousarray(part).reshape(-1, part.shape[-1]))
        if codes.min() < 0 or not np.isfinite(distance).all():  # cheaper than to look at every number first
            for place, picture in zip(places, part, strict=True):
                check_features(picture, f"The features of picture {self.features.ids[place]}", "extract it again")
        return places, codes.reshape(part.shape[:2])


def bind_vocabulary(store: FeatureStore, vocabulary: VisualVocabulary) -> None:
    """Write into the folder of an empty store whose codes it will hold; refuse one that holds another's.

    Raises ValueError in one sentence, also when nobody has signed the codes.
    """
    path = store.folder / "vocabulary.json"
    asked = {"codes": len(vocabulary), "centroids": fingerprint(vocabulary.centroids)}
    if not len(store):
        write_json(path, asked)
    elif (found := {"codes": "unknown"} | _claimed(path)) != asked:
        raise ValueError(
            f"{store.folder} holds codes of another vocabulary (K = {found['codes']}) than the one asked for "
            f"(K = {len(vocabulary)}): remove the folder, or name another one."
        )


def _claimed(path: Path) -> dict:
    try:
        found = read_json(path)
    except DataError:  # not there, or damaged: then nobody knows
        return {}
    return found if isinstance(found, dict) else {}
