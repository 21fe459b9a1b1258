"""Fine-tuning: one pretrained transformer becomes an answerer, a judge of picture pairs, or a writer.

Three objectives for the one loop of ``training.fit``, all on continuous grid features (paper, section 5.2);
and :func:`adopt`, which carries a pretrained model over to other words and answers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlxmert_core.model import PairClassifier, XLxmert
from xlxmert_core.objectives import IGNORED, mask_words
from xlxmert_core.text import Tokenizer

FeaturesOf = Callable[[Tensor], Tensor]  # rows of pictures int64 [B, P] -> features float [B, P, N, F]


@dataclass(frozen=True)
class Lessons:
    """Sentences about one or two pictures, with what is to be said of them.

    words int64 [Q, L] and word_mask bool [Q, L]; pictures int64 [Q, P], rows of the features (P is 1, or 2 for
    pairs); answers int64 [Q, M], rows of the answer head, ``IGNORED`` where there are fewer than M; scores float
    [Q, M] of those answers; hidden bool [Q, N], cells that must not be seen, or None.
    """

    words: Tensor
    word_mask: Tensor
    pictures: Tensor
    answers: Tensor
    scores: Tensor
    hidden: Tensor | None = None

    def __len__(self) -> int:
        return len(self.words)

    @classmethod
    def build(cls, sentences: Sequence[str], pictures: Sequence[Sequence[int]], labels: Sequence[Mapping[str, float]],
              tokenizer: Tokenizer, answers: Sequence[str], max_words: int) -> "Lessons":  # fmt: skip
        """From sentences, the rows of their pictures and {answer: score}; answers out of the vocabulary are dropped."""
        words, word_mask = tokenizer.encode(sentences, max_words)
        row = {answer: i for i, answer in enumerate(answers)}
        known = [[(row[a], s) for a, s in label.items() if a in row] for label in labels]
        shape = (len(known), max(1, max(map(len, known), default=1)))
        index, scores = torch.full(shape, IGNORED), torch.zeros(shape)
        for i, pairs in enumerate(known):
            for j, (answer, score) in enumerate(pairs):
                index[i, j], scores[i, j] = answer, score
        return cls(words, word_mask, torch.tensor(pictures).view(len(words), -1), index, scores)

    def batch(self, rows: Tensor, features: FeaturesOf) -> dict[str, Tensor]:
        """Some lessons as a batch: words, word_mask, features [B, P, N, F], answers and scores [B, M], hidden."""
        longest = int(self.word_mask[rows].sum(1).max())
        batch = {"words": self.words[rows, :longest], "word_mask": self.word_mask[rows, :longest]}
        batch |= {"answers": self.answers[rows], "scores": self.scores[rows]}
        batch |= {} if self.hidden is None else {"hidden": self.hidden[rows]}
        return batch | {"features": features(self.pictures[rows])}


def batches(lessons: Lessons, features: FeaturesOf, size: int, weights: Tensor | None = None):
    """``batch_at`` of :func:`xlxmert_core.training.fit`: ``size`` lessons drawn at random.

    Args:
        weights: float [Q], how often each is drawn; None draws all alike.
    """
    edges = None if weights is None else weights.double().cumsum(0)

    def batch_at(step: int, generator: torch.Generator) -> dict:
        """The lessons of one step, and the features of their pictures."""
        if edges is None:
            rows = torch.randint(len(lessons), (size,), generator=generator)
        else:
            drawn = torch.rand(size, generator=generator, dtype=torch.float64) * edges[-1]
            rows = torch.searchsorted(edges, drawn, right=True).clamp_max(len(lessons) - 1)
        return lessons.batch(rows, features)

    return batch_at


class Answering(nn.Module):
    """VQA and GQA: binary cross-entropy of every answer against its soft score.

    Summed over answers and averaged over questions, as LXMERT does (its mean times the number of answers).
    """

    def __init__(self, model: XLxmert):
        super().__init__()
        self.model = model

    def logits(self, batch: dict) -> Tensor:
        """A batch of :class:`Lessons` -> [B, A]."""
        out = self.model(batch["words"], batch["word_mask"], batch["features"][:, 0])
        return self.model.answer_logits(out.pooled)

    def forward(self, batch: dict, turn: str = "all") -> tuple[Tensor, dict]:
        """-> (loss, numbers: the loss and the mean score of the likeliest answer)."""
        logits = self.logits(batch)
        known = batch["answers"] != IGNORED
        target = torch.zeros_like(logits).scatter_add_(1, batch["answers"].clamp_min(0), batch["scores"] * known)
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1).mean()
        score = target.gather(1, logits.argmax(1, keepdim=True)).mean()
        return loss, {"loss": loss.detach(), "score": score}


class Judging(nn.Module):
    """NLVR2: cross-entropy of false (0) and true (1) for a sentence about two pictures."""

    def __init__(self, model: XLxmert):
        super().__init__()
        self.model = PairClassifier(model)

    def logits(self, batch: dict) -> Tensor:
        """A batch of :class:`Lessons` -> [B, 2]."""
        left, right = batch["features"].unbind(1)
        return self.model(batch["words"], batch["word_mask"], left, right)

    def forward(self, batch: dict, turn: str = "all") -> tuple[Tensor, dict]:
        """-> (loss, numbers: the loss and the share of right judgements)."""
        logits, truth = self.logits(batch), batch["answers"][:, 0]
        loss = F.cross_entropy(logits, truth)
        return loss, {"loss": loss.detach(), "score": (logits.argmax(1) == truth).float().mean()}


class Writing(nn.Module):
    """Captions: fill in hidden words, their share drawn uniformly for each sentence (method, section 8).

    The answer head learns how long a caption of the picture is, from the empty sentence, as Mask-Predict does
    (Ghazvininejad et al. 2019): row n stands for n words. A quarter of the batch is enough for that.
    """

    def __init__(self, model: XLxmert, tokenizer: Tokenizer):
        super().__init__()
        self.model, self.tokenizer = model, tokenizer

    def forward(self, batch: dict, turn: str = "all") -> tuple[Tensor, dict]:
        """-> (loss, numbers: the losses of words and lengths, the share of hidden words found)."""
        device = batch["words"].device
        generator = torch.Generator().manual_seed(torch.initial_seed())  # fit seeds every step
        words, labels = (t.to(device) for t in mask_words(batch["words"].cpu(), self.tokenizer, generator, rate=None))
        out = self.model(words, batch["word_mask"], batch["features"][:, 0], batch.get("hidden"))
        found = labels != IGNORED
        logits = self.model.word_logits(out.words[found])  # [hidden words, V]
        loss = F.cross_entropy(logits, labels[found])
        some = slice(0, -(-len(words) // 4))
        guess = length_logits(
            self.model, self.tokenizer, batch["features"][some, 0], batch["hidden"][some] if "hidden" in batch else None
        )
        length_loss = F.cross_entropy(guess, batch["word_mask"][some].sum(1) - 2)
        right = (logits.argmax(1) == labels[found]).float().mean()
        return loss + length_loss, {"words": loss.detach(), "lengths": length_loss.detach(), "score": right}


def length_logits(model: XLxmert, tokenizer: Tokenizer, features: Tensor, hidden: Tensor | None = None) -> Tensor:
    """How many words a caption will have: features [B, N, F], hidden bool [B, N] -> [B, lengths]."""
    empty = torch.tensor([[tokenizer.cls, tokenizer.sep]], device=features.device).expand(len(features), -1)
    return model.answer_logits(model(empty, None, features, hidden).pooled)


@torch.inference_mode()
def predict(objective: Answering | Judging, lessons: Lessons, features: FeaturesOf, size: int = 128) -> Tensor:
    """The likeliest row of the answer head for every lesson, in order: int64 [Q]."""
    objective.eval()
    rows = torch.arange(len(lessons)).split(size)
    return torch.cat([objective.logits(lessons.batch(part, features)).argmax(1) for part in rows])


def adopt(source: XLxmert, tokenizer: Tokenizer, had: Sequence[str], answers: Sequence[str]) -> XLxmert:
    """A copy of ``source`` with the words of ``tokenizer`` and another answer head.

    Words keep their rows, new words (at the end of the table) start anew; an answer that the source knows, by
    its string, starts from the source's row, every other one from scratch.

    Args:
        tokenizer: the source's own, or :meth:`Tokenizer.extended` from it.
        had: the source's answers, in the order of its head.
    """
    config = replace(source.config, vocab_size=tokenizer.size, answers=max(1, len(answers)))
    model = XLxmert(config)
    state, where = model.state_dict(), {answer: i for i, answer in enumerate(had)}
    pairs = [(i, where[a]) for i, a in enumerate(answers) if a in where]
    for name, value in source.state_dict().items():
        if name in ("word_embedding.words.weight", "word_bias"):
            state[name][: len(value)] = value
        elif not name.startswith("answer_head.3."):
            state[name] = value
        elif pairs:
            ours, theirs = map(list, zip(*pairs, strict=True))
            state[name][ours] = value[theirs]
    model.load_state_dict(state)
    return model


def inside(boxes: Tensor, grid: int = 8) -> Tensor:
    """Cells whose centre lies in a box: boxes [M, 4] as (x0, y0, x1, y1) between 0 and 1 -> bool [M, N].

    A box between the centres takes the cell that its own centre lies in, so that none is empty.
    """
    centre = (torch.arange(grid) + 0.5) / grid
    x0, y0, x1, y1 = boxes.float().T[..., None]  # [M, 1]
    columns, rows = (x0 <= centre) & (centre < x1), (y0 <= centre) & (centre < y1)  # [M, grid]
    for low, high, marked in ((x0, x1, columns), (y0, y1, rows)):
        middle = ((low + high) / 2 * grid).long().clamp(0, grid - 1)  # [M, 1]
        marked |= ~marked.any(1, keepdim=True) & (torch.arange(grid) == middle)
    return (rows[:, :, None] & columns[:, None, :]).flatten(1)
