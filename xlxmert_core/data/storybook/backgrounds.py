"""The storybook's five places: a sky, a horizon and a ground each, always the same.

The skies differ as much as the grounds do, so nearly every cell of a picture tells where it is.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SUPERSAMPLING = 4  # drawn this many times too large, then reduced
HORIZON = 0.47  # share of the height


def rgb(colour: str) -> np.ndarray:
    """The three numbers of "#rrggbb", float64 [3] in 0..255."""
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.float64)


def gradient(side: int, *colours: str) -> Image.Image:
    """A square that runs evenly from the first colour at the top to the last at the bottom."""
    stops = np.stack([rgb(c) for c in colours])  # [stops, 3]
    t = np.linspace(0, 1, side)
    column = np.stack([np.interp(t, np.linspace(0, 1, len(stops)), stops[:, i]) for i in range(3)], 1)
    return Image.fromarray(np.tile(column[:, None], (1, side, 1)).round().astype(np.uint8))


class Backdrop:
    """A square sheet of ``pixels`` (drawn larger); coordinates are shares of the side, 0 to 1."""

    def __init__(self, pixels: int, *sky: str):
        self.pixels, self.side = pixels, pixels * SUPERSAMPLING
        self.image = gradient(self.side, *sky)

    def layer(
        self, draw: Callable, top: str, bottom: str | None = None, opacity: float = 1.0, blur: float = 0.0
    ) -> None:
        """Fill what ``draw(ImageDraw, side)`` marks, top to bottom; ``blur`` in finished pixels."""
        mask = Image.new("L", self.image.size, 0)
        draw(ImageDraw.Draw(mask), self.side)
        if blur:
            mask = mask.filter(ImageFilter.GaussianBlur(blur * SUPERSAMPLING))
        mask = mask.point(lambda v: round(v * opacity))
        self.image.paste(gradient(self.side, top, bottom or top), (0, 0), mask)

    def hill(self, level: float, height: float, waves: float, phase: float, top: str, bottom: str) -> None:
        """Everything below a gently waving line."""
        x = np.linspace(0, 1, 65)
        y = level - height * np.sin(2 * np.pi * (waves * x + phase))
        line = [*zip(x, y, strict=True), (1.0, 1.0), (0.0, 1.0)]
        self.layer(lambda d, s: d.polygon([(a * s, b * s) for a, b in line], fill=255), top, bottom)

    def ovals(self, boxes: Iterable[tuple[float, ...]], colour: str, opacity: float = 1.0, blur: float = 0.0) -> None:
        """Ellipses given as (centre x, centre y, half width, half height)."""

        def draw(d, s):
            for x, y, w, h in boxes:
                d.ellipse(((x - w) * s, (y - h) * s, (x + w) * s, (y + h) * s), fill=255)

        self.layer(draw, colour, opacity=opacity, blur=blur)

    def cloud(self, x: float, y: float, size: float, colour: str, opacity: float = 0.85) -> None:
        """Four round puffs on a flat base."""
        puffs = [
            (0, 0, 1, 0.36),
            (-0.45, -0.15, 0.42, 0.36),
            (0.1, -0.32, 0.5, 0.46),
            (0.55, -0.1, 0.36, 0.3),
        ]
        self.ovals(
            [(x + a * size, y + b * size, w * size, h * size) for a, b, w, h in puffs],
            colour,
            opacity,
            0.6,
        )

    def strokes(self, strokes: Iterable[Sequence], colour: str, width: float, opacity: float) -> None:
        """Open lines, each a list of (x, y); ``width`` as a share of the side."""

        def draw(d, s):
            for points in strokes:
                d.line(
                    [(x * s, y * s) for x, y in points],
                    fill=255,
                    width=round(width * s),
                    joint="curve",
                )

        self.layer(draw, colour, opacity=opacity, blur=0.2)

    def finish(self) -> np.ndarray:
        """uint8 [pixels, pixels, 3]."""
        return np.asarray(self.image.resize((self.pixels, self.pixels), Image.Resampling.BOX)).copy()


def _scatter(columns: int, rows: int, top: float, bottom: float, seed: int) -> np.ndarray:
    """Evenly spread but not in ranks: [columns * rows, 2] of (x, y)."""
    jitter = np.random.default_rng(seed).uniform(-0.3, 0.3, (rows, columns, 2))
    y, x = np.mgrid[0:rows, 0:columns]
    x = (x + 0.5 + jitter[..., 0] + 0.25 * (y % 2)) / columns
    y = top + (bottom - top) * (y + 0.5 + jitter[..., 1]) / rows
    return np.stack([x.ravel(), y.ravel()], 1)


def _grass(pixels: int) -> np.ndarray:
    b = Backdrop(pixels, "#86c9f2", "#c9e9fb", "#eaf6ee")
    b.cloud(0.2, 0.14, 0.11, "#ffffff")
    b.cloud(0.72, 0.23, 0.13, "#ffffff")
    b.hill(HORIZON - 0.02, 0.035, 1.3, 0.1, "#a9d89a", "#a9d89a")
    b.hill(HORIZON + 0.05, 0.03, 1.0, 0.55, "#a4dd7c", "#78c057")
    blades = [[(x - 0.014, y - 0.02), (x, y), (x + 0.012, y - 0.024)] for x, y in _scatter(8, 6, 0.56, 1.0, 1)]
    b.strokes(blades, "#5fa845", 0.008, 0.7)
    return b.finish()


def _sand(pixels: int) -> np.ndarray:
    b = Backdrop(pixels, "#ffd9a8", "#ffeccb", "#fff4dd")
    b.ovals([(0.5, 0.4, 0.16, 0.16)], "#fff6d0", 0.9, 1.0)
    b.hill(HORIZON - 0.01, 0.05, 0.9, 0.3, "#f1c888", "#f1c888")
    b.hill(HORIZON + 0.06, 0.03, 1.1, 0.85, "#f7d99c", "#e3b46c")
    t = np.linspace(-1, 1, 9)
    ripples = [[(x + 0.05 * a, y - 0.012 * (1 - a * a)) for a in t] for x, y in _scatter(6, 6, 0.58, 1.0, 2)]
    b.strokes(ripples, "#c8924f", 0.008, 0.45)
    return b.finish()


def _snow(pixels: int) -> np.ndarray:
    b = Backdrop(pixels, "#b9bfe0", "#d6d8ee", "#e8e8f6")
    peaks = [
        (0, 0.5),
        (0.16, 0.3),
        (0.3, 0.44),
        (0.5, 0.26),
        (0.7, 0.44),
        (0.86, 0.32),
        (1, 0.46),
        (1, 1),
        (0, 1),
    ]
    b.layer(lambda d, s: d.polygon([(x * s, y * s) for x, y in peaks], fill=255), "#c9cde8", "#c9cde8")
    b.hill(HORIZON + 0.05, 0.03, 1.0, 0.2, "#fbfcff", "#e3e8f6")
    b.hill(0.74, 0.03, 0.8, 0.7, "#f6f8ff", "#dde4f4")
    b.ovals([(x, y, 0.011, 0.011) for x, y in _scatter(8, 4, 0.0, 0.5, 3)], "#ffffff", 0.95)
    b.ovals([(x, y, 0.028, 0.007) for x, y in _scatter(7, 5, 0.56, 1.0, 4)], "#b9c4e2", 0.6, 0.3)
    return b.finish()


def _crescent(d: ImageDraw.ImageDraw, s: int) -> None:
    for (x, y, r), fill in (((0.82, 0.15, 0.078), 255), ((0.855, 0.13, 0.066), 0)):
        d.ellipse(((x - r) * s, (y - r) * s, (x + r) * s, (y + r) * s), fill=fill)


def _night(pixels: int) -> np.ndarray:
    b = Backdrop(pixels, "#232a5c", "#3a4280", "#59599a")
    b.ovals([(0.82, 0.15, 0.13, 0.13)], "#fff3c4", 0.25, 3.0)
    b.layer(_crescent, "#fff3c4")
    stars = [(x, y, 0.009, 0.009) for x, y in _scatter(8, 4, 0.0, 0.48, 5) if np.hypot(x - 0.84, y - 0.14) > 0.12]
    b.ovals(stars, "#fff6d8", 0.9)
    b.hill(HORIZON - 0.01, 0.04, 1.2, 0.4, "#3b4a80", "#3b4a80")
    b.hill(HORIZON + 0.06, 0.03, 1.0, 0.05, "#3f5f74", "#28435a")
    blades = [[(x - 0.012, y - 0.02), (x, y), (x + 0.012, y - 0.02)] for x, y in _scatter(7, 5, 0.58, 1.0, 6)]
    b.strokes(blades, "#5d8492", 0.008, 0.5)
    return b.finish()


def _water(pixels: int) -> np.ndarray:
    b = Backdrop(pixels, "#9fe3d8", "#cdf3ea", "#e8fbf3")
    b.cloud(0.3, 0.2, 0.12, "#ffffff", 0.8)
    b.cloud(0.85, 0.12, 0.1, "#ffffff", 0.8)
    b.layer(lambda d, s: d.rectangle((0, HORIZON * s, s, s), fill=255), "#5cc3e0", "#1f86b8")
    t = np.linspace(-1, 1, 13)
    waves = [[(x + 0.06 * a, y - 0.012 * np.cos(np.pi * a)) for a in t] for x, y in _scatter(6, 7, 0.5, 1.0, 7)]
    b.strokes(waves, "#d8f6fb", 0.009, 0.7)
    return b.finish()


SCENERY = {"grass": _grass, "sand": _sand, "snow": _snow, "night": _night, "water": _water}
