"""Pipeline: the one object a reader holds. It paints, repaints, encodes, captions and answers."""

import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from xlxmert_core import checkpoints, sampling
from xlxmert_core.artifacts import Artifacts, write_json
from xlxmert_core.config import GeneratorConfig, ModelConfig
from xlxmert_core.data.images import open_image, to_square
from xlxmert_core.features import GridEncoder, extract, to_uint8
from xlxmert_core.finetuning import length_logits
from xlxmert_core.generator import Generator, fold_spectral_norm
from xlxmert_core.model import XLxmert
from xlxmert_core.polish import DOUBT, cell_log_likelihood
from xlxmert_core.polish import polish as second_thoughts
from xlxmert_core.profiles import Profile
from xlxmert_core.skills import NAMES, Skill
from xlxmert_core.text import Tokenizer
from xlxmert_core.vocabulary import VisualVocabulary

SHIPPED = Path(__file__).parent / "weights"
SHOWN = 5  # unknown words named in one warning
LENGTHS = 4  # likeliest lengths of a caption that are written out
PARTS = ("transformer.safetensors", "generator.safetensors", "encoder.safetensors", "tokenizer.json", "config.json")


@dataclass
class Painting:
    """What ``paint`` returns.

    images uint8 [B, S, S, 3]; codes int64 [B, N]; history: one dict a step with the codes, the cells still
    masked, and the confidence of each cell (see :func:`xlxmert_core.sampling.fill`).
    """

    images: np.ndarray
    codes: Tensor
    history: list[dict] = field(default_factory=list)


