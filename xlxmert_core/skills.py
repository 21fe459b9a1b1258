"""Skill: a fine-tuned model with the words and answers that it learned.

A pipeline carries skills beside its painter: "vqa", "gqa", "nlvr2" and "captions".
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xlxmert_core import checkpoints
from xlxmert_core.config import ModelConfig
from xlxmert_core.data.arrays import check_features
from xlxmert_core.data.settings import described, read_settings
from xlxmert_core.display.describe import skill_line
from xlxmert_core.files import fingerprint, write_json
from xlxmert_core.model import PairClassifier, XLxmert, batches
from xlxmert_core.text import Tokenizer

NAMES = ("vqa", "gqa", "nlvr2", "captions")
LAYERS = 1000  # more are a mistake
BASE = "transformer.safetensors"  # what a pipeline keeps beside the folders of its skills
FILES = ("model.safetensors", "tokenizer.json", "config.json")


@dataclass
class Skill:
    """What one fine-tuning leaves: a model (two-picture or plain), its tokenizer, its answers."""

    model: XLxmert | PairClassifier
    tokenizer: Tokenizer
    answers: list[str]

    def __repr__(self) -> str:
        return skill_line(self)

    def save(self, folder: str | os.PathLike, bits: int = 32, base: XLxmert | None = None) -> None:
        """Write model.safetensors, tokenizer.json and, last, config.json.

        Args:
            bits: 8, 16 or 32, as in :func:`~xlxmert_core.checkpoints.save`.
            base: the model of ../transformer.safetensors, already written; what is equal in it is left out.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").unlink(missing_ok=True)  # until all is new, it is no skill
        pairs, others = isinstance(self.model, PairClassifier), {} if base is None else base.state_dict()
        checkpoints.save(self.model, folder / "model.safetensors", bits, _named(others, pairs))
        self.tokenizer.save(folder / "tokenizer.json")
        mark = None if base is None else fingerprint(folder.parent / BASE)
        config = {"model": asdict(self.model.config), "pairs": pairs, "answers": self.answers, "base": mark}
        write_json(folder / "config.json", config)

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
        """Open what :meth:`save` wrote; raises FileNotFoundError or ValueError in one sentence."""
        folder = Path(folder)
        if not cls.is_in(folder):
            raise FileNotFoundError(f"{folder} holds no fine-tuned model: it needs {', '.join(FILES)}.")
        path = folder / "config.json"
        config, others = read_settings(path, "model", "pairs", "answers", base=None), {}
        if config["base"] is not None:
            if not (base := folder.parent / BASE).is_file() or fingerprint(base) != config["base"]:
                raise ValueError(f"{path} belongs to another {BASE} than is in {folder.parent}: save the model again.")
            others = _named(checkpoints.read(base), config["pairs"])
        model = open_model(path, config["model"], folder / "model.safetensors", config["pairs"], others).eval()
        return cls(model, open_words(folder / "tokenizer.json", model, config["answers"]), config["answers"])

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


def _named(state: Mapping[str, Tensor], pairs: bool) -> dict[str, Tensor]:
    """Weights of a transformer by their names in a skill's model."""
    return {f"model.{name}" if pairs else name: value for name, value in state.items()}


def open_model(path: Path, settings: object, weights: Path, pairs: bool = False,
               others: Mapping[str, Tensor] | None = None) -> Any:  # fmt: skip
    """The transformer that a config.json describes, for ``pairs`` of pictures or one; raises ValueError.

    ``others`` are weights that are left out of the file.
    """
    sizes = described(path, "model", settings, ModelConfig)
    if max(sizes.language_layers, sizes.visual_layers, sizes.cross_layers, sizes.single_layers) > LAYERS:
        raise ValueError(f"{path} describes a model of more than {LAYERS} layers: save the model again.")
    make = lambda: PairClassifier(XLxmert(sizes)) if pairs else XLxmert(sizes)  # noqa: E731
    return checkpoints.build(path, make, weights, others)


def open_words(path: Path, model: XLxmert | PairClassifier, answers: Sequence[str]) -> Tokenizer:
    """The tokenizer of a model; raises ValueError for a damaged one, or where words or answers are not its own."""
    words = Tokenizer.load(path)
    most = 2 if isinstance(model, PairClassifier) else model.config.answers
    if len(answers) > most:
        raise ValueError(f"{path.with_name('config.json')} has {len(answers)} answers, its model {most}.")
    if words.size != model.config.vocab_size:
        raise ValueError(f"{path} has {words.size} words, but its model {model.config.vocab_size}: give its own.")
    return words


def length_logits(model: XLxmert, tokenizer: Tokenizer, features: Tensor, hidden: Tensor | None = None) -> Tensor:
    """How many words a caption will have: features [B, N, F], hidden bool [B, N] -> [B, lengths]."""
    empty = torch.tensor([[tokenizer.cls, tokenizer.sep]], device=features.device).expand(len(features), -1)
    return model.answer_logits(model(empty, None, features, hidden).pooled)
