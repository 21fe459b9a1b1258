"""Fine-tuning: one pretrained transformer becomes an answerer, a judge of picture pairs, or a writer.

Three objectives for ``loop.fit``, on continuous grid features (paper, section 5.2); :func:`adopt`, to other words.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlxmert_core.config import check_number
from xlxmert_core.data import vqa
from xlxmert_core.data.coco import Report
from xlxmert_core.data.files import DataError
from xlxmert_core.data.images import ImageError
from xlxmert_core.data.pictures import ByPicture, find_pictures
from xlxmert_core.model import PairClassifier, XLxmert
from xlxmert_core.pipeline import Pipeline
from xlxmert_core.skills import Skill, length_logits
from xlxmert_core.text import Tokenizer
from xlxmert_core.train import loop
from xlxmert_core.train.optimisers import muon, only_last
from xlxmert_core.train.pretraining import IGNORED, mask_to_write

FeaturesOf = Callable[[Tensor], Tensor]  # rows of pictures int64 [B, P] -> features float [B, P, N, F]


@dataclass(frozen=True)
class FineTuningData:
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
              tokenizer: Tokenizer, answers: Sequence[str], max_words: int) -> "FineTuningData":  # fmt: skip
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
        """Some rows as a batch: words, word_mask, features [B, P, N, F], answers and scores [B, M], hidden."""
        longest = int(self.word_mask[rows].sum(1).max())
        batch = {"words": self.words[rows, :longest], "word_mask": self.word_mask[rows, :longest]}
        batch |= {"answers": self.answers[rows], "scores": self.scores[rows]}
        batch |= {} if self.hidden is None else {"hidden": self.hidden[rows]}
        return batch | {"features": features(self.pictures[rows])}


def batches(data: FineTuningData, features: FeaturesOf, size: int,
            weights: Tensor | None = None) -> loop.BatchAt:  # fmt: skip
    """``batch_at`` of :func:`xlxmert_core.train.loop.fit`: ``size`` sentences drawn at random.

    Args:
        weights: float [Q], how often each is drawn; None draws all alike.
    """
    edges = None if weights is None else weights.double().cumsum(0)

    def batch_at(step: int, generator: torch.Generator) -> dict:
        """The sentences of one step, and the features of their pictures."""
        if edges is None:
            rows = torch.randint(len(data), (size,), generator=generator)
        else:
            drawn = torch.rand(size, generator=generator, dtype=torch.float64) * edges[-1]
            rows = torch.searchsorted(edges, drawn, right=True).clamp_max(len(data) - 1)
        return data.batch(rows, features)

    return batch_at


class Answering(nn.Module):
    """VQA and GQA: binary cross-entropy of every answer against its soft score.

    Summed over answers and averaged over questions, as LXMERT does (its mean times the number of answers).
    """

    def __init__(self, model: XLxmert):
        super().__init__()
        self.model = model

    def logits(self, batch: dict) -> Tensor:
        """A batch of :class:`FineTuningData` -> [B, A]."""
        out = self.model(batch["words"], batch["word_mask"], batch["features"][:, 0])
        return self.model.answer_logits(out.pooled)

    @torch.no_grad()
    def settle(self, batch: dict) -> None:
        """Lower the head's bias so that a sigmoid is about the softmax's probability, as pretraining meant it."""
        self.model.get_parameter("answer_head.3.bias").sub_(self.logits(batch).logsumexp(1).mean())

    def forward(self, batch: dict) -> tuple[Tensor, dict]:
        """-> (loss, numbers: the loss and the mean score of the likeliest answer)."""
        logits = self.logits(batch)
        scores = batch["scores"] * (batch["answers"] != IGNORED)  # whole, where autocast has halved the logits
        target = torch.zeros_like(logits, dtype=scores.dtype).scatter_add_(1, batch["answers"].clamp_min(0), scores)
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1).mean()
        score = target.gather(1, logits.argmax(1, keepdim=True)).mean()
        return loss, {"loss": loss.detach(), "score": score}


class Judging(nn.Module):
    """NLVR2: cross-entropy of false (0) and true (1) for a sentence about two pictures."""

    def __init__(self, model: XLxmert):
        super().__init__()
        self.model = PairClassifier(model)

    def logits(self, batch: dict) -> Tensor:
        """A batch of :class:`FineTuningData` -> [B, 2]."""
        left, right = batch["features"].unbind(1)
        return self.model(batch["words"], batch["word_mask"], left, right)

    def forward(self, batch: dict) -> tuple[Tensor, dict]:
        """-> (loss, numbers: the loss and the share of right judgements)."""
        logits, truth = self.logits(batch), batch["answers"][:, 0]
        loss = F.cross_entropy(logits, truth)
        return loss, {"loss": loss.detach(), "score": (logits.argmax(1) == truth).float().mean()}


class Writing(nn.Module):
    """Captions: fill in hidden words, their share drawn uniformly for each sentence (method, section 8).

    The answer head learns how long a caption of the picture is, from the empty sentence, as Mask-Predict does
    (Ghazvininejad et al. 2019): row n stands for n words. A quarter of the batch is enough for that.
    Words in ``placed`` are hidden on purpose (:func:`~.pretraining.mask_to_write`).
    """

    def __init__(self, model: XLxmert, tokenizer: Tokenizer, placed: Sequence[int] = ()):
        super().__init__()
        self.model, self.tokenizer, self.placed = model, tokenizer, tuple(placed)

    def forward(self, batch: dict) -> tuple[Tensor, dict]:
        """-> (loss, numbers: the losses of words and lengths, the share of hidden words found)."""
        generator = torch.Generator().manual_seed(torch.initial_seed())  # fit seeds every step
        both = mask_to_write(batch["words"].cpu(), self.tokenizer, generator, self.placed)
        words, labels = (t.to(batch["words"].device) for t in both)
        out = self.model(words, batch["word_mask"], batch["features"][:, 0], batch.get("hidden"))
        found = labels != IGNORED
        logits = self.model.word_logits(out.words[found])  # [hidden words, V]
        loss = F.cross_entropy(logits, labels[found])
        some = slice(0, -(-len(words) // 4))
        guess = length_logits(self.model, self.tokenizer, batch["features"][some, 0],
                              batch["hidden"][some] if "hidden" in batch else None)  # fmt: skip
        length_loss = F.cross_entropy(guess, batch["word_mask"][some].sum(1) - 2)
        right = (logits.argmax(1) == labels[found]).float().mean()
        return loss + length_loss, {"words": loss.detach(), "lengths": length_loss.detach(), "score": right}


@torch.inference_mode()
def predict(objective: Answering | Judging, data: FineTuningData, features: FeaturesOf, size: int = 128) -> Tensor:
    """The likeliest row of the answer head for every sentence, in order: int64 [Q]."""
    objective.eval()
    rows = torch.arange(len(data)).split(size)
    return torch.cat([objective.logits(data.batch(part, features)).argmax(1) for part in rows])


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


def with_pictures(questions: Sequence[vqa.Question], rows: Mapping,
                  broken: Mapping | None = None) -> tuple[list[vqa.Question], Report]:  # fmt: skip
    """The questions whose pictures are all in ``rows`` (key -> row of the features), and which had to be left out.

    ``broken`` says why a picture that is there does not open. Raises DataError when no question is left.
    """
    kept, report = [], Report()
    for question in questions:
        lost = next((key for key in question.images if key not in rows), None)
        if lost is None:
            kept.append(question)
        else:
            report.skip(f"question {question.id}", (broken or {}).get(lost, f"its picture {lost} is missing"))
    if not kept:
        raise DataError(f"None of the {len(questions)} questions is about a picture that is there: {report}")
    return kept, report


def fine_tune_vqa(painter: Pipeline, questions: str | os.PathLike, annotations: str | os.PathLike, pictures: Any, *,
                  minimum: int = vqa.OFTEN, answers: Sequence[str] | None = None,
                  **options) -> tuple[Skill, list[dict], Report]:  # fmt: skip
    """Fine-tune on any data set in VQA v2's format: two JSON files and its pictures.

    Args:
        minimum: an answer becomes a class when it is given so often; ``answers`` names the classes instead.

    The rest is :func:`fine_tune`'s. Raises DataError in one sentence.
    """
    asked = vqa.read(questions, annotations)
    pictures = _featured(painter, asked, pictures)
    usable, _ = with_pictures(asked, pictures.row, pictures.broken)
    classes = list(answers) if answers is not None else vqa.answer_vocabulary(usable, minimum)
    return fine_tune(painter, asked, pictures, classes, **options)


def fine_tune(painter: Pipeline, asked: Sequence[vqa.Question], pictures: Any, answers: Sequence[str], *,
              steps: int = 600, batch: int = 64, seed: int = 0, lr: float = 0.005, layers: int | None = None,
              checkpoint: str | os.PathLike | None = None,
              progress: str | None = "fine-tuning") -> tuple[Skill, list[dict], Report]:  # fmt: skip
    """Fine-tune on questions about pictures (``vqa.read``, ``gqa.read``) or statements about pairs (``nlvr2.read``).

    Args:
        painter: the :class:`xlxmert_core.pipeline.Pipeline` to start from; it stays as it was.
        pictures: a folder of files such as COCO_val2014_000000000042.jpg for picture 42; or their features, a
            FeatureStore or HDF5Features, read from disk as they are needed.
        answers: the classes; "False" and "True" for pairs.
        layers: how many layers are trained (:func:`~.optimisers.only_last`); all when None.
        checkpoint: file to keep the progress in and to resume from; one of another fine-tuning is refused.

    Returns the skill, the training history, and what had to be left out: questions whose picture is missing or does
    not open, and questions none of whose answers is a class. Raises DataError in one sentence.
    """
    pictures = pictures if isinstance(pictures, _Featured) else _featured(painter, asked, pictures)
    asked, report = with_pictures(asked, pictures.row, pictures.broken)
    usable, known = [], set(answers)
    for question in asked:
        if known.isdisjoint(soft := label_of(question)):
            report.skip(f"question {question.id}", f"none of its answers, such as {next(iter(soft), '')!r}, is a class")
        else:
            usable.append(question)
    if not usable:
        raise DataError(f"None of the {len(asked)} questions has an answer among the {len(known)} classes: {report}")
    rows = [[pictures.row[key] for key in q.images] for q in usable]
    track = loop.Track(checkpoint, progress=progress)
    skill, history = tune(painter, usable, rows, pictures.features, answers, steps, batch, seed, lr, layers, track)
    return skill, history, report


def label_of(question: vqa.Question) -> dict[str, float]:
    """{answer: score}: soft scores where several people answered."""
    return vqa.soft_scores(question.answers) if len(question.answers) > 1 else {question.answer: 1.0}


def tune(painter: Pipeline, questions: Sequence[vqa.Question], rows: Sequence[Sequence[int]], features: FeaturesOf,
         answers: Sequence[str], steps: int, batch: int = 64, seed: int = 0, lr: float = 0.005,
         layers: int | None = None, track: loop.Track = loop.SILENT) -> tuple[Skill, list[dict]]:  # fmt: skip
    """What :func:`fine_tune` and the recipes share: all of these questions, about pictures whose rows are known."""
    check_number("batch", batch, 1)
    check_number("seed", seed, 0, 2**32 - 1)
    torch.manual_seed(seed)
    tokenizer = painter.tokenizer.extended(q.text for q in questions)
    texts, labels = [q.text for q in questions], [label_of(q) for q in questions]
    data = FineTuningData.build(texts, rows, labels, tokenizer, answers, painter.model.config.max_words)
    track = replace(track, origin={"painter": painter.model, "answers": list(answers), "batch": batch, "lr": lr})
    kind = Judging if len(questions[0].images) == 2 else Answering
    model = only_last(adopt(painter.model, tokenizer, painter.answers, answers), layers)
    objective, drawn = kind(model), batches(data, features, batch)
    if isinstance(objective, Answering):
        objective.eval().settle(loop.to_device(drawn(0, torch.Generator().manual_seed(seed)), torch.device("cpu")))
    history = loop.fit(objective, muon(objective, lr, lr / 5), drawn, steps, seed=seed, track=track)
    return Skill(objective.model.eval().requires_grad_(True), tokenizer, list(answers)), history


@dataclass(frozen=True)
class _Featured:
    """Pictures' rows by key, features [B, P, N, F] of rows [B, P], and why some pictures do not open."""

    row: dict
    features: Callable
    broken: dict


