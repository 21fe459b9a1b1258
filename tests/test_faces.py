"""Nothing, one and odd numbers: the empty result where it has a meaning, otherwise one sentence."""

import numpy as np
import pytest
import torch
from tiny import TEXTS, tiny_painter

from xlxmert_core.evaluate.scenes import frechet_distance
from xlxmert_core.evaluate.statistics import bootstrap
from xlxmert_core.kmeans import lloyd
from xlxmert_core.skills import Skill
from xlxmert_core.train import loop
from xlxmert_core.vocabulary import VisualVocabulary

PICTURE = np.zeros((64, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def painter():
    made = tiny_painter()
    made.skills["nlvr2"] = Skill(made.model, made.tokenizer, ["False", "True", "red"])  # answers at random
    return made


@pytest.mark.parametrize("nothing", [[], (), np.zeros((0, 64, 64, 3), np.uint8), torch.zeros(0, 16, 10)], ids=str)
def test_nothing_in_is_nothing_out(painter, nothing):
    assert painter.features(nothing).shape == (0, 16, 10)
    codes = painter.encode(nothing)
    assert codes.shape == (0, 16) and codes.dtype == torch.int64
    assert painter.caption(nothing) == painter.answer(nothing, []) == painter.answer(nothing, "what") == []
    assert painter.judge(nothing, nothing, []) == [] if not isinstance(nothing, torch.Tensor) else True


def test_no_text_is_no_picture(painter):
    seen = []
    for made in (painter.paint([], callback=seen.append), painter.repaint([], np.ones((4, 4), bool), [])):
        assert made.images.shape == (0, 64, 64, 3) and made.images.dtype == np.uint8
        assert made.codes.shape == (0, 16) and made.history == seen == []
    assert painter.render(made.codes).shape == (0, 64, 64, 3)
    assert painter.score([], made.codes).shape == painter.match([], made.codes).shape == (0,)


@pytest.mark.parametrize(
    "texts", [None, 5, [None], [["a"]], ["a red house", 3], b"a red house", ["half \ud800"]], ids=repr
)
def test_what_is_no_text_is_one_sentence(painter, texts):
    codes = torch.zeros(1, 16, dtype=torch.long)
    for refused in (
        lambda: painter.paint(texts),
        lambda: painter.answer(codes, texts),
        lambda: painter.score(texts, codes),
        lambda: painter.repaint(codes, np.ones((4, 4), bool), texts),
    ):
        with pytest.raises(ValueError, match="^The (texts|questions) (must be one text|hold half a character)") as said:
            refused()
        assert "\n" not in str(said.value)


@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3), np.int32(3)], ids=repr)
def test_a_seed_may_be_numpys(painter, seed):
    assert torch.equal(painter.paint(TEXTS, seed=seed).codes, painter.paint(TEXTS, seed=3).codes)


@pytest.mark.parametrize("seed", [-1, 2**32, 2**40 + 1])
def test_a_seed_may_be_large_or_negative_where_torch_takes_it(painter, seed):
    assert torch.equal(painter.paint(TEXTS, seed=seed).codes, painter.paint(TEXTS, seed=seed).codes)


@pytest.mark.parametrize("seed", [1.5, "1", None, True, 2**65, float("nan"), [1]], ids=repr)
def test_what_is_no_seed_is_one_sentence(painter, seed):
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    for refused in (
        lambda: painter.paint(TEXTS, seed=seed),
        lambda: VisualVocabulary.fit(rows[:, None], 2, seed=seed),
        lambda: VisualVocabulary.fit_product(rows[:, None], (2, 2), (2, 1), seed=seed),
        lambda: VisualVocabulary.fit_streamed(rows[:, None], 2, seed=seed),
        lambda: loop.fit(torch.nn.Linear(1, 1), [], lambda *_: {}, 1, seed=seed),
    ):
        with pytest.raises(ValueError, match="^The seed must be a whole number from"):
            refused()


def test_k_means_takes_numpys_seeds_and_names_the_others():
    rows = np.random.default_rng(0).normal(size=(40, 1, 3)).astype(np.float32)
    one, other = (VisualVocabulary.fit(rows, 3, seed=seed).centroids for seed in (5, np.int64(5)))
    assert np.array_equal(one, other)
    for seed in (-1, 2**32):
        with pytest.raises(ValueError, match="The seed must be a whole number from 0 to 2147482648"):
            VisualVocabulary.fit(rows, 3, seed=seed)
    with pytest.raises(ValueError, match="The seed must be a whole number from 0 on, not -1"):
        lloyd(rows[:, 0], rows[:3, 0], 1, seed=-1)
    for codes in (0, -2, 2.5):
        with pytest.raises(ValueError, match="The codes must be a whole number from 1 on"):
            VisualVocabulary.fit(rows, codes)


@pytest.mark.parametrize("wrong", [
    {"candidates": 0}, {"candidates": 1.5}, {"steps": 0}, {"temperature": -1}, {"temperature": float("nan")},
    {"guidance": -0.5}, {"polish": -1}, {"steps": True}, {"order": "nearest"}, {"schedule": None},
], ids=str)  # fmt: skip
def test_an_odd_setting_is_one_sentence(painter, wrong):
    for refused in (lambda: painter.paint(TEXTS, **wrong), lambda: painter.paint([], **wrong)):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} "):
            refused()


def test_a_negative_temperature_is_refused_for_words_too(painter):
    with pytest.raises(ValueError, match="The temperature must be a number from 0 on, not -1"):
        painter.caption(PICTURE, lengths=[2], temperature=-1)


def test_a_grey_picture_is_one_picture(painter):
    grey = np.random.default_rng(0).integers(0, 256, (64, 80), dtype=np.uint8)
    assert torch.equal(painter.encode(grey), painter.encode(np.stack([grey] * 3, -1)))
    assert torch.equal(painter.encode([grey, PICTURE])[0], painter.encode(grey)[0])
    assert len(painter.caption(grey, lengths=[2])) == 1


@pytest.mark.parametrize("picture", [None, 5, [None], np.zeros(4, np.uint8), np.zeros((3, 4, 5), np.uint8)], ids=repr)
def test_what_is_no_picture_is_one_sentence(painter, picture):
    with pytest.raises(ValueError, match="^A picture (array )?is "):
        painter.encode(picture)


@pytest.mark.parametrize(("a", "b"), [
    ((1, 5), (9, 5)), ((9, 5), (1, 5)), ((0, 5), (9, 5)), ((9, 5), (9, 4)), ((9,), (9, 5)),
])  # fmt: skip
def test_a_covariance_needs_two(a, b):
    with pytest.raises(ValueError, match="needs two sets of two vectors or more"):
        frechet_distance(np.ones(a), np.ones(b))


def test_frechet_distances_of_small_sets_are_numbers_and_of_nan_refused():
    rng = np.random.default_rng(0)
    assert frechet_distance(*(rng.normal(size=(2, 3)) for _ in range(2))) >= 0
    assert frechet_distance(np.array([[0.0], [2.0]]), np.array([[1.0], [3.0]])) == pytest.approx(1)
    with pytest.raises(ValueError, match="needs finite vectors"):
        frechet_distance(np.full((3, 2), np.nan), np.ones((3, 2)))
    with pytest.raises(ValueError, match="no values to draw from"):
        bootstrap(np.zeros(0))
