"""Storybook, the data set that comes with the book: picture-book scenes that know what they show.

The scenes are in ``storybook_scenes``, what is said and asked about them in ``storybook_text`` and
``storybook_questions``, the brush in ``drawing`` and ``scenery``.
"""

from xlxmert_core.data.storybook_scenes import (
    BACKGROUNDS,
    CELL,
    COLOURS,
    GRID,
    HELD_OUT,
    KINDS,
    PIXELS,
    RELATIONS,
    SIZES,
    Scene,
    Thing,
    cell_labels,
    centre_cell,
    facts_hold,
    find,
    overlap,
    places,
    render,
    sample_scene,
    stands,
)

__all__ = [
    "BACKGROUNDS", "CELL", "COLOURS", "GRID", "HELD_OUT", "KINDS", "PIXELS", "RELATIONS", "SIZES", "Scene", "Thing",
    "cell_labels", "centre_cell", "facts_hold", "find", "overlap", "places", "render", "sample_scene", "stands",
]  # fmt: skip
