"""A feature store on a full or broken disk: one sentence, what was stored stays, the batch can come again."""

import errno
import os

import pytest
from test_store import SHAPE, assert_holds, filled, vectors

from xlxmert_core.data import store as module
from xlxmert_core.data.store import FeatureStore, StoreError


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("name", ["features.bin", "index.jsonl"])
@pytest.mark.parametrize("part", [0, 5, 1000])
def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path, monkeypatch, code, name, part):
    """The write takes a part of the batch, or all of it (it is then flushing that fails), before the disk is full."""
    store = filled(tmp_path, [1, 2])
    sizes = {path: path.stat().st_size for path in tmp_path.iterdir()}
    write = module._write_durably

    def full(path, content, mode):
        if path.name != name:
            return write(path, content, mode)
        write(path, content[:part], mode)
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch, pytest.raises(StoreError) as caught:
        patch.setattr(module, "_write_durably", full)
        store.append([3, 4], vectors([3, 4]))
    assert str(caught.value) == (
        f"The disk is full: {tmp_path} could not take 2 more pictures, the 2 before are safe; "
        "free at least 48 bytes (24 bytes a picture) and run it again."
    )
    assert {path: path.stat().st_size for path in tmp_path.iterdir()} == sizes
    assert_holds(FeatureStore(tmp_path, SHAPE), [1, 2])
    assert_holds(store, [1, 2])
    store.append([3, 4], vectors([3, 4]))
    assert_holds(FeatureStore(tmp_path, SHAPE), [1, 2, 3, 4])


def test_what_cannot_be_cut_off_at_once_is_cut_off_later(tmp_path, monkeypatch):
    store = filled(tmp_path, [1, 2])
    write, broken = module._write_durably, OSError(errno.EIO, os.strerror(errno.EIO))

    def gone(*_):
        raise broken

    def fail(path, content, mode):
        write(path, content[:5], mode)
        patch.setattr(os, "truncate", gone)
        raise broken

    with (
        monkeypatch.context() as patch,
        pytest.raises(StoreError, match="Writing failed .*the 2 before are safe; see to"),
    ):
        patch.setattr(module, "_write_durably", fail)
        store.append([3], vectors([3]))
    assert (tmp_path / "features.bin").stat().st_size == 2 * 24 + 5
    store.append([3], vectors([3]))
    assert_holds(FeatureStore(tmp_path, SHAPE), [1, 2, 3])


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file/store cannot hold features .*: name another folder"):
        FeatureStore(tmp_path / "file" / "store", SHAPE)
