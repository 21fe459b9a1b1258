"""Writing: one sentence about a picture, filled in word by word by the loop of sampling.py, at several lengths.

Paper, section 3.2: the same masked model, with words in place of cells. Axes: B batch, C lengths that are tried,
N cells, F feature width, L words, V word vocabulary, M scored words.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from xlxmert_core.data.arrays import check_features
from xlxmert_core.model import XLxmert, batches
from xlxmert_core.sampling import Order, Schedule, fill, left_to_right, linear
from xlxmert_core.skills import length_logits
from xlxmert_core.text import Tokenizer

LENGTHS = 4  # lengths of a caption that are written out when the model says which are likely


@torch.no_grad()
def write_caption(model: XLxmert, tokenizer: Tokenizer, features: Tensor,
                  lengths: Sequence[int] | Tensor = range(5, 29), order: Order | str = left_to_right,
                  steps: int | None = None, schedule: Schedule | str = linear, temperature: float = 0.0,
                  generator: torch.Generator | None = None, hidden: Tensor | None = None, prior: Tensor | None = None,
                  callback: Callable[[dict], None] | None = None) -> tuple[list[str], Tensor]:  # fmt: skip
    """Write one sentence about each picture: features [B, N, F] -> (texts, scores [B]).

    For each picture a candidate of every length ([CLS], that many [MASK], [SEP]) is filled in, all in one batch,
    and the one with the best score wins: the mean log-probability of its words or, with a prior, the sum of them
    and of the length (a mean favours whoever says the same thing twice).

    Args:
        model: an XLxmert in eval mode.
        lengths: numbers of words (or word pieces) to try: the same for all pictures, or int64 [B, C].
        order: ``left_to_right``, ``easy_first`` or ``mask_predict``, or the name of one.
        steps: forward passes; None writes one word a step.
        hidden: bool [B, N], cells that must not be seen: what is described is the rest.
        prior: float [B, C], log-probabilities of the lengths.
    """
    lengths = torch.as_tensor(lengths if isinstance(lengths, Tensor) else list(lengths), device=features.device)
    if not lengths.numel() or lengths.min() < 1 or lengths.max() + 2 > model.config.positions:
        limit = model.config.positions - 2
        raise ValueError(f"write_caption() got lengths {lengths.tolist()}: give some from 1 to {limit}.")
    check_features(features)
    lengths = lengths.expand(len(features), -1)  # [B, C]
    texts, scores = [], [features.new_zeros(0)]
    for part in batches(len(features), lengths.shape[1]):
        given = (None if t is None else t[part] for t in (features, lengths, hidden, prior))
        lines, found = _write(model, tokenizer, *given, steps, order, schedule, temperature, generator, callback)
        texts, scores = texts + lines, [*scores, found]
    return texts, torch.cat(scores)


def _write(model, tokenizer, features, lengths, hidden, prior, steps, order, schedule, temperature, generator,
           callback) -> tuple[list[str], Tensor]:  # fmt: skip
    """One batch of :func:`write_caption`."""
    count = lengths.shape[1]
    words = blank_sentences(tokenizer, lengths.flatten())  # [B * C, L]
    word_mask, blanks = words != tokenizer.pad, words == tokenizer.mask
    seen = features.repeat_interleave(count, 0)  # [B * C, N, F]
    unseen = None if hidden is None else hidden.repeat_interleave(count, 0)
    never = [tokenizer.pad, tokenizer.cls, tokenizer.sep, tokenizer.mask, tokenizer.unk]
    special = torch.tensor(never, device=words.device)
    log_probability = torch.zeros(words.shape, device=features.device)
    before, read = torch.full_like(words, -1), features.new_zeros(*words.shape, model.config.hidden)

    def predict(values, masked, scored, step):
        """Words and blanks [B * C, L] -> logits [M, V] of the scored slots; special tokens never."""
        asked = values.masked_fill(masked, tokenizer.mask)
        new = (asked != before).any(1)  # a short sentence stays as it is in most steps of a long one's
        if new.any():
            given = (None if t is None else t[new] for t in (asked, word_mask, seen, unseen))
            before[new], read[new] = asked[new], model(*given).words
        logits = model.word_logits(read[scored])  # [M, V]
        return logits.index_fill_(1, special, -math.inf), None

    def remember(state):
        log_probability[state["written"]] = state["confidence"][state["written"]].log()
        if callback is not None:
            callback(state)

    steps = steps or int(lengths.max())
    words = fill(predict, words, blanks, steps, order, schedule, temperature, generator, remember)  # [B * C, L]
    words = words.unflatten(0, (-1, count))
    scores = log_probability.sum(1).view_as(lengths)  # [B, C]
    score, best = (scores / lengths if prior is None else scores + prior).max(1)  # [B]
    return [tokenizer.decode(row) for row in words[torch.arange(len(best), device=best.device), best].tolist()], score


def blank_sentences(tokenizer: Tokenizer, lengths: Tensor) -> Tensor:
    """One row a length, [CLS] [MASK] ... [SEP], padded to the longest: lengths int64 [R] -> [R, max + 2]."""
    place = torch.arange(int(lengths.max()) + 2, device=lengths.device)
    words = torch.full((len(lengths), len(place)), tokenizer.mask, device=lengths.device)
    words[:, 0] = tokenizer.cls
    words[place > lengths[:, None]] = tokenizer.pad
    words[torch.arange(len(lengths), device=lengths.device), lengths + 1] = tokenizer.sep
    return words


def likely_lengths(model: XLxmert, tokenizer: Tokenizer, features: Tensor,
                   hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The ``lengths`` of :func:`write_caption` that a skill finds likeliest, int64 [B, LENGTHS], and their ``prior``.

    Features [B, N, F] and hidden bool [B, N] are those of :func:`write_caption`.
    """
    parts = batches(len(features), LENGTHS)
    guesses = [length_logits(model, tokenizer, features[p], None if hidden is None else hidden[p]) for p in parts]
    guess = torch.cat(guesses)[:, 1:]  # no word, the first of all, is no sentence
    prior, lengths = guess.log_softmax(1).topk(min(LENGTHS, guess.shape[1]))
    return lengths + 1, prior
