"""The one object a reader holds takes any picture, keeps what it must, and is saved and opened unchanged."""

import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

import xlxmert_core
from xlxmert_core import sampling
from xlxmert_core.config import GeneratorConfig, ModelConfig
from xlxmert_core.features import GridEncoder
from xlxmert_core.finetuning import adopt, length_logits
from xlxmert_core.generator import Generator
from xlxmert_core.model import PairClassifier, XLxmert
from xlxmert_core.skills import Skill
from xlxmert_core.text import Tokenizer

TEXTS = ["a red house in the snow", "two blue boats at night"]
SIZES = GeneratorConfig(feature_dim=10, bottleneck=8, channels=(8, 8, 8, 4, 4), spade_hidden=4, groups=2, grid=2)


@pytest.fixture(scope="module")
def painter():
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_corpus(TEXTS)
    config = ModelConfig(
        vocab_size=tokenizer.size, hidden=24, heads=3, feed_forward=40, language_layers=1, visual_layers=1,
        cross_layers=1, positions=24, max_words=12, dropout=0.0, codes=13, feature_dim=10, grid=2, answers=3,
    )  # fmt: skip
    model = XLxmert(config, torch.randn(13, 10))
    encoder = GridEncoder(10, {"kind": 3}, imagenet=False)
    return xlxmert_core.Pipeline(model, tokenizer, Generator(SIZES), encoder, ["yes", "no", "red"])


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def test_paint_returns_pictures_codes_and_every_step(painter):
    painting = painter.paint(TEXTS, steps=3, polish=0)
    assert painting.images.shape == (2, 32, 32, 3) and painting.images.dtype == np.uint8
    assert painting.codes.shape == (2, 4) and painting.codes.dtype == torch.int64
    assert [step["step"] for step in painting.history] == [0, 1, 2]
    assert torch.equal(painting.history[-1]["codes"], painting.codes)
    assert len(painter.paint(TEXTS[0]).images) == 1


def test_equal_seeds_give_equal_pictures(painter):
    first, again, other = (painter.paint(TEXTS, seed=s, temperature=5.0) for s in (1, 1, 2))
    assert np.array_equal(first.images, again.images)
    assert not torch.equal(first.codes, other.codes)


def test_repaint_keeps_unmasked_cells_bit_for_bit(painter):
    codes, mask = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]), np.array([[True, False], [False, False]])
    repainted = painter.repaint(codes, mask, "two blue boats", temperature=5.0, seed=3)
    assert torch.equal(repainted.codes[:, 1:], codes[:, 1:])
    with pytest.raises(ValueError, match=r"mask must be bool \[2, 2\]"):
        painter.repaint(codes, np.ones((3, 3), bool), "boats")
    with pytest.raises(ValueError, match="3 texts for 2 pictures"):
        painter.repaint(codes, mask, ["boats"] * 3)


def test_pictures_of_all_kinds_give_the_same_codes(painter, picture, tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(picture).save(path)
    codes = painter.encode(picture)
    assert codes.shape == (1, 4) and codes.dtype == torch.int64
    for same in (path, str(path), Image.fromarray(picture), [picture], picture[None]):
        assert torch.equal(painter.encode(same), codes)
    assert painter.encode([path, picture]).tolist() == [*codes.tolist()] * 2
    for mode in ("L", "RGBA", "CMYK"):
        assert painter.encode(Image.fromarray(picture).convert(mode)).shape == (1, 4)
    with pytest.raises(ValueError, match="address"):
        painter.encode("https://example.com/a.png")


def test_captions_and_answers_are_sentences_and_known_answers(painter, picture):
    (caption,) = painter.caption(picture, lengths=[3])
    assert len(caption.split()) == 3
    assert set(painter.answer([picture, picture], "a house")) <= {"yes", "no", "red"}
    with pytest.raises(ValueError, match="2 questions for 1 pictures"):
        painter.answer(picture, ["a", "house"])
    mute = xlxmert_core.Pipeline(painter.model, painter.tokenizer, painter.generator, painter.encoder)
    with pytest.raises(ValueError, match="no answer vocabulary"):
        mute.answer(picture, "a house")


def test_saved_and_opened_it_does_the_same(painter, picture, tmp_path):
    painter.save(tmp_path / "p")
    opened = xlxmert_core.load(tmp_path / "p")
    assert np.array_equal(opened.paint(TEXTS).images, painter.paint(TEXTS).images)
    assert torch.equal(opened.encode(picture), painter.encode(picture))
    assert opened.answer(picture, "a house") == painter.answer(picture, "a house")
    painter.save(tmp_path / "half", half=True)
    assert xlxmert_core.load(tmp_path / "half").paint(TEXTS).codes.shape == (2, 4)


def test_load_refuses_addresses_and_names_what_is_missing(painter, tmp_path):
    with pytest.raises(ValueError, match="local folders only"):
        xlxmert_core.load("https://example.com/model")
    painter.save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match="it has no tokenizer.json"):
        xlxmert_core.load(tmp_path)


