"""One loop paints what the paper's four samplers paint, each written out plainly here."""

import math
from functools import partial, wraps
from itertools import pairwise

import numpy as np
import pytest
import torch

from xlxmert_core import captioning, sampling
from xlxmert_core.config import ModelConfig
from xlxmert_core.model import XLxmert
from xlxmert_core.text import Tokenizer

CORPUS = ["a red house left of a blue star in the snow", "two green boats on the water at night"]
TINY = ModelConfig(
    vocab_size=22, hidden=24, heads=3, feed_forward=40, language_layers=1, visual_layers=1,
    cross_layers=1, positions=24, dropout=0.0, codes=13, feature_dim=10, grid=4, answers=5,
)  # fmt: skip
ORDERS, SCHEDULES = sampling.ORDERS.values(), sampling.SCHEDULES.values()


@pytest.fixture(scope="module")
def tokenizer():
    made = Tokenizer.from_corpus(CORPUS)
    assert made.size == TINY.vocab_size
    return made


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    net = XLxmert(TINY, torch.randn(13, 10)).eval()
    with torch.no_grad():
        for value in net.parameters():
            value.add_(0.3 * torch.randn_like(value))  # fresh weights hardly tell one cell from another
    return net


@pytest.fixture(scope="module")
def words(tokenizer):
    return tokenizer.encode(["a red house in the snow", "boats", "a blue star left of two green boats"], 20)


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def predictions(model, words, word_mask, codes, masked):
    """What the whole model says of one picture: probabilities [N, K]."""
    with torch.no_grad():
        out = model(words, word_mask, model.embed_codes(codes[None]), masked[None])
        return model.code_logits(out.cells)[0].softmax(-1)


def plain_mask_predict(model, words, word_mask, steps):
    """Algorithm of Mask-Predict-T: hide the n least sure of all cells, predict them, score all afresh."""
    codes, sure = torch.zeros(16, dtype=torch.long), torch.zeros(16)
    for t in range(steps):
        hide = 16 * (steps - t) // steps
        masked = torch.zeros(16, dtype=torch.bool)
        masked[sorted(range(16), key=lambda cell: (float(sure[cell]), -cell))[:hide]] = True
        sure, best = predictions(model, words, word_mask, codes, masked).max(-1)
        codes = torch.where(masked, best, codes)
    return codes


def plain_one_by_one(model, words, word_mask, pick):
    """Commit one cell a step; ``pick(sure, masked)`` says which."""
    codes, masked = torch.zeros(16, dtype=torch.long), torch.ones(16, dtype=torch.bool)
    for _ in range(16):
        sure, best = predictions(model, words, word_mask, codes, masked).max(-1)
        codes = torch.where(masked, best, codes)  # all are guessed, but only one is kept
        masked[pick(sure, masked)] = False
    return codes


@pytest.mark.parametrize("steps", [1, 4, 8, 16])
def test_mask_predict_is_the_plain_loop(model, words, steps):
    painted = sampling.paint(model, *words, steps=steps)
    for row in range(3):
        one = [part[row : row + 1] for part in words]
        assert torch.equal(painted[row], plain_mask_predict(model, *one, steps))


def test_raster_and_easy_first_are_the_plain_loops(model, words):
    picks = {
        sampling.raster: lambda sure, masked: int(masked.nonzero()[0]),
        sampling.easy_first: lambda sure, masked: int(sure.masked_fill(~masked, -1).argmax()),
    }
    for order, pick in picks.items():
        painted = sampling.paint(model, *words, steps=16, order=order)
        for row in range(3):
            one = [part[row : row + 1] for part in words]
            assert torch.equal(painted[row], plain_one_by_one(model, *one, pick))


def test_random_order_is_the_plain_loop_with_the_same_draws(model, words):
    painted = sampling.paint(model, *words, steps=16, order=sampling.random, generator=source(5))
    draws = sampling.Rows(source(5), 3)
    scores = [draws.uniform([1, 1, 1], 16) for _ in range(16)]  # a fresh draw each step
    for row in range(3):
        turn = iter(scores)
        one = [part[row : row + 1] for part in words]

        def pick(sure, masked, turn=turn, row=row):
            return int(next(turn)[row].masked_fill(~masked, -1).argmax())

        assert torch.equal(painted[row], plain_one_by_one(model, *one, pick))


def test_text_is_encoded_once_whatever_the_steps(model, words, monkeypatch):
    calls = []
    encode = model.encode_text
    monkeypatch.setattr(model, "encode_text", lambda *a: calls.append(1) or encode(*a))
    sampling.paint(model, *words, steps=8)
    assert len(calls) == 1


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("order", ORDERS)
def test_cells_outside_the_mask_keep_their_codes_and_all_others_are_filled(model, words, order, schedule):
    given = torch.randint(13, (3, 16), generator=source(1))
    editable = torch.rand(3, 16, generator=source(2)) < 0.5
    last = []
    options = {"steps": 5, "order": order, "schedule": schedule, "temperature": 1.0, "generator": source(3)}
    painted = sampling.paint(model, *words, codes=given, editable=editable, callback=last.append, **options)
    assert torch.equal(painted[~editable], given[~editable])
    assert not last[-1]["masked"].any()
    written = torch.stack([step["written"] for step in last]).any(0)
    assert torch.equal(written, editable)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_fall_from_all_to_none(schedule):
    shares = [schedule(step, 12) for step in range(13)]
    assert shares[0] == pytest.approx(1) and shares[-1] == 0
    assert all(a > b for a, b in pairwise(shares))


