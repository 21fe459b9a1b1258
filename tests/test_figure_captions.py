"""A figure's caption stands once, under its cell, and becomes the figure's caption in the pages."""

import json
from itertools import pairwise

import pytest

from book.build.captions import MARK, captions, figure, set_captions, under
from book.build.run_chapters import ROOT, chapters


def cells(chapter: str) -> list[dict]:
    """All cells of a chapter."""
    return json.loads((ROOT / "notebooks" / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]


def code(name: str) -> dict:
    """A cell that draws."""
    return {"cell_type": "code", "source": "draw()", "metadata": {"mystnb": {"figure": {"name": name}}}}


def markdown(text: str) -> dict:
    """A cell of prose, in lines as on disk."""
    return {"cell_type": "markdown", "source": text.splitlines(keepends=True), "metadata": {}}


@pytest.mark.parametrize("chapter", chapters())
def test_a_reader_on_colab_sees_the_caption_of_every_figure(chapter):
    drawn = {given["name"]: given for cell in cells(chapter) if (given := figure(cell))}
    assert [name for name, caption in captions(cells(chapter)).items() if not caption] == []
    assert [name for name, given in drawn.items() if "caption" in given] == []


@pytest.mark.parametrize("chapter", chapters())
def test_nothing_but_a_figure_has_a_caption(chapter):
    pairs = pairwise(cells(chapter))
    assert [under(cell)[0] for before, cell in pairs if under(cell)[0] and figure(before) is None] == []


def test_a_figure_is_its_picture_and_no_bar_that_showed_how_far_a_training_was(tmp_path):
    bar = {"data": {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "10%"}}
    picture, box = {"data": {"image/png": ""}}, {"data": bar["data"] | {"image/png": ""}}
    (tmp_path / "in.ipynb").write_text(json.dumps({"cells": [code("fig-a") | {"outputs": [bar, bar, picture, box]}]}))
    set_captions(tmp_path / "in.ipynb", tmp_path / "out.ipynb")
    assert json.loads((tmp_path / "out.ipynb").read_text())["cells"][0]["outputs"] == [picture, box]


def test_the_pages_set_the_paragraph_as_the_caption(tmp_path):
    given = [code("fig-a"), markdown(f"{MARK}A red\nhouse.\n\nAnd so on."), code("fig-b"), markdown(f"{MARK}A tree.")]
    given += [code("fig-c"), markdown("No caption.")]
    (tmp_path / "in.ipynb").write_text(json.dumps({"cells": given}))
    set_captions(tmp_path / "in.ipynb", tmp_path / "out.ipynb")
    made = json.loads((tmp_path / "out.ipynb").read_text())["cells"]
    assert [figure(cell)["caption"] for cell in made if figure(cell)] == ["A red house.", "A tree.", ""]
    assert [cell["source"] for cell in made if not figure(cell)] == ["And so on.", "No caption."]
    assert captions(given) == {"fig-a": "A red house.", "fig-b": "A tree.", "fig-c": ""}
