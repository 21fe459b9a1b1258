"""Skill: a fine-tuned model with the words and answers that it learned; and the calls that make one.

A pipeline carries skills beside its painter: "vqa", "gqa", "nlvr2" and "captions".
"""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from xlxmert_core import checkpoints, training
from xlxmert_core.config import ModelConfig
from xlxmert_core.data import vqa
from xlxmert_core.data.coco import Report
from xlxmert_core.data.files import DataError
from xlxmert_core.data.images import ImageError, find_pictures
from xlxmert_core.data.sources import picture_key
from xlxmert_core.files import write_json
from xlxmert_core.finetuning import Answering, Judging, Lessons, adopt, batches
from xlxmert_core.model import PairClassifier, XLxmert
from xlxmert_core.text import Tokenizer

NAMES = ("vqa", "gqa", "nlvr2", "captions")
FILES = ("model.safetensors", "tokenizer.json", "config.json")


@dataclass
class Skill:
    """What one fine-tuning leaves: a model (two-picture or plain), its tokenizer, its answers."""

    model: XLxmert | PairClassifier
    tokenizer: Tokenizer
    answers: list[str]

    def save(self, folder: str | os.PathLike, half: bool = False) -> None:
        """Write model.safetensors, tokenizer.json and, last, config.json."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").unlink(missing_ok=True)  # until all is new, it is no skill
        checkpoints.save(self.model, folder / "model.safetensors", half=half)
        self.tokenizer.save(folder / "tokenizer.json")
        pairs = isinstance(self.model, PairClassifier)
        config = asdict((self.model.model if pairs else self.model).config)
        write_json(folder / "config.json", {"model": config, "pairs": pairs, "answers": self.answers})

    @staticmethod
    def is_in(folder: str | os.PathLike) -> bool:
        """Whether a folder holds a skill."""
        return all((Path(folder) / name).is_file() for name in FILES)

    @staticmethod
    def remove(folder: str | os.PathLike) -> None:
        """Remove a skill's files, and the folder when nothing else is in it; other folders stay as they are."""
        if Skill.is_in(folder):
            for name in FILES:
                (Path(folder) / name).unlink()
            if not any(Path(folder).iterdir()):
                Path(folder).rmdir()

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "Skill":
        """Open what :meth:`save` wrote; raises FileNotFoundError in one sentence."""
        folder = Path(folder)
        if not cls.is_in(folder):
            raise FileNotFoundError(f"{folder} holds no fine-tuned model: it needs {', '.join(FILES)}.")
        config = json.loads((folder / "config.json").read_text())
        model = XLxmert(ModelConfig(**config["model"]))
        model = (PairClassifier(model) if config["pairs"] else model).eval()
        checkpoints.load(model, folder / "model.safetensors")
        return cls(model, Tokenizer.load(folder / "tokenizer.json"), config["answers"])

    @torch.inference_mode()
    def answer(self, questions: Sequence[str], features: torch.Tensor) -> list[str]:
        """The likeliest answers: features float [B, N, F], or [B, 2, N, F] for pairs."""
        model = self.model
        if isinstance(model, PairClassifier):
            limit = model.model.config.max_words
            logits = model(*self.tokenizer.encode(questions, limit), *features.unbind(1))
        else:
            out = model(*self.tokenizer.encode(questions, model.config.max_words), features)
            logits = model.answer_logits(out.pooled)
        return [self.answers[i] for i in logits.argmax(1).tolist()]


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


def fine_tune_vqa(painter, questions: str | os.PathLike, annotations: str | os.PathLike, pictures, *,
                  minimum: int = vqa.OFTEN, answers: Sequence[str] | None = None,
                  **options) -> tuple[Skill, list[dict], Report]:  # fmt: skip
    """Fine-tune on any data set in VQA v2's format: two JSON files and its pictures.

    Args:
        minimum: an answer becomes a class when it is given so often; ``answers`` names the classes instead.

    The rest is :func:`fine_tune`'s. Raises DataError in one sentence.
    """
    asked = vqa.read(questions, annotations)
    seen = _seen(painter, asked, pictures)
    there, _ = with_pictures(asked, seen.row, seen.broken)
    classes = list(answers) if answers is not None else vqa.answer_vocabulary(there, minimum)
    return fine_tune(painter, asked, seen, classes, **options)


