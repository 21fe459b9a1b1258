"""The original's feature files: HDF5 with ``/{image_id}/features``, read as a store is, and written from one.

The grid variant holds ``features`` [8, 8, F]; the box variant ``features`` [36, F], ``boxes`` [36, 4] in pixels
(x0, y0, x1, y1), ``img_w`` and ``img_h``. An HDF5 file does not survive ``kill -9`` in the middle of a write, and the
HDF5 library itself can crash on a full disk. Extraction therefore always fills the crash-safe FeatureStore, and
:func:`write_hdf5` exports that in one go, for programs that expect the original's files.
"""

import errno
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
from tqdm.auto import tqdm

from xlxmert_core.data.arrays import finite
from xlxmert_core.data.files import DataError
from xlxmert_core.data.pictures import picture_key
from xlxmert_core.data.store import FeatureStore, StoreError, look_up, size_text
from xlxmert_core.files import replacing, why

LOCKED = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
OVERHEAD = 4096  # bytes that HDF5 needs for a picture beside its features, at most
BLOCK = 64  # pictures read from the store at once


class HDF5Features:
    """A feature file of the original's, read as a FeatureStore is: ``ids``, ``shape``, ``rows`` and slices.

    ids: the names in the file, strings in the order of the alphabet; pictures are also found by number, 42 as
    "000000000042". shape: of one picture's features, (N, F), a grid row by row, as the first entry has it. Opening
    lists the names only; what an entry holds is checked when it is read.

    Raises :class:`StoreError` for a file that is missing, cut off, damaged, empty, or in another layout.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        if not self.path.is_file():
            raise StoreError(f"There is no feature file {self.path}: check the path, or extract the features first.")
        try:
            self._file = h5py.File(self.path, "r")
            self.ids: list[str] = list(self._file)
            self._name = {picture_key(name): name for name in self.ids}
        except (OSError, RuntimeError, DataError) as error:  # a damaged name comes as bytes
            if isinstance(error, OSError) and error.errno in LOCKED or "unable to lock" in str(error):
                raise StoreError(f"{self.path} is locked: another process writes to it, wait for it to end.") from error
            message = f"{self.path} is no whole HDF5 file ({_line(error)}): download or export it again."
            raise StoreError(message) from error
        if not self.ids:
            raise StoreError(f"{self.path} holds no pictures: it is not in the layout /image_id/features.")
        if len(self._name) < len(self.ids):
            twice = next(name for name in self.ids if self._name[picture_key(name)] != name)
            raise StoreError(f"{self.path} holds picture {twice} in two spellings: it must be there once.")
        first = self._dataset(self.ids[0], "features")
        self._layout, self.dtype = first.shape, first.dtype
        if len(self._layout) not in (2, 3):
            raise StoreError(f"{self.path}: features {list(self._layout)} are neither [8, 8, F] nor [N, F].")
        self.shape = (math.prod(self._layout[:-1]), self._layout[-1])

    def __reduce__(self):
        return HDF5Features, (self.path,)  # another process opens the file for itself

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Rows by position, copied into memory: ``store[0:10]`` -> [10, N, F]."""
        return self.rows(self.ids[rows])

    def rows(self, ids: Sequence[int | str]) -> np.ndarray:
        """The features of these pictures, in this order: [len(ids), N, F].

        Raises :class:`StoreError` naming the picture that is unknown (also a KeyError), damaged, of another shape or
        not finite.
        """
        names = look_up(self._name, ids, self.path)
        try:
            found = np.empty((len(names), *self.shape), self.dtype)
        except (MemoryError, ValueError, TypeError) as error:  # what a damaged file says of its sizes and types
            raise self._unreadable(self.ids[0], "features", error) from error
        for name, row in zip(names, found, strict=True):
            row[:] = self._read(name, "features", self._layout).reshape(self.shape)
        return found

    def boxes(self, ids: Sequence[int | str]) -> np.ndarray:
        """Where the features of these pictures were taken: float32 [len(ids), N, 4], x0, y0, x1, y1 in 0..1.

        Only the box variant has them. Raises :class:`StoreError` as ``rows`` does, and for boxes outside the picture.
        """
        if len(self._layout) == 3:
            raise StoreError(f"{self.path} holds a grid for each picture, which has no boxes.")
        names = look_up(self._name, ids, self.path)
        found = np.empty((len(names), self.shape[0], 4), np.float32)
        for name, row in zip(names, found, strict=True):
            width, height = (self._read(name, side, ()) for side in ("img_w", "img_h"))
            pixels = self._read(name, "boxes", (self.shape[0], 4))  # [N, 4]
            sides = np.array([width, height, width, height], np.float64)
            if min(width, height) <= 0 or pixels.min() < -1 or (pixels > sides + 1).any():  # rounding is no harm
                raise StoreError(f"{self.path}: picture {name} of {width} x {height} pixels has boxes outside of it.")
            row[:] = np.clip(pixels / sides, 0, 1)
        return found

    def _dataset(self, name: str, part: str) -> h5py.Dataset:
        try:
            found = self._file[f"{name}/{part}"]
        except (KeyError, OSError, RuntimeError) as error:
            raise self._unreadable(name, part, error) from error
        if not isinstance(found, h5py.Dataset):
            raise StoreError(f"{self.path}: {name}/{part} is no array: the file is not in the original's layout.")
        return found

    def _read(self, name: str, part: str, shape: tuple[int, ...]) -> np.ndarray:
        """An array of this shape, every number finite."""
        data = self._dataset(name, part)
        if data.shape != shape:
            raise StoreError(f"{self.path}: {name}/{part} has the shape {list(data.shape)}, not {list(shape)}.")
        try:
            found = data[()]
            whole = finite(found)
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            raise self._unreadable(name, part, error) from error
        if not whole:
            raise StoreError(f"{self.path}: {name}/{part} is not finite: extract picture {name} again.")
        return found

    def _unreadable(self, name: str, part: str, error: Exception) -> StoreError:
        what = f"{name}/{part} cannot be read ({_line(error)})"
        return StoreError(f"{self.path}: {what}: download or export the file again.")


