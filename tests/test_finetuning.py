"""Fine-tuning: the data keep words, pictures and answers together, and each objective learns what it should."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from xlxmert_core.config import ModelConfig
from xlxmert_core.model import XLxmert
from xlxmert_core.skills import length_logits
from xlxmert_core.text import Tokenizer
from xlxmert_core.train import loop, optimisers
from xlxmert_core.train.finetuning import Answering, FineTuningData, Judging, Writing, adopt, batches, inside, predict
from xlxmert_core.train.pretraining import IGNORED, mask_to_write, mask_words

TEXTS = ["a red house", "a blue house in the snow", "a red ball"]
ANSWERS = ["yes", "no", "red"]


@pytest.fixture
def tokenizer():
    return Tokenizer.from_corpus(TEXTS)


def small(tokenizer, answers=3) -> XLxmert:
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=tokenizer.size, hidden=24, heads=3, feed_forward=40, language_layers=1, visual_layers=1,
        cross_layers=1, positions=24, max_words=12, dropout=0.0, codes=13, feature_dim=10, grid=2, answers=answers,
    )  # fmt: skip
    return XLxmert(config, torch.randn(13, 10))


@pytest.fixture
def features():
    return torch.randn(5, 4, 10, generator=torch.Generator().manual_seed(1))


def data_of(tokenizer, labels, pictures=((0,), (1,), (2,))) -> FineTuningData:
    return FineTuningData.build(TEXTS, pictures, labels, tokenizer, ANSWERS, 12)


def test_lessons_hold_words_pictures_and_known_answers(tokenizer, features):
    data = data_of(tokenizer, [{"red": 0.3, "yes": 1.0}, {"perhaps": 1.0}, {}], [[0, 1], [2, 2], [4, 3]])
    assert data.answers.tolist() == [[2, 0], [IGNORED] * 2, [IGNORED] * 2]
    assert data.scores.tolist() == [[pytest.approx(0.3), 1.0], [0, 0], [0, 0]]
    batch = data.batch(torch.tensor([2, 0]), lambda rows: features[rows])
    assert batch["features"].shape == (2, 2, 4, 10)
    assert torch.equal(batch["features"][0, 1], features[3])
    assert batch["words"].shape == (2, 5) and bool(batch["word_mask"].all())  # cut to the longest
    assert tokenizer.decode(batch["words"][0]) == "a red ball"


def test_weights_say_how_often_a_lesson_is_drawn(tokenizer, features):
    data = data_of(tokenizer, [{"yes": 1.0}, {"no": 1.0}, {"red": 1.0}])
    draw = batches(data, lambda rows: features[rows], 4000, torch.tensor([3.0, 0.0, 1.0]))
    drawn = draw(0, torch.Generator().manual_seed(0))["answers"][:, 0].bincount(minlength=3) / 4000
    assert drawn[1] == 0 and float(drawn[0]) == pytest.approx(0.75, abs=0.03)
    first, again = (draw(0, torch.Generator().manual_seed(5))["answers"] for _ in range(2))
    assert torch.equal(first, again)


def test_answering_is_binary_cross_entropy_of_every_answer(tokenizer, features):
    objective = Answering(small(tokenizer))
    labels = [{"red": 0.3, "yes": 1.0}, {}, {"no": 0.6}]
    batch = data_of(tokenizer, labels).batch(torch.arange(3), lambda rows: features[rows])
    loss, numbers = objective(batch)
    logits, expected = objective.logits(batch).detach(), 0.0
    for row, label in zip(logits, labels, strict=True):
        for answer, logit in zip(ANSWERS, row, strict=True):
            p, target = torch.sigmoid(logit), label.get(answer, 0.0)
            expected -= float(target * p.log() + (1 - target) * (1 - p).log()) / 3
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    best = [labels[i].get(ANSWERS[j], 0.0) for i, j in enumerate(logits.argmax(1).tolist())]
    assert float(numbers["score"]) == pytest.approx(sum(best) / 3)


def test_a_pair_is_judged_by_both_of_its_pictures(tokenizer, features):
    """The same sentence is true of (0, 1) and false of (1, 0) and (0, 0): neither picture alone can tell."""
    pictures = [[0, 1], [1, 0], [0, 0], [1, 1]]
    labels = [{"yes": 1.0}, {"no": 1.0}, {"no": 1.0}, {"yes": 1.0}]
    data = FineTuningData.build([TEXTS[0]] * 4, pictures, labels, tokenizer, ["no", "yes"], 12)
    objective = Judging(small(tokenizer))
    see = lambda rows: features[rows]  # noqa: E731
    loop.fit(objective, optimisers.adamw(objective, 3e-3), batches(data, see, 16), 120)
    assert predict(objective, data, see, size=3).tolist() == [1, 0, 0, 1]


def test_a_writer_is_not_shown_what_is_hidden(tokenizer, features):
    writer = Writing(small(tokenizer, answers=11), tokenizer)
    data = data_of(tokenizer, [{}] * 3)
    hidden = torch.tensor([[True, False, False, True]] * 3)
    batch = replace(data, hidden=hidden).batch(torch.arange(3), lambda rows: features[rows])

    def loss(change=None) -> float:
        torch.manual_seed(3)
        given = dict(batch) if change is None else batch | {"features": batch["features"] + change}
        return writer(given)[0].item()

    assert loss() == loss()
    assert loss(hidden[:, None, :, None] * 100.0) == loss()
    assert loss(~hidden[:, None, :, None] * 1.0) != loss()


def test_writing_is_paid_for_hidden_words_and_for_lengths(tokenizer, features):
    writer = Writing(small(tokenizer, answers=11), tokenizer)
    batch = data_of(tokenizer, [{}] * 3).batch(torch.arange(3), lambda rows: features[rows])
    torch.manual_seed(3)
    loss, numbers = writer(batch)
    torch.manual_seed(3)
    shown, labels = mask_words(
        batch["words"], tokenizer, torch.Generator().manual_seed(torch.initial_seed()), rate=None
    )
    logits = writer.model.word_logits(writer.model(shown, batch["word_mask"], batch["features"][:, 0]).words)
    hidden = [(row, place) for row, place in (labels != IGNORED).nonzero().tolist()]
    nll = [-logits[at].log_softmax(-1)[labels[at]].item() for at in hidden]
    right = [bool(logits[at].argmax() == labels[at]) for at in hidden]
    assert 0 < len(hidden) < int(batch["word_mask"].sum()) - 6
    assert float(numbers["words"]) == pytest.approx(sum(nll) / len(nll), rel=1e-5)
    assert float(numbers["score"]) == pytest.approx(sum(right) / len(right))
    lengths = length_logits(writer.model, tokenizer, batch["features"][:1, 0])  # a quarter of three, rounded up
    assert float(numbers["lengths"]) == pytest.approx(-lengths[0].log_softmax(-1)[3].item(), rel=1e-5)  # a red house
    assert loss.item() == pytest.approx(float(numbers["words"] + numbers["lengths"]))
    other = batch | {"words": torch.where(batch["words"] == tokenizer.first_word, tokenizer.size - 1, batch["words"])}
    torch.manual_seed(3)
    assert writer(other)[1]["lengths"] == numbers["lengths"] and not torch.equal(other["words"], batch["words"])


def test_lengths_are_guessed_from_the_empty_sentence(tokenizer, features):
    model = small(tokenizer, answers=11)
    empty = torch.tensor([[tokenizer.cls, tokenizer.sep]] * 5)
    expected = model.answer_logits(model(empty, None, features).pooled)
    assert torch.allclose(length_logits(model, tokenizer, features), expected)
    assert length_logits(model, tokenizer, features).shape == (5, 11)


def test_another_head_starts_from_the_answers_that_have_the_same_string(tokenizer):
    source = small(tokenizer)
    before = {name: value.clone() for name, value in source.state_dict().items()}
    longer = tokenizer.extended(["both pictures show a red house"])
    model = adopt(source, longer, ANSWERS, ["blue", "red", "yes"])
    head, given = model.answer_head[3], source.answer_head[3]
    assert torch.equal(head.weight[1:], given.weight[[2, 0]]) and torch.equal(head.bias[1:], given.bias[[2, 0]])
    assert not torch.isin(head.weight[0], given.weight).any()
    words = model.word_embedding.words.weight
    assert words.shape[0] == longer.size == tokenizer.size + 3
    assert torch.equal(words[: tokenizer.size], source.word_embedding.words.weight)
    assert torch.equal(model.centroids, source.centroids)
    with torch.no_grad():
        model.pooler.weight.zero_()
    assert all(torch.equal(before[name], value) for name, value in source.state_dict().items())


@pytest.mark.parametrize("kind", [Answering, Judging, Writing])
def test_lessons_are_learned_in_half_precision_too(tokenizer, features, kind):
    pairs = kind is Judging
    data = data_of(tokenizer, [{"yes": 1.0}, {"no": 1.0}, {"yes": 0.3}], [(0, 1), (1, 2), (2, 0)] if pairs else
                   ((0,), (1,), (2,)))  # fmt: skip
    model = small(tokenizer, answers=11)
    objective = kind(model, tokenizer) if kind is Writing else kind(model)
    batch = data.batch(torch.arange(3), lambda rows: features[rows])
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = objective(batch)
    loss.backward()
    assert loss.dtype == torch.float32 and torch.isfinite(loss)


def test_a_writer_meets_words_of_place_as_the_only_riddle_and_with_all_that_follows():
    tokenizer = Tokenizer.from_corpus(["a red house left of a tree", "a red house"])
    words, _ = tokenizer.encode(["a red house left of a tree", "a red house"], 12)
    words, left = words.repeat(400, 1), tokenizer.encode(["left"], 3)[0][0, 1]
    inputs, labels = mask_to_write(words, tokenizer, torch.Generator().manual_seed(0), [int(left)])
    hidden = labels != IGNORED
    assert torch.equal(inputs, torch.where(hidden, tokenizer.mask, words))
    assert torch.equal(labels[hidden], words[hidden])
    assert not hidden[words == tokenizer.pad].any() and not hidden[:, 0].any()
    told = hidden[::2, 1:-1]  # of the long sentence, "left" being its fourth word
    patterns = ([0, 0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1, 1])
    alone, after = ([row == pattern for row in told.int().tolist()] for pattern in patterns)
    assert 0.2 < sum(alone) / len(told) < 0.3 and 0.2 < sum(after) / len(told) < 0.3
    plain = mask_words(words[1::2], tokenizer, torch.Generator().manual_seed(0), rate=None)[1] != IGNORED
    assert abs(hidden[1::2].float().mean() - plain.float().mean()) < 0.03  # a sentence without places, as ever


def test_cells_are_inside_by_their_centres():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(50, 2, 2, generator=generator).sort(1).values  # [M, (low, high), (x, y)]
    boxes = torch.cat([corners[:, 0], corners[:, 1]], 1)
    for (x0, y0, x1, y1), found in zip(boxes.tolist(), inside(boxes).tolist(), strict=True):
        columns, rows = ([n for n in range(8) if low <= (n + 0.5) / 8 < high] for low, high in ((x0, x1), (y0, y1)))
        columns = columns or [int((x0 + x1) / 2 * 8)]  # between two centres: where the box's own centre lies
        rows = rows or [int((y0 + y1) / 2 * 8)]
        assert [n for n, cell in enumerate(found) if cell] == [8 * row + column for row in rows for column in columns]
    assert inside(torch.tensor([[0.26, 0.51, 0.27, 0.52]])).nonzero().tolist() == [[0, 4 * 8 + 2]]


KILLED = """
import os, signal, sys, torch
sys.path[:0] = [{tests!r}]
import test_finetuning as t
print(t.learn(sys.argv[1], kill=int(sys.argv[2])))
"""


def learn(checkpoint, kill: int = -1) -> list[float]:
    """The losses of thirty steps of fine-tuning; ``kill`` ends the process in that step, as kill -9 does."""
    tokenizer = Tokenizer.from_corpus(TEXTS)
    features = torch.randn(5, 4, 10, generator=torch.Generator().manual_seed(1))
    objective = Answering(small(tokenizer))
    data = data_of(tokenizer, [{"yes": 1.0}, {"no": 1.0}, {"red": 0.6}])

    def die(step: int, values: dict) -> None:
        if step == kill:
            os.kill(os.getpid(), signal.SIGKILL)

    history = loop.fit(
        objective, optimisers.muon(objective), batches(data, lambda r: features[r], 2), 30,
        track=loop.Track(checkpoint, seconds=0, on_step=die),
    )  # fmt: skip
    return [values["loss"] for values in history]


@pytest.mark.slow
def test_a_killed_fine_tuning_goes_on_along_the_same_curve(tmp_path):
    script = KILLED.format(tests=os.path.dirname(__file__))
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "killed.pt", "17"], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert torch.load(tmp_path / "killed.pt", weights_only=True)["step"] == 17
    resumed, whole = learn(tmp_path / "killed.pt"), learn(tmp_path / "whole.pt")
    assert resumed == whole and len(whole) == 30
    assert F.l1_loss(torch.tensor(whole[:1]), torch.tensor(whole[-1:])) > 0.1  # it learned something
