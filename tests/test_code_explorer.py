"""Choosing a cell shows its code, how often it stands, and patches of other pictures that share it."""

import numpy as np
import pytest
from tiny import CODES, GRID, tiny_painter

from xlxmert_core.paintbox.code_explorer import CodeExplorer, patch, scenes, sharing

CODED = np.array([[1, 2, 2, 1], [1, 1, 3, 4], [1, 5, 5, 5], [9, 9, 9, 9]])


def test_a_code_is_found_in_other_pictures_and_each_picture_once_before_any_twice():
    count, places = sharing(CODED, picture=0, cell=0)
    assert count == 5 and places.tolist() == [[1, 0], [2, 0], [1, 1]]
    assert sharing(CODED, 0, 0, most=2)[1].tolist() == [[1, 0], [2, 0]]


def test_a_code_that_stands_nowhere_else_has_no_patches():
    count, places = sharing(CODED, 3, 2)
    assert count == 4 and places.shape == (0, 2)


def test_a_patch_is_the_cell_in_the_middle_of_its_surroundings():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    inner = patch(image, 5, 4)  # row 1, column 1
    assert np.array_equal(inner, image[4:20, 4:20])
    corner = patch(image, 0, 4)
    assert np.array_equal(corner[4:, 4:], image[:12, :12])
    assert np.array_equal(corner[:4, 4:], image[:1, :12].repeat(4, 0))


def test_scenes_come_from_their_seed():
    assert np.array_equal(scenes(2, 3), scenes(2, 3)) and not np.array_equal(scenes(2, 3), scenes(2, 4))


@pytest.fixture(scope="module")
def explorer() -> CodeExplorer:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    return CodeExplorer(tiny_painter(), pictures)


def test_a_chosen_cell_says_its_code_and_count(explorer):
    explorer.choose(6)
    code = explorer.codes[0, 6]
    count = (explorer.codes == code).sum()
    assert explorer.canvas.status["text"].startswith(f"Code {code} stands for {count} of {3 * GRID**2} cells")
    shown = sharing(explorer.codes, 0, 6)[1]
    assert len(explorer.canvas.thumb_labels) == len(shown)
    assert len(explorer.canvas.thumbs) == len(shown) * 32 * 32 * 3


def test_the_slider_shows_another_picture_and_keeps_the_cell(explorer):
    explorer.choose(3)
    explorer.slider.value = 2
    assert explorer.canvas.pixels == explorer.pictures[1].tobytes()
    assert explorer.canvas.status["text"].startswith(f"Code {explorer.codes[1, 3]} ")
    assert explorer.canvas.label == "Picture 2 of 3"


@pytest.mark.parametrize("shape", [(0, 64, 64, 3), (2, 64, 80, 3), (64, 64, 3)])
def test_what_is_no_stack_of_square_pictures_is_refused(shape):
    with pytest.raises(ValueError, match=r"shows square pictures, uint8 \[M, S, S, 3\], got \["):
        CodeExplorer(tiny_painter(), np.zeros(shape, np.uint8))


def test_a_product_code_is_said_in_its_two_parts(explorer):
    explorer.painter.model.config.__dict__["colour_codes"] = 9
    said = explorer._sentence(100, 1, 0)
    explorer.painter.model.config.__dict__["colour_codes"] = 0
    assert said.startswith("Code 100 (shape 11, colour 1) stands for 1 of")
    assert said.endswith("none of them in another picture.")
    assert CODES > explorer.codes.max()
