"""Skill: a fine-tuned model with the words and answers that it learned.

A pipeline carries skills beside its painter: "vqa", "gqa", "nlvr2" and "captions".
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from xlxmert_core import checkpoints
from xlxmert_core.config import ModelConfig
from xlxmert_core.data.arrays import check_features
from xlxmert_core.data.files import read_json
from xlxmert_core.files import write_json
from xlxmert_core.model import PairClassifier, XLxmert, batches
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
        config = read_json(folder / "config.json")
        model = XLxmert(ModelConfig(**config["model"]))
        model = (PairClassifier(model) if config["pairs"] else model).eval()
        checkpoints.load(model, folder / "model.safetensors")
        return cls(model, Tokenizer.load(folder / "tokenizer.json"), config["answers"])

    @torch.inference_mode()
    def answer(self, questions: Sequence[str], features: Tensor) -> list[str]:
        """The likeliest answer to each of B questions: features float [B, N, F], or [B, 2, N, F] for pairs.

        Raises ValueError for features that are no numbers.
        """
        check_features(features)
        found: list[int] = []
        for part in batches(len(questions)):
            found += self._logits(questions[part], features[part]).argmax(1).tolist()
        return [self.answers[i] for i in found]

    def _logits(self, questions: Sequence[str], features: Tensor) -> Tensor:
        model, encoded = self.model, self.tokenizer.encode(questions, self.model.config.max_words)
        words, word_mask = (part.to(features.device) for part in encoded)
        if isinstance(model, PairClassifier):
            return model(words, word_mask, *features.unbind(1))
        return model.answer_logits(model(words, word_mask, features).pooled)[:, : len(self.answers)]


def length_logits(model: XLxmert, tokenizer: Tokenizer, features: Tensor, hidden: Tensor | None = None) -> Tensor:
    """How many words a caption will have: features [B, N, F], hidden bool [B, N] -> [B, lengths]."""
    empty = torch.tensor([[tokenizer.cls, tokenizer.sep]], device=features.device).expand(len(features), -1)
    return model.answer_logits(model(empty, None, features, hidden).pooled)
