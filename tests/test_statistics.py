"""The bootstrap: as wide as theory says, the same rows for the same seed."""

import numpy as np
import pytest

from xlxmert_core.evaluate.statistics import bootstrap, interval


def test_an_interval_is_as_wide_as_the_normal_one():
    values = np.random.default_rng(0).normal(size=2000)
    low, high = interval(bootstrap(values, seed=1))
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 2000**0.5, rel=0.05)
    assert low < values.mean() < high


def test_pairs_stay_pairs():
    a = np.random.default_rng(0).normal(size=50)
    assert bootstrap(a, 3) - bootstrap(a + 1, 3) == pytest.approx(-1)
    assert not np.array_equal(bootstrap(a, 3), bootstrap(a, 4))
    assert len(bootstrap(a, draws=7)) == 7
