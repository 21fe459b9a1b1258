"""A graph's weights are stored in fewer bytes, and say the same numbers."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from book.build.narrow import in_bytes, narrowed


def weights(values: np.ndarray) -> onnx.ModelProto:
    """A graph that adds a stored array to its input."""
    kind, shape = TensorProto.FLOAT, list(values.shape)
    node = helper.make_node("Add", ["x", "w"], ["y"])
    inputs, outputs = ([helper.make_tensor_value_info(name, kind, shape)] for name in "xy")
    return helper.make_model(helper.make_graph([node], "add", inputs, outputs, [numpy_helper.from_array(values, "w")]))


def whole(*shape: int, most: int = 127, seed: int = 0) -> np.ndarray:
    """Whole numbers of 8 bits times a float32 scale for each row; the first row is zero."""
    rng = np.random.default_rng(seed)
    found = rng.integers(-most, most + 1, shape).astype(np.float32)
    found[0] = 0
    return found * rng.uniform(1e-4, 1, (shape[0], *[1] * (len(shape) - 1))).astype(np.float32)


@pytest.mark.parametrize(("values", "stored"), [
    (np.linspace(-1, 1, 256).astype(np.float16).astype(np.float32), np.float16),
    (np.linspace(-1, 1, 256).astype(np.float32), np.float32),  # would be rounded
    (np.ones(3, np.float32), np.float32),  # not worth it
    (whole(40, 30), np.int8),
    (whole(40, 30, most=97), np.int8),
    (whole(30, 40).T.copy(), np.int8),  # as an export turns it round
    (whole(20, 6, 3, 3), np.int8),
    (np.moveaxis(whole(20, 6, 3, 3), 0, 1).copy(), np.int8),
    (whole(40, 30) + np.float32(1e-3), np.float32),
])  # fmt: skip
def test_narrowed_changes_no_number(values, stored):
    model = narrowed(weights(values))
    onnx.checker.check_model(model)
    assert numpy_helper.to_array(model.graph.initializer[0]).dtype == stored
    session = onnxruntime.InferenceSession(model.SerializeToString())
    assert np.array_equal(session.run(None, {"x": np.zeros_like(values)})[0], values)


@pytest.mark.parametrize("seed", range(20))
def test_a_scale_is_found_whatever_its_last_bit(seed):
    values = whole(200, 50, seed=seed)
    found, scale = in_bytes(values)
    assert np.array_equal(found * scale, values) and found.dtype == np.int8


@pytest.mark.parametrize("odd", [np.inf, np.nan])
def test_numbers_that_are_none_stay_as_they_are(odd):
    values = whole(20, 10)
    values[3, 4] = odd
    assert in_bytes(values) is None
