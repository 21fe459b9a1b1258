"""A PNG keeps how it was painted, the same model paints it again, and anything else is refused in one sentence."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tiny import CODES, GRID, TEXTS, tiny_painter

from xlxmert_core.display import recipe as recipes
from xlxmert_core.display.recipe import Recipe, RecipeError, Settings, Stroke, read_png, save_png
from xlxmert_core.paintbox.recipe import model_hash, perform, replay

FAST = Settings(steps=3, candidates=2, temperature=2.0, seed=5)


@pytest.fixture(scope="module")
def painter():
    return tiny_painter()


@pytest.fixture(scope="module")
def painted(painter) -> tuple[np.ndarray, Recipe]:
    """Two strokes: the whole canvas, then three cells of the candidate that is not the best."""
    strokes, codes = [], None
    for text, cells in ((TEXTS[0], None), (TEXTS[1], (0, 1, 5))):
        _, steps = perform(painter, Stroke(text, FAST, cells), codes)
        strokes.append(Stroke(text, FAST, cells, taken=1))
        codes = steps[-1]["codes"][1]
    return painter.render(codes[None])[0], Recipe(model_hash(painter), tuple(strokes), tuple(codes.tolist()))


def png(image: np.ndarray, text: str | None) -> bytes:
    """A PNG with any text in the recipe's place."""
    info, file = PngInfo(), io.BytesIO()
    if text is not None:
        info.add_itxt(recipes.CHUNK, text)
    Image.fromarray(image).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def test_a_png_gives_back_its_picture_and_its_recipe(painted, tmp_path):
    image, recipe = painted
    path = tmp_path / "new folder" / "picture.png"
    save_png(path, image, recipe)
    found, again = read_png(path)
    assert np.array_equal(found, image) and again == recipe
    assert [file.name for file in path.parent.iterdir()] == ["picture.png"]
    file = io.BytesIO()
    save_png(file, image, recipe)
    assert read_png(file.getvalue())[1] == recipe


def test_settings_are_written_by_name_as_ever(painted):
    """What earlier paint boxes wrote is read, and what this one writes they would have read."""
    settings = {
        "seed": 5, "order": "halton", "schedule": "cosine", "steps": 3, "guidance": 1.0, "temperature": 2.0,
        "candidates": 2, "polish": 1,
    }  # fmt: skip
    written = json.loads(painted[1].to_json())
    assert written["strokes"][0]["settings"] == settings
    assert Recipe.from_json(json.dumps(written)).strokes[0].settings == FAST


def test_a_replay_gives_the_same_codes_and_pixels(painter, painted):
    image, recipe = painted
    again = replay(painter, recipe)
    assert again.codes[0].tolist() == list(recipe.codes)
    assert np.array_equal(again.images[0], image)
    other = replace(recipe.strokes[0], taken=0)
    assert replay(painter, replace(recipe, strokes=(other,))).codes[0].tolist() != list(recipe.codes)


def test_a_recipe_may_start_from_a_picture(painter):
    start = tuple(i % CODES for i in range(GRID**2))
    recipe = Recipe(model_hash(painter), (Stroke(TEXTS[0], FAST, (2, 3)),), start, start)
    codes = replay(painter, recipe).codes[0].tolist()
    assert [i for i in range(GRID**2) if codes[i] != start[i]] in ([2], [3], [2, 3])


def test_a_brush_needs_a_picture_below(painter):
    with pytest.raises(RecipeError, match="no picture to brush on"):
        perform(painter, Stroke(TEXTS[0], FAST, (1,)))


def test_steps_hold_all_candidates_and_the_best_is_among_the_last(painter):
    seen = []
    painting, steps = perform(painter, Stroke(TEXTS[0], FAST), callback=seen.append)
    assert len(seen) == len(steps) and steps[0]["codes"].shape == (2, GRID**2)
    assert (steps[-1]["codes"] == painting.codes).all(1).any()
    assert [int(step["masked"][0].sum()) for step in steps[:3]] == [13, 8, 0]  # cosine of 16 cells


def test_the_hash_knows_each_weight_of_transformer_and_generator(painter):
    assert model_hash(painter) == model_hash(tiny_painter())
    assert len(model_hash(painter)) == 16
    for part in ("model", "generator"):
        other = tiny_painter()
        with torch.no_grad():
            next(getattr(other, part).parameters()).view(-1)[0] += 1e-3
        assert model_hash(other) != model_hash(painter)
    reader = tiny_painter()
    reader.generator = None
    assert model_hash(reader) != model_hash(painter)


