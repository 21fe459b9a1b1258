"""The paint box without a browser: what the page is sent, and that every failure becomes a sentence."""

import io

import numpy as np
import pytest
import torch
from tiny import GRID, TEXTS, tiny_painter

from xlxmert_core import sampling
from xlxmert_core.display.recipe import Settings, read_png
from xlxmert_core.paintbox import widgets
from xlxmert_core.paintbox.canvas import VIEW
from xlxmert_core.paintbox.widgets import PaintBox

FAST = Settings(steps=3, candidates=2, temperature=3.0)


@pytest.fixture
def box() -> PaintBox:
    made = PaintBox(tiny_painter(), TEXTS[0], FAST)
    made.paint()
    return made


def pixels(box: PaintBox) -> np.ndarray:
    return np.frombuffer(box.canvas.pixels, np.uint8).reshape(64, 64, 3)


def press(box: PaintBox, button: str) -> None:
    """What a click does."""
    box.buttons[button].click()


def send(box: PaintBox, *buffers: bytes, **message) -> None:
    """What a message from the page does."""
    box.canvas._handle_custom_msg(message, list(buffers))


def test_a_new_box_is_empty_and_says_what_to_do():
    box = PaintBox(tiny_painter())
    assert box.canvas.pixels == b"" and "press Paint" in box.canvas.hint
    assert box.buttons["Undo"].disabled and box.buttons["Redo"].disabled and not box.buttons["Paint"].disabled


def test_a_painting_reaches_the_page_with_its_candidates(box):
    picture = box.studio.picture
    assert np.array_equal(pixels(box), picture.image) and box.error is None
    assert box.canvas.thumb_labels == ["Candidate 1 of 2", "Candidate 2 of 2"]
    assert len(box.canvas.thumbs) == 2 * 32 * 32 * 3 and box.canvas.taken == picture.taken
    assert box.canvas.label == f"Painting: {TEXTS[0]}" and box.canvas.status["mood"] == "ready"
    assert box.step.max == box.step.value == len(picture.steps)


def test_every_step_is_sent_while_it_is_computed(box, monkeypatch):
    seen = []
    monkeypatch.setattr(box.canvas, "send_state", lambda key=None: seen.append((str(key), box.canvas.pixels)))
    box.paint()
    frames = [picture for keys, picture in seen if "pixels" in keys]
    assert len(set(frames)) >= 3
    assert frames[-1] == box.studio.picture.image.tobytes()


def test_brushed_cells_are_repainted_with_one_candidate(box):
    before = box.studio.picture
    box.canvas.brushed, box.text.value = [5, 6], TEXTS[1]
    press(box, "Repaint")
    last = box.studio.picture.recipe.strokes[-1]
    assert last.cells == (5, 6) and last.text == TEXTS[1] and last.settings.candidates == 1
    changed = (before.codes != box.studio.picture.codes).nonzero().flatten().tolist()
    assert set(changed) <= {5, 6} and box.canvas.brushed == []
    assert box.canvas.status["text"].startswith("Repainted 2 of 16 cells") and box.canvas.thumb_labels == []


def test_undo_gives_back_picture_and_brush_and_redo_the_repainting(box):
    first = box.canvas.pixels
    box.canvas.brushed = [0, 1, 4, 5]
    press(box, "Repaint")
    second = box.canvas.pixels
    press(box, "Undo")
    assert box.canvas.pixels == first and box.canvas.brushed == [0, 1, 4, 5] and not box.buttons["Redo"].disabled
    press(box, "Redo")
    assert box.canvas.pixels == second and box.canvas.brushed == [] and box.buttons["Redo"].disabled
    press(box, "Undo")
    press(box, "Undo")
    assert box.canvas.pixels == b"" and box.canvas.label == "An empty canvas" and box.buttons["Undo"].disabled


def test_undoing_an_opened_file_brushes_nothing(box):
    box.canvas.brushed = [0, 1]
    press(box, "Repaint")
    file = io.BytesIO()
    box.save(file)
    other = PaintBox(tiny_painter())
    other.open(file.getvalue())
    press(other, "Undo")
    assert other.canvas.pixels == b"" and other.canvas.brushed == []


