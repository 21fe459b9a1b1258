"""The steps of a painting as an animated picture that shows itself. Axes: T steps, B pictures, S pixels."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xlxmert_core.display.html import data_uri, figure, frames_to
from xlxmert_core.files import replacing

COLUMNS = 4  # pictures side by side
VEIL = 208  # the grey that hides what is not decided yet
KINDS = {".png": "PNG", ".gif": "GIF"}


@dataclass(repr=False)
class Animation:
    """Frames uint8 [T, H, W, 3], each shown for some milliseconds, the last for longer."""

    frames: np.ndarray
    text: str = ""
    milliseconds: int = 250

    def __repr__(self) -> str:
        count, high, wide, _ = self.frames.shape
        return f'Animation of {count} steps, {wide} x {high} pixels: "{self.text}"'

    def _repr_html_(self) -> str:
        wide = self.frames.shape[2]
        return figure(data_uri(self.frames, self.milliseconds), self.text, max(256, wide))

    def save(self, path: str | os.PathLike) -> Path:
        """Write an animated .png (every colour) or .gif (256 of them), whole or not at all; returns its path.

        Raises ValueError for another ending, OSError in one sentence when it cannot be written.
        """
        path = Path(path).expanduser()
        if path.suffix.lower() not in KINDS:
            raise ValueError(f"{path.name} does not say what to write: end it in {' or '.join(KINDS)}.")
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            frames_to(temporary, self.frames, KINDS[path.suffix.lower()], self.milliseconds)
        return path


def veiled(images: np.ndarray, masked: np.ndarray) -> np.ndarray:
    """Pictures uint8 [B, S, S, 3] whose masked cells, bool [B, N], lie under a grey veil."""
    batch, side = len(images), images.shape[1]
    grid = int(masked.shape[1] ** 0.5)
    place = np.arange(side) * grid // side  # the cell of each pixel
    hidden = masked.reshape(batch, grid, grid)[:, place][:, :, place]  # [B, S, S]
    return np.where(hidden[..., None], (images.astype(np.uint16) + 3 * VEIL) // 4, images).astype(np.uint8)


def sheet(images: np.ndarray) -> np.ndarray:
    """Pictures uint8 [B, S, S, 3] in rows of COLUMNS as one, uint8 [rows * S, columns * S, 3]."""
    batch, side = images.shape[:2]
    columns = min(COLUMNS, batch)
    rows = -(-batch // columns)
    filled = np.full((rows * columns, side, side, 3), 255, np.uint8)
    filled[:batch] = images
    return filled.reshape(rows, columns, side, side, 3).swapaxes(1, 2).reshape(rows * side, columns * side, 3)


def said(texts: Sequence[str]) -> str:
    """The sentences of several pictures as one."""
    return " · ".join(texts)
