"""The trained linear map against torch's own: values and all three gradients."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from xlxmert_core import onednn
from xlxmert_core.onednn import Linear, _Product, fast_linear

INTEL = onednn.intel


@pytest.fixture(autouse=True)
def not_an_intel(monkeypatch):
    """oneDNN trains on all other processors only; it runs on any."""
    monkeypatch.setattr(onednn, "intel", lambda: False)


def gradients(layer: nn.Linear, x: torch.Tensor) -> list[torch.Tensor]:
    out = layer(x)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    return [out, *torch.autograd.grad((out * weights).sum(), [x, layer.weight, layer.bias])]


@pytest.mark.parametrize("shape", [(5, 12), (3, 5, 12), (2, 3, 4, 12)])
def test_equals_torch_with_gradients(shape):
    torch.manual_seed(0)
    ours, x = Linear(12, 7), torch.randn(shape, requires_grad=True)
    plain = nn.Linear(12, 7)
    plain.load_state_dict(ours.state_dict())
    assert ours(x).grad_fn.name().startswith("_Product")
    for got, want in zip(gradients(ours, x), gradients(plain, x), strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


def test_is_plain_in_eval_mode_in_other_types_and_without_gradients(monkeypatch):
    def fail(*given):
        raise AssertionError("oneDNN was asked")

    monkeypatch.setattr(_Product, "apply", fail)
    layer, x = Linear(4, 3), torch.randn(2, 4)
    with pytest.raises(AssertionError, match="oneDNN was asked"):
        layer(x)
    with torch.no_grad():
        layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    layer.eval()(x)
    layer.train().double()(x.double())


def test_no_rows_give_a_gradient_of_zeros():
    layer = Linear(4, 3)
    layer(torch.zeros(0, 4)).sum().backward()
    assert torch.equal(layer.weight.grad, torch.zeros(3, 4))


@pytest.mark.parametrize("intel", [False, True])
def test_the_fast_product_equals_torch_in_any_type(monkeypatch, intel):
    monkeypatch.setattr(onednn, "intel", lambda: intel)
    plain, x = nn.Linear(12, 7), torch.randn(3, 5, 12)
    with torch.no_grad():
        torch.testing.assert_close(fast_linear(x, plain.weight, plain.bias), plain(x), rtol=0, atol=1e-5)
        plain.double()
        assert torch.equal(fast_linear(x.double(), plain.weight, plain.bias), plain(x.double()))


def test_intel_trains_as_torch_does(monkeypatch):
    monkeypatch.setattr(onednn, "intel", lambda: True)
    assert not Linear(4, 3)(torch.randn(2, 4)).grad_fn.name().startswith("_Product")


def test_the_product_is_chosen_in_one_place():
    package = Path(onednn.__file__).parent
    named = {path.name for path in package.rglob("*.py") if re.search(r"mkldnn|torch\.ops\.|intel\(", path.read_text())}
    assert named == {"onednn.py"}


def test_the_processor_is_known():
    info = Path("/proc/cpuinfo")
    if not info.exists():
        pytest.skip("the processor is read from /proc, which only Linux has")
    vendors = {line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("vendor_id")}
    assert INTEL() is (vendors == {"GenuineIntel"})
