"""The paint box: a canvas to type at, brush on, undo and ask about.

Three layers: :class:`xlxmert_core.paintbox.studio.Studio` works, ``paint_box.js`` draws, and this file passes messages
between them. Everything runs in the kernel's own thread, and a trait that is set while it works reaches the page at
once: that is how each step shows as it is computed. Axes: S pixels, N cells, M pictures.
"""

import io
import os
import re
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import IO, Any

import ipywidgets
import numpy as np

from xlxmert_core.display.recipe import MOST, Settings
from xlxmert_core.folder import shipped_names
from xlxmert_core.paintbox.canvas import Canvas, bundle, column, smaller
from xlxmert_core.paintbox.studio import Step, Studio
from xlxmert_core.pipeline import Pipeline, load
from xlxmert_core.sampling import ORDERS, SCHEDULES

WORLDS = {  # shipped painters: a text and a question to begin with
    "storybook": ("a large red house left of a small yellow tree in the snow", "what colour is the house"),
    "catalogue": ("a striped blue shirt for men", "what colour is it"),
}
FIRST = "storybook"
BUTTONS = {  # what each does, for the pointer that rests on it
    "Paint": "Paint the text on an empty canvas",
    "Repaint": "Paint the text over the brushed cells",
    "Undo": "Back to the picture before",
    "Redo": "Forward again",
    "Ask": "Answer the question",
    "Describe": "Write a caption",
}


