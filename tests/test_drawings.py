"""The book's own drawings: small, alike, readable in light and dark, with words for whoever cannot see them."""

import re
from itertools import product
from xml.etree import ElementTree

import pytest

from book.build.run_chapters import ROOT
from xlxmert_core.sampling import linear

DRAWINGS = sorted((ROOT / "book" / "_static" / "drawings").glob("*.svg"))
SVG = "{http://www.w3.org/2000/svg}"
FILLS = re.compile(r"\.(paper|words|cells|both|made|hidden) \{ fill: (#\w{6}) \}")


def drawing(path) -> ElementTree.Element:
    """The parsed file."""
    return ElementTree.parse(path).getroot()


def style(path) -> str:
    """Its style sheet."""
    return drawing(path).find(f"{SVG}style").text


def schemes(css: str) -> dict[str, tuple[str, list[str]]]:
    """Colour scheme -> (colour of the text, colours that text stands on)."""
    light, dark = css.split("@media (prefers-color-scheme: dark)")
    ink = {"light": light, "dark": dark}
    return {name: (re.search(r"fill: (#\w{6}) \}", part).group(1), [c for _, c in FILLS.findall(part)])
            for name, part in ink.items()}  # fmt: skip


def luminance(colour: str) -> float:
    """WCAG's relative luminance of #rrggbb."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """WCAG's ratio, from 1 to 21."""
    dark, bright = sorted(map(luminance, (one, other)))
    return (bright + 0.05) / (dark + 0.05)


def hidden(path: ElementTree.Element) -> int:
    """How many cells a veil of unit-wide boxes covers: `M0 0h3v1h-3z` are three."""
    boxes = re.findall(r"h(\d)v(\d)", path.get("d"))
    return sum(int(wide) * int(high) for wide, high in boxes)


def test_the_six_drawings_are_there():
    names = {"way_of_data", "architecture", "cross_layer", "masked_tasks", "generator_block", "mask_predict"}
    assert {path.stem for path in DRAWINGS} == names


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_a_drawing_is_small_and_says_what_it_shows(path):
    root = drawing(path)
    assert path.stat().st_size < 8000 and "://" not in path.read_text("utf-8").replace(SVG[1:-1], "")
    assert root.get("role") == "img" and len(root.get("aria-label").split()) >= 12


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_letters_have_twelve_pixels_where_the_drawing_has_seven_hundred(path):
    assert drawing(path).get("viewBox").startswith("0 0 700 ")
    sizes = [int(size) for size in re.findall(r"(\d+)px", style(path))]
    assert len(sizes) >= 2 and min(sizes) >= 12


def test_all_drawings_have_one_style():
    assert len({style(path) for path in DRAWINGS}) == 1


def test_text_can_be_read_on_every_colour_of_both_schemes():
    found = schemes(style(DRAWINGS[0]))
    assert all(len(grounds) == 6 for _, grounds in found.values())
    pairs = [(ink, ground) for ink, grounds in found.values() for ground in grounds]
    assert [pair for pair in pairs if contrast(*pair) < 4.5] == []  # WCAG's AA


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_every_class_has_a_style_and_every_reference_a_target(path):
    parts = list(drawing(path).iter())
    classes = {name for part in parts for name in part.get("class", "").split()}
    assert {name for name in classes if not re.search(rf"\.{name}\b", style(path))} == set()
    used = {part.get("href", "").removeprefix("#") for part in parts if part.tag == f"{SVG}use"}
    assert used <= {part.get("id") for part in parts}


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_every_box_lies_on_the_paper(path):
    root = drawing(path)
    width, height = map(float, root.get("viewBox").split()[2:])
    boxes = [box for box in root.findall(f"{SVG}rect") if box.get("class")]
    sides = [(float(box.get(side, 0)) + float(box.get(length)), limit) for box, (side, length, limit) in
             product(boxes, (("x", "width", width), ("y", "height", height)))]  # fmt: skip
    assert sides and all(end <= limit for end, limit in sides)


def test_the_rounds_hide_as_many_cells_as_the_schedule():
    root = drawing(next(path for path in DRAWINGS if path.stem == "mask_predict"))
    grids = [part for part in root.findall(f"{SVG}g") if part.find(f"{SVG}use") is not None]
    veils = [grid.find(f"{SVG}path[@class='hidden']") for grid in grids]
    shown = [0 if veil is None else hidden(veil) for veil in veils]
    assert shown == [round(64 * linear(step, 4)) for step in range(5)]
