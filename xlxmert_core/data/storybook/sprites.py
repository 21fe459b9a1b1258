"""The storybook's brush: sprites and backgrounds, drawn four times too large and then reduced.

A sprite is drawn in a box of 100 x 100 units. Every part is filled, shaded as if lit from the top
left, and edged with ink; a light rim around the whole keeps it readable on any background. Drawing
happens once for each (kind, colour, size) and each background; a picture is then only pasted.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from xlxmert_core.data.storybook.backgrounds import SCENERY, SUPERSAMPLING, rgb

PALETTE = {
    "red": "#e2333b",
    "orange": "#ff8f1f",
    "yellow": "#ffdc30",
    "green": "#3eb04a",
    "blue": "#2d74e6",
    "purple": "#8f4bcb",
    "pink": "#ff93c6",
    "brown": "#8f5a33",
}
INK, RIM = "#33263c", "#fffaf0"
CREAM, SLATE, WOOD, GLASS, LEAF, BEAK = (
    "#fff4dc",
    "#5d5a70",
    "#7a6558",
    "#cfe8f3",
    "#5f8f4e",
    "#ffb347",
)
INK_WIDTH, RIM_WIDTH = 0.9, 1.0  # pixels of the finished picture
Points = Sequence[tuple[float, float]]


def smooth(points: Points, steps: int = 8) -> list[tuple[float, float]]:
    """A closed Catmull-Rom curve through the points, ``steps`` straight pieces for each."""
    p = np.asarray(points, dtype=np.float64)
    before, after, later = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]  # [1, steps, 1]
    a, b = (after - before)[:, None] / 2, (later - p)[:, None] / 2
    start, end = p[:, None], after[:, None]
    cubic = (2 * t**3 - 3 * t**2 + 1) * start + (t**3 - 2 * t**2 + t) * a
    cubic = cubic + (3 * t**2 - 2 * t**3) * end + (t**3 - t**2) * b  # [points, steps, 2]
    return [tuple(xy) for xy in cubic.reshape(-1, 2)]


def _grow(mask: np.ndarray, radius: float) -> np.ndarray:
    """Widen a mask [S, S] by about ``radius`` of its own pixels, round at the corners."""
    image = Image.fromarray((mask * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
    return np.clip((np.asarray(image) / 255 - 0.04) * 8, 0, 1)


def _box(mask: np.ndarray) -> tuple[slice, slice]:
    """The smallest rectangle around what a mask [S, S] covers."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if not len(rows):
        return slice(0), slice(0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


class Sketch:
    """A transparent square sheet for one sprite; coordinates run from 0 to 100."""

    def __init__(self, pixels: int):
        self.pixels, self.side = pixels, pixels * SUPERSAMPLING
        self.colour = np.zeros((self.side, self.side, 3))
        self.alpha = np.zeros((self.side, self.side))

    def _mask(self, draw) -> np.ndarray:
        image = Image.new("L", (self.side, self.side), 0)
        draw(ImageDraw.Draw(image), self.side / 100)
        return np.asarray(image) / 255.0  # [S, S]

    def _paste(self, mask: np.ndarray, box: tuple[slice, slice], colour: np.ndarray) -> None:
        """Lay a colour [3], or one for each pixel of the mask's box, over the sheet."""
        mask, below, alpha = mask[box], self.colour[box], self.alpha[box]
        below += (colour - below) * mask[..., None]
        alpha += (1 - alpha) * mask

    def add(self, mask: np.ndarray, colour: str, ink: bool = True, depth: float = 1.0) -> None:
        """Paint a mask [S, S]: ink around it, the colour inside, light at the top left."""
        if ink:
            edge = _grow(mask, INK_WIDTH * SUPERSAMPLING) * 0.92
            self._paste(edge, _box(edge), rgb(INK))
        box = _box(mask)
        self._paste(mask, box, self._shaded(mask, box, rgb(colour), depth) if depth else rgb(colour))

    def _shaded(self, mask: np.ndarray, box: tuple[slice, slice], base: np.ndarray, depth: float) -> np.ndarray:
        """The colour base [3] of each pixel in the mask's box, as the light falls."""
        image = Image.fromarray((mask * 255).astype(np.uint8))
        soft = np.asarray(image.filter(ImageFilter.GaussianBlur(self.side * 0.05))) / 255.0
        shift = round(self.side * 0.035)
        light = np.roll(soft, (-shift, -shift), (0, 1)) - np.roll(soft, (shift, shift), (0, 1))
        light = (light[box] * 0.55 * depth)[..., None]  # positive where light falls
        bright, dark = base + (255 - base) * 0.75, base * 0.45 + rgb(INK) * 0.2
        return base + np.maximum(light, 0) * (bright - base) + np.maximum(-light, 0) * (dark - base)

    def polygon(self, points: Points, colour: str, **how) -> None:
        """Fill a polygon."""
        self.add(
            self._mask(lambda d, u: d.polygon([(x * u, y * u) for x, y in points], fill=255)),
            colour,
            **how,
        )

    def blob(self, points: Points, colour: str, **how) -> None:
        """Fill a rounded outline through the points."""
        self.polygon(smooth(points), colour, **how)

    def oval(self, box: Sequence[float], colour: str, **how) -> None:
        """Fill the ellipse in the box (x0, y0, x1, y1)."""
        self.add(self._mask(lambda d, u: d.ellipse([v * u for v in box], fill=255)), colour, **how)

    def ovals(self, boxes: Sequence[Sequence[float]], colour: str, **how) -> None:
        """Fill the union of several ellipses, as one shape."""

        def draw(d, u):
            for box in boxes:
                d.ellipse([v * u for v in box], fill=255)

        self.add(self._mask(draw), colour, **how)

    def slab(self, box: Sequence[float], radius: float, colour: str, **how) -> None:
        """Fill a rectangle with round corners."""

        def draw(d, u):
            d.rounded_rectangle([v * u for v in box], radius * u, fill=255)

        self.add(self._mask(draw), colour, **how)

    def line(self, points: Points, width: float, colour: str, **how) -> None:
        """Draw a line of the given width through the points, with round ends."""

        def draw(d, u):
            path = [(x * u, y * u) for x, y in points]
            d.line(path, fill=255, width=max(1, round(width * u)), joint="curve")
            for x, y in (path[0], path[-1]):
                r = width * u / 2
                d.ellipse((x - r, y - r, x + r, y + r), fill=255)

        self.add(self._mask(draw), colour, **how)

    def dots(self, centres: Points, radius: float, colour: str) -> None:
        """Flat dots without ink: eyes, spots, buttons."""
        boxes = [(x - radius, y - radius, x + radius, y + radius) for x, y in centres]
        self.ovals(boxes, colour, ink=False, depth=0)

    def smile(self, x: float, y: float, width: float) -> None:
        """Two eyes and a mouth, centred at (x, y)."""
        self.dots([(x - width / 2, y), (x + width / 2, y)], 3.2, INK)
        t = np.linspace(0, np.pi, 9)
        mouth = [(x - np.cos(a) * width * 0.36, y + 4 + np.sin(a) * width * 0.3) for a in t]
        self.line(mouth, 2.8, INK, ink=False, depth=0)

    def finish(self) -> np.ndarray:
        """The sprite with its rim, reduced: uint8 [pixels, pixels, 4], straight alpha last."""
        rim = _grow(self.alpha, RIM_WIDTH * SUPERSAMPLING) * 0.8
        alpha = self.alpha + (1 - self.alpha) * rim  # [S, S]
        colour = self.colour + (rgb(RIM) - self.colour) * (1 - self.alpha[..., None])
        k = SUPERSAMPLING
        cells = (self.pixels, k, self.pixels, k)
        small = alpha.reshape(cells).mean((1, 3))  # [pixels, pixels]
        weighted = (colour * alpha[..., None]).reshape(*cells, 3).mean((1, 3))
        weighted /= np.maximum(small, 1e-6)[..., None]
        return np.dstack([weighted, small * 255]).round().clip(0, 255).astype(np.uint8)


def _house(s: Sketch, c: str) -> None:
    s.slab((68, 10, 79, 38), 1, SLATE)
    s.slab((14, 34, 86, 92), 3, c)
    s.polygon([(5, 41), (50, 7), (95, 41)], SLATE)
    s.slab((42, 62, 59, 92), 5, CREAM)
    s.slab((21, 52, 36, 69), 2, GLASS)
    s.slab((65, 52, 80, 69), 2, GLASS)
    s.dots([(55, 78)], 2, INK)


def _tree(s: Sketch, c: str) -> None:
    s.polygon([(43, 58), (57, 58), (62, 93), (38, 93)], WOOD)
    s.ovals([(6, 30, 46, 70), (54, 30, 94, 70), (22, 7, 78, 56), (28, 32, 72, 76)], c)
    s.dots([(32, 40), (60, 28), (68, 54), (46, 58)], 3.2, CREAM)


def _car(s: Sketch, c: str) -> None:
    s.blob([(8, 74), (9, 54), (24, 48), (34, 26), (66, 24), (78, 47), (92, 56), (93, 74), (50, 78)], c)
    s.polygon([(32, 47), (39, 32), (49, 32), (49, 47)], GLASS)
    s.polygon([(54, 47), (54, 32), (63, 32), (70, 47)], GLASS)
    s.dots([(87, 60)], 3.6, CREAM)
    for x in (27, 74):
        s.oval((x - 13, 62, x + 13, 88), "#4a4556")
        s.oval((x - 5, 70, x + 5, 80), CREAM, ink=False)


def _boat(s: Sketch, c: str) -> None:
    s.line([(50, 10), (50, 70)], 4, WOOD)
    s.polygon([(56, 12), (90, 58), (56, 58)], c)
    s.polygon([(44, 20), (44, 58), (16, 58)], CREAM)
    s.blob([(6, 66), (30, 67), (70, 67), (94, 66), (86, 82), (74, 91), (26, 91), (14, 82)], c)
    s.line([(14, 75), (86, 75)], 4, CREAM, ink=False, depth=0)


def _flower(s: Sketch, c: str) -> None:
    s.line([(50, 50), (50, 92)], 6, LEAF)
    s.blob([(50, 88), (64, 70), (84, 68), (72, 86)], LEAF)
    s.blob([(50, 88), (36, 70), (16, 68), (28, 86)], LEAF)
    angles = np.arange(6) * np.pi / 3 + np.pi / 6
    centres = [(50 + 22 * np.cos(a), 37 + 19 * np.sin(a)) for a in angles]
    for x, y in centres:
        s.oval((x - 14.5, y - 13, x + 14.5, y + 13), c)
    s.oval((37, 25, 63, 50), CREAM)
    s.dots([(46, 35), (54, 35), (50, 42)], 2.2, WOOD)


def _mushroom(s: Sketch, c: str) -> None:
    s.blob([(36, 50), (64, 50), (66, 72), (70, 90), (50, 94), (30, 90), (34, 72)], CREAM)
    s.blob(
        [
            (6, 56),
            (12, 32),
            (30, 12),
            (50, 7),
            (70, 12),
            (88, 32),
            (94, 56),
            (74, 62),
            (50, 63),
            (26, 62),
        ],
        c,
    )
    s.dots([(34, 27), (60, 22)], 6.5, CREAM)
    s.dots([(50, 45), (78, 44), (21, 46)], 5.5, CREAM)


def _ball(s: Sketch, c: str) -> None:
    s.oval((8, 8, 92, 92), c)
    t = np.linspace(-1, 1, 15)
    upper = [(50 + 41 * x, 42 + 10 * (1 - x * x)) for x in t]
    lower = [(50 + 41 * x, 58 + 12 * (1 - x * x)) for x in t[::-1]]
    s.polygon(upper + lower, CREAM, ink=False)
    s.oval((24, 17, 42, 29), "#ffffff", ink=False, depth=0)


def _cup(s: Sketch, c: str) -> None:
    s.line([(68, 46), (86, 44), (90, 58), (84, 72), (66, 76)], 8, c)
    s.polygon([(12, 36), (74, 36), (69, 88), (64, 92), (22, 92), (17, 88)], c)
    s.oval((12, 29, 74, 43), CREAM)
    s.smile(43, 59, 20)
    for x in (32, 53):
        s.line([(x, 23), (x + 4, 18), (x - 1, 12), (x + 3, 8)], 4, CREAM)


def _star(s: Sketch, c: str) -> None:
    angles = np.arange(10) * np.pi / 5 - np.pi / 2
    radii = np.where(np.arange(10) % 2, 23.0, 46.0)
    s.polygon([(50 + r * np.cos(a), 54 + r * np.sin(a)) for a, r in zip(angles, radii, strict=True)], c)
    s.smile(50, 50, 18)


def _balloon(s: Sketch, c: str) -> None:
    s.line([(50, 72), (46, 79), (54, 86), (50, 93)], 3, WOOD)
    s.polygon([(50, 66), (59, 77), (41, 77)], c)
    s.blob([(50, 6), (71, 13), (82, 34), (74, 56), (50, 71), (26, 56), (18, 34), (29, 13)], c)
    s.blob([(34, 18), (41, 17), (36, 32), (31, 34)], "#ffffff", ink=False, depth=0)


def _kite(s: Sketch, c: str) -> None:
    s.line([(52, 68), (46, 76), (58, 84), (70, 86), (84, 92)], 3, WOOD)
    s.polygon([(50, 6), (88, 36), (50, 74), (12, 36)], c)
    s.line([(50, 9), (50, 71)], 3, CREAM, ink=False, depth=0)
    s.line([(15, 36), (85, 36)], 3, CREAM, ink=False, depth=0)
    for x, y in ((60, 84), (82, 91)):
        s.polygon([(x - 8, y - 6), (x + 8, y + 6), (x + 8, y - 6), (x - 8, y + 6)], c)


def _bird(s: Sketch, c: str) -> None:
    s.polygon([(30, 60), (4, 46), (10, 66), (6, 78), (30, 74)], c)
    s.polygon([(82, 36), (97, 43), (82, 50)], BEAK)
    s.line([(46, 80), (46, 93)], 3, WOOD)
    s.line([(60, 80), (60, 93)], 3, WOOD)
    s.blob(
        [(20, 64), (44, 50), (54, 28), (70, 20), (86, 30), (88, 48), (80, 72), (56, 86), (32, 82)],
        c,
    )
    s.blob([(62, 50), (58, 70), (40, 76), (22, 62), (16, 46), (40, 52)], c)
    s.dots([(73, 36)], 6.5, CREAM)
    s.dots([(74.5, 36)], 3.6, INK)


SPRITES = {
    "house": _house, "tree": _tree, "car": _car, "boat": _boat,
    "flower": _flower, "mushroom": _mushroom, "ball": _ball, "cup": _cup,
    "star": _star, "balloon": _balloon, "kite": _kite, "bird": _bird,
}  # fmt: skip


@cache
def sprite(kind: str, colour: str, pixels: int) -> np.ndarray:
    """One object, read-only uint8 [pixels, pixels, 4]; KeyError for an unknown kind or colour."""
    sketch = Sketch(pixels)
    SPRITES[kind](sketch, PALETTE[colour])
    result = sketch.finish()
    result.setflags(write=False)
    return result


@cache
def background(name: str, pixels: int) -> np.ndarray:
    """One empty background, read-only uint8 [pixels, pixels, 3]; KeyError for an unknown name."""
    result = SCENERY[name](pixels)
    result.setflags(write=False)
    return result


def paste(picture: np.ndarray, sprite_: np.ndarray, top: int, left: int) -> None:
    """Lay a sprite over a picture uint8 [S, S, 3], in place, from pixel (top, left) on."""
    side = len(sprite_)
    window = picture[top : top + side, left : left + side]
    alpha = sprite_[..., 3:].astype(np.int32)
    window[:] = (sprite_[..., :3] * alpha + window * (255 - alpha) + 127) // 255