class PaintBox:
    """A widget to paint with: ``PaintBox()`` in a cell's last line shows it.

    Args:
        painter: any pipeline with codes and a generator, or the name of a shipped one, None the first; with such a one
            comes a choice of all that are shipped, each opened when it is chosen.
        text: what stands in the text field at first; None is one for the shipped painter.
        settings: what the controls start at.

    Attributes:
        studio: the :class:`Studio` behind it; call :meth:`refresh` after using it from code.
        error: the exception that the last action ended with, or None.
    """

    def __init__(self, painter: Pipeline | str | None = None, text: str | None = None,
                 settings: Settings | None = None):  # fmt: skip
        painter = FIRST if painter is None else painter
        name = painter if isinstance(painter, str) else ""
        known = [world for world in WORLDS if name in WORLDS and world in shipped_names()]
        self._studios = {name: Studio(load(painter) if isinstance(painter, str) else painter)}
        self.studio, text = self._studios[name], WORLDS.get(name, WORLDS[FIRST])[0] if text is None else text
        self.error: BaseException | None = None
        self.world = ipywidgets.Dropdown(options=known or [name], value=name, description="World", layout=_row())
        self.world.layout.display = None if len(known) > 1 else "none"
        self.canvas = Canvas(
            grid=self.studio.painter.grid,
            hint="Type a text, then press Paint.",
            layout=column("440px"),
        )
        self.text, self.question = _sentence("Text", text), _sentence("Question", dict(WORLDS.values()).get(text, ""))
        self.step = ipywidgets.IntSlider(1, 1, 1, description="Step", disabled=True, layout=_row())
        self.buttons = {name: ipywidgets.Button(description=name, tooltip=tip) for name, tip in BUTTONS.items()}
        self.buttons["Paint"].button_style = "primary"
        self.controls: dict[str, Any] = _controls(settings or Settings())
        self._showing, self._drawn = False, None
        self._listen()
        self.widget = self._arrange()
        self.refresh()

    def _listen(self) -> None:
        acts = {"Paint": self.paint, "Repaint": self.repaint, "Undo": self.undo, "Redo": self.redo,
                "Describe": self.describe, "Ask": self.ask}  # fmt: skip
        for name, act in acts.items():
            self.buttons[name].on_click(lambda _, act=act: act())
        _on_enter(self.text, self.paint)
        _on_enter(self.question, self.ask)
        self.step.observe(self._show_step, "value")
        self.world.observe(lambda change: self.change(change["new"]), "value")
        self.canvas.on_msg(self._heard)

    def _arrange(self) -> ipywidgets.Box:
        """Text and brush above the picture, everything else beside it; on a narrow screen, below."""
        settings = ipywidgets.Accordion([ipywidgets.VBox(list(self.controls.values()))], selected_index=None)
        settings.set_title(0, "Settings")
        acts, asking = ([self.buttons[name] for name in names] for names in (list(BUTTONS)[:4], list(BUTTONS)[4:]))
        side = ipywidgets.VBox([self.step, self.question, _line(asking), settings], layout=column("520px"))
        pair = _line([self.canvas, side])
        pair.add_class("xl-row-of-two")
        box = ipywidgets.VBox([self.world, self.text, _line(acts), pair], layout=ipywidgets.Layout(max_width="1000px"))
        box.add_class("xl-box")
        return box

    def settings(self, repainting: bool = False) -> Settings:
        """What the controls say; raises ValueError in one sentence."""
        values = {name: control.value for name, control in self.controls.items()}
        again = values.pop("repaint_candidates")
        return Settings(**(values | ({"candidates": again} if repainting else {})))

    def change(self, world: str) -> None:
        """Work with another shipped painter, on the picture that it was left with; its first time opens it."""
        if self._studios.get(world) is self.studio:
            return
        with self._working("Opening …"):
            if world not in self._studios:
                self._studios[world] = Studio(load(world))
                self.text.value, self.question.value = WORLDS[world]
            self.studio, self.canvas.brushed = self._studios[world], []
            self.canvas.grid = self.studio.painter.grid
            self._say("Type a text, then press Paint.")
        self.world.value = next(name for name, studio in self._studios.items() if studio is self.studio)

    def paint(self) -> None:
        """Paint the text on an empty canvas."""
        with self._working("Painting …"):
            self.studio.paint(self.text.value, self.settings(), self._on_step)
            self.canvas.brushed = []
            self._say(f"Painted in {len(self.studio.picture.steps)} steps. Brush over cells to repaint them.")

    def repaint(self) -> None:
        """Paint the text over the brushed cells."""
        with self._working("Repainting …"):
            mask = np.isin(np.arange(self.canvas.grid**2), self.canvas.brushed).reshape(self.canvas.grid, -1)
            self.studio.repaint(self.text.value, mask, self.settings(repainting=True), self._on_step)
            self.canvas.brushed = []
            self._say(f"Repainted {mask.sum()} of {mask.size} cells; the others kept their codes.")

    def undo(self) -> None:
        """Back to the picture before; the cells that were brushed for it are brushed again."""
        with self._working("Undoing …"):
            undone = self.studio.picture
            now = self.studio.undo()
            self._say("Undone: this is the picture before." if now else "Undone: the canvas is empty.")
            last = undone.recipe.strokes[-1:] if undone and undone.steps else ()  # a file was opened, not brushed
            self.canvas.brushed = [cell for stroke in last for cell in stroke.cells or ()]

    def redo(self) -> None:
        """Forward again."""
        with self._working("Redoing …"):
            self.studio.redo()
            self.canvas.brushed = []
            self._say("Done again.")

    def take(self, candidate: int) -> None:
        """Take another candidate of the last stroke, from 0."""
        with self._working("Taking the candidate …"):
            self.studio.take(candidate)
            self._say(f"Took candidate {candidate + 1}.")

    def describe(self) -> None:
        """Write a caption, with where each word looks."""
        with self._working("Looking …"):
            self._tell("Caption", self.studio.caption(), "captions")

    def ask(self) -> None:
        """Answer the question, with where each of its words looks."""
        with self._working("Looking …"):
            question = self.question.value.strip()
            self._tell("Question", question, "vqa", answer=self.studio.answer(question))

    def save(self, path: str | os.PathLike | IO[bytes]) -> None:
        """Write the picture with its recipe to a PNG; raises ValueError or OSError in one sentence."""
        self.studio.save(path)

    def open(self, source: str | os.PathLike | bytes) -> None:
        """Show a saved PNG, from a path or its bytes."""
        with self._working("Opening …"):
            picture = self.studio.open(source)
            self._say(f"Opened: {picture.text}." if picture.text else "Opened.")

    def refresh(self) -> None:
        """Show what is in the studio now."""
        picture = self.studio.picture
        steps = picture.steps if picture else ()
        if steps is not self._drawn:  # rendering several candidates takes its time
            self._drawn = steps
            self._show_candidates()
        self._showing = True
        self.step.max = max(1, len(steps))
        self.step.value = self.step.max
        self._showing = False
        self.step.disabled = not steps
        self.canvas.put(
            pixels=picture.image.tobytes() if picture else b"",
            label=f"Painting: {picture.text or 'an opened picture'}" if picture else "An empty canvas",
            hidden=[], taken=picture.taken if picture else 0,
        )  # fmt: skip
        for name, button in self.buttons.items():
            button.disabled = {"Undo": not self.studio.can_undo, "Redo": not self.studio.can_redo}.get(name, False)

    def _show_candidates(self) -> None:
        count = len(self.studio.picture.candidates) if self._drawn else 0
        labels = [f"Candidate {i + 1} of {count}" for i in range(count)] if count > 1 else []
        images = smaller(self.studio.painter.render(self.studio.picture.candidates)) if labels else np.empty(0)
        self.canvas.put(thumbs=images.tobytes(), thumb_labels=labels)

    def _on_step(self, step: Step) -> None:
        self.canvas.put(pixels=step.image.tobytes(), hidden=np.flatnonzero(step.hidden).tolist())

    def _show_step(self, change: dict) -> None:
        if self._showing:
            return
        if change["new"] == self.step.max:
            self.canvas.put(pixels=self.studio.picture.image.tobytes(), hidden=[])
        else:
            self._on_step(self.studio.step(change["new"] - 1))

    def _tell(self, title: str, sentence: str, skill: str, **more) -> None:
        words, weights = self.studio.attention(sentence, skill)
        line = {"title": title, "words": words, **more}
        self.canvas.put(heat=weights.astype("<f4").tobytes(), said=[line])
        self._say(f"{title}: {sentence}" + (f": {more['answer']}." if more else "."))

    def _heard(self, _, message: dict, buffers: Sequence) -> None:
        """What the page sends besides traits."""
        match message.get("type"):
            case "take":
                self.take(message["candidate"])
            case "open":
                self.open(bytes(buffers[0]))
            case "too large":
                self._say(f"{message['name']} is too large for a saved picture: choose another file.", "trouble")
            case "save":
                with self._working("Saving …"):
                    self._download()

    def _download(self) -> None:
        file = io.BytesIO()
        self.studio.save(file)
        name = re.sub(r"[^a-z0-9]+", "-", self.studio.picture.text.lower()).strip("-")[:60] or "painting"
        self.canvas.send({"type": "download", "name": f"{name}.png"}, buffers=[file.getvalue()])
        self._say(f"Saved as {name}.png, with its recipe inside.")

    def _say(self, text: str, mood: str = "ready") -> None:
        self.canvas.say(text, mood)

    @contextmanager
    def _working(self, what: str) -> Generator[None]:
        """Whatever happens inside, the page gets its picture and its buttons back, and a sentence."""
        self.error, picture = None, self.studio.picture
        for button in self.buttons.values():
            button.disabled = True
        self._say(what, "busy")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", UserWarning)
                yield
            if notes := [str(note.message) for note in caught if issubclass(note.category, UserWarning)]:
                self._say(" ".join([self.canvas.status["text"], *notes]), "trouble")
        except (Exception, KeyboardInterrupt) as error:
            self.error = error
            self._say(_sentence_of(error), "trouble")
        finally:
            if self.studio.picture is not picture:
                self.canvas.said = []
            self.refresh()

    def _repr_mimebundle_(self, **_) -> dict:
        """The widget, and a still picture for pages that have no kernel."""
        picture = self.studio.picture
        return bundle(self.widget, None if picture is None else picture.image, "The paint box")


