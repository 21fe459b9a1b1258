"""Studio: one picture at a time, painted, brushed, undone and asked about; the paint box is its face.

It knows nothing of widgets, so that code can do all that a hand can. Axes: C candidates, N cells, L words, S pixels,
T steps.
"""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import IO, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from xlxmert_core.display.recipe import Recipe, Settings, Stroke, read_png, save_png
from xlxmert_core.model import XLxmert
from xlxmert_core.paintbox.attention import cross_attention
from xlxmert_core.paintbox.recipe import check_codes, model_hash, perform
from xlxmert_core.pipeline import Pipeline

REMEMBERED = 100  # pictures that undo can go back through
DEFAULT = Settings()


class Step(NamedTuple):
    """What a picture looks like after a step: image uint8 [S, S, 3]; hidden bool [N], painted again in the next."""

    image: np.ndarray
    hidden: np.ndarray


OnStep = Callable[[Step], None]


@dataclass(frozen=True)
class Picture:
    """What is on the canvas, and how it came there.

    Attributes:
        image: uint8 [S, S, 3].
        recipe: makes it again.
        steps: of the last stroke, one dict each: codes int64 [C, N] and masked bool [C, N]; none for an opened file.
    """

    image: np.ndarray
    recipe: Recipe
    steps: tuple[dict, ...] = ()

    @property
    def codes(self) -> Tensor:
        """int64 [N]."""
        return torch.tensor(self.recipe.codes)

    @property
    def candidates(self) -> Tensor:
        """int64 [C, N]: what the last stroke might have become, in the order in which they were drawn."""
        return self.steps[-1]["codes"] if self.steps else self.codes[None]

    @property
    def taken(self) -> int:
        """Which candidate it is."""
        return self.recipe.strokes[-1].taken if self.steps else 0

    @property
    def text(self) -> str:
        """The texts of all strokes, the oldest first."""
        return ", then ".join(stroke.text for stroke in self.recipe.strokes)


