"""Pictures as HTML for a notebook: each above its sentence, all inside the page. Axes: T frames, S pixels."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

AT_MOST = 64  # pictures that are shown at once
ROW = "display:flex;flex-wrap:wrap;gap:12px"
HOLD = 2000  # milliseconds that the last frame stays


def frames_to(target: Path | io.BytesIO, frames: np.ndarray, kind: str, milliseconds: int) -> None:
    """Write frames uint8 [T, H, W, 3] as an animated "PNG" or "GIF" that goes on and on, to a path or a file."""
    first, *others = [Image.fromarray(frame) for frame in frames]
    times = [milliseconds] * len(others) + [HOLD]
    first.save(target, kind, save_all=True, append_images=others, duration=times, loop=0)


def data_uri(frames: np.ndarray, milliseconds: int = 0) -> str:
    """One frame or several, uint8 [T, H, W, 3], as the address of a PNG that holds itself."""
    file = io.BytesIO()
    if len(frames) == 1:
        Image.fromarray(frames[0]).save(file, "PNG")
    else:
        frames_to(file, frames, "PNG", milliseconds)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def figure(address: str, text: str, width: int) -> str:
    """A picture, ``width`` pixels wide on the screen, above its sentence."""
    shown = escape(text)
    image = f'<img src="{address}" alt="{shown}" width="{width}">'
    return f'<figure style="margin:0;width:{width}px">{image}<figcaption>{shown}</figcaption></figure>'


def row_of(images: np.ndarray, texts: Sequence[str]) -> str:
    """Pictures uint8 [B, S, S, 3] side by side above their sentences; of very many, the first."""
    width = min(256, max(128, images.shape[2])) if len(images) else 128
    shown = [figure(data_uri(image[None]), text, width) for image, text in zip(images[:AT_MOST], texts, strict=False)]
    more = f"<p>… and {len(images) - AT_MOST} more.</p>" if len(images) > AT_MOST else ""
    return f'<div style="{ROW}">{"".join(shown)}</div>{more}'
