"""Which patches of pictures share a code: choose a cell, and see what else the visual vocabulary calls by its name.

Axes: M pictures, N cells, P patches, S pixels.
"""

from collections.abc import Sequence

import ipywidgets
import numpy as np

from xlxmert_core.data import storybook
from xlxmert_core.paintbox.canvas import Canvas, bundle
from xlxmert_core.pipeline import Pipeline, load

SCENES, PATCHES = 200, 40  # pictures that are drawn when none are given; patches that are shown


def scenes(count: int, seed: int) -> np.ndarray:
    """Random Storybook pictures, uint8 [M, 128, 128, 3]."""
    rng = np.random.default_rng(seed)
    return np.stack([storybook.render(storybook.sample_scene(rng)) for _ in range(count)])


def sharing(codes: np.ndarray, picture: int, cell: int, most: int = PATCHES) -> tuple[int, np.ndarray]:
    """Where else a cell's code stands: codes int [M, N] -> (how many cells of all have it, places int [P, 2]).

    The places are (picture, cell) in other pictures, as many pictures as possible, ``most`` at the most.
    """
    found = np.argwhere(codes == codes[picture, cell])  # [all, 2], by picture
    others = found[found[:, 0] != picture]
    turn = np.arange(len(others)) - np.searchsorted(others[:, 0], others[:, 0])  # 0 for a picture's first
    return len(found), others[np.argsort(turn, kind="stable")][:most]


def patch(image: np.ndarray, cell: int, grid: int) -> np.ndarray:
    """A cell with half a cell around it on each side: uint8 [S, S, 3] -> uint8 [2 S / grid, 2 S / grid, 3]."""
    side = image.shape[0] // grid
    wide = np.pad(image, ((side // 2, side // 2), (side // 2, side // 2), (0, 0)), mode="edge")
    row, column = divmod(cell, grid)
    return wide[row * side : (row + 2) * side, column * side : (column + 2) * side]


class CodeExplorer:
    """What :func:`explore_codes` shows.

    Attributes:
        pictures uint8 [M, S, S, 3] and their codes int64 [M, N].

    Raises ValueError for no pictures, or pictures of another shape.
    """

    def __init__(self, painter: Pipeline, pictures: np.ndarray):
        if pictures.ndim != 4 or not len(pictures) or pictures.shape[1] != pictures.shape[2]:
            raise ValueError(f"The explorer shows square pictures, uint8 [M, S, S, 3], got {list(pictures.shape)}.")
        self.painter, self.pictures = painter, pictures
        self.codes = painter.encode(pictures).cpu().numpy()
        self.canvas = Canvas(grid=painter.grid, choose=True)
        self.slider = ipywidgets.IntSlider(
            1, 1, len(pictures), description="Picture", layout=ipywidgets.Layout(width="auto", max_width="420px")
        )
        self.slider.observe(lambda _: self._show(), "value")
        self.canvas.observe(lambda _: self._show_cell(), "brushed")
        self.widget = ipywidgets.VBox([self.slider, self.canvas])
        self.widget.add_class("xl-box")
        self._show()
        self.choose(painter.grid**2 // 2 + painter.grid // 2)

    def choose(self, cell: int) -> None:
        """Choose a cell of the picture, from 0, row by row."""
        self.canvas.brushed = [cell]

    def _show(self) -> None:
        number = self.slider.value
        label = f"Picture {number} of {len(self.pictures)}"
        self.canvas.put(pixels=np.ascontiguousarray(self.pictures[number - 1]).tobytes(), label=label)
        self._show_cell()

    def _show_cell(self) -> None:
        if not self.canvas.brushed:
            return
        picture, cell = self.slider.value - 1, self.canvas.brushed[-1]
        count, places = sharing(self.codes, picture, cell)
        patches = [patch(self.pictures[m], n, self.painter.grid) for m, n in places]
        labels = [f"Picture {m + 1}, row {n // self.painter.grid + 1}, column {n % self.painter.grid + 1}"
                  for m, n in places.tolist()]  # fmt: skip
        self.canvas.put(thumbs=np.array(patches, np.uint8).tobytes(), thumb_labels=labels)
        self.canvas.say(self._sentence(int(self.codes[picture, cell]), count, len(places)))

    def _sentence(self, code: int, count: int, shown: int) -> str:
        colours = self.painter.model.config.colour_codes
        parts = f" (shape {code // colours}, colour {code % colours})" if colours else ""
        others = f"; {shown} of them, from other pictures" if shown else ", none of them in another picture"
        return f"Code {code}{parts} stands for {count} of {self.codes.size} cells{others}."

    def _repr_mimebundle_(self, **_) -> dict:
        """The widget, and the picture for pages that have no kernel."""
        return bundle(self.widget, self.pictures[self.slider.value - 1], "The codes of a picture")


def explore_codes(painter: Pipeline | None = None, pictures: Sequence | np.ndarray | None = None,
                  seed: int = 0) -> CodeExplorer:  # fmt: skip
    """A widget that shows which patches share a code with the cell that is chosen.

    Args:
        painter: any pipeline with codes and an eye; None loads the shipped one.
        pictures: uint8 [M, S, S, 3]; None draws 200 Storybook scenes from ``seed`` (some three seconds).
    """
    painter = load("storybook") if painter is None else painter
    return CodeExplorer(painter, scenes(SCENES, seed) if pictures is None else np.asarray(pictures))
