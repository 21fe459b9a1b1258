"""One picture at a time: brushed cells change and others never, undo gives back what was, words say where they look."""

import io
import warnings

import numpy as np
import pytest
import torch
from tiny import CODES, GRID, TEXTS, tiny_painter

from xlxmert_core.display.recipe import RecipeError, Settings, read_png
from xlxmert_core.paintbox.attention import cross_attention
from xlxmert_core.paintbox.recipe import replay
from xlxmert_core.paintbox.studio import Studio

FAST = Settings(steps=3, candidates=3, temperature=3.0)
MASK = np.zeros((GRID, GRID), bool)
MASK[1:3, 2] = True


@pytest.fixture(scope="module")
def painter():
    return tiny_painter()


@pytest.fixture
def studio(painter):
    made = Studio(painter)
    made.paint(TEXTS[0], FAST)
    return made


def test_each_step_is_handed_over_as_it_is_computed(painter):
    studio, seen = Studio(painter), []
    picture = studio.paint(TEXTS[0], Settings(steps=4, candidates=1, polish=0), seen.append)
    assert [int(step.hidden.sum()) for step in seen] == [14, 11, 6, 0]
    assert np.array_equal(seen[-1].image, picture.image)
    assert len({step.image.tobytes() for step in seen}) > 1


def test_a_step_without_a_change_is_not_rendered_twice(painter, monkeypatch):
    studio, rendered, seen = Studio(painter), [], []
    real = painter.render
    monkeypatch.setattr(painter, "render", lambda codes: (rendered.append(codes), real(codes))[1])
    greedy = Settings(steps=2, candidates=1, temperature=0, polish=2, order="mask_predict")
    studio.paint(TEXTS[0], greedy, seen.append)
    changes = {tuple(step["codes"][0].tolist()) for step in studio.picture.steps}
    assert len(seen) == len(studio.picture.steps) >= len(rendered) - 1
    assert len(changes) <= len(rendered) - 1 < 2 + 2 * 4


def test_repaint_changes_brushed_cells_alone(studio):
    before = studio.picture
    after = studio.repaint(TEXTS[1], MASK, FAST)
    changed = (before.codes != after.codes).reshape(GRID, GRID).numpy()
    assert changed.any() and not (changed & ~MASK).any()
    assert [stroke.cells for stroke in after.recipe.strokes] == [None, (6, 10)]
    assert after.text == f"{TEXTS[0]}, then {TEXTS[1]}"


def test_a_new_painting_forgets_the_strokes_before(studio):
    studio.repaint(TEXTS[1], MASK, FAST)
    assert len(studio.paint(TEXTS[1], FAST).recipe.strokes) == 1


def test_undo_and_redo_give_back_the_very_picture(studio):
    first = studio.picture
    second = studio.repaint(TEXTS[1], MASK, FAST)
    assert studio.undo() is first and studio.can_redo
    assert studio.undo() is None and not studio.can_undo
    assert studio.redo() is first and studio.redo() is second and not studio.can_redo
    studio.undo()
    studio.paint(TEXTS[1], FAST)
    assert not studio.can_redo
    for act, what in ((studio.redo, "redo"), (Studio(studio.painter).undo, "undo")):
        with pytest.raises(ValueError, match=f"nothing to {what}"):
            act()


def test_a_candidate_is_taken_in_place_and_replays(studio, painter):
    first = studio.picture
    other = (first.taken + 1) % 3
    taken = studio.take(other)
    assert torch.equal(taken.codes, first.candidates[other]) and taken.taken == other
    assert np.array_equal(taken.image, painter.render(taken.codes[None])[0])
    assert torch.equal(replay(painter, taken.recipe).codes[0], taken.codes)
    assert studio.undo() is None
    with pytest.raises(ValueError, match="no picture yet"):
        studio.take(0)
    studio.redo()
    with pytest.raises(ValueError, match="no candidate 3: choose one of 0 to 2"):
        studio.take(3)


