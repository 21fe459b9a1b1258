"""No stage multiplies in a type that an older processor emulates: bfloat16, float16 or integers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch
from types_driver import STAGES, Recorder

from xlxmert_core.engine.graphs import SHIPPED

AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
FAST = {"float32", "float64"}


@pytest.fixture(scope="module")
def products() -> dict[str, list]:
    """(operation, type) of every product of each stage, on a processor that plays one without AVX-512."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent)])
    call = [sys.executable, str(here / "types_driver.py")]
    done = subprocess.run(call, env=os.environ | AVX2 | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [stage.__name__ for stage in STAGES])
def test_every_product_of_a_stage_is_one_that_old_processors_accelerate(products, stage):
    assert products[stage] and {kind for _, kind in products[stage]} <= FAST, products[stage]


@pytest.mark.parametrize(("product", "kind"), [
    (lambda: torch.ones(4, 4).bfloat16() @ torch.ones(4, 4).bfloat16(), "bfloat16"),
    (lambda: torch._int_mm(torch.ones(32, 32, dtype=torch.int8), torch.ones(32, 32, dtype=torch.int8)), "int8"),
    (lambda: torch.conv2d(torch.ones(1, 1, 4, 4).half(), torch.ones(1, 1, 3, 3).half()), "float16"),
])  # fmt: skip
def test_a_slow_type_would_be_seen(product, kind):
    with Recorder() as recorder:
        product()
    assert {seen for _, seen in recorder.seen} == {kind}


@pytest.mark.parametrize("path", sorted(SHIPPED.iterdir()), ids=lambda path: path.stem.split("-")[0])
def test_the_shipped_graphs_multiply_in_float32(path):
    graph = onnx.load_model_from_string(path.read_bytes().split(b"\n", 1)[1]).graph
    operations = {node.op_type for node in graph.node}
    assert operations & {"MatMul", "Gemm", "Conv"}
    assert not {name for name in operations if "Integer" in name or "Quantize" in name}
    stored = {initializer.data_type for initializer in graph.initializer}
    assert not stored & {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.INT8}