def _line(error: Exception) -> str:
    """What HDF5 says, on one line and without the quotes of a KeyError."""
    return why(error).strip("'\" ")


def write_hdf5(
    store: FeatureStore | HDF5Features,
    path: str | os.PathLike,
    grid: int = 8,
    boxes: Mapping[int | str, np.ndarray] | None = None,
    sizes: Mapping[int | str, tuple[int, int]] | None = None,
    progress: str | None = None,
) -> None:
    """Export a store [N, F] in the original's layout; ``path`` appears, or is replaced, when all of it is written.

    Without boxes each picture's ``features`` are [grid, grid, F]. With ``boxes`` {id: [N, 4] pixels} and ``sizes`` {id:
    (width, height)} it is the box variant. progress: title of the progress bar, or None for silence. Memory does not
    grow with the store. Raises :class:`StoreError`, also for a full disk; the store and a file that was there stay.
    """
    path = Path(path)
    _check_export(store, grid, boxes, sizes)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_space(store, path)
        with replacing(path, failures=()) as temporary, open(temporary, "w+b", buffering=0) as file:
            _write_in_thread(_Sink(file), store, grid, boxes, sizes, progress)
    except OSError as error:
        raise StoreError(
            f"{path} could not be written ({error.strerror or error}): the features are safe in the store; "
            f"make sure that its disk has room for {size_text(_size(store))}, then export them again."
        ) from error


def _size(store) -> int:
    return len(store) * (int(np.prod(store.shape)) * store.dtype.itemsize + OVERHEAD)


