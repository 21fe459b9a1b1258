"""A skill is saved and opened unchanged, and any small VQA set trains with one call that says what it left out."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from test_pipeline import TEXTS, painter  # noqa: F401 (a fixture)

from xlxmert_core import skills
from xlxmert_core.data import vqa
from xlxmert_core.data.files import DataError
from xlxmert_core.data.store import FeatureStore
from xlxmert_core.model import PairClassifier
from xlxmert_core.skills import Skill
from xlxmert_core.train import loop
from xlxmert_core.train.finetuning import adopt, fine_tune, fine_tune_vqa, with_pictures

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220), "green": (30, 200, 30)}


@pytest.fixture
def data(tmp_path):
    """Twelve one-coloured pictures in VQA v2's format, one question each; question 12 is about no file."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    asked, answered = [], []
    for i in range(13):
        colour = list(COLOURS)[i % 3]
        if i < 12:
            pixels = np.clip(rng.normal(COLOURS[colour], 8, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / f"COCO_train2014_{i:012d}.png")
        asked.append({"question_id": i, "image_id": i, "question": "What colour is it?"})
        answered.append({"question_id": i, "image_id": i, "question_type": "what", "answer_type": "other",
                         "multiple_choice_answer": colour, "answers": [{"answer": colour}] * 10})  # fmt: skip
    (tmp_path / "q.json").write_text(json.dumps({"questions": asked}))
    (tmp_path / "a.json").write_text(json.dumps({"annotations": answered}))
    return tmp_path / "q.json", tmp_path / "a.json", tmp_path / "images"


def colours_of(images) -> np.ndarray:
    """The mean colour of each cell, in place of what an untrained encoder sees."""
    pixels = np.stack([np.asarray(Image.open(path), np.float32) for path in images]) / 255
    cells = pixels.reshape(-1, 2, 16, 2, 16, 3).mean((2, 4)).reshape(-1, 4, 3)
    return np.pad(cells, ((0, 0), (0, 0), (0, 7)))


def test_one_call_trains_and_says_what_it_left_out(painter, data, monkeypatch):  # noqa: F811
    monkeypatch.setattr(painter, "features", colours_of)
    before = {name: value.clone() for name, value in painter.model.state_dict().items()}
    skill, history, report = fine_tune_vqa(
        painter, *data, steps=150, batch=12, lr=0.02, answers=["red", "blue"], seed=1, progress=None
    )
    lost = dict(report.skipped)
    assert lost["question 12"] == "its picture 12 is missing"
    assert lost["question 2"] == "none of its answers, such as 'green', is a class" and len(lost) == 5
    assert skill.answers == ["red", "blue"] and history[-1]["loss"] < history[0]["loss"] / 4
    files = sorted(data[2].iterdir())
    seen = torch.from_numpy(painter.features([str(files[i]) for i in (0, 1, 3, 4)]))
    assert skill.answer(["What colour is it?"] * 4, seen) == ["red", "blue", "red", "blue"]
    assert not painter.skills and painter.answers == ["yes", "no", "red"]  # the painter stays as it was
    assert all(torch.equal(value, before[name]) for name, value in painter.model.state_dict().items())
    assert painter.tokenizer.unknown("colour") and not skill.tokenizer.unknown("colour")


class StopError(Exception):
    """Stands for Ctrl-C."""


def test_stopped_in_the_middle_it_goes_on_along_the_same_curve(painter, data, tmp_path, monkeypatch):  # noqa: F811
    def stop(step, values):
        if step == 5:
            raise StopError

    def tune(**options):
        return fine_tune_vqa(painter, *data, steps=9, batch=4, minimum=1, progress=None, **options)[1]

    def tracked(fit, **changes):
        return lambda *given, track, **options: fit(*given, track=replace(track, **changes), **options)

    whole, path, fit, steps = tune(seed=3), tmp_path / "c.pt", loop.fit, []
    monkeypatch.setattr(loop, "fit", tracked(fit, seconds=0, on_step=stop))
    with pytest.raises(StopError):
        tune(seed=3, checkpoint=path)
    assert torch.load(path, weights_only=True)["step"] == 5
    monkeypatch.setattr(loop, "fit", tracked(fit, on_step=lambda step, values: steps.append(step)))
    assert tune(seed=3, checkpoint=path) == whole and steps == [5, 6, 7, 8]
    assert tune(seed=4) != whole


def test_what_cannot_train_is_refused_in_one_sentence(painter, data, tmp_path):  # noqa: F811
    questions, annotations, images = data
    with pytest.raises(DataError, match="No answer is given 9 times, the most frequent 4 times"):
        fine_tune_vqa(painter, questions, annotations, images)
    with pytest.raises(DataError, match="None of the 12 questions has an answer among the 1 classes"):
        fine_tune_vqa(painter, questions, annotations, images, answers=["purple"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="None of the 13 questions is about a picture that is there"):
        fine_tune_vqa(painter, questions, annotations, tmp_path / "empty")
    with pytest.raises(ValueError, match="There is no folder"):
        fine_tune_vqa(painter, questions, annotations, tmp_path / "nowhere")
    twice = json.loads(questions.read_text())["questions"] * 2
    (tmp_path / "twice.json").write_text(json.dumps({"questions": twice}))
    with pytest.raises(DataError, match="asks question 0 twice"):
        fine_tune_vqa(painter, tmp_path / "twice.json", annotations, images)
    broken = next(images.iterdir())
    broken.write_bytes(b"no picture")
    _, _, report = fine_tune_vqa(painter, *data, steps=1, minimum=1, progress=None)
    assert any(broken.name in why and "is broken" in why for _, why in report.skipped)


@pytest.fixture
def store(data, tmp_path):
    """The pictures' colours as features on disk, under COCO's names."""
    files = sorted(data[2].iterdir())
    filled = FeatureStore(tmp_path / "features", (4, 10))
    filled.append([path.stem for path in files], colours_of(files))
    return filled


def test_features_on_disk_serve_as_well_as_pictures(painter, data, store, monkeypatch):  # noqa: F811
    monkeypatch.setattr(painter, "features", colours_of)
    options = dict(steps=4, batch=4, minimum=1, progress=None)
    _, from_pictures, _ = fine_tune_vqa(painter, *data, **options)
    for path in data[2].iterdir():
        path.unlink()  # deleted after extraction
    _, from_disk, report = fine_tune_vqa(painter, *data[:2], store, **options)
    assert from_disk == from_pictures
    assert report.skipped == [("question 12", "its picture 12 is missing")]
    narrow = FeatureStore(store.folder.parent / "narrow", (4, 3))
    with pytest.raises(DataError, match="The features are 3 wide but the model reads 10"):
        fine_tune_vqa(painter, *data[:2], narrow, **options)


def test_a_number_that_two_sources_share_is_no_picture(painter, data, tmp_path):  # noqa: F811
    mixed = FeatureStore(tmp_path / "mixed", (4, 10))
    mixed.append(["9", "COCO_train2014_000000000009", "n3"], np.zeros((3, 4, 10)))
    with pytest.raises(DataError, match="Picture 9 may be '9' or 'COCO_train2014_000000000009': use one source"):
        fine_tune_vqa(painter, *data[:2], mixed, minimum=1, progress=None)
    names = FeatureStore(tmp_path / "names", (4, 10))
    names.append(["n3"], np.zeros((1, 4, 10)))  # GQA's picture n3 is not COCO's 3
    with pytest.raises(DataError, match="None of the 13 questions is about a picture that is there"):
        fine_tune_vqa(painter, *data[:2], names, minimum=1, progress=None)


def test_statements_about_pairs_are_learned_by_the_same_call(painter, store):  # noqa: F811
    names = store.ids  # red, blue, green, red, ...
    asked = [
        vqa.Question(f"{a}-{b}", (names[a], names[b]), "the left one is red", (), str(a % 3 == 0))
        for a in range(12)
        for b in range(12)
    ]
    skill, history, report = fine_tune(painter, asked, store, ["False", "True"], steps=120, batch=24, progress=None)
    assert not report.skipped and isinstance(skill.model, PairClassifier)
    pairs = torch.from_numpy(np.stack([store.rows([names[a], names[b]]) for a, b in ((3, 1), (1, 3), (0, 0), (2, 5))]))
    assert skill.answer(["the left one is red"] * 4, pairs) == ["True", "False", "True", "False"]


def test_questions_without_their_picture_are_listed():
    asked = [vqa.Question(1, ("a", "b"), "?"), vqa.Question(2, ("a", "c"), "?")]
    kept, report = with_pictures(asked, {"a": 0, "b": 1})
    assert kept == asked[:1] and report.skipped == [("question 2", "its picture c is missing")]
    with pytest.raises(DataError, match="None of the 2 questions"):
        with_pictures(asked, {})


@pytest.mark.parametrize("pairs", [False, True], ids=["one-picture", "two-pictures"])
@pytest.mark.parametrize("bits", [32, 16])
def test_saved_and_opened_it_answers_the_same(painter, tmp_path, pairs, bits):  # noqa: F811
    torch.manual_seed(0)
    tokenizer = painter.tokenizer.extended(["both pictures"])
    model = adopt(painter.model, tokenizer, painter.answers, ["yes", "perhaps"])
    skill = Skill((PairClassifier(model) if pairs else model).eval(), tokenizer, ["yes", "perhaps"])
    skill.save(tmp_path / "s", bits)
    opened = Skill.load(tmp_path / "s")
    features = torch.randn(2, 2, 4, 10) if pairs else torch.randn(2, 4, 10)
    assert opened.answer(TEXTS, features) == skill.answer(TEXTS, features) and opened.answers == skill.answers
    weights, again = skill.model.state_dict(), opened.model.state_dict()
    assert weights.keys() == again.keys() and type(opened.model) is type(skill.model)
    for name, value in weights.items():
        assert torch.equal(again[name], value.half().float() if bits == 16 else value)
    assert opened.tokenizer.encode(["both"], 9)[0].tolist() == tokenizer.encode(["both"], 9)[0].tolist()
    with pytest.raises(FileNotFoundError, match="holds no fine-tuned model"):
        Skill.load(tmp_path / "nowhere")
    assert skills.NAMES == ("vqa", "gqa", "nlvr2", "captions")
