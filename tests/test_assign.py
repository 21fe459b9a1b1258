"""A whole file of features is assigned to a vocabulary once, in little memory, and never to two of them."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest

from xlxmert_core.data.store import FeatureStore
from xlxmert_core.scale.assign import assign
from xlxmert_core.vocabulary import VisualVocabulary


class Part:
    """The reading half of a feature store, in memory; it notes how many pictures are read at a time."""

    def __init__(self, ids, array):
        self.ids, self.array, self.shape, self.largest = ids, array, array.shape[1:], 0

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, rows):
        block = self.array[rows]
        self.largest = max(self.largest, len(block))
        return block


@pytest.fixture
def stored(tmp_path):
    """100 pictures of half precision in a store, a vocabulary of 50, and a function that opens a store for codes."""
    rng = np.random.default_rng(0)
    features = FeatureStore(tmp_path / "features", (32, 32), "float16")
    features.append([7 * i for i in range(100)], rng.normal(size=(100, 32, 32)))
    return (
        features,
        VisualVocabulary(rng.normal(size=(50, 32))),
        lambda: FeatureStore(tmp_path / "codes", (32,), "int32"),
    )


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
@pytest.mark.parametrize("device", [None, "cpu"])
def test_assigned_codes_are_the_encoded_ones(stored, block, device):
    features, vocabulary, codes = stored
    assert assign(vocabulary, features, codes(), block, device=device) == 100
    assert codes().ids == features.ids and np.array_equal(codes()[:], vocabulary.encode(features[:]))
    assert assign(vocabulary, features, codes(), block) == 0


def test_only_missing_pictures_are_assigned_and_a_block_is_all_that_is_read(stored, capsys):
    features, vocabulary, codes = stored
    whole = vocabulary.encode(features[:])
    assert assign(vocabulary, features, codes()) == 100
    partly = FeatureStore(codes().folder.with_name("partly"), (32,), "int32")
    (partly.folder / "vocabulary.json").write_text((codes().folder / "vocabulary.json").read_text())
    partly.append([70, 77, 14], whole[[10, 11, 2]])
    counted = Part(features.ids, features[:])
    assert assign(vocabulary, counted, partly, block=9, progress="codes") == 97 and counted.largest == 9
    assert np.array_equal(partly.rows(features.ids), whole)
    assert "codes: 100%" in capsys.readouterr().err


# Assigns in blocks of eight pictures and is killed in the middle of the sixth; the folder is its argument.
KILLED = """
import os, signal, sys
from pathlib import Path
from xlxmert_core.data.store import FeatureStore
from xlxmert_core.scale import assign
from xlxmert_core.vocabulary import VisualVocabulary

class Killed(assign.Nearest):
    blocks = 0
    def search(self, rows):
        Killed.blocks += 1
        if Killed.blocks == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().search(rows)

folder, assign.Nearest = Path(sys.argv[1]), Killed
features = FeatureStore(folder / "features", (32, 32), "float16")
codes = FeatureStore(folder / "codes", (32,), "int32")
assign.assign(VisualVocabulary.load(folder / "vocabulary.npy"), features, codes, block=8)
"""


def test_a_killed_assignment_goes_on(stored, tmp_path):
    features, vocabulary, codes = stored
    vocabulary.save(tmp_path / "vocabulary.npy")
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert len(codes()) == 40 and assign(vocabulary, features, codes(), block=8) == 60
    assert np.array_equal(codes()[:], vocabulary.encode(features[:]))


def test_codes_of_two_vocabularies_are_never_mixed(stored):
    features, vocabulary, codes = stored
    assign(VisualVocabulary(vocabulary.centroids[:9]), features, FeatureStore(codes().folder, (32,), "int32"))
    for other in (vocabulary, VisualVocabulary(vocabulary.centroids[1:10])):
        with pytest.raises(ValueError, match=rf"\(K = 9\) than the one asked for \(K = {len(other)}\): remove"):
            assign(other, features, codes())
    (codes().folder / "vocabulary.json").unlink()
    for damaged in (None, "", "[1]"):
        if damaged is not None:
            (codes().folder / "vocabulary.json").write_text(damaged)
        with pytest.raises(ValueError, match=r"K = unknown"):
            assign(vocabulary, features, codes())


def test_codes_of_other_features_are_never_mixed(stored):
    features, vocabulary, codes = stored
    few = Part(features.ids[:60], features[:60])
    assert assign(vocabulary, few, codes()) == 60
    with pytest.raises(ValueError, match="codes holds other codes of picture 0 than these features have: go on with"):
        assign(vocabulary, Part(features.ids, features[:][::-1]), codes())
    assert assign(vocabulary, features, codes()) == 40


def test_an_empty_store_takes_any_vocabulary(stored):
    features, vocabulary, codes = stored
    (codes().folder / "vocabulary.json").write_text('{"codes": 3}')  # killed before its first block
    assert assign(vocabulary, features, codes()) == 100
    assert json.loads((codes().folder / "vocabulary.json").read_text())["codes"] == 50


def test_what_cannot_be_assigned_is_refused(stored, tmp_path):
    features, vocabulary, codes = stored
    with pytest.raises(ValueError, match="32 wide, the vocabulary 31"):
        assign(VisualVocabulary(vocabulary.centroids[:, 1:]), features, codes())
    for shape, dtype in (((16,), "int32"), ((32,), "int8")):
        other = FeatureStore(tmp_path / f"{dtype}_{shape[0]}", shape, dtype)
        with pytest.raises(ValueError, match=rf"is for {dtype} \[{shape[0]}\] a picture, .* int32 \[32\]: open"):
            assign(vocabulary, features, other)
    broken = Part(features.ids, features[:].copy())  # a store refuses such features, but not every file does
    broken.array[61, 5, 4] = np.inf
    with pytest.raises(ValueError, match=f"picture {7 * 61} are NaN or infinite: extract it again"):
        assign(vocabulary, broken, codes(), block=10)
    assert len(codes()) == 60  # what was done is kept
