"""Pretraining: how cells and words are hidden, which sentence meets which picture, and the three losses."""

import pytest
import torch

from xlxmert_core.config import ModelConfig
from xlxmert_core.data.lxmert import Example
from xlxmert_core.model import XLxmert
from xlxmert_core.text import Tokenizer
from xlxmert_core.train import pretraining
from xlxmert_core.train.loop import step_seed
from xlxmert_core.train.pretraining import IGNORED, TASKS, PairedText, Pretraining, PretrainingBatches, evaluate

NAMES = ("ant", "bee", "cat", "dog", "eel", "fox")  # every sentence names its picture
CELLS = 4
EXAMPLES = [
    example
    for i, name in enumerate(NAMES)
    for example in (
        Example(f"{100 + i:012d}", f"a {name} stands alone in this quiet picture", "mscoco"),
        Example(f"{100 + i:012d}", f"is {name} big", "vqa", {"no": 0.3, "yes" if i % 2 else "maybe": 0.9}),
    )
]
TOKENIZER = Tokenizer.from_corpus(e.sentence for e in EXAMPLES)
TINY = ModelConfig(
    vocab_size=TOKENIZER.size, hidden=24, heads=3, feed_forward=40, language_layers=1, visual_layers=1,
    cross_layers=1, positions=16, dropout=0.0, codes=24, feature_dim=10, grid=2, answers=3,
)  # fmt: skip


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def data():
    codes = torch.arange(24).view(6, CELLS)  # code // CELLS tells the picture
    return PairedText.build(EXAMPLES, range(100, 106), codes, TOKENIZER, ["yes", "no", "maybe"], 12)


def draw(data, task, batch=3000, seed=0, **options):
    return PretrainingBatches(data, TOKENIZER, batch, tasks=(task,), **options)(0, generator(seed))


def named(words):
    """Which picture each sentence names: [B]; -1 for none."""
    names = torch.tensor([TOKENIZER.backend.token_to_id(name) for name in NAMES])
    found = words[:, :, None] == names  # [B, L, 6]
    return torch.where(found.any((1, 2)), found.any(1).long().argmax(1), -1)


def asks(words):
    return (words == TOKENIZER.backend.token_to_id("is")).any(1)


def test_the_number_of_masked_cells_is_uniform():
    mask = pretraining.uniform_cell_mask(16_000, 16, generator())
    counts = torch.bincount(mask.sum(1), minlength=17)
    assert counts[0] == 0 and len(counts) == 17
    chi_square = ((counts[1:] - 1000).square() / 1000).sum()
    assert chi_square < 37.7  # 0.999 quantile, 15 degrees of freedom
    assert (mask.float().mean(0) - 17 / 32).abs().max() < 0.02  # every place equally often
    pairs = mask[mask.sum(1) == 2].nonzero()[:, 1].view(-1, 2)
    assert len({tuple(p) for p in pairs.tolist()}) == 16 * 15 / 2  # every pair of places occurs


def test_bernoulli_masks_hide_each_cell_on_its_own():
    mask = pretraining.bernoulli_cell_mask(8000, 64, generator(), rate=0.15)
    assert mask.dtype == torch.bool and abs(mask.float().mean() - 0.15) < 0.005
    assert abs(mask.sum(1).float().var() - 64 * 0.15 * 0.85) < 0.5


@pytest.fixture
def sentences():
    words = torch.randint(TOKENIZER.first_word, TOKENIZER.size, (600, 120), generator=generator(9))
    words[:, 0], words[:, 100], words[:, 101:] = TOKENIZER.cls, TOKENIZER.sep, TOKENIZER.pad
    return words


