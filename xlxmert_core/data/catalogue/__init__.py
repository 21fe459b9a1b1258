"""The catalogue: Fashion Product Images, real photographs whose labels and titles say what they show.

The official table is read in ``products``; what is said of a product is in ``text``, what is asked in ``questions``,
where in its photograph it lies in ``pictures``. ``writer`` puts all of it on disk in the formats of COCO, VQA v2, NLVR2
and LXMERT, so that it goes through the same loaders as every other data set.
"""

from xlxmert_core.data.catalogue.pictures import boxes, covered_cells, middle_cells, parts, product_masks, squared
from xlxmert_core.data.catalogue.products import (
    COLOURS,
    COLUMNS,
    GENDERS,
    HELD_OUT,
    KINDS,
    LABELS,
    PATTERNS,
    TYPES,
    Catalogue,
    Product,
    read,
)
from xlxmert_core.data.catalogue.questions import questions, statements
from xlxmert_core.data.catalogue.text import captions, noun_phrase, stated_facts
from xlxmert_core.data.catalogue.writer import left_out, write

__all__ = [
    "COLOURS", "COLUMNS", "Catalogue", "GENDERS", "HELD_OUT", "KINDS", "LABELS", "PATTERNS", "Product", "TYPES",
    "boxes", "captions", "covered_cells", "left_out", "middle_cells", "noun_phrase", "parts", "product_masks",
    "questions", "read", "squared", "stated_facts", "statements", "write",
]  # fmt: skip
