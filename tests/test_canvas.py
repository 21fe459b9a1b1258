"""The face of the widgets: one message for several traits, a still picture for pages without a kernel."""

import base64
import io

import ipywidgets
import numpy as np
from PIL import Image

from xlxmert_core.paintbox.canvas import VIEW, Canvas, bundle, smaller


def test_several_traits_go_in_one_message(monkeypatch):
    canvas, sent = Canvas(), []
    monkeypatch.setattr(canvas, "send_state", lambda key=None: sent.append({key} if isinstance(key, str) else set(key)))
    canvas.put(pixels=b"123", hidden=[1, 2])
    canvas.say("Hello.", "trouble")
    assert sent == [{"pixels", "hidden"}, {"status"}]
    assert canvas.status == {"text": "Hello.", "mood": "trouble"}


def test_the_face_comes_with_the_package():
    assert "export default" in Canvas()._esm and ".xl-cell" in Canvas()._css


def test_a_bundle_holds_the_view_and_a_still_picture():
    widget, picture = ipywidgets.VBox(), np.full((4, 4, 3), 7, np.uint8)
    found = bundle(widget, picture, "A box")
    assert found[VIEW]["model_id"] == widget.model_id
    png = found["image/png"]
    still = np.array(Image.open(io.BytesIO(png if isinstance(png, bytes) else base64.b64decode(png))))
    assert still.shape == (384, 384, 3) and (still == 7).all()
    assert "image/png" not in bundle(widget, None, "A box") and "A box" in found["text/plain"]


def test_smaller_pictures_are_means_of_four_pixels():
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    small = smaller(images)
    assert small.shape == (2, 2, 2, 3) and small.dtype == np.uint8
    assert small[1, 1, 0, 2] == int(images[1, 2:4, 0:2, 2].mean())
