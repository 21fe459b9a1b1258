"""FeatureStore: features on disk that survive being killed at any moment, and a disk that is full.

Two files: ``features.bin``, the vectors one after another, and ``index.jsonl``, whose first line says their
shape and type and whose every further line lists the picture ids of one batch. A batch's vectors are flushed
to disk before its line is written, so a listed id always has its vectors; whatever comes after the last
complete line is passed over when the store is opened, and cut off by the next batch. Opening changes nothing, so
other processes may read while one appends.
"""

import errno
import json
import operator
import os
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from xlxmert_core.data.arrays import finite
from xlxmert_core.data.files import DataError
from xlxmert_core.data.pictures import picture_key
from xlxmert_core.files import only_writer, why

PATIENCE = 5.0  # seconds that an append waits for another process's
FULL = (errno.ENOSPC, errno.EDQUOT)  # no space on the disk, or in the user's share of it


class StoreError(ValueError):
    """A store that cannot be used as asked; the message says what, where and what to do."""


class UnknownPictureError(StoreError, KeyError):
    """A picture that is not in the store; as a KeyError it can be caught where a dict would raise one."""

    __str__ = Exception.__str__  # KeyError would put the sentence in quotes


class FeatureStore:
    """Picture id -> array of a fixed shape, in the order in which they were appended.

    Ids are whole numbers or strings; 42, "42" and "000000000042" are one picture (see ``picture_key``).

    Args:
        shape: of one picture's features, e.g. (64, 64) for N cells of width F.

    Raises :class:`StoreError` when the folder holds features of another shape or type. One process may append at a
    time (:meth:`writing`).
    """

    def __init__(self, folder: str | os.PathLike, shape: Sequence[int], dtype: str = "float32"):
        self.folder, self.shape, self.dtype = Path(folder), tuple(int(n) for n in shape), np.dtype(dtype)
        self._data, self._index = self.folder / "features.bin", self.folder / "index.jsonl"
        self._bytes = int(np.prod(self.shape)) * self.dtype.itemsize
        self.ids: list[int | str] = []
        self._row: dict[str, int] = {}
        self._listed = 0  # bytes of the index that are in ids
        self._mine = False  # whether other processes are kept from appending
        if not self._is_begun():
            self._begin_alone()
        self._catch_up()

    def _is_begun(self) -> bool:
        return self._index.exists() and b"\n" in self._index.read_bytes()

    def _begin_alone(self) -> None:
        try:
            with self.writing():
                if not self._is_begun():  # by another process meanwhile
                    self._begin()
        except OSError as error:
            raise StoreError(f"{self.folder} cannot hold features ({error.strerror}): name another folder.") from error

    @contextmanager
    def writing(self) -> Generator[None]:
        """Keep other processes from appending meanwhile; :meth:`append` does so for itself.

        Raises :class:`~xlxmert_core.files.BusyError` when another process has been at it for some seconds.
        """
        if self._mine:
            yield
            return
        with only_writer(self.folder, PATIENCE):
            self._mine = True
            try:
                if self._listed:
                    self._catch_up()
                yield
            finally:
                self._mine = False

    def _begin(self) -> None:
        if self._data.exists() and self._data.stat().st_size:
            raise StoreError(
                f"{self._data} holds features, but {self._index.name} with their ids is missing: "
                "put it back, or remove the folder and extract again."
            )
        header = json.dumps({"shape": list(self.shape), "dtype": self.dtype.name}).encode() + b"\n"
        self.folder.mkdir(parents=True, exist_ok=True)
        _write_durably(self._data, b"", "wb")
        _write_durably(self._index, header, "wb")

    def _catch_up(self) -> None:
        """Take in the lines that were added since; a line without its end was never committed."""
        start = self._listed
        try:
            with open(self._index, "rb") as file:
                file.seek(start)
                content = file.read()
            whole = content[: content.rfind(b"\n") + 1]
            lines = [json.loads(line) for line in whole.splitlines()]
            found = self._data.stat().st_size
            if not start:
                self._check(lines.pop(0))
            ids = [image_id for batch in lines for image_id in batch]
            self._list(ids, [picture_key(image_id) for image_id in ids], start + len(whole))
        except (json.JSONDecodeError, UnicodeDecodeError, DataError, TypeError, LookupError, OSError) as error:
            raise StoreError(
                f"{self.folder} is no feature store ({why(error)}): remove it and extract again."
            ) from error
        wanted = len(self.ids) * self._bytes
        if found < wanted:
            raise StoreError(
                f"{self._data} is {found} bytes long but lists {wanted}: it was cut off by something else; "
                "remove the folder and extract again."
            )

    def _check(self, header: dict) -> None:
        if (header["shape"], header["dtype"]) != (list(self.shape), self.dtype.name):
            raise StoreError(
                f"{self.folder} holds features of shape {header['shape']} ({header['dtype']}), not "
                f"{list(self.shape)} ({self.dtype.name}): name another folder, or remove this one."
            )

    def _list(self, ids: Sequence[int | str], keys: Sequence[str], listed: int) -> None:
        self._row.update(zip(keys, range(len(self.ids), len(self.ids) + len(ids)), strict=True))
        self.ids.extend(ids)
        if len(self._row) < len(self.ids):
            twice = Counter(map(picture_key, self.ids)).most_common(1)[0][0]
            raise StoreError(
                f"{self.folder} lists picture {twice} twice, as when two processes append: remove it and extract again."
            )
        self._listed = listed

    def __len__(self) -> int:
        return len(self.ids)

    def append(self, ids: Sequence[int | str], features: np.ndarray) -> None:
        """Add a batch, features [b, *shape]; on return it is on disk.

        Raises :class:`StoreError` for a wrong shape, an id that is there already, NaN, numbers that do not fit into the
        store's type, or a disk that is full; what was there before stays, and the batch can be appended again.
        """
        ids = [str(i) if isinstance(i, str) else _whole(i) for i in ids]
        features = self._converted(features)
        try:
            with self.writing():
                self._append(ids, features)
        except OSError as error:  # the lock's file
            raise self._unwritten(len(ids), error) from error

    def _append(self, ids: Sequence[int | str], features: np.ndarray) -> None:
        self._catch_up()
        keys = [picture_key(i) for i in ids]
        self._accept(ids, keys, features)
        line = json.dumps(ids).encode() + b"\n"
        try:
            self._cut_off()
            _write_durably(self._data, features.tobytes(), "ab")
            _write_durably(self._index, line, "ab")
        except OSError as error:
            with suppress(OSError):
                self._cut_off()
            raise self._unwritten(len(ids), error) from error
        self._list(ids, keys, self._listed + len(line))

    def _converted(self, features: np.ndarray) -> np.ndarray:
        """The features in the store's type; what a whole number cannot hold would else come out as another one."""
        given = np.asarray(features)
        with np.errstate(all="ignore"):  # what is not finite is named in _accept
            stored = np.ascontiguousarray(given, dtype=self.dtype)
            if self.dtype.kind in "iu" and given.dtype != self.dtype and (stored != given).any():
                raise StoreError(
                    f"append() got numbers that {self.dtype} in {self.folder} cannot hold: use a wider type."
                )
        return stored

    def _accept(self, ids: Sequence[int | str], keys: Sequence[str], features: np.ndarray) -> None:
        if features.shape != (len(ids), *self.shape):
            raise StoreError(f"append() got features {list(features.shape)} for {len(ids)} ids of {list(self.shape)}.")
        repeated = {key for key, count in Counter(keys).items() if count > 1}
        for image_id, key in zip(ids, keys, strict=True):
            if key in self._row or key in repeated:
                raise StoreError(f"Picture {image_id} is in {self.folder} already: append each picture once.")
        if not finite(features):
            bad = ids[int(np.argwhere(~np.isfinite(features))[0][0])]
            raise StoreError(f"The features of picture {bad} are not finite: check the picture and the encoder.")

    def _cut_off(self) -> None:
        """Remove what an interrupted append left behind."""
        os.truncate(self._index, self._listed)
        os.truncate(self._data, len(self.ids) * self._bytes)

    def _unwritten(self, count: int, error: OSError) -> StoreError:
        full = error.errno in FULL
        todo = f"free at least {size_text(count * self._bytes)} ({size_text(self._bytes)} a picture)"
        return StoreError(
            f"{'The disk is full' if full else f'Writing failed ({error.strerror})'}: {self.folder} could not take "
            f"{count} more pictures, the {len(self)} before are safe; "
            f"{todo if full else 'see to the disk'} and run it again."
        )

    def missing(self, ids: Sequence[int | str]) -> list[int | str]:
        """Those of ``ids`` that are not stored yet, in their order."""
        return [i for i in ids if picture_key(i) not in self._row]

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Rows by position, read from disk as needed: ``store[0:10]`` -> [10, *shape]."""
        return self._mapped()[rows]

    def rows(self, ids: Sequence[int | str]) -> np.ndarray:
        """The features of these pictures, in this order: [len(ids), *shape].

        Raises :class:`UnknownPictureError` for an id that is not stored.
        """
        return self._mapped()[look_up(self._row, ids, self.folder)]

    def _mapped(self) -> np.ndarray:
        if not self.ids:
            return np.empty((0, *self.shape), self.dtype)
        return np.memmap(self._data, self.dtype, "r", shape=(len(self.ids), *self.shape))


def look_up(found: Mapping[str, int | str], ids: Sequence[int | str], place: Path) -> list:
    """What ``found`` holds under these ids' keys; raises :class:`UnknownPictureError` naming the first it lacks."""
    try:
        return [found[picture_key(image_id)] for image_id in ids]
    except KeyError:
        lacking = next(i for i in ids if picture_key(i) not in found)
        raise UnknownPictureError(f"There is no picture {lacking} in {place}: extract its features first.") from None


def size_text(count: float) -> str:
    """A number of bytes as people say it: 33 554 432 are "33.6 MB"."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{round(count, 1):g} {unit}"
        count /= 1000
    return f"{round(count, 1):g} GB"


def _whole(image_id) -> int:
    picture_key(image_id)  # says so when it is none
    return operator.index(image_id)


def _write_durably(path: Path, content: bytes, mode: str) -> None:
    with open(path, mode) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