def test_seeds_decide_and_rows_do_not_disturb_each_other(model, words):
    options = {"steps": 4, "temperature": 1.0, "order": sampling.maskgit}
    first = sampling.paint(model, *words, generator=source(1), **options)
    assert torch.equal(first, sampling.paint(model, *words, generator=source(1), **options))
    assert not torch.equal(first, sampling.paint(model, *words, generator=source(2), **options))
    with pytest.raises(ValueError, match="generator"):
        sampling.paint(model, *words, **options)


def test_guidance_moves_away_from_the_other_text(model, words, tokenizer):
    plain = sampling.paint(model, *words, steps=4)
    same = sampling.paint(model, *words, steps=4, guidance=3.0, uncond=words)
    away = sampling.paint(model, *words, steps=4, guidance=3.0, uncond=tokenizer.encode([""], 20))
    assert torch.equal(plain, same) and not torch.equal(plain, away)
    with pytest.raises(ValueError, match="uncond"):
        sampling.paint(model, *words, guidance=1.0)


def test_known_logits_decode_to_the_known_answer():
    truth = torch.tensor([[3, 1, 4, 1], [2, 0, 2, 3]])

    def predict(values, masked, scored, step):
        return 9.0 * torch.nn.functional.one_hot(truth, 5).float()[scored], None

    everything = torch.ones(2, 4, dtype=torch.bool)
    for order in (sampling.mask_predict, sampling.easy_first, sampling.halton):
        filled = sampling.fill(predict, torch.zeros(2, 4, dtype=torch.long), everything, 3, order, sampling.linear)
        assert torch.equal(filled, truth)
    with pytest.raises(ValueError, match="steps=0"):
        sampling.fill(predict, truth, everything, 0, sampling.raster, sampling.linear)


def trusting(share, confidence, masked, step, rows):
    """A reader's own rescoring order: Mask-Predict with a parameter before the others."""
    return confidence**share


trusting.rescores = True


@wraps(trusting)
def logged(*given):
    return trusting(1.0, *given)


class Trusting:
    rescores = True

    def __call__(self, confidence, masked, step, rows):
        return confidence


@pytest.mark.parametrize(
    "order",
    [partial(sampling.mask_predict), partial(partial(trusting, 0.5)), logged, Trusting()],
    ids=["partial", "partial of a partial", "wrapped", "object"],
)
def test_an_order_says_itself_that_it_scores_all_cells_afresh(model, words, order):
    assert torch.equal(
        sampling.paint(model, *words, steps=8, order=order),
        sampling.paint(model, *words, steps=8, order=sampling.mask_predict),
    )


def test_an_order_that_does_not_say_so_sees_what_a_cell_was_written_with(model, words):
    seen = []

    def quiet(confidence, masked, step, rows):
        seen.append(confidence)
        return confidence.masked_fill(~masked, math.inf)

    steps = []
    sampling.paint(model, *words, steps=4, order=quiet, callback=steps.append)
    for step, after in zip(steps[:-1], seen[1:], strict=True):
        assert torch.equal(after[~step["masked"]], step["confidence"][~step["masked"]])
    own = partial(quiet)
    own.rescores = True
    assert not sampling.rescores(quiet) and sampling.rescores(own)


def test_halton_visits_every_cell_once_and_wants_a_square():
    assert sorted(sampling.halton_places(64)) == list(range(64))
    with pytest.raises(ValueError, match="square"):
        sampling.halton_places(12)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"steps": 0}, "steps must be a whole number from 1 on, not 0"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"candidates": True}, "candidates must be a whole number"),
        ({"polish": -1}, "polish must be a whole number from 0 on"),
        ({"temperature": math.nan}, "temperature must be a number from 0 on"),
        ({"guidance": math.inf}, "guidance must be a number"),
        ({"temperature": 10**400}, "temperature must be a number"),
        ({"order": "spiral"}, "no order 'spiral': choose halton, mask_predict"),
        ({"schedule": None}, "no schedule None: choose cosine"),
    ],
)
def test_a_setting_that_is_none_is_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        sampling.Sampling(**change)


def test_settings_are_handed_over_whole_and_orders_may_be_named():
    for settings in (sampling.DEFAULT, sampling.PAPER, sampling.PAINT_BOX):
        assert sampling.Sampling(**settings) == settings
    assert sampling.Sampling(order="raster", schedule="arccos").order is sampling.raster
    assert sampling.Sampling(steps=np.int64(3)).steps == 3


