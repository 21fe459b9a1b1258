"""Opening pictures of all kinds, and saying in one sentence what is wrong with the others."""

import os
import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

ImageLike = str | os.PathLike | Image.Image | np.ndarray  # a path, or pixels uint8 [H, W], [H, W, 3] or [H, W, 4]


class ImageError(ValueError):
    """A picture that cannot be read; the message says what, where and what to do."""


def open_image(source: ImageLike) -> Image.Image:
    """A picture as RGB: from a path, a PIL image, or a numpy array [H, W], [H, W, 3] or [H, W, 4].

    Grey-scale, palette, CMYK and 16-bit pictures (scaled by their own brightest pixel) are converted;
    transparency is laid on white; the camera's orientation is applied.
    Addresses are refused: nothing is fetched or executed. Raises :class:`ImageError`.
    """
    if isinstance(source, np.ndarray):
        return _to_rgb(_from_array(source))
    if isinstance(source, Image.Image):
        return _to_rgb(source)
    if not isinstance(source, str | os.PathLike):
        raise ImageError(f"A picture is a path, a PIL image or a numpy array, not {type(source).__name__}.")
    name = os.fspath(source)
    if "://" in name:
        raise ImageError(f"{name!r} is an address: download the picture first, then give its path.")
    path = Path(name)
    if not path.is_file():
        what = "a folder, not a picture" if path.is_dir() else "not there"
        raise ImageError(f"The picture {path} is {what}: check the path.")
    try:
        with Image.open(path) as image:
            return _to_rgb(image)
    except Exception as error:  # Pillow's decoders raise whatever they like for a broken file
        raise ImageError(f"The picture {path} is broken ({error}): replace or remove it.") from error


def to_square(image: Image.Image, size: int) -> np.ndarray:
    """The middle square of a picture, resized: uint8 [size, size, 3]."""
    return np.array(ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR), dtype=np.uint8)


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or not array.size or array.shape[2:] not in ((), (3,), (4,)):
        raise ImageError(
            f"A picture array is uint8 [H, W], [H, W, 3] or [H, W, 4], not {array.dtype} {list(array.shape)}."
        )
    return Image.fromarray(array)


def _to_rgb(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits and more
        pixels = np.asarray(image, dtype=np.float64)
        image = Image.fromarray((255 * pixels / max(1.0, pixels.max())).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def find_pictures(folder: str | os.PathLike) -> dict[str | int, Path]:
    """{key: file} of a folder's pictures, also in its sub-folders: the file's name without ending, and its last number.

    COCO_val2014_000000000042.jpg is found as "COCO_val2014_000000000042" and as 42; of several files with one
    number the first by name counts. Raises :class:`ImageError` when the folder is not there.
    """
    if not Path(folder).is_dir():
        raise ImageError(f"There is no folder {folder}: put the pictures there, or check the path.")
    found: dict[str | int, Path] = {}
    for path in sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")):
        found.setdefault(path.stem, path)
        if number := re.search(r"\d+$", path.stem):
            found.setdefault(int(number[0]), path)
    return found
