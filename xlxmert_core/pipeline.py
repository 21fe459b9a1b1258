"""Pipeline: the one object a reader holds. It paints, repaints, encodes, captions and answers."""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from xlxmert_core import captioning, polish, sampling
from xlxmert_core.config import check_number
from xlxmert_core.data.arrays import check_features
from xlxmert_core.data.images import open_image, to_square
from xlxmert_core.display.describe import origin, pipeline_lines
from xlxmert_core.display.history import LastStep, joined
from xlxmert_core.display.painting import Made, Painting
from xlxmert_core.engine import Engine, EngineCache, Make, Painter, alone, graphs
from xlxmert_core.features import (
    AT_ONCE,
    Mask,
    Pictures,
    Several,
    cells_of,
    check_regions,
    extract,
    in_place_of_pictures,
    listed,
    to_uint8,
)
from xlxmert_core.folder import SHIPPED, find_folder, open_folder, write_folder
from xlxmert_core.foreign import authors
from xlxmert_core.generator import Generator, fold_spectral_norm
from xlxmert_core.model import Output, XLxmert, batches
from xlxmert_core.skills import Skill
from xlxmert_core.text import Tokenizer, one_each, outside, texts_of, warn_of
from xlxmert_core.vocabulary import VisualVocabulary

CELL = 16  # pixels along one side of a cell that GridEncoder sees
LACKS = {  # a part that a pipeline may lack: what it then says
    "generator": "This model has no generator, so it makes no pictures: load it with generator='G_60.pth' or its like.",
    "vocabulary": "This model has no codes (no visual vocabulary): it reads continuous features, but cannot paint.",
    "encoder": "This model has no eye: give codes int [B, {0}] or features float [B, {0}, {1}] in place of pictures.",
}