def test_the_loop_paints_with_the_papers_settings_and_once(model, words):
    plain = sampling.paint(model, *words)
    assert torch.equal(plain, sampling.paint(model, *words, **sampling.PAPER))
    with pytest.raises(TypeError, match="brush"):
        sampling.paint(model, *words, brush=1)
    with pytest.raises(ValueError, match="paints once"):
        sampling.paint(model, *words, candidates=2)


def test_contradicting_arguments_are_refused(model, words):
    with pytest.raises(ValueError, match="codes"):
        sampling.paint(model, *words, editable=torch.ones(3, 16, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"\[3, 16\]"):
        sampling.paint(model, *words, codes=torch.zeros(3, 9, dtype=torch.long))


@pytest.mark.parametrize("order", [sampling.easy_first, sampling.left_to_right, sampling.mask_predict])
def test_captions_hold_words_only_and_the_best_length_wins(model, tokenizer, order):
    features = model.embed_codes(torch.randint(13, (2, 16), generator=source(4)))
    texts, scores = captioning.write_caption(model, tokenizer, features, [3, 5, 7], order=order, steps=7)
    alone = [captioning.write_caption(model, tokenizer, features, [n], order=order, steps=7) for n in (3, 5, 7)]
    for row in range(2):
        best = max(range(3), key=lambda i: float(alone[i][1][row]))
        assert texts[row] == alone[best][0][row] and len(texts[row].split()) == (3, 5, 7)[best]
        assert float(scores[row]) == pytest.approx(float(alone[best][1][row]), abs=1e-4)
        assert "[" not in texts[row] and math.isfinite(scores[row])
    with pytest.raises(ValueError, match="lengths"):
        captioning.write_caption(model, tokenizer, features, [0])


@pytest.fixture(scope="module")
def features(model):
    return model.embed_codes(torch.randint(13, (2, 16), generator=source(4)))


def test_blank_sentences_have_the_asked_numbers_of_words(tokenizer):
    t = tokenizer
    assert captioning.blank_sentences(t, torch.tensor([2, 1, 3])).tolist() == [
        [t.cls, t.mask, t.mask, t.sep, t.pad],
        [t.cls, t.mask, t.sep, t.pad, t.pad],
        [t.cls, t.mask, t.mask, t.mask, t.sep],
    ]


def test_every_picture_may_have_lengths_of_its_own(model, tokenizer, features):
    texts, scores = captioning.write_caption(model, tokenizer, features, torch.tensor([[2], [6]]))
    assert [len(text.split()) for text in texts] == [2, 6]
    for row, length in enumerate((2, 6)):
        alone, score = captioning.write_caption(model, tokenizer, features[row : row + 1], [length])
        assert alone == [texts[row]] and float(score) == pytest.approx(float(scores[row]), abs=1e-4)
    with pytest.raises(ValueError, match="lengths"):
        captioning.write_caption(model, tokenizer, features, torch.tensor([[2], [23]]))  # 24 positions hold 22 words


def test_words_are_written_from_left_to_right_one_a_step(model, tokenizer, features):
    blank = []
    captioning.write_caption(model, tokenizer, features, [4], callback=lambda s: blank.append(s["masked"][:, 1:5]))
    assert [slots[0].tolist() for slots in blank] == [[place > step for place in range(4)] for step in range(4)]
    assert torch.equal(blank[1][0], blank[1][1])


def test_a_prior_decides_between_lengths_and_is_added_to_the_sum(model, tokenizer, features):
    lengths = torch.tensor([[3, 5], [7, 4]])
    alone = [[captioning.write_caption(model, tokenizer, features, [n]) for n in row] for row in lengths.tolist()]
    for favoured in (0, 1):
        prior = torch.full((2, 2), -500.0)
        prior[:, favoured] = -0.25
        texts, scores = captioning.write_caption(model, tokenizer, features, lengths, prior=prior)
        for row in range(2):
            text, mean = (part[row] for part in alone[row][favoured])
            assert texts[row] == text
            assert float(scores[row]) == pytest.approx(float(mean) * int(lengths[row, favoured]) - 0.25, abs=1e-3)


def test_what_is_hidden_is_not_described(model, tokenizer, features):
    hidden = torch.zeros(2, 16, dtype=torch.bool)
    hidden[0, :6], hidden[1, 3:] = True, True

    def write(change):
        return captioning.write_caption(model, tokenizer, features + change[..., None], [4, 6], hidden=hidden)

    (texts, scores), (same_texts, same_scores) = write(torch.zeros(2, 16)), write(9.0 * hidden)
    assert texts == same_texts and torch.equal(scores, same_scores)
    assert not torch.allclose(scores, write(9.0 * ~hidden)[1], atol=1e-4)
    assert not torch.allclose(scores, captioning.write_caption(model, tokenizer, features, [4, 6])[1], atol=1e-4)
