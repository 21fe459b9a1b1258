"""The door for features, codes and boxes: their shape, their range, and that every number is one.

Arrays may be numpy's or torch's. Everything raises ValueError in one sentence. And the table of a product vocabulary,
whole and in its two parts.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

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


TABLE, PARTS = "centroids", (".shapes", ".colours")  # names in a state, of the whole and what is added for its parts


def product_table(shapes: "Tensor", colours: "Tensor") -> "Tensor":
    """Centroids of all pairs, code = shape x C + colour: shapes [S, a] and colours [C, b] -> [S * C, a + b]."""
    import torch  # which who reads files alone does not need

    return torch.cat([shapes.repeat_interleave(len(colours), 0), colours.repeat(len(shapes), 1)], 1)


def in_parts(state: "dict[str, Tensor]", config: Any) -> "dict[str, Tensor]":
    """A state by name whose tables of a product vocabulary are their parts: 1024 x 32 pairs would take megabytes.

    ``config`` holds colour_codes and colour_dim, or nothing is a product. Nor is a table changed that is none.
    """
    colours, width = getattr(config, "colour_codes", 0), getattr(config, "colour_dim", 0)
    state = dict(state)
    for name in [name for name, table in state.items() if colours and name.endswith(TABLE) and table.ndim == 2]:
        table = state[name]
        parts = table[::colours, :-width], table[:colours, -width:]
        if product_table(*parts).equal(table):
            del state[name]
            state |= {name + part: values for part, values in zip(PARTS, parts, strict=True)}
    return state


def whole(state: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """The reverse of :func:`in_parts`; a state without such parts comes back as it is."""
    state = dict(state)
    for name in [name.removesuffix(PARTS[0]) for name in state if name.endswith(TABLE + PARTS[0])]:
        shapes, colours = (state.get(name + part) for part in PARTS)
        if shapes is not None and colours is not None and shapes.ndim == colours.ndim == 2:
            state = {key: values for key, values in state.items() if key not in [name + part for part in PARTS]}
            state[name] = product_table(shapes, colours)
    return state