class Pipeline:
    """A trained transformer with its tokenizer, and the parts around it that it has.

    What is asked of a part that is not there is refused with ValueError in one sentence.

    Args:
        model: the transformer; it has codes when its configuration says ``codes`` above 0.
        generator: paints; None in a pipeline that only reads.
        encoder: the eye, images in [-1, 1] [B, 3, S, S] -> features [B, N, F], or with a method ``features`` that
            takes a list of pictures (Detector); without it, tensors of codes or features stand for pictures.
        answers: the answer vocabulary of pretraining; row i of the answer head stands for ``answers[i]``.
        skills: fine-tuned models by name ("vqa", "gqa", "nlvr2", "captions"); what they can do, they do.
        source: where it came from, in a few words.
    """

    def __init__(self, model: XLxmert, tokenizer: Tokenizer, generator: Generator | None = None,
                 encoder: nn.Module | None = None, answers: Sequence[str] = (),
                 skills: Mapping[str, Skill] | None = None, source: str = "this session"):  # fmt: skip
        self.model, self.tokenizer, self.skills = model.eval(), tokenizer, dict(skills or {})
        self.generator = None if generator is None else fold_spectral_norm(generator).eval()
        self.encoder = None if encoder is None else encoder.eval()
        self.answers, self._engine, self.source = list(answers), EngineCache(), source
        self.vocabulary = VisualVocabulary(model.centroids.float().cpu().numpy()) if model.config.codes else None

    def __repr__(self) -> str:
        return pipeline_lines(self)

    def _needs(self, *parts: str) -> None:
        for part in parts:
            if getattr(self, part) is None:
                raise ValueError(LACKS[part].format(self.model.config.cells, self.model.config.feature_dim))

    @property
    def device(self) -> torch.device:
        """Where the model is. What is given may lie anywhere; tensors that come back lie there."""
        return self.model.centroids.device

    def to(self, device: str | torch.device) -> "Pipeline":
        """Move all parts to a device, and return the pipeline itself."""
        for part in (self.model, self.generator, self.encoder, *(skill.model for skill in self.skills.values())):
            if part is not None:
                part.to(device)
        return self

    @property
    def grid(self) -> int:
        """Cells along one side of a picture."""
        return self.model.config.grid

    @property
    def image_size(self) -> int:
        """Pixels along one side of a picture; without a generator, of what the book's eye reads."""
        return CELL * self.grid if self.generator is None else self.generator.config.image_size

    def paint(self, texts: str | Sequence[str], seed: int = 0, callback: Callable[[dict], None] | None = None,
              **settings: Any) -> Painting:  # fmt: skip
        """Paint each text on an empty canvas.

        Args:
            seed: of everything drawn at random (nothing is at temperature 0 with a confidence order).
            callback: called after every step with the step's dict (of all candidates); of more texts than are painted
                together (``model.AT_ONCE``), for one batch after another.
            settings: steps, order, schedule, temperature, guidance, candidates and polish, those of
                :class:`~xlxmert_core.sampling.Sampling`; the paper's demo is ``**xlxmert_core.PAPER``.
        """
        return self._paint(texts_of(texts), None, None, seed, callback, sampling.Sampling(**settings))

    def repaint(self, image_or_codes: Pictures, mask: Mask, text: str | Sequence[str], seed: int = 0,
                callback: Callable[[dict], None] | None = None, **settings: Any) -> Painting:  # fmt: skip
        """Paint the masked cells anew, for another text; every other cell keeps its code bit for bit.

        Args:
            image_or_codes: picture(s) or codes as in :meth:`encode`.
            mask: bool [grid, grid] or [B, grid, grid]; True where to paint.

        The other arguments are those of :meth:`paint`.
        """
        how, codes = sampling.Sampling(**settings), self.encode(image_or_codes)
        texts, editable = one_each(text, len(codes), "texts"), cells_of(mask, "mask", self.grid, len(codes))
        return self._paint(texts, codes, editable.to(self.device), seed, callback, how)

    @torch.inference_mode()
    def _paint(self, texts, codes, editable, seed, callback, how: sampling.Sampling) -> Painting:
        self._needs("vocabulary", "generator")
        check_number("seed", seed, -(2**63), 2**63 - 1)
        if not all(text.strip() for text in texts):
            warnings.warn("An empty text asks for nothing: the picture will be whatever comes.", stacklevel=outside())
        generator, uncond = torch.Generator().manual_seed(int(seed)), self._words([""]) if how.guidance else None
        found, histories, taken, last = [], [], [], LastStep(callback)
        with alone(painter := self.engine):
            for part in batches(len(texts), how.candidates):
                below, free = (None if t is None else t[part] for t in (codes, editable))
                given = self._words(texts[part])
                made, history = polish.paint_best(painter, *given, how, generator, below, free, uncond, last)
                found, histories, taken = [*found, made], [*histories, history], taken + last.taken(made)
        done = torch.cat([torch.zeros(0, self.model.config.cells, dtype=torch.int64, device=self.device), *found])
        parts = (self.model, self.generator)
        made = Made(how, int(seed), taken, self.render, parts, self._engine.seen, codes, editable)
        return Painting(self.render(done), done, joined(histories), texts, made)

    @property
    def engine(self) -> Painter:
        """What paints: the model's :class:`~xlxmert_core.engine.Engine`, or the plain model where it has none."""
        return self._engine.of(self.model, self.generator)

    def freeze(self, engine: Make | None = None) -> "Pipeline":
        """Paint with the weights as they are now, at full pace; returns the pipeline itself.

        The first painting does so too, and so does the next one after a change that torch counts. Call it after
        training, which ends with gradients (they go), and after a change through ``weight.data``, which nothing counts.

        Args:
            engine: what makes the engine; on a GPU :func:`~xlxmert_core.engine.for_gpu` paints faster than the model.
        """
        self._engine.freeze(self.model, self.generator, engine)
        return self

    def score(self, texts: str | Sequence[str], codes: Tensor) -> Tensor:
        """What candidates are chosen by: log-probability of the match, minus one for each doubtful cell; [B]."""
        return self._judged(polish.score, texts, codes)

    def match(self, texts: str | Sequence[str], codes: Tensor) -> Tensor:
        """How likely each text belongs to its picture: codes int64 [B, N] -> probabilities [B]."""
        return self._judged(polish.match, texts, codes)

    @torch.inference_mode()
    def _judged(self, rule: Callable[..., Tensor], texts: str | Sequence[str], codes: Tensor) -> Tensor:
        self._needs("vocabulary")
        texts, codes = one_each(texts, len(codes), "texts"), self._codes(codes)
        return rule(self.engine, *self._words(texts), codes) if texts else codes.new_zeros(0).float()

    def _words(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        warn_of(self.tokenizer, texts, self.model.config.max_words)
        words, mask = self.tokenizer.encode(texts, self.model.config.max_words)
        return words.to(self.device), mask.to(self.device)

    @torch.inference_mode()
    def render(self, codes: Tensor) -> np.ndarray:
        """Codes int64 [B, N] -> pictures uint8 [B, S, S, 3], through the generator."""
        self._needs("vocabulary", "generator")
        engine, few = self.engine, max(1, AT_ONCE // self.image_size**2)  # few at a time stay in the caches
        generator = cast("Generator", self.generator)
        if not len(codes):
            return np.zeros((0, self.image_size, self.image_size, 3), np.uint8)
        picture = engine.picture if isinstance(engine, Engine) else graphs.Picture(generator, self.model)
        return to_uint8(torch.cat([picture(part) for part in self._codes(codes).split(few)]))

    def encode(self, images: Pictures) -> Tensor:
        """Pictures -> codes int64 [B, N].

        ``images`` is one picture or a list: PIL image, numpy array [H, W, 3] (or [B, H, W, 3]) or a path. A torch
        tensor stands for what an eye has seen: features float [B, N, F], or codes int [B, N], which come back.
        """
        self._needs("vocabulary")
        if isinstance(images, Tensor) and not images.is_floating_point():
            return self._given(images)
        return torch.from_numpy(self.vocabulary.encode(self.features(images))).to(self.device)

    def features(self, images: Pictures) -> np.ndarray:
        """Pictures (as in :meth:`encode`) -> continuous grid features float32 [B, N, F]; codes -> their centroids."""
        if isinstance(images, Tensor):
            given = self._given(images)
            return (given if images.is_floating_point() else self.model.embed_codes(given)).float().cpu().numpy()
        self._needs("encoder")
        several, config = listed(images), self.model.config
        none = np.zeros((0, config.cells, config.feature_dim), np.float32)
        found = np.concatenate([none, *(self._look(several[part]) for part in batches(len(several)))])
        check_features(found, "The features that the eye sees", "open its weights again")
        return found

    def _look(self, images: Several) -> np.ndarray:
        if hasattr(self.encoder, "features"):
            return self.encoder.features(list(images))
        squares = np.stack([to_square(open_image(image), self.image_size) for image in images])
        return extract(cast("nn.Module", self.encoder), squares)

    def _given(self, tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            self._needs("vocabulary")
        return in_place_of_pictures(tensor, self.model.config).to(self.device)

    def _codes(self, codes: Tensor) -> Tensor:
        """Codes int64 [B, N], here."""
        if codes.is_floating_point():
            raise ValueError(f"Codes are whole numbers, not {codes.dtype}: encode the pictures first.")
        return self._given(codes)

    def _features(self, images: Pictures) -> Tensor:
        """What :meth:`features` finds, [B, N, F], as the model reads it."""
        return torch.from_numpy(self.features(images)).to(self.model.centroids)

    def _able(self, skill: str, images: Pictures) -> tuple[Skill, Tensor]:
        """A skill with the features [B, N, F] it reads; lacking it, the pretrained model with its codes' centroids."""
        able = self.skills.get(skill) or Skill(self.model, self.tokenizer, self.answers)
        coded = skill not in self.skills and self.vocabulary is not None
        return able, self.model.embed_codes(self.encode(images)) if coded else self._features(images)

    @torch.inference_mode()
    def read(self, texts: str | Sequence[str], features: Tensor, boxes: Tensor | None = None) -> Output:
        """Read texts and continuous features together: what fine-tuning builds on (see :class:`Output`).

        Args:
            features: float [B, N, F] of the grid's cells, or of any regions with their boxes.
            boxes: [N, 4] or [B, N, 4] as (x0, y0, x1, y1) between 0 and 1; LXMERT's own are 36 of a detector.

        Raises ValueError for other shapes, for features that are no numbers, and for boxes in pixels.
        """
        check_regions(features, boxes, self.model.config)
        boxes = None if boxes is None else boxes.to(self.model.centroids)
        words = self._words(one_each(texts, len(features), "texts"))
        return self.model(*words, features.to(self.model.centroids), boxes=boxes)

    @torch.inference_mode()
    def caption(self, images: Pictures, region: Mask | None = None, **options: Any) -> list[str]:
        """Write one sentence about each picture (see :func:`xlxmert_core.captioning.write_caption`).

        Args:
            region: bool [grid, grid] or [B, grid, grid]; True on the cells to describe, the others are hidden.
        """
        able, features = self._able("captions", images)
        if not len(features):
            return []
        if region is not None:
            options["hidden"] = ~cells_of(region, "region", self.grid, len(features)).to(self.device)
        assert isinstance(able.model, XLxmert), "a caption is about one picture"
        if "captions" in self.skills and "lengths" not in options:
            found = captioning.likely_lengths(able.model, able.tokenizer, features, options.get("hidden"))
            options |= dict(zip(("lengths", "prior"), found, strict=True))
        return captioning.write_caption(able.model, able.tokenizer, features, **options)[0]

    @torch.inference_mode()
    def answer(self, images: Pictures, questions: str | Sequence[str], skill: str = "vqa") -> list[str]:
        """Answer one question about each picture, with a skill ("vqa" or "gqa") or, lacking it, as pretrained.

        Raises ValueError for another skill, when the model was trained without questions, or the counts differ.
        """
        if skill not in ("vqa", "gqa"):
            raise ValueError(f"There is no skill {skill!r} that answers questions: choose 'vqa' or 'gqa'.")
        if skill not in self.skills and not self.answers:
            raise ValueError("This model has no answer vocabulary: it was pretrained without questions.")
        able, features = self._able(skill, images)
        return self._answer(able, one_each(questions, len(features), "questions"), features)

    @torch.inference_mode()
    def judge(self, left: Pictures, right: Pictures, statements: str | Sequence[str]) -> list[bool]:
        """Whether each statement is true of a left and a right picture, or of several pairs.

        Raises ValueError without the skill "nlvr2", or when the counts differ.
        """
        if "nlvr2" not in self.skills:
            raise ValueError("This pipeline cannot judge pairs of pictures: it has no skill 'nlvr2' (chapter 09).")
        both = [self._features(side) for side in (left, right)]
        if len(both[0]) != len(both[1]):
            raise ValueError(f"{len(both[0])} pictures on the left but {len(both[1])} on the right: make pairs.")
        statements = one_each(statements, len(both[0]), "statements")
        return [answer == "True" for answer in self._answer(self.skills["nlvr2"], statements, torch.stack(both, 1))]

    def _answer(self, able: Skill, questions: Sequence[str], features: Tensor) -> list[str]:
        warn_of(able.tokenizer, questions, self.model.config.max_words)
        return able.answer(questions, features)

    def save(self, folder: str | os.PathLike, bits: int = 32) -> None:
        """Write all parts to a folder (safetensors and JSON), the weights in 32, 16 or 8 bits.

        Raises ValueError for an eye that is not the book's, OSError in one sentence for a full disk.
        """
        parts = (self.model, self.tokenizer, self.generator, self.encoder, self.answers, self.skills)
        write_folder(Path(folder).expanduser(), bits, *parts)


def load(name_or_path: str | os.PathLike = "storybook", generator: str | os.PathLike | None = None,
         vocabulary: str | os.PathLike | None = None, encoder: nn.Module | None = None) -> Pipeline:  # fmt: skip
    """Open a saved pipeline: a folder made by :meth:`Pipeline.save`, or a shipped name ("storybook").

    A folder of that name that holds a model (its config.json) goes before shipped weights, and a warning says so; any
    other folder does not. ``./storybook`` and a ``Path`` are always folders; ``~`` is your own. Or it is a file of
    others' weights, with what belongs to it: ``load("Epoch20_LXRT.pth", generator="G_60.pth")``, or Hugging Face's
    LXMERT, which has no codes. Such a model knows no answers by name: set ``answers`` yourself.

    Args:
        generator: the authors' ``G_60.pth``; without it the model reads and scores, but makes no pictures.
        vocabulary: BERT's ``vocab.txt``; None looks beside the weights (see :func:`.authors.find_vocabulary`).
        encoder: an eye for the authors' features (see :class:`Pipeline`).

    Files are read, never executed; addresses are refused. Raises FileNotFoundError or ValueError in one sentence.
    """
    if not (isinstance(name_or_path, str | os.PathLike) and (text := os.fspath(name_or_path))):
        raise ValueError(f"load() takes a folder, a file or a shipped name such as 'storybook', not {name_or_path!r}.")
    if "://" in text:
        raise ValueError(f"load() opens local folders only, not {text!r}: download it first, then give its folder.")
    if (file := Path(text).expanduser()).suffix in authors.SUFFIXES and not file.is_dir():
        others = (None if path is None else Path(path).expanduser() for path in (generator, vocabulary))
        return Pipeline(*authors.open_files(file, *others), encoder, source=f"others' weights, {file}")
    if not (generator is None and vocabulary is None and encoder is None):
        raise ValueError(f"{text} is no weight file ({', '.join(authors.SUFFIXES)}): a folder brings its own parts.")
    folder = find_folder(name_or_path)
    return Pipeline(*open_folder(folder), source=origin(folder, SHIPPED))
