"""Features of hundreds of thousands of pictures into a store: resumable, prefetched, here or on a cluster.

Pictures are resized, never padded: those that get the same shape share a batch. The batches follow from the list
of pictures alone (by shape, then by key) and are appended whole, in order. So the same pictures make the same
store, whatever the number of workers and wherever it was killed and begun again. (To the last bit on the same
kind of machine with the same number of threads in torch.)
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from inspect import isclass
from itertools import groupby, islice

import numpy as np
from PIL import Image
from torch import Tensor
from torch.nn import Module
from tqdm.auto import tqdm

from xlxmert_core import origins
from xlxmert_core.data.coco import Report
from xlxmert_core.data.images import ImageError, open_image, picture_size
from xlxmert_core.data.pictures import picture_key
from xlxmert_core.data.store import FeatureStore
from xlxmert_core.features import extract as extract_grid
from xlxmert_core.scale.detector import resized
from xlxmert_core.scale.workers import parallel_map, prefetch

Key = str | int
Size = Callable[[int, int], tuple[int, int]]
Plan = list[tuple[tuple[int, int], list[Key]]]
NEAR, MOST = 0.01, 0.9  # of the numbers' range, of all numbers: how like features of one picture are
ROUNDING = 1e-5  # of the largest number


def extract(
    eye: Callable,
    pictures: Mapping[Key, str | os.PathLike],
    store: FeatureStore,
    *,
    batch: int = 8,
    workers: int = 2,
    size: Size | None = None,
    progress: str | None = "features",
    ray_workers: int = 0,
    **resources,
) -> Report:
    """Put the features of all pictures that the store misses into it (paper's setting; method, section 2).

    Args:
        eye: a :class:`~xlxmert_core.scale.detector.Detector`, or any function from resized pictures of one shape, uint8
            [B, H, W, 3], to features [B, *store.shape]; also a class of such objects, made once by each worker.
        pictures: key of each picture in the store -> its file.
        batch: pictures that are worked on at once; leave it unchanged when going on with a store.
        workers: threads that open and resize the next batches meanwhile.
        size: (width, height) -> the same after resizing; ``eye.size`` if there is one, else the paper's.
        progress: name of the progress bar, which tells pictures a second and the time left; None for no bar.
        ray_workers: instead, so many workers of a Ray cluster with the same files (:func:`.workers.parallel_map`);
            ``resources`` are those of one, such as num_gpus=1. The store is written here.

    Returns what was skipped: pictures that are not stored and cannot be read, each with a sentence. Raises
    :class:`~xlxmert_core.data.store.StoreError` naming the picture whose features are not finite; what was stored
    stays. Raises ValueError for two keys that are one id (42 and "000000000042"), for a store that another process
    fills, and for one that holds other features: one of the pictures in it is looked at again.
    """
    look = _Look(eye, workers=0 if ray_workers else workers)
    return _run(look, pictures, [store], batch, size, progress, ray_workers, resources)


def extract_boxes(
    eye: Callable,
    pictures: Mapping[Key, str | os.PathLike],
    features: FeatureStore,
    boxes: FeatureStore,
    sizes: FeatureStore,
    *,
    batch: int = 8,
    workers: int = 2,
    size: Size | None = None,
    progress: str | None = "features",
    ray_workers: int = 0,
    **resources,
) -> Report:
    """The same with bottom-up attention's boxes in place of the grid: ``eye.strongest``, as in :func:`extract`.

    Args:
        features: of shape [count, F], e.g. (36, 1024); its ids are complete, for it is written last.
        boxes: of shape [count, 4], as (x0, y0, x1, y1) between 0 and 1.
        sizes: of shape [2]: each picture's width and height in pixels.
    """
    look = _Look(eye, count=features.shape[0], workers=0 if ray_workers else workers)
    return _run(look, pictures, [sizes, boxes, features], batch, size, progress, ray_workers, resources)


def extract_to_store(encoder: Module, pictures: Iterable[tuple[int, np.ndarray]], store: FeatureStore,
                     batch: int = 64) -> int:  # fmt: skip
    """Append the features of all (image id, uint8 [S, S, 3]) that the store misses; returns how many.

    Interrupt it anywhere and call it again: finished batches are in the store and are not made twice. Raises
    ValueError when the store holds another encoder's features, or another process fills it.
    """
    done, ids, images = 0, [], []
    with store.writing():
        origins.sign(store, eye=encoder)
        for image_id, image in pictures:
            if not store.missing([image_id]):
                continue
            ids.append(image_id)
            images.append(image)
            if len(ids) == batch:
                store.append(ids, extract_grid(encoder, np.stack(images), batch))
                done, ids, images = done + batch, [], []
        if ids:
            store.append(ids, extract_grid(encoder, np.stack(images), batch))
    return done + len(ids)


def batches(sizes: Mapping[Key, tuple[int, int]], size: Size, batch: int) -> Plan:
    """Which pictures are worked on together: ((width, height) after resizing, keys) in the store's order.

    Args:
        sizes: (width, height) of each picture.
        size: (width, height) -> the same after resizing.
    """
    shapes = {key: size(*found) for key, found in sizes.items()}
    ordered = sorted(shapes, key=lambda key: (shapes[key], isinstance(key, str), key))
    plan: Plan = []
    for shape, group in groupby(ordered, lambda key: shapes[key]):
        keys = list(group)
        plan += [(shape, keys[i : i + batch]) for i in range(0, len(keys), batch)]
    return plan


def _run(look, pictures, stores, batch, size, progress, ray_workers, resources) -> Report:
    """The loop over all batches; the last store tells which pictures are complete."""
    _refuse_twins(pictures)
    with ExitStack() as alone:
        for store in stores:
            alone.enter_context(store.writing())
        return _fill(look, pictures, stores, batch, size, progress, ray_workers, resources)


def _fill(look, pictures, stores, batch, size, progress, ray_workers, resources) -> Report:
    report = Report()
    sizes = _sizes(pictures, look.workers, stores[-1], report)
    plan = batches(sizes, size or getattr(look.eye, "size", resized), batch)
    left = [(shape, stores[-1].missing(keys)) for shape, keys in plan]
    items = [(shape, {key: pictures[key] for key in keys}) for shape, keys in left if keys]
    todo = sum(len(paths) for _, paths in items)
    known = _known(pictures, plan, stores[-1]) if items else []
    items = known + items
    results = parallel_map(look, items, ray_workers, **resources) if ray_workers else look.over(items)
    for keys, arrays, _ in islice(results, len(known)):
        _compare(stores[-1], keys, arrays)
    bar = {"desc": progress, "disable": progress is None, "unit": "picture"}
    with tqdm(total=len(sizes), initial=len(sizes) - todo, **bar) as shown:
        for keys, arrays, skipped in results:
            for key, why in skipped:
                report.skip(f"picture {key}", why)
            for store, values in zip(stores if keys else (), arrays, strict=True):
                _append(store, keys, values)
            shown.update(len(keys) + len(skipped))
    return report


def _refuse_twins(pictures: Mapping) -> None:
    seen: dict[str, Key] = {}
    for key in pictures:
        if (first := seen.setdefault(picture_key(key), key)) is not key:
            raise ValueError(f"The keys {first!r} and {key!r} name one picture in the store: leave one of them out.")


def _sizes(pictures: Mapping, workers: int, store: FeatureStore, report: Report) -> dict[Key, tuple[int, int]]:
    """Sizes of the pictures that there are; of the others, those that are not stored go into the report."""

    def found(key: Key) -> tuple[int, int] | str:
        """A picture's size, or why it does not open."""
        try:
            return picture_size(pictures[key])
        except ImageError as error:
            return str(error)

    with ThreadPoolExecutor(workers or None) as pool:
        sizes = dict(zip(pictures, pool.map(found, pictures), strict=True))
    lost = {key: why for key, why in sizes.items() if isinstance(why, str)}
    for key in store.missing(list(lost)):
        report.skip(f"picture {key}", lost[key])
    return {key: size for key, size in sizes.items() if not isinstance(size, str)}


def _known(pictures: Mapping, plan: Plan, store: FeatureStore) -> list[tuple]:
    """One picture that is stored and still there, to be looked at again."""
    absent = set(store.missing(list(pictures)))
    stored = ((shape, key) for shape, keys in plan for key in keys if key not in absent)
    return [(shape, {key: pictures[key]}) for shape, key in islice(stored, 1)]


def _compare(store: FeatureStore, keys: Sequence[Key], arrays: Sequence) -> None:
    """Refuse a store whose picture looks otherwise now; some numbers may differ, as another processor has them."""
    if not keys:
        return  # it does not open any more
    before, now = np.asarray(store.rows(keys), np.float64), np.asarray(arrays[-1], np.float64)
    if before.shape != now.shape:
        return  # append() says what is wrong
    if before.size and (np.abs(before - now) <= NEAR * np.ptp(before) + ROUNDING * np.abs(before).max()).mean() < MOST:
        raise origins.OriginError(
            f"{store.folder} holds other features of picture {keys[0]} than this eye sees now: "
            "go on with the same eye and pictures, or name another folder."
        )


def _append(store: FeatureStore, keys: Sequence[Key], values: np.ndarray) -> None:
    """Add what the store misses: one that is written before the last may be a batch ahead."""
    missing = set(store.missing(keys))
    rows = [row for row, key in enumerate(keys) if key in missing]
    if rows:
        store.append([keys[row] for row in rows], values[rows])


@dataclass
class _Look:
    """What is done with one batch, ((width, height), {key: path}), on whatever machine."""

    eye: Callable
    count: int = 0  # boxes; 0 stands for the grid
    workers: int = 0

    @cached_property
    def seen(self) -> Callable:
        """Resized pictures -> arrays, in the order of the stores."""
        eye = self.eye() if isclass(self.eye) else self.eye
        return (lambda pixels: eye.strongest(pixels, self.count)) if self.count else lambda pixels: (eye(pixels),)

    def over(self, items: Sequence) -> Iterator[tuple]:
        """All batches here; threads open the next pictures meanwhile."""
        return map(self.look, prefetch(self.load, items, self.workers))

    def __call__(self, item: tuple) -> tuple:
        """One batch -> (keys, their arrays, what was skipped and why)."""
        return self.look(self.load(item))

    def load(self, item: tuple) -> tuple:
        """One batch -> (pixels uint8 [H, W, 3] and size by key, what was skipped and why)."""
        shape, paths = item
        loaded, skipped = {}, []
        for key, path in paths.items():
            try:
                image = open_image(path)
                loaded[key] = np.asarray(image.resize(shape, Image.Resampling.BILINEAR)), image.size
            except ImageError as error:
                skipped.append((key, str(error)))
        return loaded, skipped

    def look(self, loaded: tuple) -> tuple:
        """What :meth:`load` gives -> (keys, their arrays, what was skipped and why)."""
        pictures, skipped = loaded
        if not pictures:
            return [], [], skipped
        pixels, sizes = (np.stack(parts) for parts in zip(*pictures.values(), strict=True))
        arrays = [a.cpu().numpy() if isinstance(a, Tensor) else np.asarray(a) for a in self.seen(pixels)]
        return list(pictures), [sizes, *arrays] if self.count else arrays, skipped
