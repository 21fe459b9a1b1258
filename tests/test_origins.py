"""Progress knows what it was made from, and has one writer: nothing is mixed, nothing is trained in vain."""

import json
import os
import subprocess
import sys
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_loop import StopError as Stop
from test_loop import batch_at, run, stop_at, toy
from test_skills import data, painter  # noqa: F401  questions about coloured pictures
from torch import nn

from xlxmert_core import fine_tune_vqa, origins
from xlxmert_core.data.store import FeatureStore
from xlxmert_core.files import BusyError, only_writer
from xlxmert_core.kmeans import lloyd
from xlxmert_core.origins import OriginError, agree, check, mark, origin
from xlxmert_core.scale.extraction import extract_to_store
from xlxmert_core.train.loop import Track
from xlxmert_core.train.optimisers import adamw, constant
from xlxmert_core.vocabulary import VisualVocabulary


@pytest.fixture
def begun(tmp_path):
    """A checkpoint of five steps of twelve."""
    path = tmp_path / "c.pt"
    with pytest.raises(Stop):
        run(*toy(), track=Track(path, seconds=0, on_step=stop_at(5)))
    return path


def other_data(step, generator):
    return batch_at(step, generator) | {"y": torch.ones(16, 1)}


def with_rate(lr):
    objective, _ = toy()
    return objective, adamw(objective, lr=lr)


@pytest.mark.parametrize(
    ("given", "changes", "said"),
    [
        (toy, {"seed": 1}, "seed 0 there, 1 here"),
        (toy, {"steps": 20}, "steps 12 there, 20 here"),
        (toy, {"clip": 2.0}, "clip 1.0 there, 2.0 here"),
        (toy, {"clip": None}, "other clip"),
        (toy, {"schedule": constant}, "other schedule"),
        (lambda: toy(dropout=0.5), {}, "other model"),
        (lambda: with_rate(0.5), {}, "other optimiser"),
    ],
)
def test_another_training_does_not_go_on_and_it_is_said_what_differs(begun, given, changes, said):
    before = begun.read_bytes()
    with pytest.raises(OriginError, match=f"c.pt holds the progress of something else .{said}.: name another place"):
        run(*given(), track=Track(begun), **changes)
    assert begun.read_bytes() == before


def test_other_data_of_the_same_shapes_does_not_go_on(begun):
    from xlxmert_core.train.loop import fit

    with pytest.raises(OriginError, match="something else .other data."):
        fit(*toy(), other_data, 12, track=Track(begun))
    with pytest.raises(OriginError, match="something else .other answers."):
        run(*toy(), track=Track(begun, origin={"answers": ["yes"]}))


def test_what_differs_by_rounding_goes_on(begun):
    from xlxmert_core.train.loop import fit

    def rounded(step, generator):
        batch = batch_at(step, generator)
        return batch | {"x": batch["x"] * (1 + 1e-6)}

    assert len(fit(*toy(), rounded, 12, track=Track(begun))) == 12


def test_looking_at_the_data_leaves_no_trace(tmp_path):
    assert run(*toy(), track=Track(tmp_path / "c.pt")) == run(*toy())


def test_rates_are_as_they_were_for_a_cell_that_is_run_again(tmp_path):
    objective, optimiser = toy()
    with pytest.raises(Stop):
        run(objective, optimiser, track=Track(tmp_path / "c.pt", seconds=0, on_step=stop_at(5)))
    assert run(objective, optimiser, track=Track(tmp_path / "c.pt")) == run(*toy())


def test_progress_of_unknown_origin_is_refused_or_adopted_on_request(begun, monkeypatch):
    state = torch.load(begun, weights_only=True)
    del state["origin"]
    torch.save(state, begun)
    with pytest.raises(OriginError, match="c.pt does not say what it was made from.* or set XLXMERT_ADOPT=1 to go on"):
        run(*toy(), track=Track(begun))
    monkeypatch.setenv("XLXMERT_ADOPT", "1")
    assert run(*toy(), track=Track(begun)) == run(*toy())
    assert torch.load(begun, weights_only=True)["origin"]["seed"] == 0  # from now on it says


def test_another_version_of_the_code_is_said_at_the_callers_line(begun, monkeypatch):
    monkeypatch.setattr(origins, "code", lambda: "newer")
    with pytest.warns(UserWarning, match="c.pt was begun by another version of the code .*now newer") as said:
        assert len(run(*toy(), track=Track(begun))) == 12
    assert said[0].filename.endswith("test_loop.py")  # whose run() calls fit()


@pytest.mark.parametrize("content", [b"", b"half", None, [1], {"step": 3}])
def test_a_file_that_is_no_checkpoint_is_one_sentence(tmp_path, content):
    path = tmp_path / "c.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ValueError, match="c.pt .*remove it to start anew"):
        run(*toy(), track=Track(path))


def test_the_answers_of_another_fine_tuning_do_not_go_on(painter, data, tmp_path):  # noqa: F811
    options = dict(steps=2, batch=4, minimum=1, progress=None, checkpoint=tmp_path / "c.pt")
    fine_tune_vqa(painter, *data, answers=["red", "blue"], **options)
    with pytest.raises(ValueError, match="c.pt holds the progress of something else .other answers, other data."):
        fine_tune_vqa(painter, *data, answers=["blue", "red"], **options)
    with torch.no_grad():
        painter.model.pooler.weight += 0.01
    with pytest.raises(ValueError, match="something else .other painter."):
        fine_tune_vqa(painter, *data, answers=["red", "blue"], **options)


