"""X-LXMERT, the book's thin module: one transformer that paints, captions and answers.

>>> import xlxmert_core
>>> painter = xlxmert_core.load("storybook")
>>> painter.paint("a large red house in the snow").images  # uint8 [1, 128, 128, 3]
"""

from xlxmert_core.pipeline import Painting, Pipeline, load

__version__ = "0.1.0"
__all__ = ["Painting", "Pipeline", "load"]
