"""What chapters leave for each other: complete or absent, and named after what made it."""

import json

import numpy as np
import pytest

from xlxmert_core.chapters import artifacts as module
from xlxmert_core.chapters.artifacts import Artifacts, MissingArtifactError
from xlxmert_core.datasets.profiles import PROFILES, profile
from xlxmert_core.files import fingerprint, write_json


@pytest.fixture
def artifacts(tmp_path):
    return Artifacts(tmp_path / "root", "storybook", "ci")


@pytest.mark.parametrize(
    ("name", "chapter"),
    [
        ("encoder", "02_feature_extraction"),
        ("features", "02_feature_extraction"),
        ("vocabulary.npy", "03_visual_vocabulary"),
        ("codes.train.npy", "03_visual_vocabulary"),
        ("transformer.safetensors", "05_pretraining"),
        ("generator", "06_image_generator"),
        ("something", "an earlier chapter"),
    ],
)
def test_a_missing_artifact_names_the_chapter_that_makes_it(artifacts, name, chapter):
    with pytest.raises(MissingArtifactError) as caught:
        artifacts.require(name)
    for part in (f"notebooks/{chapter}.ipynb", str(artifacts.folder / name), "'storybook'", "'ci'"):
        assert part in str(caught.value)
    assert isinstance(caught.value, FileNotFoundError)


def test_an_artifact_counts_once_it_is_finished(artifacts):
    path = artifacts.path("encoder")
    assert path == artifacts.folder / "encoder" and path.parent.is_dir()
    path.write_text("half of it")
    with pytest.raises(MissingArtifactError):
        artifacts.require("encoder")
    artifacts.finish("encoder", "02_feature_extraction", {"data": "abc"}, {"loss": 0.5})
    assert artifacts.require("encoder") == path
    assert json.loads(artifacts.manifest("encoder").read_text()) == {
        "made_by": "02_feature_extraction",
        "inputs": {"data": "abc"},
        "metrics": {"loss": 0.5},
    }


def test_runs_of_other_data_and_profiles_do_not_meet(artifacts, tmp_path):
    artifacts.finish("encoder", "02_feature_extraction")
    for dataset, name in (("coco", "ci"), ("storybook", "train")):
        with pytest.raises(MissingArtifactError):
            Artifacts(tmp_path / "root", dataset, name).require("encoder")
    assert Artifacts(tmp_path / "root", "storybook", "ci").require("encoder")


def test_metrics_are_plain_numbers(artifacts):
    said = artifacts.record("05_pretraining", {"loss": np.float32(0.5), "steps": np.int64(3), "gap": 1.23456e-7})
    assert said == {"loss": 0.5, "steps": 3.0, "gap": 1.235e-7}
    stored = json.loads((artifacts.folder / "metrics" / "05_pretraining.json").read_text())
    assert stored == {"loss": 0.5, "steps": 3.0, "gap": 1.23456e-7}
    with pytest.raises(ValueError, match="could not convert"):
        artifacts.record("05_pretraining", {"loss": "low"})
    assert json.loads((artifacts.folder / "metrics" / "05_pretraining.json").read_text()) == stored


def test_json_is_whole_or_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "new" / "value.json"
    write_json(path, {"b": 1, "a": [1, 2]})
    text = path.read_text()
    assert json.loads(text) == {"a": [1, 2], "b": 1} and text.index('"a"') < text.index('"b"')
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert path.read_text() == text

    def power_cut(source, target):
        assert json.loads(source.read_text()) == {"a": 2} and source.parent == path.parent
        raise KeyboardInterrupt

    monkeypatch.setattr(module.os, "replace", power_cut)
    with pytest.raises(KeyboardInterrupt):
        write_json(path, {"a": 2})
    assert path.read_text() == text


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "set" / "inner").mkdir(parents=True)
    (tmp_path / "set" / "a.txt").write_text("one")
    (tmp_path / "set" / "inner" / "b.txt").write_text("two")
    return tmp_path / "set"


def test_a_fingerprint_changes_with_the_content(folder):
    before = fingerprint(folder)
    assert len(before) == 16 and int(before, 16) >= 0
    (folder / "inner" / "b.txt").write_text("twa")
    after = fingerprint(folder)
    assert before != after
    (folder / "inner" / "b.txt").write_text("two")
    assert fingerprint(folder) == before
    (folder / "c.txt").write_text("")
    assert fingerprint(folder) != before