def test_another_model_does_not_replay(painted):
    with pytest.raises(RecipeError, match="open that one to replay it"):
        replay(tiny_painter(seed=1), painted[1])


def test_nothing_is_no_replay(painter):
    with pytest.raises(RecipeError, match="no strokes"):
        replay(painter, Recipe(model_hash(painter), (), (0,) * GRID**2))


@pytest.mark.parametrize(
    "change",
    [{"start": (10**30,) * GRID**2}, {"start": ()}, {"codes": (0,) * 99}, {"codes": (CODES,) * GRID**2}],
    ids=["huge", "no start", "too many", "unknown"],
)
def test_codes_that_the_model_does_not_know_are_no_replay(change, painter, painted):
    with pytest.raises(RecipeError, match="codes are not 16 numbers below 13"):
        replay(painter, replace(painted[1], **change))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"steps": 0}, "steps must be a whole number from 1 on, not 0"),
        ({"steps": 257}, "steps must be a whole number from 1 to 256, not 257"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"candidates": 10**9}, "candidates must be"),
        ({"seed": True}, "seed must be"),
        ({"temperature": float("nan")}, "temperature must be a number from 0 on, not nan"),
        ({"guidance": "much"}, "guidance must be a number"),
        ({"order": "spiral"}, "no order 'spiral': choose halton"),
        ({"schedule": []}, "no schedule"),
        ({"order": lambda *given: given[0]}, "holds the order by its name: choose halton"),
    ],
)
def test_settings_say_what_they_take(change, reason):
    with pytest.raises(ValueError, match=reason):
        Settings(**change)


BREAKS = {
    "no json": lambda r: "{",
    "a list": lambda r: "[]",
    "nested": lambda r: "[" * 100_000,
    "no codes": lambda r: json.dumps({k: v for k, v in r.items() if k != "codes"}),
    "codes of text": lambda r: json.dumps(r | {"codes": ["1"]}),
    "a fraction": lambda r: json.dumps(r | {"codes": [1.5]}),
    "no hash": lambda r: json.dumps(r | {"model": 7}),
    "half a character": lambda r: json.dumps(r | {"strokes": [r["strokes"][0] | {"text": "\ud800"}]}),
    "a cell outside": lambda r: json.dumps(r | {"strokes": [r["strokes"][1] | {"cells": [99]}]}),
    "a candidate too many": lambda r: json.dumps(r | {"strokes": [r["strokes"][0] | {"taken": 2}]}),
    "another setting": lambda r: json.dumps(r | {"strokes": [r["strokes"][0] | {"settings": {"brush": 1}}]}),
    "no steps": lambda r: json.dumps(r | {"strokes": [r["strokes"][0] | {"settings": {"steps": 0}}]}),
}


@pytest.mark.parametrize("broken", BREAKS.values(), ids=BREAKS)
def test_a_broken_recipe_is_refused_in_one_sentence(broken, painted):
    image, recipe = painted
    with pytest.raises(RecipeError, match=r"^The recipe is broken \(.+\): save the picture again\.$") as error:
        read_png(png(image, broken(json.loads(recipe.to_json()))))
    assert "\n" not in str(error.value)


def test_files_that_are_no_saved_pictures_are_refused(painted, tmp_path):
    image, recipe = painted
    with pytest.raises(FileNotFoundError, match="no picture at .*: check the path"):
        read_png(tmp_path / "missing.png")
    with pytest.raises(RecipeError, match="a PNG without a recipe"):
        read_png(png(image, None))
    whole, jpeg = png(image, recipe.to_json()), io.BytesIO()
    Image.fromarray(image).save(jpeg, "JPEG")
    for data in (b"", b"GIF89a", whole[: len(whole) // 2], jpeg.getvalue()):
        with pytest.raises(RecipeError, match="no PNG, or a broken one"):
            read_png(data)


def test_a_full_disk_leaves_the_old_file(painted, tmp_path, monkeypatch):
    image, recipe = painted
    path = tmp_path / "picture.png"
    save_png(path, image, recipe)
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="cannot be written"):
        save_png(path, image[::-1], recipe)
    assert path.read_bytes() == before


def test_a_name_with_a_lines_end_in_it_does_not_break_the_sentence():
    stroke = {"text": "a house", "settings": {"\n": None}, "cells": None, "taken": 0}
    with pytest.raises(RecipeError, match="The recipe is broken") as said:
        Recipe.from_json(json.dumps({"model": "0" * 16, "strokes": [stroke], "codes": [1, 2], "start": None}))
    assert "\n" not in str(said.value)