@pytest.mark.parametrize("rate", [0.3, None])
def test_labels_are_the_hidden_words_and_share_no_memory_with_the_input(sentences, rate):
    kept = sentences.clone()
    inputs, labels = pretraining.mask_words(sentences, TOKENIZER, generator(), rate)
    assert torch.equal(sentences, kept)
    chosen = labels != IGNORED
    assert torch.equal(labels[chosen], kept[chosen]) and torch.equal(inputs[~chosen], kept[~chosen])
    before = labels.clone()
    inputs.fill_(0)
    sentences.fill_(0)
    assert torch.equal(labels, before)


@pytest.mark.parametrize("rate", [1.0, None])
def test_special_tokens_are_never_masked(sentences, rate):
    _, labels = pretraining.mask_words(sentences, TOKENIZER, generator(), rate)
    chosen = labels != IGNORED
    assert not chosen[:, 0].any() and not chosen[:, 100:].any()
    assert chosen[:, 1:100].all() if rate else chosen[:, 1:100].any()


def test_of_the_hidden_words_eight_in_ten_are_masked_one_random_one_kept(sentences):
    inputs, labels = pretraining.mask_words(sentences, TOKENIZER, generator(), 0.5)
    chosen = labels != IGNORED
    assert abs(chosen[:, 1:100].float().mean() - 0.5) < 0.01
    got, want = inputs[chosen], labels[chosen]
    same = 0.1 / (TOKENIZER.size - TOKENIZER.first_word)  # a random word may be the right one
    assert abs((got == TOKENIZER.mask).float().mean() - 0.8) < 0.01
    assert abs((got == want).float().mean() - 0.1 - same) < 0.01
    others = got[(got != TOKENIZER.mask) & (got != want)]
    assert others.unique().tolist() == list(range(TOKENIZER.first_word, TOKENIZER.size))


def test_without_a_rate_every_sentence_has_its_own_and_all_is_mask(sentences):
    inputs, labels = pretraining.mask_words(sentences, TOKENIZER, generator(), None)
    chosen = labels != IGNORED
    assert (inputs[chosen] == TOKENIZER.mask).all()
    rates = chosen[:, 1:100].float().mean(1)
    assert abs(rates.mean() - 0.5) < 0.04 and abs(rates.std() - 12**-0.5) < 0.03  # uniform on 0..1


def test_sentences_are_tied_to_their_pictures_and_answers(data):
    assert torch.equal(named(data.words), data.picture)
    assert torch.equal(asks(data.words), ~data.is_caption)
    assert data.answer.tolist() == [IGNORED, 2, IGNORED, 0] * 3


def test_only_coded_pictures_count_in_the_order_of_their_codes():
    ids, codes = [104, 101], torch.tensor([[4] * CELLS, [1] * CELLS])
    data = PairedText.build(EXAMPLES, ids, codes, TOKENIZER, ["no"], 12)
    assert named(data.words).tolist() == [1, 1, 4, 4]
    assert torch.equal(data.codes[data.picture][:, 0], named(data.words))
    assert data.answer.tolist() == [IGNORED] * 4  # "yes" and "maybe" are no answers here
    with pytest.raises(ValueError, match="None of 12 sentences belongs to one of the 2 coded pictures"):
        PairedText.build(EXAMPLES, [1, 2], codes, TOKENIZER, [], 12)


def test_the_visual_task_pairs_captions_with_their_own_picture(data):
    batch = draw(data, "visual", caption_dropout=0.0)
    assert torch.equal(batch["codes"], data.codes[named(batch["words"])])
    assert not asks(batch["words"]).any() and set(named(batch["words"]).tolist()) == set(range(6))
    assert batch["masked"].any(1).all() and "word_labels" not in batch


def test_a_share_of_the_sentences_is_empty_and_the_ablation_sees_questions(data):
    batch = draw(data, "visual", caption_dropout=0.25, right_text=False)
    assert abs(asks(batch["words"]).float().mean() - 0.75 / 2) < 0.03  # right_text=False: questions too
    empty = named(batch["words"]) < 0
    assert abs(empty.float().mean() - 0.25) < 0.03
    assert (batch["words"][empty][:, :2] == torch.tensor([TOKENIZER.cls, TOKENIZER.sep])).all()
    assert (batch["word_mask"].sum(1)[empty] == 2).all() and (batch["word_mask"].sum(1)[~empty] > 2).all()
    assert (batch["answers"][empty] == IGNORED).all() and (batch["answers"][~empty] != IGNORED).any()