def test_the_steps_of_the_last_stroke_can_be_seen_again(studio):
    last = studio.step(len(studio.picture.steps) - 1)
    assert np.array_equal(last.image, studio.picture.image) and not last.hidden.any()
    assert studio.step(0).hidden.any()
    with pytest.raises(ValueError, match="no step 99"):
        studio.step(99)


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lambda s: s.paint("  "), "no text: say what to paint"),
        (lambda s: s.repaint(TEXTS[1], np.zeros((GRID, GRID))), "Nothing is brushed"),
        (lambda s: s.repaint(TEXTS[1], np.ones((8, 8))), r"mask must be bool \[4, 4\]"),
        (lambda s: s.answer(" "), "no question"),
        (lambda s: s.open(b"no picture"), "no PNG"),
    ],
)
def test_what_goes_wrong_leaves_the_picture(act, reason, studio):
    before = studio.picture
    with pytest.raises(ValueError, match=reason):
        act(studio)
    assert studio.picture is before


def test_an_interruption_leaves_the_picture(studio):
    before = studio.picture

    def stop(step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        studio.paint(TEXTS[1], FAST, stop)
    assert studio.picture is before
    assert studio.undo() is None


def test_an_empty_canvas_has_nothing_to_say(painter):
    studio = Studio(painter)
    for act in (studio.caption, lambda: studio.answer("what"), lambda: studio.attention("a"), lambda: studio.save("x")):
        with pytest.raises(ValueError, match="no picture yet"):
            act()
    with pytest.raises(ValueError, match="no picture to brush on"):
        studio.repaint(TEXTS[0], MASK)


def test_words_are_those_of_the_sentence_and_their_weights_sum_to_one(studio):
    words, weights = studio.attention("A Red house at night", "vqa")
    assert words == ["A", "Red", "house", "at", "night"]
    assert weights.shape == (5, GRID**2) and np.allclose(weights.sum(1), 1, atol=1e-5)
    words, weights = studio.attention("A Red hippopotamus, at night", "vqa")
    assert words == ["at", "night"] and weights.shape == (2, GRID**2), "what it never learned is passed over"
    many, weights = studio.attention("red " * 30)
    assert len(many) == len(weights) == 10  # the model reads 12 with its two marks


def test_a_words_weights_are_its_own_and_the_last_layers(studio, painter):
    tokens, mask = painter.tokenizer.encode(["red house"], 12)
    features = torch.from_numpy(painter.features(painter.encode(studio.picture.image)))
    looked = cross_attention(painter.model, tokens, mask, features)  # [layers, heads, 1, [CLS] red house [SEP], N]
    _, weights = studio.attention("red house")
    assert np.allclose(weights, looked[-1, :, 0, 1:3].mean(0).detach().numpy(), atol=1e-6)
    assert not np.allclose(weights[0], weights[1], atol=1e-6)


def test_captions_and_answers_are_the_painters(studio, painter):
    assert studio.caption() == painter.caption(studio.picture.image)[0]
    assert studio.answer("a red house") in painter.answers


def test_a_painter_without_an_eye_reads_its_codes():
    painter = tiny_painter(encoder=False)
    studio = Studio(painter)
    picture = studio.paint(TEXTS[0], FAST)
    assert studio.caption() == painter.caption(picture.codes[None])[0]
    assert studio.attention("red")[1].shape == (1, GRID**2)


def test_a_saved_picture_opens_with_its_past(studio, painter, tmp_path):
    picture = studio.repaint(TEXTS[1], MASK, FAST)
    studio.save(tmp_path / "a.png")
    other = Studio(painter)
    opened = other.open(tmp_path / "a.png")
    assert np.array_equal(opened.image, picture.image) and opened.recipe == picture.recipe
    more = other.repaint(TEXTS[0], ~MASK, FAST)
    assert torch.equal(replay(painter, more.recipe).codes[0], more.codes)
    assert other.undo() is opened and other.undo() is None


def test_another_models_picture_opens_with_a_warning_and_can_be_gone_on_with(studio):
    file = io.BytesIO()
    studio.save(file)
    other = Studio(tiny_painter(seed=1))
    with pytest.warns(UserWarning, match="Model .* painted this picture, and this is"):
        opened = other.open(file.getvalue())
    assert torch.equal(opened.codes, studio.picture.codes)
    more = other.repaint(TEXTS[1], MASK, FAST)
    assert torch.equal(replay(other.painter, more.recipe).codes[0], more.codes)


def test_codes_that_do_not_fit_are_refused(studio):
    file = io.BytesIO()
    studio.save(file)
    small = Studio(tiny_painter(codes=2))
    with warnings.catch_warnings(), pytest.raises(RecipeError, match="not 16 numbers below 2"):
        warnings.simplefilter("error")
        small.open(file.getvalue())
    assert max(read_png(file.getvalue())[1].codes) in range(2, CODES)
