"""Canvas: the one face of the book's widgets, a picture under a grid of cells; ``paint_box.js`` draws it.

Axes: S pixels, N cells, C smaller pictures.
"""

import io
from pathlib import Path

import anywidget
import ipywidgets
import numpy as np
import traitlets
from PIL import Image

FOLDER = Path(__file__).parent
WIDE = 384  # pixels of the still picture that stands for a widget where no kernel runs
VIEW = "application/vnd.jupyter.widget-view+json"


class Canvas(anywidget.AnyWidget):
    """A picture under a grid of cells; what the page shows is what these traits say.

    Attributes:
        pixels: uint8 [S, S, 3], row by row; nothing is an empty canvas with the ``hint`` on it.
        brushed: the numbers of the brushed cells, row by row from 0; the page writes it.
        choose: True lets the page choose one cell instead of brushing many.
        hidden: cells under a veil.
        thumbs, thumb_labels, taken: smaller pictures in a row, uint8 [C, s, s, 3], and which one is taken.
        said, heat: lines of words, and where each word looks, float32 [words of all lines, N].
    """

    _esm = (FOLDER / "paint_box.js").read_text(encoding="utf-8")
    _css = (FOLDER / "paint_box.css").read_text(encoding="utf-8")
    grid = traitlets.Int(8).tag(sync=True)
    choose = traitlets.Bool(False).tag(sync=True)
    pixels = traitlets.Bytes(b"").tag(sync=True)
    label = traitlets.Unicode("An empty canvas").tag(sync=True)
    hint = traitlets.Unicode("").tag(sync=True)
    brushed = traitlets.List(traitlets.Int()).tag(sync=True)
    hidden = traitlets.List(traitlets.Int()).tag(sync=True)
    thumbs = traitlets.Bytes(b"").tag(sync=True)
    thumb_labels = traitlets.List(traitlets.Unicode()).tag(sync=True)
    taken = traitlets.Int(0).tag(sync=True)
    said = traitlets.List(traitlets.Dict()).tag(sync=True)
    heat = traitlets.Bytes(b"").tag(sync=True)
    status = traitlets.Dict({"text": "", "mood": "ready"}).tag(sync=True)

    def put(self, **traits) -> None:
        """Set several traits in one message."""
        with self.hold_sync():
            for name, value in traits.items():
                setattr(self, name, value)

    def say(self, text: str, mood: str = "ready") -> None:
        """A sentence in the status line; the mood is "ready", "busy" or "trouble"."""
        self.status = {"text": text, "mood": mood}


def bundle(widget: ipywidgets.DOMWidget, picture: np.ndarray | None, text: str) -> dict:
    """What a notebook keeps of a widget: its view and, where no kernel runs, a still picture uint8 [S, S, 3].

    A class that returns it from ``_repr_mimebundle_`` shows alike with ipywidgets 7 and 8.
    """
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    still = {}
    if picture is not None:
        file = io.BytesIO()
        Image.fromarray(picture).resize((WIDE, WIDE), Image.Resampling.LANCZOS).save(file, "PNG")
        still = {"image/png": file.getvalue()}
    return {"text/plain": f"{text}: run this cell in Jupyter to use it.", VIEW: view, **still}


def smaller(images: np.ndarray) -> np.ndarray:
    """Pictures uint8 [C, S, S, 3] at half their size, each pixel the mean of four."""
    count, side = images.shape[:2]
    return images.reshape(count, side // 2, 2, side // 2, 2, 3).mean((2, 4)).astype(np.uint8)


def column(widest: str) -> ipywidgets.Layout:
    """A column that shares its row with another, or has it alone on a narrow screen."""
    return ipywidgets.Layout(flex="1 1 240px", max_width=widest, min_width="0")
