"""A figure's caption stands once, under its cell, and becomes the figure's caption in the pages."""

import json

import pytest

from book.build.captions import MARK, captions, figure, set_captions, under
from book.build.run_chapters import ROOT, chapters

MOVED = [chapter for chapter in chapters() if chapter >= "10"]  # the others keep theirs in the cells' metadata


def cells(chapter: str) -> list[dict]:
    """All cells of a chapter."""
    return json.loads((ROOT / "notebooks" / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]


def code(name: str, **given: str) -> dict:
    """A cell that draws."""
    return {"cell_type": "code", "source": "draw()", "metadata": {"mystnb": {"figure": {"name": name, **given}}}}


def markdown(text: str) -> dict:
    """A cell of prose, in lines as on disk."""
    return {"cell_type": "markdown", "source": text.splitlines(keepends=True), "metadata": {}}


@pytest.mark.parametrize("chapter", chapters())
def test_every_figure_has_its_caption_in_one_place(chapter):
    for cell, following in zip(cells(chapter), [*cells(chapter)[1:], None], strict=True):
        if (given := figure(cell)) is not None:
            assert bool(under(following)[0]) != bool(given.get("caption")), given["name"]


@pytest.mark.parametrize("chapter", MOVED)
def test_a_reader_on_colab_sees_every_caption(chapter):
    assert [given["name"] for cell in cells(chapter) if (given := figure(cell)) and "caption" in given] == []


@pytest.mark.parametrize("chapter", chapters())
def test_nothing_but_a_figure_has_a_caption(chapter):
    pairs = zip(cells(chapter), cells(chapter)[1:], strict=False)
    assert [under(cell)[0] for before, cell in pairs if under(cell)[0] and figure(before) is None] == []


def test_the_pages_set_the_paragraph_as_the_caption(tmp_path):
    given = [code("fig-a"), markdown(f"{MARK}A red\nhouse.\n\nAnd so on."), code("fig-b"), markdown(f"{MARK}A tree.")]
    given += [code("fig-c", caption="A star."), markdown("No caption.")]
    (tmp_path / "in.ipynb").write_text(json.dumps({"cells": given}))
    set_captions(tmp_path / "in.ipynb", tmp_path / "out.ipynb")
    made = json.loads((tmp_path / "out.ipynb").read_text())["cells"]
    assert [figure(cell)["caption"] for cell in made if figure(cell)] == ["A red house.", "A tree.", "A star."]
    assert [cell["source"] for cell in made if not figure(cell)] == ["And so on.", "No caption."]
    assert captions(made) == {"fig-a": "A red house.", "fig-b": "A tree.", "fig-c": "A star."}