def test_an_old_k_means_is_refused_or_adopted(tmp_path, monkeypatch):
    rows, path = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32), tmp_path / "c.npz"
    whole = lloyd(rows, rows[:5], 3)
    np.savez(path, **dict(zip(("centroids", "inertia"), lloyd(rows, rows[:5], 2), strict=True)), mark="old")
    with pytest.raises(OriginError, match="c.npz does not say what it was made from"):
        lloyd(rows, rows[:5], 3, checkpoint=path)
    monkeypatch.setenv("XLXMERT_ADOPT", "1")
    assert np.array_equal(lloyd(rows, rows[:5], 3, checkpoint=path)[0], whole[0])
    assert json.loads(str(np.load(path)["origin"]))["seed"] == 0


class Eye(nn.Module):
    """One feature a picture."""

    def __init__(self, scale: float):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, images):
        return images.mean((1, 2, 3))[:, None, None] * self.scale


def test_a_store_of_another_eye_is_not_filled_on(tmp_path):
    pictures = [(i, np.full((4, 4, 3), 30 * i, np.uint8)) for i in range(4)]
    store = FeatureStore(tmp_path / "store", (1, 1))
    extract_to_store(Eye(1.0), pictures[:2], store)
    with pytest.raises(OriginError, match="store holds the progress of something else .other eye."):
        extract_to_store(Eye(1.01), pictures, store)
    assert extract_to_store(Eye(1.0), pictures, store) == 2
    (store.folder / "origin.json").unlink()
    with pytest.raises(OriginError, match="does not say what it was made from"):
        extract_to_store(Eye(1.0), [(9, pictures[0][1])], store)


# --- Marks. ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [
    None, True, 3, 0.5, "text", "long " * 50, ["a", "b"], {"a": 1}, torch.arange(5), torch.zeros(0), np.float32(3),
    torch.randn(300), torch.randn(4, 5).bfloat16(), np.array([True, False]), np.array(["a"]), Eye(1.0), Track(),
])  # fmt: skip
def test_a_mark_is_plain_small_and_the_same_again(value):
    text = json.dumps(mark(value))
    assert len(text) < 3000 and agree(json.loads(text), mark(value))


@pytest.mark.parametrize(("one", "other"), [
    (["yes", "no"], ["no", "yes"]), ("a" * 50, "b" * 50), (1, 2), (torch.arange(5), torch.arange(1, 6)),
    (torch.zeros(3), torch.zeros(4)), (torch.ones(3), torch.zeros(3)), (torch.ones(3), torch.ones(3).long()),
    (1e-6 * torch.randn(9), 1e-6 * torch.randn(9)), (Eye(1.0), Eye(1.001)), ({"a": 1}, {"a": 2}),
])  # fmt: skip
def test_marks_of_different_things_differ(one, other):
    assert not agree(mark(one), mark(other))


def test_parts_that_only_one_side_has_differ_and_the_same_is_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check("here", origin(a=1, b="x"), origin(a=1, b="x"))
    with pytest.raises(OriginError, match="here holds the progress of something else .other b, other c."):
        check("here", origin(a=1, b="x"), origin(a=1, c="x"))


# --- One writer. -------------------------------------------------------------------------------------

HOLD = """
import sys, time
from xlxmert_core.files import only_writer
with only_writer(sys.argv[1]):
    print("mine", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def held(tmp_path):
    """A place that another process writes, and that process."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", HOLD, str(tmp_path / "place")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout.readline() == "mine\n"
        yield tmp_path / "place", process
        process.kill()


def test_a_second_writer_is_refused_until_the_first_has_ended_or_was_killed(held, monkeypatch):
    place, process = held
    rows = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    monkeypatch.setattr("xlxmert_core.data.store.PATIENCE", 0.1)
    for second in (
        lambda: run(*toy(), track=Track(place)),
        lambda: lloyd(rows, rows[:5], 1, checkpoint=place),
        lambda: FeatureStore(place, (1,)),
    ):
        with pytest.raises(BusyError, match="Another process is writing .*place: wait until it has ended, or name"):
            second()
    assert not place.exists()
    process.kill()
    process.wait()
    assert len(run(*toy(), track=Track(place))) == 12
    assert sorted(path.name for path in place.parent.iterdir()) == ["place"]  # no lock is left


def test_a_second_clustering_in_one_scratch_is_refused(tmp_path):
    features = np.random.default_rng(0).normal(size=(20, 4, 8)).astype(np.float32)
    with only_writer(tmp_path / "sample.npy"), pytest.raises(BusyError):
        VisualVocabulary.fit_streamed(features, 5, scratch=tmp_path)
    assert len(VisualVocabulary.fit_streamed(features, 5, scratch=tmp_path)) == 5


def test_two_stores_of_one_folder_take_turns(tmp_path, monkeypatch):
    one, other = (FeatureStore(tmp_path / "store", (1,)) for _ in range(2))
    one.append([1], np.ones((1, 1)))
    other.append([2], np.ones((1, 1)))
    monkeypatch.setattr("xlxmert_core.data.store.PATIENCE", 0.1)
    with one.writing():
        with pytest.raises(BusyError):
            other.append([3], np.ones((1, 1)))
        one.append([4], np.ones((1, 1)))
    other.append([5], np.ones((1, 1)))
    assert FeatureStore(one.folder, (1,)).ids == [1, 2, 4, 5]


def test_a_lock_waits_as_long_as_it_may(tmp_path):
    begun = time.monotonic()
    with only_writer(tmp_path / "x"), pytest.raises(BusyError), only_writer(tmp_path / "x", 0.2):
        pass
    assert time.monotonic() - begun >= 0.2
    track = replace(Track(), checkpoint=tmp_path / "x")
    assert len(run(*toy(), track=track)) == 12
