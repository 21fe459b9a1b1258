"""X-LXMERT, the book's thin module: one transformer that paints, captions and answers.

>>> import xlxmert_core
>>> painter = xlxmert_core.load("storybook")
>>> painter.paint("a large red house in the snow").images  # uint8 [1, 128, 128, 3]
"""

from importlib import import_module

from xlxmert_core.pipeline import Painting, Pipeline, load
from xlxmert_core.sampling import PAPER

__version__ = "0.1.0"
__all__ = ["PAPER", "Painting", "Pipeline", "fine_tune_vqa", "graphs", "load"]

# Names of other rooms: their modules, imported when first asked for.
LAZY = {"fine_tune_vqa": "train.finetuning", "graphs": "engine"}


def __getattr__(name: str):
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{LAZY[name]}"), name)