def _check_export(store, grid: int, boxes: Mapping | None, sizes: Mapping | None) -> None:
    cells = store.shape[0]
    if len(store.shape) != 2 or (boxes is None and cells != grid**2):
        raise StoreError(
            f"Features {list(store.shape)} are no {grid} x {grid} cells: name another grid, or give boxes."
        )
    if (boxes is None) != (sizes is None):
        raise StoreError("The box variant needs both boxes and sizes: give both, or neither for a grid.")
    for image_id in store.ids:
        if str(image_id) in ("", ".") or "/" in str(image_id):
            raise StoreError(f"Picture {image_id!r} cannot be exported: an HDF5 name is not empty and has no slash.")
        if boxes is None or sizes is None:
            continue
        if image_id not in boxes or image_id not in sizes:
            raise StoreError(f"Picture {image_id} has no boxes or no size: the box variant needs both.")
        if np.shape(boxes[image_id]) != (cells, 4):
            raise StoreError(f"Picture {image_id} has boxes {list(np.shape(boxes[image_id]))}, not {[cells, 4]}.")


def _check_space(store, path: Path) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < _size(store):
        raise StoreError(
            f"{path} takes {size_text(_size(store))}, but its disk has {size_text(free)} left: name another disk."
        )


def _write_in_thread(sink: "_Sink", *arguments) -> None:
    """In a thread, for Ctrl-C would otherwise break into the sink's methods, and HDF5 crashes when they fail."""
    with ThreadPoolExecutor(1) as pool:
        try:
            pool.submit(_write_all, sink, *arguments).result()
        except BaseException as error:
            sink.error = sink.error or error  # tells the thread to stop, which the pool waits for
            raise


def _write_all(sink: "_Sink", store, grid: int, boxes, sizes, progress: str | None) -> None:
    """Every picture of the store; raises what went wrong in the sink once HDF5 has let go of it."""
    shape = (grid, grid, store.shape[1]) if boxes is None else store.shape
    with h5py.File(sink, "w") as file:
        for image_id, features in tqdm(_pictures(store), progress, len(store), disable=progress is None):
            group = file.create_group(str(image_id))
            group["features"] = features.reshape(shape)
            if boxes is not None:
                group["boxes"] = np.asarray(boxes[image_id], np.float32)
                group["img_w"], group["img_h"] = sizes[image_id]
            if sink.error:
                break
    if sink.error:
        raise sink.error


def _pictures(store) -> Iterator[tuple[int | str, np.ndarray]]:
    for start in range(0, len(store), BLOCK):
        yield from zip(store.ids[start : start + BLOCK], store[start : start + BLOCK], strict=True)


class _Sink:
    """A file for HDF5 to write to that never fails: HDF5 crashes the whole process where a write fails.

    The first error is kept in ``error``; from then on writes go to memory, little, since the writer stops there.
    """

    def __init__(self, file):
        self.file, self.at = file, 0
        self.error: BaseException | None = None
        self.kept: list[tuple[int, bytes]] = []  # (place, what should be there)

    def write(self, content) -> int:
        """Write at the place; what cannot be written is kept in memory."""
        content = bytes(content)
        try:
            left = content if self.error is None else b""
            self.file.seek(self.at)
            while left:
                left = left[self.file.write(left) :]  # a disk that is nearly full takes a part
        except OSError as error:
            self.error = error
        if self.error is not None:
            self.kept.append((self.at, content))
        self.at += len(content)
        return len(content)

    def readinto(self, target) -> int:
        """Fill ``target`` from the place on, with what memory keeps over what the disk has."""
        self.file.seek(self.at)
        count = self.file.readinto(target)
        for place, content in self.kept:
            first, last = max(place, self.at), min(place + len(content), self.at + len(target))
            if first < last:
                target[first - self.at : last - self.at] = content[first - place : last - place]
        self.at += len(target)
        return len(target) if self.kept else count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the place; the end counts what memory keeps."""
        end = max([os.fstat(self.file.fileno()).st_size, *(p + len(c) for p, c in self.kept)])
        self.at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.at, os.SEEK_END: end}[whence]
        return self.at

    def tell(self) -> int:
        """The place."""
        return self.at

    def truncate(self, size: int) -> int:
        """Cut the file, unless a write has failed."""
        if self.error is None:
            try:
                self.file.truncate(size)
            except OSError as error:
                self.error = error
        return size

    def flush(self) -> None:
        """Nothing waits: the file has no buffer."""

    def read(self, count: int = -1) -> bytes:
        """HDF5 asks for ``readinto``; h5py knows a file by its having ``read``."""
        raise NotImplementedError
