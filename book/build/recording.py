"""The animated picture of the README, painted anew: ``python -m book.build.recording`` (six seconds).

Four sentences side by side, step by step; what is not decided yet lies under a grey veil.
"""

from pathlib import Path

import xlxmert_core
from book.build.run_chapters import ROOT

TEXTS = (
    "a large red house in the snow",
    "a small blue boat by the water",
    "a large yellow star above a green tree at night",
    "a purple balloon left of a small orange car on the grass",
)
TARGET = ROOT / "book" / "_static" / "steps.gif"
MOST = 1_500_000  # bytes


def record(target: Path = TARGET, **settings) -> Path:
    """Paint the sentences and write their steps; ``settings`` are those of ``Pipeline.paint``."""
    return xlxmert_core.load("storybook").paint(list(TEXTS), **settings).steps(milliseconds=200).save(target)


if __name__ == "__main__":
    print(record(seed=0))