class Pipeline:
    """A trained transformer with its tokenizer, generator and grid encoder.

    Args:
        answers: the answer vocabulary of pretraining; row i of the answer head stands for ``answers[i]``.
        skills: fine-tuned models by name ("vqa", "gqa", "nlvr2", "captions"); what they can do, they do.
    """

    def __init__(self, model: XLxmert, tokenizer: Tokenizer, generator: Generator, encoder: GridEncoder,
                 answers: Sequence[str] = (), skills: Mapping[str, Skill] | None = None):  # fmt: skip
        self.model, self.tokenizer, self.skills = model.eval(), tokenizer, dict(skills or {})
        self.generator, self.encoder = fold_spectral_norm(generator).eval(), encoder.eval()
        self.answers = list(answers)
        self.vocabulary = VisualVocabulary(model.centroids.cpu().numpy())

    @property
    def grid(self) -> int:
        """Cells along one side of a picture."""
        return self.model.config.grid

    @property
    def image_size(self) -> int:
        """Pixels along one side of a picture."""
        return self.generator.config.image_size

    def paint(self, texts: str | Sequence[str], steps: int = 16, seed: int = 0, order: Callable = sampling.halton,
              schedule: Callable = sampling.cosine, temperature: float = 0.7, guidance: float = 0.0,
              candidates: int = 4, polish: int = 1, callback: Callable | None = None) -> Painting:  # fmt: skip
        """Paint each text on an empty canvas.

        Args:
            steps: forward passes; the paper's demo is 4 with ``mask_predict``, ``linear`` and temperature 0, its
                slow mode ``grid**2`` with a one-cell order. The defaults are the best of chapter 07's table.
            seed: of everything drawn at random (nothing is at temperature 0 with a confidence order).
            order, schedule: functions of :mod:`xlxmert_core.sampling`.
            candidates: paint each text so many times and keep the one with the best :meth:`score`.
            polish: how often doubtful cells are painted anew at the end (see :mod:`xlxmert_core.polish`).
            callback: called after every step with the step's dict (of all candidates).
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        return self._fill(texts, None, None, steps, seed, order, schedule, temperature, guidance, candidates,
                          polish, callback)  # fmt: skip

    def repaint(self, image_or_codes, mask, text: str | Sequence[str], steps: int = 16, seed: int = 0,
                order: Callable = sampling.halton, schedule: Callable = sampling.cosine,
                temperature: float = 0.7, guidance: float = 0.0, candidates: int = 4,
                polish: int = 1, callback: Callable | None = None) -> Painting:  # fmt: skip
        """Paint the masked cells anew, for another text; every other cell keeps its code bit for bit.

        Args:
            image_or_codes: picture(s) as in :meth:`encode`, or codes int [B, N] or [N] (a torch tensor).
            mask: bool [grid, grid] or [B, grid, grid]; True where to paint.
        """
        codes = image_or_codes if isinstance(image_or_codes, Tensor) else self.encode(image_or_codes)
        codes = codes.reshape(-1, self.grid**2).long()
        texts = one_each(text, len(codes), "texts")
        editable = self._cells(mask, "mask", len(codes))
        return self._fill(texts, codes, editable, steps, seed, order, schedule, temperature, guidance, candidates,
                          polish, callback)  # fmt: skip

    @torch.inference_mode()
    def _fill(self, texts, codes, editable, steps, seed, order, schedule, temperature, guidance, candidates, polish,
              callback):  # fmt: skip
        history: list[dict] = []

        def remember(step: dict) -> None:
            history.append({k: v.clone() if isinstance(v, Tensor) else v for k, v in step.items()})
            if callback is not None:
                callback(step)

        if not all(text.strip() for text in texts):
            warnings.warn("An empty text asks for nothing: the picture will be whatever comes.", stacklevel=4)
        given = (*self._words(texts), codes, editable)
        words, word_mask, codes, editable = (
            t if t is None else t.repeat_interleave(candidates, 0) for t in given
        )  # [B * candidates, ...]
        codes = sampling.paint(
            self.model, words, word_mask, steps=steps, order=order, schedule=schedule, temperature=temperature,
            guidance=guidance, generator=torch.Generator().manual_seed(seed), codes=codes, editable=editable,
            uncond=self._words([""]) if guidance else None, callback=remember,
        )  # fmt: skip
        if polish:
            codes = second_thoughts(self.model, words, word_mask, codes, editable, polish, callback=remember)
        if candidates > 1:
            best = self._score(words, word_mask, codes).view(-1, candidates).argmax(1)
            rows = torch.arange(len(texts)) * candidates + best  # [B]
            codes = codes[rows]
            history = [{k: v[rows] if isinstance(v, Tensor) else v for k, v in step.items()} for step in history]
        return Painting(self.render(codes), codes, history)

    def _match(self, words: Tensor, word_mask: Tensor, codes: Tensor) -> Tensor:
        pooled = self.model(words, word_mask, self.model.embed_codes(codes)).pooled
        return self.model.match_logits(pooled).softmax(-1)[:, 1]

    def _score(self, words: Tensor, word_mask: Tensor, codes: Tensor) -> Tensor:
        odd = cell_log_likelihood(self.model, words, word_mask, codes) < DOUBT  # [B, N]
        return self._match(words, word_mask, codes).log() - odd.sum(1)

    @torch.inference_mode()
    def score(self, texts: str | Sequence[str], codes: Tensor) -> Tensor:
        """What candidates are chosen by: log-probability of the match, minus one for each doubtful cell; [B]."""
        return self._score(*self._words(one_each(texts, len(codes), "texts")), codes)

    @torch.inference_mode()
    def match(self, texts: str | Sequence[str], codes: Tensor) -> Tensor:
        """How likely each text belongs to its picture: codes int64 [B, N] -> probabilities [B]."""
        return self._match(*self._words(one_each(texts, len(codes), "texts")), codes)

    def _words(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        warn_of(self.tokenizer, texts, self.model.config.max_words, stacklevel=6)
        return self.tokenizer.encode(texts, self.model.config.max_words)

    @torch.inference_mode()
    def render(self, codes: Tensor) -> np.ndarray:
        """Codes int64 [B, N] -> pictures uint8 [B, S, S, 3], through the generator."""
        features = self.model.embed_codes(codes).transpose(1, 2)  # [B, F, N]
        return to_uint8(self.generator(features.unflatten(2, (self.grid, self.grid))))

    def encode(self, images) -> Tensor:
        """Pictures -> codes int64 [B, N].

        ``images`` is one picture or a list: PIL image, numpy array [H, W, 3] (or [B, H, W, 3]) or a path.
        """
        return torch.from_numpy(self.vocabulary.encode(self.features(images)))

    def features(self, images) -> np.ndarray:
        """Pictures (as in :meth:`encode`) -> continuous grid features float32 [B, N, F]."""
        if isinstance(images, str | os.PathLike) or not isinstance(images, list | tuple | np.ndarray):
            images = [images]
        elif isinstance(images, np.ndarray) and images.ndim == 3:
            images = images[None]
        return extract(self.encoder, np.stack([to_square(open_image(i), self.image_size) for i in images]))

    @torch.inference_mode()
    def caption(self, images, region=None, **options) -> list[str]:
        """Write one sentence about each picture (see :func:`xlxmert_core.sampling.write_caption`).

        Args:
            region: bool [grid, grid] or [B, grid, grid]; True on the cells to describe, the others are hidden.
        """
        skill = self.skills.get("captions")
        features = torch.from_numpy(self.features(images)) if skill else self.model.embed_codes(self.encode(images))
        if region is not None:
            options["hidden"] = ~self._cells(region, "region", len(features))
        if skill is None:
            return sampling.write_caption(self.model, self.tokenizer, features, **options)[0]
        if "lengths" not in options:
            guess = length_logits(skill.model, skill.tokenizer, features, options.get("hidden"))[:, 1:]  # not 0 words
            prior, lengths = guess.log_softmax(1).topk(min(LENGTHS, guess.shape[1]))
            options |= {"prior": prior, "lengths": lengths + 1}
        return sampling.write_caption(skill.model, skill.tokenizer, features, **options)[0]

    def _cells(self, mask, what: str, pictures: int) -> Tensor:
        """bool [grid, grid] or [B, grid, grid] -> bool [B, N]."""
        cells = torch.as_tensor(np.asarray(mask), dtype=torch.bool)
        if cells.shape[-2:] != (self.grid, self.grid):
            raise ValueError(f"The {what} must be bool [{self.grid}, {self.grid}], got {list(cells.shape)}.")
        cells = cells.reshape(-1, self.grid**2)
        if len(cells) not in (1, pictures):
            raise ValueError(f"{len(cells)} {what}s for {pictures} pictures: give one, or one for each.")
        return cells.expand(pictures, -1)

    @torch.inference_mode()
    def answer(self, images, questions: str | Sequence[str], skill: str = "vqa") -> list[str]:
        """Answer one question about each picture, with a skill ("vqa" or "gqa") or, lacking it, as pretrained.

        Raises ValueError for another skill, when the model was trained without questions, or the counts differ.
        """
        if skill not in ("vqa", "gqa"):
            raise ValueError(f"There is no skill {skill!r} that answers questions: choose 'vqa' or 'gqa'.")
        if skill in self.skills:
            features = torch.from_numpy(self.features(images))
            return self._answer(skill, one_each(questions, len(features), "questions"), features)
        if not self.answers:
            raise ValueError("This model has no answer vocabulary: it was pretrained without questions.")
        codes = self.encode(images)
        questions = one_each(questions, len(codes), "questions")
        out = self.model(*self._words(questions), self.model.embed_codes(codes))
        best = self.model.answer_logits(out.pooled)[:, : len(self.answers)].argmax(1)
        return [self.answers[i] for i in best.tolist()]

    @torch.inference_mode()
    def judge(self, left, right, statements: str | Sequence[str]) -> list[bool]:
        """Whether each statement is true of a left and a right picture, or of several pairs.

        Raises ValueError without the skill "nlvr2", or when the counts differ.
        """
        if "nlvr2" not in self.skills:
            raise ValueError("This pipeline cannot judge pairs of pictures: it has no skill 'nlvr2' (chapter 09).")
        both = [torch.from_numpy(self.features(side)) for side in (left, right)]
        if len(both[0]) != len(both[1]):
            raise ValueError(f"{len(both[0])} pictures on the left but {len(both[1])} on the right: make pairs.")
        statements = one_each(statements, len(both[0]), "statements")
        return [answer == "True" for answer in self._answer("nlvr2", statements, torch.stack(both, 1))]

    def _answer(self, skill: str, questions: Sequence[str], features: Tensor) -> list[str]:
        able = self.skills[skill]
        warn_of(able.tokenizer, questions, self.model.config.max_words, stacklevel=5)
        return able.answer(questions, features)

    def save(self, folder: str | os.PathLike, half: bool = False) -> None:
        """Write all parts to a folder (safetensors and JSON); ``half`` stores the weights as float16."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, module in self._modules().items():
            checkpoints.save(module, folder / f"{name}.safetensors", half=half)
        for name in NAMES:
            if name in self.skills:
                self.skills[name].save(folder / name, half)
            else:
                Skill.remove(folder / name)  # of an earlier save
        self.tokenizer.save(folder / "tokenizer.json")
        config = {"model": asdict(self.model.config), "generator": asdict(self.generator.config)}
        eye = ("feature_dim", "labels", "colour_dim")
        config |= {"encoder": {name: getattr(self.encoder, name) for name in eye}}
        write_json(folder / "config.json", config | {"answers": self.answers})

    def _modules(self):
        return {"transformer": self.model, "generator": self.generator, "encoder": self.encoder}


