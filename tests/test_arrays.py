"""Features, codes and boxes that are none are refused in one sentence; good ones pass, of numpy and of torch."""

import math

import numpy as np
import pytest
import torch

from xlxmert_core.data.arrays import LARGEST, check_boxes, check_codes, check_features, finite

MAKE = [np.array, torch.tensor]


@pytest.mark.parametrize("make", MAKE)
@pytest.mark.parametrize("value", [0.0, -7.5, LARGEST, -LARGEST])
def test_features_pass(make, value):
    check_features(make([[1.0, value]]))
    check_features(make([[]]))


@pytest.mark.parametrize("make", MAKE)
@pytest.mark.parametrize(("value", "said"), [
    (math.nan, "are NaN or infinite"), (math.inf, "are NaN or infinite"), (-math.inf, "are NaN or infinite"),
    (3e19, r"are as large as 3e\+19, and nothing beyond 1e\+15 can be squared"),
    (-3e19, r"are as large as 3e\+19"),
])  # fmt: skip
@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_is_no_feature_is_refused(make, value, said, place):
    features = [1.0, 2.0, 3.0]
    features[place] = value
    with pytest.raises(ValueError, match=f"^The features {said}.*: extract the pictures they belong to again.$"):
        check_features(make([features]))
    with pytest.raises(ValueError, match="^These .*: look again.$"):
        check_features(make([features]), "These", "look again")


def test_finite():
    assert finite(np.zeros(3)) and finite(np.zeros(3, int)) and finite(np.zeros(0))
    assert not finite(np.array([0, np.nan])) and not finite(np.array([np.inf]))


@pytest.mark.parametrize(("codes", "said"), [
    ([0, 4], "go from 0 to 4 but the vocabulary has 4 entries"), ([-1, 2], "go from -1 to 2"),
    ([0.0, 1.0], "Codes are whole numbers, not float64"), ([True], "Codes are whole numbers, not bool"),
])  # fmt: skip
def test_what_are_no_codes_is_refused(codes, said):
    check_codes([0, 3], 4)
    check_codes([], 4)
    with pytest.raises(ValueError, match=said):
        check_codes(codes, 4)


@pytest.mark.parametrize("make", MAKE)
def test_boxes(make):
    good = [[0.0, 0.0, 1.0, 1.0], [0.25, 0.5, 0.25, 0.75]]
    for boxes in (good, [good], [good] * 3):
        check_boxes(make(boxes), 3, 2)
    for shape in ([good] * 2, [good[0]], [good[0]] * 3, good[0]):
        with pytest.raises(ValueError, match=r"Boxes must be \[2, 4\] or \[3, 2, 4\], as many as the features, got \["):
            check_boxes(make(shape), 3, 2)
    for wrong in ([0, 0, 320, 240], [-0.1, 0, 1, 1], [0, 0, float("nan"), 1]):
        said = r"between 0 and 1, these go from .* to .*: divide pixels by the picture's width and height"
        with pytest.raises(ValueError, match=said):
            check_boxes(make([[0.0, 0.0, 1.0, 1.0], [float(n) for n in wrong]]), 3, 2)
    with pytest.raises(ValueError, match="x0 <= x1 and y0 <= y1: some of these are turned round"):
        check_boxes(make([good[0], [0.5, 0.0, 0.25, 1.0]]), 3, 2)