class Studio:
    """A painter, the picture it works on, and the way back.

    What goes wrong raises ValueError or OSError in one sentence, and leaves the picture as it was.
    """

    def __init__(self, painter: Pipeline):
        self.painter, self.model = painter, model_hash(painter)
        self.picture: Picture | None = None
        self._past: list[Picture | None] = []
        self._future: list[Picture | None] = []

    def paint(self, text: str, settings: Settings = DEFAULT, on_step: OnStep | None = None) -> Picture:
        """Paint a text on an empty canvas; ``on_step`` is given each step of the first candidate, as it is computed."""
        return self._stroke(Stroke(text, settings), on_step)

    def repaint(
        self, text: str, mask: ArrayLike, settings: Settings = DEFAULT, on_step: OnStep | None = None
    ) -> Picture:
        """Paint another text over the brushed cells: mask bool [grid, grid]; all others keep their codes."""
        mask = np.asarray(mask, dtype=bool)
        if mask.shape != (self.painter.grid,) * 2:
            raise ValueError(f"The mask must be bool [{self.painter.grid}, {self.painter.grid}], got {mask.shape}.")
        if not mask.any():
            raise ValueError("Nothing is brushed: brush over the cells to repaint first.")
        return self._stroke(Stroke(text, settings, tuple(np.flatnonzero(mask).tolist())), on_step)

    def _stroke(self, stroke: Stroke, on_step: OnStep | None) -> Picture:
        below = None if self.picture is None else self.picture.codes
        if not stroke.text.strip():
            raise ValueError("There is no text: say what to paint.")
        painting, steps = perform(self.painter, stroke, below, on_step and self._shower(on_step))
        best = (steps[-1]["codes"] == painting.codes).all(1).nonzero()[0].item()
        old = self.picture.recipe if stroke.cells is not None else Recipe(self.model, (), ())
        recipe = replace(old, strokes=(*old.strokes, replace(stroke, taken=best)), codes=_whole(painting.codes[0]))
        return self._put(Picture(painting.images[0], recipe, tuple(steps)))

    def _shower(self, on_step: OnStep) -> Callable[[dict], None]:
        """A callback that renders the first candidate after each step, unless the step changed nothing."""
        last: list = [None, None]

        def show(step: dict) -> None:
            codes = step["codes"][:1]
            if last[0] is None or not torch.equal(codes, last[0]):
                last[:] = codes.clone(), self.painter.render(codes)[0]
            on_step(Step(last[1], step["masked"][0].cpu().numpy()))

        return show

    def _put(self, picture: Picture) -> Picture:
        self._past = [*self._past, self.picture][-REMEMBERED:]
        self._future, self.picture = [], picture
        return picture

    @property
    def can_undo(self) -> bool:
        """Whether there is something to undo."""
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        """Whether there is something to redo."""
        return bool(self._future)

    def undo(self) -> Picture | None:
        """Back to the picture before; None is the empty canvas. Raises ValueError when there is none."""
        return self._step(self._past, self._future, "undo")

    def redo(self) -> Picture | None:
        """Forward to the picture that was undone. Raises ValueError when there is none."""
        return self._step(self._future, self._past, "redo")

    def _step(self, source: list, target: list, what: str) -> Picture | None:
        if not source:
            raise ValueError(f"There is nothing to {what}.")
        target.append(self.picture)
        self.picture = source.pop()
        return self.picture

    def take(self, candidate: int) -> Picture:
        """Exchange the picture for another candidate of its last stroke, from 0; undo goes back before the stroke."""
        picture = self._needed()
        if not 0 <= candidate < len(picture.candidates):
            raise ValueError(f"There is no candidate {candidate}: choose one of 0 to {len(picture.candidates) - 1}.")
        if candidate != picture.taken:
            codes = picture.candidates[candidate]
            *strokes, last = picture.recipe.strokes
            recipe = replace(picture.recipe, strokes=(*strokes, replace(last, taken=candidate)), codes=_whole(codes))
            self.picture = picture = Picture(self.painter.render(codes[None])[0], recipe, picture.steps)
        return picture

    def step(self, index: int) -> Step:
        """The picture after step ``index`` of its last stroke, from 0."""
        picture = self._needed()
        if not 0 <= index < len(picture.steps):
            raise ValueError(f"There is no step {index}: the last stroke has {len(picture.steps)}.")
        codes, masked = (picture.steps[index][name][picture.taken] for name in ("codes", "masked"))
        return Step(self.painter.render(codes[None])[0], masked.cpu().numpy())

    def _needed(self) -> Picture:
        if self.picture is None:
            raise ValueError("There is no picture yet: paint one first.")
        return self.picture

    def _shown(self):
        """The picture as the painter's eye reads it; its codes when the painter has no eye."""
        picture = self._needed()
        return picture.image if self.painter.encoder is not None else picture.codes[None]

    def caption(self) -> str:
        """One sentence about the picture."""
        return self.painter.caption(self._shown())[0]

    def answer(self, question: str) -> str:
        """The answer to a question about the picture."""
        if not question.strip():
            raise ValueError("There is no question: ask something about the picture.")
        return self.painter.answer(self._shown(), question)[0]

    @torch.inference_mode()
    def attention(self, sentence: str, skill: str = "captions") -> tuple[list[str], np.ndarray]:
        """Where each word looks: the words that are read and their weights over the cells, float32 [L, N].

        They are the last cross layer's, averaged over its heads: of all layers the one that looks most at what the
        word names (chapter 09 measures it). ``skill`` names whose: "captions", "vqa" or "gqa"; where the painter has
        not learned it, those of the pretrained model.
        """
        able, shown = self.painter.skills.get(skill), self._shown()
        model, tokenizer = (able or self.painter).model, (able or self.painter).tokenizer
        if not isinstance(model, XLxmert):
            raise ValueError(f"The skill {skill!r} looks at two pictures: ask where captions, vqa or gqa looks.")
        features = self.painter.features(shown) if able else self.painter.features(self.painter.encode(shown))
        given = (*tokenizer.encode([sentence], model.config.max_words), torch.from_numpy(features))
        given = (part.to(self.painter.device) for part in given)
        looked = cross_attention(model, *given)[-1, :, 0].mean(0).cpu()  # [L + 2, N]
        words = tokenizer.reading(sentence).words
        if words is None:  # it knows every one
            places = tokenizer.backend.encode(sentence, add_special_tokens=False).offsets
            words = [sentence[start:stop] for start, stop in places]
        return words[: len(looked) - 2], looked[1:-1].numpy()

    def save(self, target: str | os.PathLike | IO[bytes]) -> None:
        """Write the picture as a PNG with its recipe (see :func:`xlxmert_core.paintbox.recipe.save_png`)."""
        picture = self._needed()
        save_png(target, picture.image, picture.recipe)

    def open(self, source: str | os.PathLike | bytes) -> Picture:
        """Put a saved PNG on the canvas, rendered from its codes; undo brings the picture before back.

        Warns when another model painted it: its strokes then cannot be replayed, and the recipe starts from its codes.
        Raises FileNotFoundError or RecipeError in one sentence.
        """
        _, recipe = read_png(source)
        check_codes(self.painter, recipe)
        if recipe.model != self.model:
            found = f"Model {recipe.model} painted this picture, and this is {self.model}"
            warnings.warn(f"{found}: its codes are shown as they look here.", stacklevel=2)
            recipe = Recipe(self.model, (), recipe.codes, recipe.codes)
        return self._put(Picture(self.painter.render(torch.tensor([recipe.codes]))[0], recipe))


def _whole(codes: Tensor) -> tuple[int, ...]:
    return tuple(codes.tolist())