def warn_of(tokenizer: Tokenizer, texts: Sequence[str], limit: int, stacklevel: int) -> None:
    """Warn of words that the tokenizer does not know and of texts that are cut to ``limit`` tokens."""
    for text in texts:
        unknown = tokenizer.unknown(text)
        if hints := [f"{word!r}" + (f" (near: {', '.join(near)})" if near else "") for word, near in unknown]:
            more = f" and {len(hints) - SHOWN} more" if len(hints) > SHOWN else ""
            warnings.warn(f"Words the model never learned: {'; '.join(hints[:SHOWN])}{more}.", stacklevel=stacklevel)
        if (length := tokenizer.length(text)) > limit - 2:
            message = f"The text has {length} words; the model reads the first {limit - 2}."
            warnings.warn(message, stacklevel=stacklevel)


def one_each(given: str | Sequence[str], pictures: int, what: str) -> list[str]:
    """One sentence for all pictures, or one for each; raises ValueError when the counts differ."""
    several = [given] * pictures if isinstance(given, str) else list(given)
    if len(several) != pictures:
        raise ValueError(f"{len(several)} {what} for {pictures} pictures: give one, or one for each.")
    return several


def load(name_or_path: str | os.PathLike = "storybook") -> Pipeline:
    """Open a saved pipeline: a shipped name ("storybook") or a folder made by :meth:`Pipeline.save`.

    Files are read, never executed; addresses are refused. Raises FileNotFoundError in one sentence.
    """
    text = os.fspath(name_or_path)
    if "://" in text:
        raise ValueError(f"load() opens local folders only, not {text!r}: download it first, then give its folder.")
    folder = SHIPPED / text if (SHIPPED / text).is_dir() else Path(text)
    missing = [part for part in PARTS if not (folder / part).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder} is not a saved pipeline: it has no {', '.join(missing)}.")
    config = json.loads((folder / "config.json").read_text())
    model = XLxmert(ModelConfig(**config["model"]))
    settings = config["generator"] | {"channels": tuple(config["generator"]["channels"])}
    generator = fold_spectral_norm(Generator(GeneratorConfig(**settings)))
    encoder = GridEncoder(**config["encoder"], imagenet=False)
    for name, module in {"transformer": model, "generator": generator, "encoder": encoder}.items():
        checkpoints.load(module, folder / f"{name}.safetensors")
    skills = {name: Skill.load(folder / name) for name in NAMES if Skill.is_in(folder / name)}
    return Pipeline(model, Tokenizer.load(folder / "tokenizer.json"), generator, encoder, config["answers"], skills)


def assemble(files: Artifacts, run: Profile) -> Pipeline:
    """Put the parts that chapters 02, 03, 05 and 06 left in ``files`` together.

    Raises MissingArtifactError naming the chapter to run.
    """
    manifest = json.loads(files.manifest("transformer.safetensors").read_text())
    config = checkpoints.read_config(files.require("transformer.safetensors"))
    model, generator = XLxmert(ModelConfig(**config)), fold_spectral_norm(Generator(run.generator))
    settings = json.loads(files.manifest("encoder.safetensors").read_text())["inputs"]
    colour_dim = settings.get("colour_dim", 0)
    encoder = GridEncoder(run.model.feature_dim, settings["labels"], colour_dim, imagenet=False)
    for name, module in {"transformer": model, "generator": generator, "encoder": encoder}.items():
        checkpoints.load(module, files.require(f"{name}.safetensors"))
    tokenizer = Tokenizer.load(files.path("tokenizer.json"))
    return Pipeline(model, tokenizer, generator, encoder, manifest["inputs"]["answers"])
