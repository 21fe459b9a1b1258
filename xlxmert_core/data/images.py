"""Opening pictures of all kinds, and saying in one sentence what is wrong with the others."""

import os
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from xlxmert_core.data.files import DataError
from xlxmert_core.data.pictures import formats
from xlxmert_core.files import why

SIDEWAYS = (5, 6, 7, 8)  # EXIF's orientations that swap width and height
HEADED = ("JPEG", "MPO", "WEBP", "BMP")  # formats that tell size and orientation before the pixels
ImageLike = str | os.PathLike | Image.Image | np.ndarray  # a path, or pixels uint8 [H, W], [H, W, 3] or [H, W, 4]


class ImageError(DataError):
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
        with Image.open(path, formats=formats()) as image:
            return _to_rgb(image)
    except Exception as error:  # Pillow's decoders raise whatever they like for a broken file
        raise ImageError(f"The picture {path} is broken ({why(error)}): replace or remove it.") from error


def picture_size(path: str | os.PathLike) -> tuple[int, int]:
    """(width, height) of a picture as :func:`open_image` would open it, from the file's head where that tells it.

    Raises :class:`ImageError` when there is no picture.
    """
    try:
        with Image.open(path, formats=formats()) as image:
            if image.format in HEADED or (image.format == "PNG" and not _told_late(path)):
                # Image's own method: PNG's decodes the whole picture.
                turned = Image.Image.getexif(image).get(ExifTags.Base.Orientation) in SIDEWAYS
                return image.size[::-1] if turned else image.size
    except Exception:  # noqa: S110  Pillow raises whatever it likes; open_image says what is wrong
        pass
    return open_image(path).size


def _told_late(path: str | os.PathLike) -> bool:
    """Whether a PNG may tell its orientation after the pixels."""
    with open(path, "rb") as file:
        file.seek(8)
        pixels = False
        while len(head := file.read(8)) == 8:
            name = head[4:]
            if pixels and name in (b"eXIf", b"iTXt", b"tEXt", b"zTXt"):
                return True
            pixels |= name == b"IDAT"
            file.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
    return False


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
        image = Image.fromarray((255 * pixels / max(1.0, np.max(pixels))).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")
