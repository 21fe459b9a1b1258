"""Storybook, the data set that comes with the book: picture-book scenes that know what they show.

Scenes are in ``scenes``, what is said of them in ``text``, what is asked in ``vqa`` and ``gqa``, the brush in
``sprites`` and ``backgrounds``. ``writer`` puts all of it on disk in the formats of COCO, VQA v2, GQA, NLVR2 and
LXMERT, so that drawn and real data go through the same loaders.
"""

from xlxmert_core.data.storybook.scenes import (
    BACKGROUNDS,
    CELL,
    COLOURS,
    GRID,
    HELD_OUT,
    JUNIOR,
    KINDS,
    PIXELS,
    RELATIONS,
    SIZES,
    STORYBOOK,
    Scene,
    Thing,
    World,
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
from xlxmert_core.data.storybook.text import (
    EXCHANGEABLE,
    Caption,
    captions,
    pair_statements,
    related_pairs,
    scene_facts,
    stated_facts,
)
from xlxmert_core.data.storybook.vqa import KINDS_OF_QUESTION, Question, questions
from xlxmert_core.data.storybook.writer import sample_splits, write

__all__ = [
    "BACKGROUNDS", "CELL", "COLOURS", "Caption", "EXCHANGEABLE", "GRID", "HELD_OUT", "JUNIOR", "KINDS",
    "KINDS_OF_QUESTION", "PIXELS", "Question", "RELATIONS", "SIZES", "STORYBOOK", "Scene", "Thing", "World", "captions",
    "cell_labels", "centre_cell", "facts_hold", "find", "overlap", "pair_statements", "places", "questions",
    "related_pairs", "render", "sample_scene", "sample_splits", "scene_facts", "stands", "stated_facts", "write",
]  # fmt: skip
