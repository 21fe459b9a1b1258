"""Paint the first page's pictures anew, after new weights were shipped: ``python -m book.build.first_page``."""

import re
from pathlib import Path

import numpy as np
from PIL import Image

import xlxmert_core
from book.build.run_chapters import ROOT

PAGE = ROOT / "book" / "intro.md"
SHOWN = re.compile(r"!\[[^]]+\]\((_static/paintings/\w+\.png)\)\n(.+)\n")


def shown() -> dict[Path, str]:
    """Each painting's file and the text under it."""
    return {PAGE.parent / name: text for name, text in SHOWN.findall(PAGE.read_text(encoding="utf-8"))}


def paint() -> dict[Path, np.ndarray]:
    """Each painting's file and what the shipped painter makes of its text, uint8 [S, S, 3]."""
    files = shown()
    images = xlxmert_core.load("storybook").paint(list(files.values()), seed=0).images
    return dict(zip(files, images, strict=True))


if __name__ == "__main__":
    for path, image in paint().items():
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path, optimize=True)
