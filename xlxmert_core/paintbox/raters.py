"""Asking people about paintings: which word is missing (HUMMUS), and which of two paintings is better.

Paper, evaluation of image generation. Answers are kept after each, in a CSV file that several raters may share one
after another; whoever comes back goes on where they left off. :mod:`xlxmert_core.evaluate.people` counts them. Axes:
M pictures, S pixels.
"""

import os
from collections.abc import Sequence

import ipywidgets
import numpy as np

from xlxmert_core.data.ratings import read_ratings, write_ratings
from xlxmert_core.paintbox.canvas import Canvas, bundle, column

DONE = "That was the last one. Thank you."


class _Asking:
    """What both have in common: the questions that a rater has not answered yet, one after another.

    Raises ValueError for no name, for no questions, or for a file with answers to others.
    """

    title = "Questions about paintings"

    def __init__(self, sentences: Sequence[str], wanted: Sequence[str], path: str | os.PathLike, rater: str):
        if not (rater.strip() and len(sentences) == len(wanted) > 0):
            raise ValueError("Asking needs a rater's name, and a sentence for each picture, one or more.")
        self.sentences, self.wanted, self.path, self.rater = list(sentences), list(wanted), path, rater.strip()
        rows = read_ratings(path)
        known = {str(i + 1): sentence for i, sentence in enumerate(self.sentences)}
        if any(known.get(row["item"]) != row["sentence"] for row in rows):
            raise ValueError(f"{path} has answers to other questions: name another file for these.")
        done = {row["item"] for row in rows if row["rater"] == self.rater}
        self.left = [i for i in range(len(self.sentences)) if str(i + 1) not in done]
        self.sentence, self.status = ipywidgets.HTML(), ipywidgets.Label()
        self.buttons: dict[str, ipywidgets.Button] = {}

    @property
    def now(self) -> int | None:
        """The number of the question, from 0; None when all are answered."""
        return self.left[0] if self.left else None

    def _keep(self, answer: str) -> None:
        """Write the answer and go on; when it cannot be written, say so and stay."""
        if self.now is None:
            return
        row = {"rater": self.rater, "item": str(self.now + 1), "sentence": self.sentences[self.now],
               "wanted": self.wanted[self.now], "answer": answer}  # fmt: skip
        try:
            write_ratings(self.path, [*read_ratings(self.path), row])
        except (OSError, ValueError) as error:
            self.status.value = str(error)
            return
        self.left = self.left[1:]
        self._show()

    def _show(self) -> None:
        """Put the next question on the page."""
        for button in self.buttons.values():
            button.disabled = self.now is None
        count = len(self.sentences)
        self.status.value = DONE if self.now is None else f"Question {count - len(self.left) + 1} of {count}"
        text = "" if self.now is None else self.sentences[self.now]
        self.sentence.value = "<b>" + text.replace("&", "&amp;").replace("<", "&lt;") + "</b>"

    def _box(self, canvases: Sequence[Canvas], asks: Sequence[ipywidgets.Widget]) -> ipywidgets.Box:
        row = ipywidgets.Layout(flex_flow="row wrap", align_items="flex-start")
        pictures = ipywidgets.Box(list(canvases), layout=row)
        pictures.add_class("xl-row-of-two")
        box = ipywidgets.VBox([self.sentence, pictures, ipywidgets.Box(list(asks), layout=row), self.status])
        box.add_class("xl-box")
        return box


def _put(canvas: Canvas, image: np.ndarray, label: str) -> None:
    canvas.put(pixels=np.ascontiguousarray(image).tobytes(), label=label, brushed=[])


