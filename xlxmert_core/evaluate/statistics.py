"""How sure a measured number is: the bootstrap (Efron 1979); and how far raters agree (Fleiss 1971)."""

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


def fleiss_kappa(counts: np.ndarray) -> float:
    """How far raters agree beyond chance (Fleiss 1971): counts [I, C], how many gave each item each answer.

    1 when all say the same of each item, 0 for as much as chance gives; where there was only ever one answer, 1.
    Raises ValueError unless equally many, two or more, have answered each item.
    """
    raters = counts.sum(1) if counts.ndim == 2 and len(counts) else np.zeros(1)
    if raters[0] < 2 or (raters != raters[0]).any():
        raise ValueError("Fleiss' kappa needs as many answers to each item, two or more: leave out the other items.")
    agreed = ((counts * (counts - 1)).sum(1) / (raters * (raters - 1))).mean()
    chance = ((counts.sum(0) / counts.sum()) ** 2).sum()
    return 1.0 if chance == 1 else float((agreed - chance) / (1 - chance))