def _sentence(label: str, value: str) -> ipywidgets.Text:
    field = ipywidgets.Text(value, description=label, placeholder=f"{label} …", layout=_row())
    field.add_class("xl-wide")
    return field


def _row() -> ipywidgets.Layout:
    return ipywidgets.Layout(width="auto")


def _line(parts: Sequence[ipywidgets.Widget]) -> ipywidgets.Box:
    return ipywidgets.Box(parts, layout=ipywidgets.Layout(flex_flow="row wrap", align_items="flex-start"))


def _on_enter(field: ipywidgets.Text, act: Callable[[], None]) -> None:
    """Act when Enter is pressed; ``Text.on_submit`` is deprecated, and observing would also act when focus leaves."""
    field.on_msg(lambda _, content, __: act() if content.get("event") == "submit" else None)


def _sentence_of(error: BaseException) -> str:
    """An exception as a sentence for the reader."""
    if isinstance(error, KeyboardInterrupt):
        return "Stopped; the picture is as it was."
    if isinstance(error, ValueError | OSError) and str(error):
        return str(error)
    return f"That did not work: {type(error).__name__}: {error}".rstrip(": ") + "."


def _controls(settings: Settings) -> dict[str, ipywidgets.Widget]:
    """One control for each of the settings, and ``repaint_candidates``: one, so that a brush stroke shows at once."""
    look = {"style": {"description_width": "96px"}, "layout": _row()}

    def slide(name: str, value: float, low: float, high: float, step: float = 1) -> ipywidgets.Widget:
        kind = ipywidgets.IntSlider if step == 1 else ipywidgets.FloatSlider
        return kind(value=value, min=low, max=max(high, value), step=step, description=name, **look)

    def choose(name: str, options: Iterable[str], value: str) -> ipywidgets.Dropdown:
        return ipywidgets.Dropdown(options=list(options), value=value, description=name, **look)

    names: dict[Callable, str] = {function: name for table in (ORDERS, SCHEDULES) for name, function in table.items()}
    return {
        "seed": ipywidgets.BoundedIntText(settings.seed, 0, MOST["seed"], description="Seed", **look),
        "steps": slide("Steps", settings.steps, 1, 64),
        "candidates": slide("Candidates", settings.candidates, 1, 8),
        "repaint_candidates": slide("of a repaint", 1, 1, 8),
        "order": choose("Order", ORDERS, names[settings.order]),
        "schedule": choose("Schedule", SCHEDULES, names[settings.schedule]),
        "guidance": slide("Guidance", settings.guidance, 0, 5, 0.25),
        "temperature": slide("Temperature", settings.temperature, 0, 2, 0.05),
        "polish": slide("Polish rounds", settings.polish, 0, 3),
    }
