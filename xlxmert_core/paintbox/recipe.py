"""Painting a recipe (``display/recipe.py``) again, a stroke after another. Axes: C candidates, N cells."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from xlxmert_core.display.recipe import Recipe, RecipeError, Stroke, fingerprint
from xlxmert_core.pipeline import Painting, Pipeline


def model_hash(painter: Pipeline) -> str:
    """The :func:`fingerprint` by which a recipe knows its painter."""
    return fingerprint(painter.model, painter.generator)


def check_codes(painter: Pipeline, recipe: Recipe) -> None:
    """Raise RecipeError unless the painter knows the recipe's codes."""
    config = painter.model.config
    for codes in (recipe.codes, recipe.codes if recipe.start is None else recipe.start):
        try:
            painter.encode(torch.tensor(codes, dtype=torch.int64))
        except (ValueError, RuntimeError, OverflowError) as error:
            raise RecipeError(
                f"Another model painted this picture: its codes are not {config.cells} numbers below {config.codes}."
            ) from error


def perform(painter: Pipeline, stroke: Stroke, codes: Tensor | None = None,
            callback: Callable | None = None) -> tuple[Painting, list[dict]]:  # fmt: skip
    """Lay one stroke on a canvas.

    Args:
        codes: int64 [N], the picture below; None is an empty canvas.
        callback: called after each step with the step's dict (see :func:`xlxmert_core.sampling.fill`).

    Returns the painting of the best candidate, and the steps with all candidates: codes int64 [C, N], masked bool
    [C, N]. The last step's codes are the candidates. Raises RecipeError when cells are brushed on an empty canvas.
    """
    steps: list[dict] = []

    def remember(step: dict) -> None:
        steps.append({name: step[name].clone() for name in ("codes", "masked")})
        if callback is not None:
            callback(step)

    if stroke.cells is None:
        return painter.paint(stroke.text, callback=remember, **stroke.settings), steps
    if codes is None:
        raise RecipeError("There is no picture to brush on yet: paint one first.")
    mask = np.zeros(painter.grid**2, bool)
    mask[list(stroke.cells)] = True
    mask = mask.reshape(painter.grid, painter.grid)
    return painter.repaint(codes[None], mask, stroke.text, callback=remember, **stroke.settings), steps


def replay(painter: Pipeline, recipe: Recipe) -> Painting:
    """Paint a recipe's strokes again, from the first to the last.

    With the model that painted it, on the same kind of machine, the codes come out the same. Raises RecipeError when
    another model is given, its codes are none of the model's, or nothing is painted.
    """
    if recipe.model != (mine := model_hash(painter)):
        raise RecipeError(f"Model {recipe.model} painted this picture, and this is {mine}: open that one to replay it.")
    if not recipe.strokes:
        raise RecipeError("The recipe has no strokes: there is nothing to replay.")
    check_codes(painter, recipe)
    codes = None if recipe.start is None else torch.tensor(recipe.start)
    for stroke in recipe.strokes:
        _, steps = perform(painter, stroke, codes)
        codes = steps[-1]["codes"][stroke.taken]
    codes = torch.as_tensor(codes)[None]
    return Painting(painter.render(codes), codes)
