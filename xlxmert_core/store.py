"""FeatureStore: features on disk that survive being killed at any moment.

Two files: ``features.bin``, the vectors one after another, and ``index.jsonl``, whose first line says their
shape and type and whose every further line lists the picture ids of one batch. A batch's vectors are flushed
to disk before its line is written, so a listed id always has its vectors; whatever comes after the last
complete line is cut off when the store is opened again.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np


class StoreError(ValueError):
    """A store that cannot be used as asked; the message says what, where and what to do."""


class FeatureStore:
    """Picture id -> array of a fixed shape, in the order in which they were appended.

    Args:
        shape: of one picture's features, e.g. (64, 64) for N cells of width F.

    Raises :class:`StoreError` when the folder holds features of another shape or type.
    """

    def __init__(self, folder: str | os.PathLike, shape: Sequence[int], dtype: str = "float32"):
        self.folder, self.shape, self.dtype = Path(folder), tuple(int(n) for n in shape), np.dtype(dtype)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._data, self._index = self.folder / "features.bin", self.folder / "index.jsonl"
        self._bytes = int(np.prod(self.shape)) * self.dtype.itemsize
        self.ids: list[int] = []
        self._row: dict[int, int] = {}
        self._recover()

    def _recover(self) -> None:
        header = {"shape": list(self.shape), "dtype": self.dtype.name}
        content = self._index.read_bytes() if self._index.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]  # a line without its end was never committed
        if not whole:
            _write_durably(self._data, b"", "wb")
            _write_durably(self._index, json.dumps(header).encode() + b"\n", "wb")
            return
        try:
            first, *batches = (json.loads(line) for line in whole.splitlines())
            found = self._data.stat().st_size
        except (json.JSONDecodeError, FileNotFoundError) as error:
            raise StoreError(f"{self.folder} is no feature store ({error}): remove it and extract again.") from error
        if first != header:
            raise StoreError(
                f"{self.folder} holds features of shape {first['shape']} ({first['dtype']}), not "
                f"{header['shape']} ({header['dtype']}): name another folder, or remove this one."
            )
        if len(whole) < len(content):
            os.truncate(self._index, len(whole))
        self._list([image_id for batch in batches for image_id in batch])
        wanted = len(self.ids) * self._bytes
        if found < wanted:
            raise StoreError(
                f"{self._data} is {found} bytes long but lists {wanted}: it was cut off by something else; "
                "remove the folder and extract again."
            )
        os.truncate(self._data, wanted)

    def _list(self, ids: Sequence[int]) -> None:
        for image_id in ids:
            self._row[image_id] = len(self.ids)
            self.ids.append(image_id)

    def __len__(self) -> int:
        return len(self.ids)

    def append(self, ids: Sequence[int], features: np.ndarray) -> None:
        """Add a batch, features [b, *shape]; on return it is on disk.

        Raises :class:`StoreError` for a wrong shape, an id that is there already, or NaN.
        """
        ids, features = [int(i) for i in ids], np.ascontiguousarray(features, dtype=self.dtype)
        if features.shape != (len(ids), *self.shape):
            raise StoreError(f"append() got features {list(features.shape)} for {len(ids)} ids of {list(self.shape)}.")
        twice = [i for i in ids if i in self._row] or [i for i in set(ids) if ids.count(i) > 1]
        if twice:
            raise StoreError(f"Picture {twice[0]} is in {self.folder} already: append each picture once.")
        if not np.isfinite(features).all():
            bad = ids[int(np.argwhere(~np.isfinite(features))[0][0])]
            raise StoreError(f"The features of picture {bad} are not finite: check the picture and the encoder.")
        os.truncate(self._data, len(self.ids) * self._bytes)  # what an interrupted append left behind
        _write_durably(self._data, features.tobytes(), "ab")
        _write_durably(self._index, json.dumps(ids).encode() + b"\n", "ab")
        self._list(ids)

    def missing(self, ids: Sequence[int]) -> list[int]:
        """Those of ``ids`` that are not stored yet, in their order."""
        return [i for i in ids if int(i) not in self._row]

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Rows by position, read from disk as needed: ``store[0:10]`` -> [10, *shape]."""
        return self._mapped()[rows]

    def rows(self, ids: Sequence[int]) -> np.ndarray:
        """The features of these pictures, in this order: [len(ids), *shape]; KeyError for an unknown id."""
        return self._mapped()[[self._row[int(i)] for i in ids]]

    def _mapped(self) -> np.ndarray:
        if not self.ids:
            return np.empty((0, *self.shape), self.dtype)
        return np.memmap(self._data, self.dtype, "r", shape=(len(self.ids), *self.shape))


def _write_durably(path: Path, content: bytes, mode: str) -> None:
    with open(path, mode) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