class FillGap(_Asking):
    """HUMMUS: a painting, its caption with one word blanked, and a field for the word; shows in a cell's last line.

    Args:
        pictures: uint8 [M, S, S, 3].
        sentences: captions with a gap (:class:`~xlxmert_core.evaluate.people.Blank` has them), and the ``words`` that
            were blanked.
        path: the CSV file of the answers; rater: whose they are.
    """

    title = "Which word is missing?"

    def __init__(self, pictures: np.ndarray, sentences: Sequence[str], words: Sequence[str],
                 path: str | os.PathLike, rater: str):  # fmt: skip
        super().__init__(sentences, words, path, rater)
        if len(pictures) != len(sentences):
            raise ValueError(f"{len(pictures)} pictures, but {len(sentences)} sentences: give one for each picture.")
        self.pictures, self.canvas = pictures, Canvas(grid=1, layout=column("440px"))
        self.word = ipywidgets.Text(description="Word", placeholder="the missing word …")
        self.buttons["Next"] = ipywidgets.Button(description="Next", tooltip="Keep the word and go on")
        self.buttons["Next"].on_click(lambda _: self.answer(self.word.value))
        self.word.on_msg(lambda _, content, __: content.get("event") == "submit" and self.answer(self.word.value))
        self.widget = self._box([self.canvas], [self.word, self.buttons["Next"]])
        self._show()

    def answer(self, word: str) -> None:
        """Keep a word for the gap and show the next painting; an empty one is asked for again."""
        if self.now is not None and not word.strip():
            self.status.value = "Type the word that you think is missing, even if you have to guess."
            return
        self._keep(word.strip())

    def _show(self) -> None:
        super()._show()
        self.word.value = ""
        if self.now is not None:
            _put(self.canvas, self.pictures[self.now], f"Painting {self.now + 1}")

    def _repr_mimebundle_(self, **_) -> dict:
        """The widget, and the picture for pages that have no kernel."""
        return bundle(self.widget, self.pictures[self.now or 0], self.title)


class Prefer(_Asking):
    """Two paintings of one text, in an order that hides whose they are, and three buttons.

    The paper asks twice, which fits the text better and which looks more real: two files.

    Args:
        pictures: uint8 [M, S, S, 3] of two painters by name; an answer is a name, or nothing for a draw.
        texts: what was painted.
        question: what is asked.
        seed: of who stands on the left.

    The other arguments are those of :class:`FillGap`.
    """

    def __init__(self, pictures: dict[str, np.ndarray], texts: Sequence[str], path: str | os.PathLike, rater: str,
                 question: str = "Which picture fits the sentence better?", seed: int = 0):  # fmt: skip
        super().__init__(texts, [""] * len(texts), path, rater)
        if len(pictures) != 2 or any(len(images) != len(texts) for images in pictures.values()):
            raise ValueError("A comparison needs the pictures of two painters, one of each for every text.")
        self.pictures, self.names, self.title = pictures, list(pictures), question
        self._turned = np.random.default_rng(seed).random(len(texts)) < 0.5
        self.canvases = [Canvas(grid=1, layout=column("360px")) for _ in range(2)]
        for side, name in enumerate(("Left", "Right", "No difference")):
            self.buttons[name] = ipywidgets.Button(description=name)
            self.buttons[name].on_click(lambda _, side=side: self.answer(side))
        asks = [ipywidgets.Label(question), *self.buttons.values()]
        self.widget = self._box(self.canvases, asks)
        self._show()

    def sides(self, number: int) -> list[str]:
        """Whose painting stands on the left and whose on the right."""
        return self.names[::-1] if self._turned[number] else self.names

    def answer(self, side: int) -> None:
        """Keep a choice, 0 for the left, 1 for the right, 2 for neither, and show the next pair."""
        if self.now is not None:
            self._keep([*self.sides(self.now), ""][side])

    def _show(self) -> None:
        super()._show()
        if self.now is not None:
            for canvas, name, side in zip(self.canvases, self.sides(self.now), ("left", "right"), strict=True):
                _put(canvas, self.pictures[name][self.now], f"The painting on the {side}")

    def _repr_mimebundle_(self, **_) -> dict:
        """The widget, and the left picture for pages that have no kernel."""
        number = self.now or 0
        return bundle(self.widget, self.pictures[self.sides(number)[0]][number], self.title)
