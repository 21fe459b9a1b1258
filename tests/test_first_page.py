"""The paintings on the first page are what the shipped painter makes of the sentences under them."""

import numpy as np
from PIL import Image

from book.build.first_page import paint, shown


def test_four_texts_or_more_are_shown():
    assert len(shown()) >= 4 and len(set(shown().values())) == len(shown())


def test_the_paintings_are_the_shipped_painters():
    for path, image in paint().items():
        kept = np.asarray(Image.open(path), dtype=int)
        other = (np.abs(kept - image).max(-1) > 16).mean()  # a code more or less, where sums are rounded otherwise
        assert other < 0.05, f"{path.name} is another model's: run python -m book.build.first_page."