def test_a_fingerprint_changes_with_the_names_inside_but_not_the_place(folder, tmp_path):
    before = fingerprint(folder)
    moved = folder.rename(tmp_path / "elsewhere")
    assert fingerprint(moved) == before
    (moved / "a.txt").rename(moved / "z.txt")
    assert fingerprint(moved) != before


def test_a_file_has_the_fingerprint_of_its_content(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 500_000)  # more than one block
    (tmp_path / "b").write_bytes(b"abc" * 500_000)
    (tmp_path / "c").write_bytes(b"abc" * 499_999 + b"abd")
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b") != fingerprint(tmp_path / "c")
    (tmp_path / "d").write_bytes(b"abc")
    assert fingerprint(tmp_path / "d") == "ba7816bf8f01cfea"  # SHA-256's published example


def test_an_unknown_profile_names_the_known_ones():
    with pytest.raises(KeyError, match="no profile 'quick'; known: ci, smoke, train"):
        profile("quick")


@pytest.mark.parametrize("name", PROFILES)
def test_the_parts_of_codes_and_features_are_all_of_them(name):
    run = profile(name)
    assert np.prod(run.code_parts) == run.codes == run.model.codes
    assert sum(run.part_widths) == run.model.feature_dim and len(run.part_widths) == len(run.code_parts)


@pytest.mark.parametrize(("profile", "kept"), [("ci", False), ("train", True)])
def test_a_finished_stage_starts_anew_unless_it_took_hours(tmp_path, profile, kept):
    files = Artifacts(tmp_path, "storybook", profile)
    progress = files.checkpoint("encoder", "encoder.safetensors")
    progress.write_bytes(b"half")
    assert files.checkpoint("encoder", "encoder.safetensors").exists()  # not finished: goes on
    files.finish("encoder.safetensors", "02_feature_extraction")
    assert files.checkpoint("encoder", "encoder.safetensors").exists() is kept


def test_what_is_kept_on_the_way_lasts_until_the_stage_is_finished(artifacts):
    kept = artifacts.resumable("painted_test_0.npz", "painted")
    kept.write_bytes(b"half")
    assert artifacts.resumable("painted_test_0.npz", "painted").exists()
    artifacts.finish("painted", "07_painting")
    assert not artifacts.resumable("painted_test_0.npz", "painted").exists()


def test_what_took_minutes_is_kept_as_long_as_it_was_made_from_the_same(artifacts):
    made = []

    def make():
        made.append(1)
        return {"score": 0.5, "images": np.arange(3)}

    for _ in range(2):
        found = artifacts.kept("painted_a_0", "painted", make, painter="one")
        assert float(found["score"]) == 0.5 and found["images"].tolist() == [0, 1, 2]
    assert len(made) == 1 and sorted(path.name for path in artifacts.folder.iterdir()) == ["painted_a_0.npz"]
    with pytest.raises(ValueError, match="painted_a_0.npz holds the progress of something else .other painter."):
        artifacts.kept("painted_a_0", "painted", make, painter="another")
    artifacts.finish("painted", "07_painting")  # finished: the next run begins anew
    artifacts.kept("painted_a_0", "painted", make, painter="another")
    assert len(made) == 2


def test_a_track_has_the_checkpoint_a_log_and_a_title(artifacts):
    track = artifacts.track("encoder", "encoder.safetensors")
    assert track.checkpoint == artifacts.checkpoint("encoder", "encoder.safetensors")
    assert track.log == artifacts.folder / "logs" / "encoder" and track.progress == "encoder"


def test_weights_are_this_runs_own_or_the_shipped_ones(artifacts):
    assert artifacts.weights("storybook") == "storybook"
    with pytest.raises(MissingArtifactError, match="run notebooks/07_painting.ipynb first"):
        artifacts.weights("pipeline")
    artifacts.finish("pipeline", "07_painting")
    assert artifacts.weights("pipeline") == artifacts.folder / "pipeline"


def test_a_table_is_the_recorded_one_or_what_this_run_has(artifacts):
    assert artifacts.table("ablations", (), {}) == {}
    write_json(artifacts.path("ablations.json"), {"the book": {"facts": 1.0}})
    assert artifacts.table("ablations", (), {}) == {"the book": {"facts": 1.0}}
    recorded = artifacts.table("ablations", ("ablations",), {})
    assert len(recorded) > 1 and recorded["the book"]["facts"] < 1