def test_the_words_task_keeps_all_cells_and_the_own_picture(data):
    batch = draw(data, "words", word_rate=0.4)
    hidden = batch["word_labels"] != IGNORED
    words = torch.where(hidden, batch["word_labels"], batch["words"])
    assert "masked" not in batch and hidden.any() and asks(words).any()
    assert torch.equal(batch["codes"], data.codes[named(words)])


def test_about_half_of_the_sentences_are_of_another_picture_and_said_to_be(data):
    batch = draw(data, "matched")
    own = named(batch["words"]) == batch["codes"][:, 0] // CELLS
    assert torch.equal(batch["matched"], own.long())
    assert abs(own.float().mean() - (0.5 + 0.5 / 6)) < 0.03  # one draw in six is the same picture
    assert (batch["answers"][~own] == IGNORED).all() and asks(batch["words"])[~own].any()
    assert ((batch["answers"] != IGNORED) == asks(batch["words"]))[own].all()


def ids(words):
    return torch.tensor([TOKENIZER.backend.token_to_id(word) for word in words.split()])


def test_one_word_is_exchanged_for_one_of_its_kind_that_fits_its_neighbours():
    sentences = ["a cat stands", "a dog stands", "is cat big", "this quiet picture"]
    words, _ = TOKENIZER.encode(sentences, 12)
    known = pretraining.neighbours(words, TOKENIZER.size)
    assert known[ids("cat"), ids("stands")] and not known[ids("fox"), ids("stands")]
    changed = pretraining.exchange_word(words, [ids("cat dog fox")], known, generator())
    assert [TOKENIZER.decode(row) for row in changed] == ["a dog stands", "a cat stands", *sentences[2:]]


def test_half_of_the_mismatches_are_the_own_caption_with_another_name(data):
    batch = draw(data, "matched", exchangeable=[ids("ant bee cat dog eel fox").tolist()])
    own = named(batch["words"]) == batch["codes"][:, 0] // CELLS
    assert torch.equal(batch["matched"], own.long()) and not asks(batch["words"]).any()
    # An exchanged name is always false; another sentence is true by chance once in six.
    assert abs(own.float().mean() - (0.5 + 0.25 / 6)) < 0.03


def test_tasks_take_turns_and_a_step_is_repeatable(data):
    batches = PretrainingBatches(data, TOKENIZER, 8)
    again = PretrainingBatches(data, TOKENIZER, 8)
    for step in (4, 3, 5):
        first, second = (b(step, generator(step_seed(1, step))) for b in (batches, again))
        assert first.pop("task") == second.pop("task") == TASKS[step % 3]
        assert first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
    other = batches(3, generator(77))
    assert not torch.equal(other["codes"], batches(3, generator(78))["codes"])


def test_padding_that_no_sentence_of_the_batch_needs_is_cut(data):
    batches = PretrainingBatches(data, TOKENIZER, 8, tasks=("words",))
    batches.pools["words"] = (~data.is_caption).nonzero().flatten()
    batch = batches(0, generator())
    assert batch["words"].shape == batch["word_labels"].shape == (8, 5) and batch["word_mask"].all()


@pytest.fixture
def objective():
    torch.manual_seed(0)
    model = XLxmert(TINY, torch.randn(24, 10))
    torch.nn.init.normal_(model.mask_feature)
    return Pretraining(model)


