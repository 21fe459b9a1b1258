"""Storybook, the data set that comes with the book: picture-book scenes that know what they show.

Scenes are in ``scenes``, drawn at random in ``layout``, facts about them in ``facts``. What is said of them, in few
words, is in ``text``; of the wide world it follows ``grammar``, the table of all words: ``captions`` speaks it and
``parse`` reads it. What is asked is in ``vqa`` and ``gqa``, the brush in ``sprites`` and
``backgrounds``. ``writer`` puts all of it on disk in the formats of COCO, VQA v2, GQA, NLVR2 and LXMERT, so that drawn
and real data go through the same loaders.
"""

from xlxmert_core.data.storybook.captions import captions
from xlxmert_core.data.storybook.facts import Look, facts_hold, find, looks_of, matching, scene_facts
from xlxmert_core.data.storybook.layout import sample_scene
from xlxmert_core.data.storybook.parse import is_sentence, stated_facts
from xlxmert_core.data.storybook.scenes import (
    BACKGROUNDS,
    CELL,
    COLOURS,
    GRID,
    HELD_COUNTS,
    HELD_OUT,
    JUNIOR,
    KINDS,
    NEXT,
    PIXELS,
    RELATIONS,
    SIZES,
    STORYBOOK,
    WIDE,
    Scene,
    Thing,
    World,
    between,
    cell_labels,
    centre_cell,
    overlap,
    places,
    render,
    stands,
)
from xlxmert_core.data.storybook.text import EXCHANGEABLE, Caption, pair_statements, related_pairs
from xlxmert_core.data.storybook.vqa import KINDS_OF_QUESTION, Question, questions
from xlxmert_core.data.storybook.writer import sample_splits, write

__all__ = [
    "BACKGROUNDS", "CELL", "COLOURS", "Caption", "EXCHANGEABLE", "GRID", "HELD_COUNTS", "HELD_OUT", "JUNIOR", "KINDS",
    "KINDS_OF_QUESTION", "Look", "NEXT", "PIXELS", "Question", "RELATIONS", "SIZES", "STORYBOOK", "WIDE",
    "Scene", "Thing", "World", "between", "captions", "cell_labels", "centre_cell", "facts_hold", "find",
    "is_sentence", "looks_of", "matching", "overlap", "pair_statements", "places", "questions", "related_pairs",
    "render", "sample_scene", "sample_splits", "scene_facts", "stands", "stated_facts", "write",
]  # fmt: skip
