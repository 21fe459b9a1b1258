"""A graph's weights in half or a quarter of their bytes, where that changes no number.

Shipped weights are float16, or whole numbers of 8 bits with a scale for each row. Opened they are float32, and an
export writes them so; here they become again what they were, and a node behind each makes float32 of it.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SMALLEST = 64  # numbers an initializer must have to be worth it
SHORTEST = 8  # numbers in a row that share a scale
LARGEST = 127  # of a whole number in 8 bits, with either sign


def narrowed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store what float16 holds exactly as float16, and what whole numbers times a scale a row hold exactly as these."""
    for initializer in list(model.graph.initializer):
        values = numpy_helper.to_array(initializer)
        if values.dtype != np.float32 or values.size < SMALLEST:
            continue
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if np.array_equal(half.astype(np.float32), values):
            _store(model.graph, initializer, half)
        elif found := in_bytes(values):
            _store(model.graph, initializer, *found)
    return model


def _store(graph: onnx.GraphProto, initializer: onnx.TensorProto, small: np.ndarray,
           scale: np.ndarray | None = None) -> None:  # fmt: skip
    """Put a smaller array in an initializer's place, and before all nodes those that widen it."""
    name = initializer.name
    kept, wide = f"{name}.kept", name if scale is None else f"{name}.wide"
    initializer.CopyFrom(numpy_helper.from_array(small, kept))
    nodes = [helper.make_node("Cast", [kept], [wide], to=TensorProto.FLOAT)]
    if scale is not None:
        graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
        nodes.append(helper.make_node("Mul", [wide, f"{name}.scale"], [name]))
    for place, node in enumerate(nodes):
        graph.node.insert(place, node)


def in_bytes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """float32 values as (int8 of their shape, float32 scale along one axis) whose product is exactly they, or None."""
    for axis in range(values.ndim):
        rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
        if rows.shape[1] < SHORTEST or (scale := _scales(rows)) is None:
            continue
        shape = [-1 if place == axis else 1 for place in range(values.ndim)]
        scale = scale.reshape(shape)
        return np.rint(values / np.where(scale == 0, 1, scale)).astype(np.int8), scale
    return None


def _scales(rows: np.ndarray) -> np.ndarray | None:
    """The scale of each row, float32 [n], or None when some row has none.

    A row's largest number is ``most`` times its scale for some whole number up to LARGEST; the division may miss the
    scale by the last bit.
    """
    top = np.abs(rows).max(1)
    scale, left = np.zeros_like(top), np.flatnonzero(top)
    if not np.isfinite(top).all():
        return None
    for most in range(LARGEST, 0, -1):
        for step in (0, -1, 1):
            if not len(left):
                return scale
            tried = top[left] / np.float32(most)
            tried = np.nextafter(tried, np.float32(step * np.inf)) if step else tried
            right = _fits(rows[left, :SHORTEST], tried)  # which most rows that have no scale do not pass
            right[right] = _fits(rows[left[right]], tried[right])
            scale[left[right]], left = tried[right], left[~right]
    return None if len(left) else scale


def _fits(rows: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Whether each row is whole numbers times its scale: bool [n]."""
    return (np.rint(rows / scale[:, None]) * scale[:, None] == rows).all(1)