def by_hand(logits, labels, chosen=None):
    """Minus the mean log-softmax and the share right: over all places first, the chosen ones selected last."""
    chosen = labels != IGNORED if chosen is None else chosen
    scores = torch.log(torch.exp(logits) / torch.exp(logits).sum(-1, keepdim=True))
    nll = -scores.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    return nll[chosen].mean(), (logits.argmax(-1) == labels)[chosen].float().mean()


@pytest.mark.parametrize("task", TASKS)
def test_losses_equal_a_plain_computation_and_train_all_but_the_centroids(objective, data, task):
    batch = draw(data, task, batch=32, right_text=False, word_rate=0.4)
    model = objective.model
    out = model(batch["words"], batch["word_mask"], model.centroids[batch["codes"]], batch.get("masked"))
    want, right = {
        "visual": lambda: by_hand(model.code_logits(out.cells), batch["codes"], batch["masked"]),
        "words": lambda: by_hand(model.word_logits(out.words), batch["word_labels"]),
        "matched": lambda: by_hand(model.match_logits(out.pooled), batch["matched"]),
    }[task]()
    answers, answers_right = by_hand(model.answer_logits(out.pooled), batch["answers"])
    loss, numbers = objective.eval()(batch)
    got = torch.stack([numbers[n] for n in (task, f"{task}_right", "answers", "answers_right")])
    assert torch.allclose(got, torch.stack([want, right, answers, answers_right]), atol=1e-5)
    assert torch.allclose(loss, want + answers, atol=1e-5)
    loss.backward()
    head = {"visual": model.code_bias, "words": model.word_bias, "matched": model.match_head.bias}[task]
    for value in (head, model.word_embedding.words.weight, model.cell_embedding.feature.weight):
        assert value.grad.abs().sum() > 0
    assert model.centroids.grad is None and not model.centroids.requires_grad
    assert (task == "visual") == (model.mask_feature.grad is not None)


def test_first_captions_are_drawn_as_often_as_asked_and_only_by_the_visual_task(data):
    twice = [*EXAMPLES, *[Example(e.image_id, "big " + e.sentence, "mscoco") for e in EXAMPLES[::2]]]
    twice.sort(key=lambda e: e.image_id)
    both = PairedText.build(twice, range(100, 106), torch.arange(24).view(6, CELLS), TOKENIZER, ["no"], 16)
    again = TOKENIZER.backend.token_to_id("big")  # no other sentence begins with it

    def share(task, **options):
        words = draw(both, task, right_text=True, caption_dropout=0.0, word_rate=0.0, **options)["words"]
        return float((words[:, 1] == again).float().mean())

    assert share("visual", first_caption=1.0) == 0
    assert abs(share("visual", first_caption=0.6) - 0.2) < 0.03  # half of the other 40 %
    assert share("words", first_caption=1.0) > 0.25


def test_without_answers_the_loss_is_the_task_alone_and_nothing_hidden_costs_nothing(objective, data):
    plain = Pretraining(objective.model, answers=False)
    loss, numbers = plain(draw(data, "matched", batch=32))
    assert set(numbers) == {"matched", "matched_right"} and torch.equal(loss.detach(), numbers["matched"])
    loss, numbers = plain(draw(data, "words", batch=4, word_rate=0.0))
    loss.backward()
    assert loss == 0 and numbers == {}


def test_evaluating_gives_the_means_and_changes_nothing(objective, data):
    before = {k: v.clone() for k, v in objective.state_dict().items()}
    batches = PretrainingBatches(data, TOKENIZER, 16)
    means = evaluate(objective.train(), batches, steps=6, seed=3)
    assert all(torch.equal(v, before[k]) for k, v in objective.state_dict().items())
    assert all(p.grad is None for p in objective.parameters()) and not objective.training
    seen = [objective(batches(step, generator(step_seed(3, step))))[1]["visual"] for step in (0, 3)]
    assert means["visual"] == pytest.approx(float(sum(seen)) / 2, rel=1e-5)
    assert {f"{task}_right" for task in TASKS} <= set(means)
