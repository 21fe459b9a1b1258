"""Product photographs as pictures: made square, and where in them the product is. Most stand before plain white."""

import numpy as np
from PIL import Image

SEEN = 13  # of 255, by which a pixel must differ from the border's colour to be the product's
COVERED = 0.06  # share of a cell that the product must cover
RIM = 2  # pixels
AT_ONCE = 256  # pictures whose pixels are looked at together


def border_colour(images: np.ndarray) -> np.ndarray:
    """The median of the outermost pixels: uint8 [M, H, W, 3] -> float [M, 3]; a sleeve at the edge does not matter."""
    count = len(images)
    sides = (images[:, :RIM], images[:, -RIM:], images[:, :, :RIM], images[:, :, -RIM:])
    return np.median(np.concatenate([side.reshape(count, -1, 3) for side in sides], 1), 1)


def squared(image: Image.Image, pixels: int) -> np.ndarray:
    """The whole picture in the middle of a square of its border's colour: uint8 [pixels, pixels, 3]."""
    share = pixels / max(image.size)
    width, height = (max(1, round(side * share)) for side in image.size)
    small = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))  # [height, width, 3]
    square = np.empty((pixels, pixels, 3), np.uint8)
    square[:] = border_colour(small[None])[0].round()
    top, left = (pixels - height) // 2, (pixels - width) // 2
    square[top : top + height, left : left + width] = small
    return square


def product_masks(images: np.ndarray) -> np.ndarray:
    """Where the product is: uint8 [M, S, S, 3] -> bool [M, S, S].

    It is what differs from the border's colour, without specks, and what lies between that on all four sides: a white
    shirt's middle. Where hardly anything differs it is the middle half of the picture.
    """
    parts = [_masks(images[i : i + AT_ONCE]) for i in range(0, len(images), AT_ONCE)]
    return np.concatenate(parts) if parts else np.zeros(images.shape[:3], bool)


def _masks(images: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_opening  # half a second, which readers of text need not spend

    border = border_colour(images)[:, None, None]  # [m, 1, 1, 3]
    low, high = ((border + by).clip(0, 255).astype(np.uint8) for by in (-SEEN, SEEN))
    different = (images < low) | (images > high)
    seen = different[..., 0] | different[..., 1] | different[..., 2]  # [m, S, S]
    seen = binary_opening(seen, np.ones((1, 3, 3)))  # specks of compression go
    filled = np.ones_like(seen)
    for axis in (1, 2):
        filled &= np.logical_or.accumulate(seen, axis)
        filled &= np.flip(np.logical_or.accumulate(np.flip(seen, axis), axis), axis)
    middle = np.zeros(filled.shape[1:], bool)
    quarter = len(middle) // 4
    middle[quarter : len(middle) - quarter, quarter : len(middle) - quarter] = True
    filled[filled.mean((1, 2)) < 0.01] = middle
    return filled


def covered_cells(masks: np.ndarray, grid: int = 8) -> np.ndarray:
    """Which cells the product covers enough of: bool [M, S, S] -> bool [M, grid, grid], one or more of each picture."""
    side = masks.shape[1] // grid
    share = masks.reshape(len(masks), grid, side, grid, side).mean((2, 4))  # [M, grid, grid]
    return share >= np.minimum(COVERED, share.max((1, 2), keepdims=True))


def boxes(masks: np.ndarray) -> np.ndarray:
    """The product's box in each picture: bool [M, S, S] -> float [M, 4], (x0, y0, x1, y1) from 0 to 1."""
    ends = []
    for axis in (1, 2):  # columns, then rows
        there = masks.max(axis)  # bool [M, S]
        first, last = there.argmax(1), there.shape[1] - there[:, ::-1].argmax(1)
        ends += [first / there.shape[1], last / there.shape[1]]
    return np.stack([ends[0], ends[2], ends[1], ends[3]], 1)


def parts(found: np.ndarray, cells: np.ndarray, across: int) -> np.ndarray:
    """Where in the product each cell lies: boxes [M, 4] and covered cells bool [M, grid, grid] -> int64, same shape.

    0 off the product, else 1 + the place of the cell's middle among across x across parts of the box, row by row.
    """
    centre = (np.arange(cells.shape[1]) + 0.5) / cells.shape[1]
    x, y = ((centre - found[:, i, None]) / (found[:, i + 2] - found[:, i])[:, None] for i in (0, 1))  # [M, grid]
    column, row = (np.clip(np.floor(place * across), 0, across - 1).astype(np.int64) for place in (x, y))
    return np.where(cells, 1 + row[:, :, None] * across + column[:, None, :], 0)


def middle_cells(cells: np.ndarray) -> np.ndarray:
    """The covered cell nearest to the middle of all that are: bool [M, grid, grid] -> int64 [M, 3], (picture, y, x)."""
    found = []
    for number, those in enumerate(cells):
        places = np.argwhere(those)  # [n, 2]
        far = ((places - places.mean(0)) ** 2).sum(1)
        found.append((number, *places[far.argmin()]))
    return np.array(found, np.int64).reshape(-1, 3)