def test_enter_paints_and_asks(box):
    box.text.value = TEXTS[1]
    box.text._handle_custom_msg({"event": "submit"}, [])
    assert box.studio.picture.recipe.strokes[-1].text == TEXTS[1]
    box.question.value = "red"
    box.question._handle_custom_msg({"event": "submit"}, [])
    assert box.canvas.said[0]["answer"] in box.studio.painter.answers


def test_the_slider_goes_through_the_steps_and_back(box):
    final = box.canvas.pixels
    box.step.value = 1
    assert np.array_equal(pixels(box), box.studio.step(0).image)
    assert box.canvas.hidden == np.flatnonzero(box.studio.step(0).hidden).tolist() != []
    box.step.value = box.step.max
    assert box.canvas.pixels == final and box.canvas.hidden == []


def test_another_candidate_can_be_taken(box):
    other = 1 - box.canvas.taken
    send(box, type="take", candidate=other)
    assert box.canvas.taken == other
    assert torch.equal(box.studio.picture.codes, box.studio.picture.candidates[other])
    assert np.array_equal(pixels(box), box.studio.picture.image)


def test_words_come_with_their_weights_and_go_with_the_picture(box):
    press(box, "Describe")
    words = box.canvas.said[0]["words"]
    weights = np.frombuffer(box.canvas.heat, "<f4").reshape(len(words), GRID**2)
    assert np.allclose(weights, box.studio.attention(box.studio.caption())[1])
    assert box.canvas.status["text"] == f"Caption: {' '.join(words)}."
    press(box, "Paint")
    assert box.canvas.said == []


def test_a_picture_is_sent_as_a_png_with_its_recipe_and_opened_again(box, monkeypatch):
    sent = []
    monkeypatch.setattr(box.canvas, "send", lambda message, buffers=None: sent.append((message, buffers)))
    send(box, type="save")
    (message, (data,)) = sent[0]
    assert message == {"type": "download", "name": "a-red-house-in-the-snow.png"}
    assert read_png(data)[1] == box.studio.picture.recipe
    other = PaintBox(tiny_painter())
    send(other, memoryview(data), type="open", name="x.png")
    assert other.canvas.pixels == box.canvas.pixels and other.canvas.status["text"] == f"Opened: {TEXTS[0]}."
    assert other.step.disabled


def test_a_picture_is_saved_from_code(box, tmp_path):
    box.save(tmp_path / "a.png")
    assert read_png(tmp_path / "a.png")[1] == box.studio.picture.recipe


TROUBLE = {
    "empty brush": (lambda b: press(b, "Repaint"), "Nothing is brushed"),
    "no text": (lambda b: (setattr(b.text, "value", " "), press(b, "Paint")), "There is no text"),
    "no question": (lambda b: (setattr(b.question, "value", ""), press(b, "Ask")), "There is no question"),
    "no picture": (lambda b: send(b, b"GIF", type="open", name="a.gif"), "no PNG, or a broken one"),
    "large file": (lambda b: send(b, type="too large", name="a.png"), "a.png is too large"),
    "no redo": (lambda b: press(b, "Redo"), "There is nothing to redo"),
    "a wrong candidate": (lambda b: send(b, type="take", candidate=9), "There is no candidate 9"),
}


@pytest.mark.parametrize(("act", "sentence"), TROUBLE.values(), ids=TROUBLE)
def test_trouble_is_a_sentence_and_everything_stays(act, sentence, box):
    before = box.canvas.pixels
    act(box)
    assert sentence in box.canvas.status["text"] and box.canvas.status["mood"] == "trouble"
    assert box.canvas.pixels == before and not box.buttons["Paint"].disabled and not box.buttons["Undo"].disabled


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (RuntimeError("out of memory"), "That did not work: RuntimeError: out of memory."),
        (AssertionError(), "That did not work: AssertionError."),
        (KeyboardInterrupt(), "Stopped; the picture is as it was."),
    ],
)
def test_an_unforeseen_exception_in_the_midst_of_it_is_a_sentence_too(error, sentence, box, monkeypatch):
    before, calls = box.canvas.pixels, []

    def broken(codes):
        calls.append(codes)
        if len(calls) == 2:
            raise error
        return real(codes)

    real = box.studio.painter.render
    monkeypatch.setattr(box.studio.painter, "render", broken)
    box.text.value = TEXTS[1]
    press(box, "Paint")
    assert len(calls) >= 2 and box.error is error
    assert box.canvas.status == {"text": sentence, "mood": "trouble"}
    assert box.canvas.pixels == before and box.canvas.hidden == [] and not box.buttons["Paint"].disabled
    assert box.canvas.thumb_labels == ["Candidate 1 of 2", "Candidate 2 of 2"]


