"""Pretraining from files: alone, as two processes with the very same result, killed, and with parts missing."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from xlxmert_core import checkpoints
from xlxmert_core.data.files import DataError
from xlxmert_core.data.store import FeatureStore
from xlxmert_core.scale.assign import bind_vocabulary
from xlxmert_core.scale.pretrain import Plan, pretrain, read_data
from xlxmert_core.text import Tokenizer
from xlxmert_core.vocabulary import VisualVocabulary

PICTURES = 12
WORDS = "a red blue house tree left of in the snow what colour is".split()
ENV = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "ACCELERATE_USE_CPU": "true"}


def sentence(rng, count):
    return " ".join(rng.choice(WORDS, count))


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> Plan:
    folder, rng = tmp_path_factory.mktemp("pretrain"), np.random.default_rng(0)
    vocabulary = VisualVocabulary(rng.normal(size=(20, 8)))
    vocabulary.save(folder / "centroids.npy")
    store = FeatureStore(folder / "codes", (64,), "int32")
    bind_vocabulary(store, vocabulary)
    names = [f"COCO_train2014_{i:012d}" for i in range(PICTURES)]
    store.append(names, rng.integers(0, 20, (PICTURES, 64)))
    entries = [
        {
            "img_id": name,
            "sentf": {"mscoco": [sentence(rng, n) for n in (3, 9)], "vqa": [sentence(rng, 5)]},
            "labelf": {"vqa": [{"red": 1.0} if i % 2 else {"blue": 0.6, "no": 0.3}]},
        }
        for i, name in enumerate(names)
    ]
    (folder / "text.json").write_text(json.dumps(entries))
    Tokenizer.from_corpus([" ".join(WORDS)]).save(folder / "tokenizer.json")
    return Plan(
        codes=str(folder / "codes"), vocabulary=str(folder / "centroids.npy"), sentences=(str(folder / "text.json"),),
        words=str(folder / "tokenizer.json"), out=str(folder / "alone"), size="storybook", epochs=2.0, batch=8, lr=1e-3,
        seed=3,
    )  # fmt: skip


@pytest.fixture(scope="module")
def alone(plan) -> list[dict]:
    return pretrain(plan)


def command(plan: Plan, *launcher: str) -> list[str]:
    options = []
    for name, value in asdict(plan).items():
        options += [f"--{name}", *(value if isinstance(value, tuple) else [str(value)])]
    return [sys.executable, "-m", *launcher, "xlxmert_core.scale.pretrain", *options]


def launched(plan: Plan) -> list[dict]:
    """Train in two processes; the history they wrote. On CPUs ``accelerate launch`` starts one, torchrun two."""
    launcher = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m")
    done = subprocess.run(command(plan, *launcher), env=os.environ | ENV, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads((Path(plan.out) / "pretraining.json").read_text())
    assert record["processes"] == 2
    return record["history"]


def test_all_tasks_and_questions_are_trained(alone, plan):
    assert len(alone) == round(2 * 3 * PICTURES / 8)
    assert {"visual", "words", "matched", "answers"} <= set().union(*alone)
    state = checkpoints.read(Path(plan.out) / "transformer.safetensors")
    assert state["centroids"].shape == (20, 8) and state["answer_head.3.bias"].shape == (2,)


@pytest.mark.slow
def test_two_processes_get_the_losses_and_weights_of_one(alone, plan, tmp_path):
    both = launched(replace(plan, out=str(tmp_path / "two")))
    assert len(both) == len(alone)
    for ours, theirs in zip(alone, both, strict=True):
        assert ours.keys() == theirs.keys()
        assert ours == pytest.approx(theirs, abs=2e-4)
    one, two = (checkpoints.read(folder / "transformer.safetensors") for folder in (Path(plan.out), tmp_path / "two"))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-4


def test_what_is_not_there_is_named_and_the_rest_is_used(plan, tmp_path):
    strangers = [{"img_id": "2412112", "sentf": {"vg": ["a dog", "a cat"]}, "labelf": {}}]
    (tmp_path / "vg.json").write_text(json.dumps(strangers))
    more = replace(plan, sentences=(*plan.sentences, str(tmp_path / "vg.json"), str(tmp_path / "gone.json")))
    with pytest.warns(UserWarning) as said:
        data, _, answers = read_data(more)
    lines = [str(warning.message) for warning in said]
    assert any(line.startswith("Not there, and passed over: ") and "gone.json" in line for line in lines)
    assert any("2 of 38 sentences (mscoco 24, vqa 12, vg 2) are about pictures without codes" in line for line in lines)
    assert len(data.words) == 36 and answers == ["blue", "red"]
    with pytest.raises(DataError, match="None of .*gone.json is there: fetch LXMERT's aggregated files first"):
        read_data(replace(plan, sentences=(str(tmp_path / "gone.json"),)))


def test_codes_of_another_vocabulary_are_refused(plan, tmp_path):
    for codes in (15, 20):
        VisualVocabulary(np.zeros((codes, 8))).save(tmp_path / "other.npy")
        with pytest.raises(ValueError, match=f"another vocabulary .K = 20. than the one asked for .K = {codes}."):
            read_data(replace(plan, vocabulary=str(tmp_path / "other.npy")))
    with pytest.raises(DataError, match="nowhere holds no codes"):
        read_data(replace(plan, codes=str(tmp_path / "nowhere")))
    assert not (tmp_path / "nowhere").exists()


def test_the_progress_of_another_plan_is_refused(alone, plan):
    assert pretrain(plan) == alone  # finished: nothing is trained again
    with pytest.raises(
        ValueError, match="something else .lr 0.001 there, 0.5 here, .*seed 3 there, 4 here.: name another"
    ):
        pretrain(replace(plan, lr=0.5, seed=4))
    with pytest.raises(DataError, match="There is no size 'Paper': choose paper or storybook"):
        pretrain(replace(plan, size="Paper"))


def test_without_captions_painting_is_not_learned_and_that_is_said(plan, tmp_path):
    entries = json.loads(Path(plan.sentences[0]).read_text())
    for entry in entries:
        del entry["sentf"]["mscoco"]
    (tmp_path / "questions.json").write_text(json.dumps(entries))
    only = replace(plan, sentences=(str(tmp_path / "questions.json"),), out=str(tmp_path / "out"), epochs=2)
    with pytest.warns(UserWarning, match="No sentence is a COCO caption"):
        history = pretrain(only)
    assert history and not any("visual" in row for row in history)


def test_the_command_says_what_is_wrong_in_one_sentence(plan, tmp_path):
    wrong = replace(plan, sentences=(str(tmp_path / "gone.json"),), out=str(tmp_path / "out"))
    done = subprocess.run(command(wrong), capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.strip().endswith("fetch LXMERT's aggregated files first.")
    assert not (tmp_path / "out").exists()
