"""The door for features, codes and boxes: their shape, their range, and that every number is one.

Arrays may be numpy's or torch's. Everything raises ValueError in one sentence.
"""

from typing import Any

import numpy as np

LARGEST = 1e15  # of a feature: squared and summed it must stay far below float32's 3.4e38, past which faiss aborts


def check_features(features: Any, what: str = "The features",
                   todo: str = "extract the pictures they belong to again") -> None:  # fmt: skip
    """Refuse features [...] with NaN, infinite values, or values too large to be squared."""
    if not np.prod(features.shape):
        return
    least, most = float(features.min()), float(features.max())
    if not (np.isfinite(least) and np.isfinite(most)):
        raise ValueError(f"{what} are NaN or infinite: {todo}.")
    if (largest := max(most, -least)) > LARGEST:
        raise ValueError(
            f"{what} are as large as {largest:.3g}, and nothing beyond {LARGEST:g} can be squared: {todo}."
        )


def finite(values: np.ndarray) -> bool:
    """Whether every number is one; raises TypeError for what are no numbers."""
    return bool(np.isfinite(values).all())


def check_codes(codes: Any, size: int) -> None:
    """Refuse codes int [...] that a vocabulary of ``size`` entries does not have."""
    codes = np.asarray(codes)
    if not codes.size:
        return
    if codes.dtype.kind not in "iu":
        raise ValueError(f"Codes are whole numbers, not {codes.dtype}: encode the pictures first.")
    if codes.max() >= size or codes.min() < 0:
        raise ValueError(
            f"The codes go from {codes.min()} to {codes.max()} but the vocabulary has {size} entries: "
            "use the vocabulary that the codes were made with."
        )


def check_boxes(boxes: Any, pictures: int, regions: int) -> None:
    """Refuse boxes that are not [N, 4] or [B, N, 4], as (x0, y0, x1, y1) between 0 and 1."""
    if tuple(boxes.shape) not in ((regions, 4), (1, regions, 4), (pictures, regions, 4)):
        wanted = f"[{regions}, 4] or [{pictures}, {regions}, 4]"
        raise ValueError(f"Boxes must be {wanted}, as many as the features, got {list(boxes.shape)}.")
    if not np.prod(boxes.shape):
        return
    least, most = float(boxes.min()), float(boxes.max())
    if not (least >= 0 and most <= 1):
        raise ValueError(
            f"Boxes are (x0, y0, x1, y1) between 0 and 1, these go from {least:g} to {most:g}: "
            "divide pixels by the picture's width and height."
        )
    if not ((boxes[..., 0] <= boxes[..., 2]) & (boxes[..., 1] <= boxes[..., 3])).all():
        raise ValueError("Boxes are (x0, y0, x1, y1) with x0 <= x1 and y0 <= y1: some of these are turned round.")