def test_unknown_words_are_named_and_painted_all_the_same(box):
    box.text.value = "a red hous"
    before = box.studio.picture
    press(box, "Paint")
    assert "never learned: 'hous' (read as: house)" in box.canvas.status["text"] and box.studio.picture is not before


def test_controls_are_settings(box):
    assert box.settings() == FAST
    box.controls["order"].value, box.controls["guidance"].value = "raster", 2.0
    box.controls["repaint_candidates"].value = 3
    assert box.settings().order is sampling.raster and box.settings().guidance == 2.0
    assert box.settings(repainting=True).candidates == 3
    assert all(control.description for control in (*box.controls.values(), box.text, box.question, box.step))


def test_a_page_without_a_kernel_shows_a_still_picture(box):
    found = box._repr_mimebundle_()
    assert found[VIEW]["model_id"] == box.widget.model_id and "image/png" in found
    assert "image/png" not in PaintBox(tiny_painter())._repr_mimebundle_()


def test_without_a_painter_the_shipped_one_is_opened(monkeypatch):
    opened = []
    monkeypatch.setattr(widgets, "load", lambda name: opened.append(name) or tiny_painter())
    PaintBox()
    assert opened == ["storybook"]


@pytest.fixture
def worlds(monkeypatch) -> list[str]:
    """Two shipped painters that know nothing, and the names of those that were opened."""
    opened = []
    monkeypatch.setattr(widgets, "load", lambda name: opened.append(name) or tiny_painter(seed=len(opened)))
    monkeypatch.setattr(widgets, "shipped_names", lambda: ["catalogue", "storybook"])
    return opened


def test_another_world_is_opened_once_and_when_it_is_chosen(worlds):
    box = PaintBox(settings=FAST)
    assert worlds == ["storybook"] and box.world.options == ("storybook", "catalogue")
    box.paint()
    first, recipe = pixels(box), box.studio.picture.recipe
    box.world.value = "catalogue"
    assert worlds == ["storybook", "catalogue"] and box.canvas.pixels == b"" and box.buttons["Undo"].disabled
    assert (box.text.value, box.question.value) == widgets.WORLDS["catalogue"]
    box.paint()
    assert not np.array_equal(pixels(box), first) and box.studio.picture.recipe.model != recipe.model
    box.world.value = "storybook"
    assert np.array_equal(pixels(box), first) and len(worlds) == 2 and box.error is None


def test_a_box_begins_in_the_world_that_is_named(worlds):
    box = PaintBox("catalogue")
    assert worlds == ["catalogue"] and box.world.value == "catalogue" and box.text.value in widgets.WORLDS["catalogue"]
    assert box.world.layout.display is None and PaintBox(tiny_painter()).world.layout.display == "none"


def test_a_world_that_does_not_open_leaves_the_one_before(worlds, monkeypatch):
    box, gone = PaintBox(settings=FAST), FileNotFoundError("The weights are gone.")
    monkeypatch.setattr(widgets, "load", lambda name: (_ for _ in ()).throw(gone))
    box.world.value = "catalogue"
    assert box.error is gone and box.canvas.status["text"] == "The weights are gone."
    assert box.world.value == "storybook" and box.text.value == widgets.WORLDS["storybook"][0]
    box.paint()
    assert box.error is None


def test_a_picture_made_in_code_shows_after_refresh(box):
    box.studio.paint(TEXTS[1], FAST)
    box.refresh()
    assert np.array_equal(pixels(box), box.studio.picture.image)
    file = io.BytesIO()
    box.save(file)
    assert read_png(file.getvalue())[0].shape == (64, 64, 3)
