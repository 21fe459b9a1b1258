"""What ``paint`` returns: pictures that show themselves, with the way they came about. Axes: B pictures, N cells."""

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from xlxmert_core.display.animation import Animation, said, sheet, veiled
from xlxmert_core.display.html import row_of
from xlxmert_core.display.recipe import Recipe, Settings, Stroke, fingerprint, save_png
from xlxmert_core.engine import counted, weights_of
from xlxmert_core.sampling import Sampling
from xlxmert_core.text import outside

SHOWN = 3  # sentences that a line in a terminal holds


@dataclass
class Made:
    """How a painting came about: what its steps are drawn with and its recipes made from.

    taken: of each picture, which candidate was kept; parts: the transformer and the generator; seen: their
    weights' ``counted`` when they painted; start int64 [B, N] and
    editable bool [B, N]: what was repainted, and where.
    """

    settings: Sampling
    seed: int
    taken: Sequence[int]
    render: Callable[[Tensor], np.ndarray]
    parts: tuple[nn.Module, nn.Module | None]
    seen: list[tuple] | None
    start: Tensor | None = None
    editable: Tensor | None = None

    def recipe(self, place: int, text: str, codes: tuple[int, ...]) -> Recipe:
        """The recipe of picture ``place`` of the painting.

        Only the first of several draws what it would draw alone, so that the others' recipes hold what is painted
        and no stroke. Raises ValueError in one sentence where a recipe would not paint this picture again.
        """
        if self.seen != counted(weights_of(*self.parts)):
            raise ValueError("the model has changed since it painted this, or was in training.")
        settings, model = Settings(**self.settings, seed=self.seed), fingerprint(*self.parts)
        if place:
            return Recipe(model, (), codes, codes)
        start = None if self.start is None else tuple(self.start[0].tolist())
        cells = None if self.editable is None else tuple(self.editable[0].nonzero()[:, 0].tolist())
        return Recipe(model, (Stroke(text, settings, cells, self.taken[0]),), codes, start)


@dataclass(repr=False)
class Painting:
    """What ``paint`` returns; at the end of a notebook's cell it shows its pictures above their sentences.

    images uint8 [B, S, S, 3]; codes int64 [B, N]; history: one dict a step with the codes, the cells still
    masked, and the confidence of each cell (see :func:`xlxmert_core.sampling.fill`); texts: the sentences; made: how
    it came about, which a copy or a pickle forgets.
    """

    images: np.ndarray
    codes: Tensor
    history: list[dict] = field(default_factory=list)
    texts: Sequence[str] = ()
    made: Made | None = None

    def __getstate__(self) -> dict:
        return self.__dict__ | {"made": None}

    @property
    def _texts(self) -> list[str]:
        return [*self.texts, *[""] * (len(self.images) - len(self.texts))]

    def __repr__(self) -> str:
        count, side = len(self.images), self.images.shape[1]
        what = "1 picture" if count == 1 else f"{count} pictures"
        told = ", ".join(f'"{text}"' for text in self.texts[:SHOWN]) + (", ..." if len(self.texts) > SHOWN else "")
        return f"Painting of {what}, {side} x {side} pixels" + (f": {told}" if told else "")

    def _repr_html_(self) -> str:
        return row_of(self.images, self._texts)

    def save(self, path: str | os.PathLike) -> list[Path]:
        """Write each picture as a PNG with its sentence and its recipe, which the paint box opens and paints again.

        One picture takes the name that you give, several are numbered: house-1.png, house-2.png. Each is whole or not
        there. Where no recipe would paint the picture again (an order of your own, a model that has changed), a
        warning says so and the PNG has none. Returns the paths; raises ValueError for another ending than .png and
        for no picture, OSError in one sentence when it cannot be written.
        """
        path = Path(path).expanduser()
        if path.suffix.lower() != ".png":
            raise ValueError(f"A painting is saved as a PNG, which holds its recipe: end {path.name!r} in .png.")
        if not len(self.images):
            raise ValueError("There is no picture to save: nothing was painted.")
        names = [path.with_stem(f"{path.stem}-{i + 1}") for i in range(len(self.images))]
        names = [path] if len(names) == 1 else names
        for i, (name, text) in enumerate(zip(names, self._texts, strict=True)):
            save_png(name, self.images[i], self._recipe(i, text, name), text)
        return names

    def _recipe(self, place: int, text: str, name: Path) -> Recipe | None:
        try:
            if self.made is None:
                raise ValueError("how it was painted is not known any more.")
            return self.made.recipe(place, text, tuple(self.codes[place].tolist()))
        except ValueError as error:
            warnings.warn(f"{name} is saved without its recipe: {error}", stacklevel=outside())
            return None

    def steps(self, milliseconds: int = 250) -> Animation:
        """The painting, step by step, as an animation; what is still to be painted lies under a grey veil.

        Raises ValueError when its steps or its painter are not known any more.
        """
        if self.made is None or not self.history or not len(self.images):
            raise ValueError("This painting has forgotten its steps, as a copy does: paint it again to see them.")
        drawn = [veiled(self.made.render(step["codes"]), step["masked"].cpu().numpy()) for step in self.history]
        return Animation(np.stack([sheet(images) for images in drawn]), said(self.texts), milliseconds)
