"""What a painting is made of, kept inside its PNG.

A recipe is a list of strokes, each a text laid over the whole canvas or over the brushed cells, with the seed and
the settings that settle everything drawn at random, and a fingerprint of the model that painted. The paint box makes
it again (``paintbox/recipe.py``). Axes: N cells, S pixels.
"""

import hashlib
import io
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import nn

from xlxmert_core.config import check_number
from xlxmert_core.files import replacing, why
from xlxmert_core.sampling import ORDERS, PAINT_BOX, REAL, SCHEDULES, WHOLE, Sampling

CHUNK = "xlxmert"  # the PNG's text chunk that holds the recipe
MOST = {  # of each number: a recipe may come from a stranger
    "seed": 2**31 - 1, "steps": 256, "guidance": 20, "temperature": 10, "candidates": 16, "polish": 4,
}  # fmt: skip


class RecipeError(ValueError):
    """A PNG or a recipe that cannot be used; the message says what, where and what to do."""


@dataclass(frozen=True)
class Settings(Sampling):
    """How a stroke is painted: ``PAINT_BOX``'s settings unless others are given, and the seed.

    Raises ValueError in one sentence.
    """

    steps: int = PAINT_BOX.steps
    guidance: float = PAINT_BOX.guidance
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        for name, known in (("order", ORDERS), ("schedule", SCHEDULES)):
            if self[name] not in known.values():
                raise ValueError(f"A recipe holds the {name} by its name: choose {', '.join(known)}.")
        for name, most in MOST.items():
            check_number(name, self[name], (WHOLE | REAL).get(name, 0), most, whole=name not in REAL)


@dataclass(frozen=True)
class Stroke:
    """One text laid on the canvas.

    Attributes:
        cells: numbers of the brushed cells, row by row from 0; None is the whole canvas.
        taken: which of the candidates was taken, from 0.
    """

    text: str
    settings: Settings = Settings()
    cells: tuple[int, ...] | None = None
    taken: int = 0


@dataclass(frozen=True)
class Recipe:
    """How to make a picture again.

    Attributes:
        model: :func:`fingerprint` of the painter's transformer and generator.
        strokes: from the first to the last.
        codes: the finished picture's N codes.
        start: the N codes that the first stroke was laid on; None is an empty canvas.
    """

    model: str
    strokes: tuple[Stroke, ...]
    codes: tuple[int, ...]
    start: tuple[int, ...] | None = None

    def to_json(self) -> str:
        """The recipe as text; :meth:`from_json` reads it."""
        return json.dumps(asdict(self), default=lambda function: function.__name__)  # an order or a schedule

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Read :meth:`to_json`'s text; raises RecipeError for anything else."""
        try:
            given = json.loads(text)
            strokes = tuple(_stroke(stroke, len(given["codes"])) for stroke in given["strokes"])
            start = None if given["start"] is None else _whole(given["start"])
            return cls(_text(given["model"]), strokes, _whole(given["codes"]), start)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else why(error)
            raise RecipeError(f"The recipe is broken ({reason}): save the picture again.") from error


def _stroke(given: dict, count: int) -> Stroke:
    cells, taken = given["cells"], given["taken"]
    if cells is not None and not all(0 <= cell < count for cell in _whole(cells)):
        raise ValueError(f"it brushes a cell that is not among the {count}")
    settings = Settings(**given["settings"])
    if _whole([taken])[0] not in range(settings.candidates):
        raise ValueError(f"it takes candidate {taken} of {settings.candidates}")
    return Stroke(_text(given["text"]), settings, None if cells is None else _whole(cells), taken)


def _text(value) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    value.encode()  # half a character, which JSON allows, cannot be shown
    return value


def _whole(values) -> tuple[int, ...]:
    if wrong := [value for value in values if type(value) is not int]:
        raise TypeError(f"{wrong[0]!r} is no whole number")
    return tuple(values)


def fingerprint(*parts: nn.Module | None) -> str:
    """SHA-256 over the names, shapes and values of the parts' tensors; 16 hex digits."""
    digest = hashlib.sha256()
    for part in parts:
        for name, tensor in sorted(part.state_dict().items() if part else ()):
            digest.update(f"{name}\0{list(tensor.shape)}\0".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def save_png(target: str | os.PathLike | IO[bytes], image: np.ndarray, recipe: Recipe | None, text: str = "") -> None:
    """Write a picture uint8 [S, S, 3] with its recipe, to a path (all or nothing) or an open binary file.

    Args:
        text: what it shows, in the PNG's own field for that ("Description").
    """
    info = PngInfo()
    if recipe is not None:
        info.add_itxt(CHUNK, recipe.to_json())
    if text:
        info.add_itxt("Description", text)
    picture = Image.fromarray(image)
    if not isinstance(target, str | os.PathLike):
        picture.save(target, "PNG", pnginfo=info)
        return
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        picture.save(temporary, "PNG", pnginfo=info)


def read_png(source: str | os.PathLike | bytes) -> tuple[np.ndarray, Recipe]:
    """The picture uint8 [S, S, 3] and the recipe of a PNG, from a path or its bytes.

    Raises FileNotFoundError or RecipeError in one sentence.
    """
    name = "The file" if isinstance(source, bytes) else os.fspath(source)
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise FileNotFoundError(f"There is no picture at {name}: check the path.")
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=["PNG"]) as png:
            pixels = np.array(png.convert("RGB"))
            text = png.info.get(CHUNK)  # complete only now that the pixels are read
    except Exception as error:  # Pillow's decoder raises whatever it likes for a broken file
        raise RecipeError(f"{name} is no PNG, or a broken one: choose a picture saved by the paint box.") from error
    if text is None:
        raise RecipeError(f"{name} is a PNG without a recipe: choose one that was saved by the paint box.")
    return pixels, Recipe.from_json(text)