def fine_tune(painter, asked: Sequence[vqa.Question], pictures, answers: Sequence[str], *, steps: int = 600,
              batch: int = 64, seed: int = 0, lr: float = 0.005, checkpoint: str | os.PathLike | None = None,
              progress: str | None = "fine-tuning") -> tuple[Skill, list[dict], Report]:  # fmt: skip
    """Fine-tune on questions about pictures (``vqa.read``, ``gqa.read``) or statements about pairs (``nlvr2.read``).

    Args:
        painter: the :class:`xlxmert_core.pipeline.Pipeline` to start from; it stays as it was.
        pictures: a folder with files named after the questions' pictures, such as COCO_val2014_000000000042.jpg for
            42; or their features, a FeatureStore or HDF5Features, read from disk as they are needed.
        answers: the classes; "False" and "True" for pairs.
        checkpoint: file to resume from and to keep the progress in.

    Returns the skill, the training history, and what had to be left out: questions whose picture is missing or does
    not open, and questions none of whose answers is a class. Raises DataError in one sentence.
    """
    seen = pictures if isinstance(pictures, _Seen) else _seen(painter, asked, pictures)
    asked, report = with_pictures(asked, seen.row, seen.broken)
    labels, usable, known = [], [], set(answers)
    for question in asked:
        many = len(question.answers) > 1
        soft = vqa.soft_scores(question.answers) if many else dict.fromkeys([question.answer], 1.0)
        if known.isdisjoint(soft):
            report.skip(f"question {question.id}", f"none of its answers, such as {next(iter(soft), '')!r}, is a class")
            continue
        labels.append(soft)
        usable.append(question)
    if not usable:
        raise DataError(f"None of the {len(asked)} questions has an answer among the {len(known)} classes: {report}")
    tokenizer = painter.tokenizer.extended(q.text for q in usable)
    rows = [[seen.row[key] for key in q.images] for q in usable]
    lessons = Lessons.build(
        [q.text for q in usable], rows, labels, tokenizer, answers, painter.model.config.max_words
    )  # fmt: skip
    torch.manual_seed(seed)
    kind = Judging if len(usable[0].images) == 2 else Answering
    objective = kind(adopt(painter.model, tokenizer, painter.answers, answers))
    history = training.fit(
        objective, {"all": training.muon(objective, lr, lr / 5)}, batches(lessons, seen.features, batch),
        steps, seed=seed, checkpoint=checkpoint, progress=progress,
    )  # fmt: skip
    return Skill(objective.model, tokenizer, list(answers)), history, report


@dataclass(frozen=True)
class _Seen:
    """Pictures' rows by key, features [B, P, N, F] of rows [B, P], and why some pictures do not open."""

    row: dict
    features: Callable
    broken: dict


def _seen(painter, asked: Sequence[vqa.Question], pictures) -> _Seen:
    if hasattr(pictures, "rows"):
        return _stored(painter, asked, pictures)
    files, found, broken = find_pictures(pictures), {}, {}
    for key in dict.fromkeys(key for q in asked for key in q.images if key in files):
        try:
            found[key] = painter.features([str(files[key])])
        except ImageError as error:
            broken[key] = str(error)
    features = torch.from_numpy(np.concatenate(list(found.values()))) if found else torch.empty(0)
    return _Seen({key: i for i, key in enumerate(found)}, lambda rows: features[rows], broken)


def _stored(painter, asked: Sequence[vqa.Question], store) -> _Seen:
    """Features on disk; COCO's pictures are also found by their number."""
    width = painter.model.config.feature_dim
    if store.shape[-1] != width:
        raise DataError(f"The features are {store.shape[-1]} wide but the model reads {width}: use its own encoder's.")
    ids = store.ids
    place = {picture_key(key): i for i, key in enumerate(ids)}
    by_number = {m[1]: i for i, key in enumerate(ids) if (m := re.fullmatch(r"COCO_\w+_0*(\d+)", str(key)))}
    row = {}
    for key in dict.fromkeys(key for q in asked for key in q.images):
        name = picture_key(key)
        if name in place and name in by_number:
            raise DataError(f"Picture {name} may be {ids[place[name]]!r} or {ids[by_number[name]]!r}: use one source.")
        if (i := place.get(name, by_number.get(name))) is not None:
            row[key] = i

    def features(rows: torch.Tensor) -> torch.Tensor:
        values = store.rows([ids[i] for i in rows.flatten().tolist()]).astype(np.float32, copy=False)
        return torch.from_numpy(values).view(*rows.shape, *values.shape[1:])

    return _Seen(row, features, {})
