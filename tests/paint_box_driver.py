"""The paint box in a browser's page, as a reader's hands and eyes have it; for test_paint_box_lab.py."""

import base64
from collections.abc import Callable

import numpy as np

READY = """() => {
  const context = window.jupyterapp?.shell.currentWidget?.sessionContext;
  const kernel = context?.isReady && context.session?.kernel;
  return kernel && kernel.connectionStatus === "connected" && kernel.status === "idle";
}"""
# Which pictures are drawn on the large canvas, and in which of the screen's frames.
RECORDER = """
  window.drawn = []; window.frame = 0;
  const count = () => { window.frame++; requestAnimationFrame(count); };
  requestAnimationFrame(count);
  const put = CanvasRenderingContext2D.prototype.putImageData;
  CanvasRenderingContext2D.prototype.putImageData = function (pixels, ...place) {
    if (this.canvas.className === "xl-picture")
      window.drawn.push([pixels.data.reduce((sum, value, i) => (sum * 31 + value * (i % 7)) % 1e9, 0), window.frame]);
    return put.call(this, pixels, ...place);
  };"""
# How often the first box said that it is at work or at rest; an action says both.
LISTENER = """() => {
  window.turns = 0;
  const observer = new MutationObserver((records) => (window.turns += records.length));
  observer.observe(document.querySelector(".xl-canvas"), { attributes: true, attributeFilter: ["aria-busy"] });
}"""
PIXELS = """canvas => {
  const { width, height } = canvas, data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  return btoa(Array.from(data, (value) => String.fromCharCode(value)).join(""));
}"""


class Driver:
    """The paint box in the page, as a reader's hands and eyes have it."""

    def __init__(self, page, errors: list[str]):
        self.page, self.errors = page, errors
        self.box = page.locator(".xl-box").first
        self.cells = self.box.locator(".xl-cell")

    def pixels(self) -> np.ndarray:
        """What the canvas shows, uint8 [S, S, 3]."""
        data = base64.b64decode(self.box.locator(".xl-picture").evaluate(PIXELS))
        side = round((len(data) / 4) ** 0.5)
        return np.frombuffer(data, np.uint8).reshape(side, side, 4)[..., :3]

    def until(self, sentence: str, act: Callable[[], None]) -> None:
        """Act, and wait until the box has been at work, is at rest again and says a sentence."""
        turns = self.page.evaluate("window.turns")
        act()
        self.page.wait_for_function("turns => window.turns >= turns + 2", arg=turns)
        self.box.locator(".xl-canvas[aria-busy=false]").wait_for()
        self.page.wait_for_function(READY)
        assert sentence in self.box.locator(".xl-status").inner_text()

    def press(self, button: str, sentence: str) -> None:
        """Press a button and wait for what the box says then."""
        self.until(sentence, self.button(button).click)

    def button(self, name: str):
        return self.box.get_by_role("button", name=name, exact=True)

    def paint(self, text: str) -> None:
        field = self.box.get_by_label("Text", exact=True)
        field.fill(text)
        self.until("Painted in", lambda: field.press("Enter"))

    def repaint(self, text: str) -> None:
        self.box.get_by_label("Text", exact=True).fill(text)
        self.press("Repaint", "Repainted")

    def drag(self, *cells: int) -> None:
        """Press the mouse on the first cell, drag over the others, let go."""
        places = [self.cells.nth(cell).bounding_box() for cell in cells]
        middle = [(b["x"] + b["width"] / 2, b["y"] + b["height"] / 2) for b in places]
        self.page.mouse.move(*middle[0])
        self.page.mouse.down()
        for place in middle[1:]:
            self.page.mouse.move(*place)
        self.page.mouse.up()

    def brushed(self) -> list[int]:
        """The numbers of the cells that are marked as selected."""
        marks = self.cells.evaluate_all("cells => cells.map(cell => cell.ariaSelected)")
        return [i for i, mark in enumerate(marks) if mark == "true"]

    def focused(self) -> int:
        """The number of the cell that has the focus, or -1."""
        return self.cells.evaluate_all("cells => cells.indexOf(document.activeElement)")
