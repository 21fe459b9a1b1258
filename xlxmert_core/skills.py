"""Skill: a fine-tuned model with the words and answers that it learned; and one call that makes one.

A pipeline carries skills beside its painter: "vqa", "gqa", "nlvr2" and "captions".
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from xlxmert_core import checkpoints, training
from xlxmert_core.artifacts import write_json
from xlxmert_core.config import ModelConfig
from xlxmert_core.data import vqa
from xlxmert_core.data.coco import Report
from xlxmert_core.data.files import DataError
from xlxmert_core.data.images import ImageError, find_pictures
from xlxmert_core.finetuning import Answering, Lessons, adopt, batches
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


def fine_tune_vqa(painter, questions: str | os.PathLike, annotations: str | os.PathLike, pictures: str | os.PathLike,
                  *, steps: int = 600, batch: int = 64, minimum: int = vqa.OFTEN, answers: Sequence[str] | None = None,
                  seed: int = 0, lr: float = 0.005, checkpoint: str | os.PathLike | None = None,
                  progress: str | None = "fine-tuning") -> tuple[Skill, list[dict], Report]:  # fmt: skip
    """Fine-tune on any data set in VQA v2's format: two JSON files and a folder of pictures.

    Args:
        painter: the :class:`xlxmert_core.pipeline.Pipeline` to start from; it stays as it was.
        pictures: files whose names end in the picture's number, such as COCO_val2014_000000000042.jpg.
        minimum: an answer becomes a class when it is given so often; ``answers`` names the classes instead.
        checkpoint: file to resume from and to keep the progress in.

    Returns the skill, the training history, and what had to be left out: questions whose picture is missing or does
    not open, and questions none of whose answers is a class. Raises DataError in one sentence.
    """
    asked = vqa.read(questions, annotations)
    files = find_pictures(pictures)
    seen, broken = {}, {}  # picture -> its features [1, N, F], or why it does not open
    for key in dict.fromkeys(q.images[0] for q in asked if q.images[0] in files):
        try:
            seen[key] = painter.features([str(files[key])])
        except ImageError as error:
            broken[key] = str(error)
    row = {key: i for i, key in enumerate(seen)}
    asked, report = with_pictures(asked, row, broken)
    features = torch.from_numpy(np.concatenate(list(seen.values())))
    classes = list(answers) if answers is not None else vqa.answer_vocabulary(asked, minimum)
    known, usable = set(classes), []
    for question in asked:
        if known.isdisjoint(soft := vqa.soft_scores(question.answers)):
            report.skip(f"question {question.id}", f"none of its answers, such as {next(iter(soft), '')!r}, is a class")
        else:
            usable.append(question)
    if not usable:
        raise DataError(f"None of the {len(asked)} questions has an answer among the {len(classes)} classes: {report}")
    tokenizer = painter.tokenizer.extended(q.text for q in usable)
    lessons = Lessons.build(
        [q.text for q in usable], [[row[q.images[0]]] for q in usable],
        [vqa.soft_scores(q.answers) for q in usable], tokenizer, classes, painter.model.config.max_words,
    )  # fmt: skip
    torch.manual_seed(seed)
    objective = Answering(adopt(painter.model, tokenizer, painter.answers, classes))
    history = training.fit(
        objective, {"all": training.muon(objective, lr, lr / 5)}, batches(lessons, lambda r: features[r], batch),
        steps, seed=seed, checkpoint=checkpoint, progress=progress,
    )  # fmt: skip
    return Skill(objective.model, tokenizer, classes), history, report