class Attack:
    """Unpickling this runs a command."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_load_never_runs_what_is_in_a_file(painter, tmp_path):
    painter.save(tmp_path / "p")
    marker = tmp_path / "ran"
    (tmp_path / "p" / "transformer.safetensors").write_bytes(pickle.dumps(Attack(marker)))
    with pytest.raises(Exception, match="transformer.safetensors"):
        xlxmert_core.load(tmp_path / "p")
    assert not marker.exists()


def test_the_best_of_several_candidates_is_the_one_that_matches_best(painter):
    options = {"steps": 2, "temperature": 5.0, "order": sampling.random, "polish": 0}
    chosen = painter.paint(TEXTS, candidates=6, **options)
    seen = []
    painter.paint(TEXTS, candidates=6, callback=lambda step: seen.append(step["codes"]), **options)
    every = seen[-1]  # [2 * 6, N]
    assert every.shape == (12, 4) and len(every.unique(dim=0)) > 2
    for i, text in enumerate(TEXTS):
        scores = painter.score(text, every[6 * i : 6 * i + 6])
        assert torch.equal(chosen.codes[i], every[6 * i + int(scores.argmax())])
    assert torch.equal(chosen.history[-1]["codes"], chosen.codes)


def test_a_text_that_is_empty_or_too_long_is_said_to_be(painter):
    with pytest.warns(UserWarning, match="empty text asks for nothing"):
        painter.paint("  ", steps=1)
    with pytest.warns(UserWarning, match="has 500 words; the model reads the first 10"):
        painter.paint("house " * 500, steps=1)
    with pytest.warns(UserWarning, match="'w4'.* and 35 more"):
        painter.paint(" ".join(f"w{i}" for i in range(40)), steps=1)


def test_unknown_words_are_named_with_the_nearest_known(painter):
    with pytest.warns(UserWarning, match="'housse' .near: house"):
        painter.paint("a red housse")


@pytest.mark.filterwarnings("ignore:Words the model never", "ignore:An empty text", "ignore:The text has 500")
@pytest.mark.parametrize("text", ["", "house " * 500, "🏠🌟", "بيت أحمر", "[MASK] [PAD] \x00"])
def test_odd_texts_paint_something(painter, text):
    assert painter.paint(text, steps=2).images.shape == (1, 32, 32, 3)


@pytest.fixture
def skilled(painter):
    """The painter with three skills, each of which has one word or answer more."""
    torch.manual_seed(3)
    tokenizer = painter.tokenizer.extended(["both pictures"])
    answers = {"vqa": ["maybe"], "nlvr2": ["False", "True"], "captions": [str(n) for n in range(9)]}
    models = {name: adopt(painter.model, tokenizer, [], rows) for name, rows in answers.items()}
    models["nlvr2"] = PairClassifier(models["nlvr2"])
    skills = {name: Skill(models[name].eval(), tokenizer, rows) for name, rows in answers.items()}
    parts = (painter.model, painter.tokenizer, painter.generator, painter.encoder, painter.answers)
    return xlxmert_core.Pipeline(*parts, skills)


def test_skills_answer_where_they_are_there(painter, skilled, picture):
    assert skilled.answer(picture, "what is it both") == ["maybe"]  # "both" is known to the skill
    assert painter.answer(picture, "a red house")[0] in painter.answers
    with pytest.warns(UserWarning, match="never learned: 'zebra'"):
        skilled.answer(picture, "zebra in the snow")


def test_pairs_are_judged_by_the_skill_alone(painter, skilled, picture):
    verdict = skilled.judge([picture, picture], [picture, picture], "both pictures")
    assert len(verdict) == 2 and all(isinstance(v, bool) for v in verdict)
    with pytest.raises(ValueError, match="1 pictures on the left but 2 on the right"):
        skilled.judge(picture, [picture, picture], "both pictures")
    with pytest.raises(ValueError, match="no skill 'nlvr2'"):
        painter.judge(picture, picture, "both pictures")


def test_captions_have_one_of_the_likeliest_lengths(skilled, picture):
    writer = skilled.skills["captions"]
    with torch.inference_mode():
        guess = length_logits(writer.model, writer.tokenizer, torch.from_numpy(skilled.features(picture)))[0].clone()
    guess = guess.clone()
    guess[0] = -torch.inf
    assert len(skilled.caption(picture)[0].split()) in guess.topk(4).indices.tolist()
    assert len(skilled.caption(picture, lengths=[6])[0].split()) == 6


def test_a_region_hides_the_rest(skilled, picture):
    other = picture.copy()
    other[:16] //= 2
    region = np.array([[False, False], [True, True]])
    features = [torch.from_numpy(skilled.features(p)) for p in (picture, other)]
    assert not torch.equal(*features)
    seen = {}
    writer = skilled.skills["captions"].model
    hook = writer.cell_embedding.register_forward_pre_hook(lambda _, given: seen.update(cells=given[0]))
    skilled.caption(picture, region, lengths=[3])
    hook.remove()
    assert torch.equal(seen["cells"][0, :2], writer.mask_feature.expand(2, -1))
    assert torch.equal(seen["cells"][0, 2:], features[0][0, 2:])
    with pytest.raises(ValueError, match=r"region must be bool \[2, 2\], got \[3, 3\]"):
        skilled.caption(picture, np.ones((3, 3), bool))


def test_skills_are_saved_and_opened_with_the_painter(skilled, picture, tmp_path):
    skilled.save(tmp_path / "all")
    opened = xlxmert_core.load(tmp_path / "all")
    assert set(opened.skills) == {"vqa", "nlvr2", "captions"}
    assert opened.caption(picture, lengths=[4]) == skilled.caption(picture, lengths=[4])
    assert opened.judge(picture, picture, "both pictures") == skilled.judge(picture, picture, "both pictures")