def _featured(painter, asked: Sequence[vqa.Question], pictures) -> _Featured:
    if hasattr(pictures, "rows"):
        return _stored(painter, asked, pictures)
    files, found, broken = find_pictures(pictures), {}, {}
    for key in dict.fromkeys(key for q in asked for key in q.images if key in files):
        try:
            found[key] = painter.features([str(files[key])])
        except ImageError as error:
            broken[key] = str(error)
    features = torch.from_numpy(np.concatenate(list(found.values()))) if found else torch.empty(0)
    return _Featured({key: i for i, key in enumerate(found)}, lambda rows: features[rows], broken)


def _stored(painter, asked: Sequence[vqa.Question], store) -> _Featured:
    """Features on disk; COCO's pictures are also found by their number."""
    width = painter.model.config.feature_dim
    if store.shape[-1] != width:
        raise DataError(f"The features are {store.shape[-1]} wide but the model reads {width}: use its own encoder's.")
    ids = store.ids
    place = ByPicture((key, i) for i, key in enumerate(ids))
    row = {key: place[key] for key in dict.fromkeys(key for q in asked for key in q.images) if key in place}

    def features(rows: torch.Tensor) -> torch.Tensor:
        values = store.rows([ids[i] for i in rows.flatten().tolist()]).astype(np.float32, copy=False)
        return torch.from_numpy(values).view(*rows.shape, *values.shape[1:])

    return _Featured(row, features, {})
