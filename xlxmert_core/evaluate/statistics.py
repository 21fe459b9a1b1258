"""How sure a measured number is: the bootstrap (Efron 1979)."""

import numpy as np


def bootstrap(values: np.ndarray, seed: int = 0, draws: int = 10_000) -> np.ndarray:
    """Means of M values drawn with replacement, [M] -> [draws]; one seed draws the same rows every time.

    Raises ValueError when there are no values.
    """
    if not len(values):
        raise ValueError("There are no values to draw from: measure something first.")
    rows = np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))
    return values[rows].mean(1)


def interval(draws: np.ndarray) -> np.ndarray:
    """The middle 95 % of the draws: (low, high)."""
    return np.quantile(draws, [0.025, 0.975])
