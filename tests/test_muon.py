"""Muon against its formula in float64, and against torch's own where that is made to compute as exactly."""

import pytest
import torch
from torch import nn

from xlxmert_core.train.muon import COEFFICIENTS, Muon, orthogonalised

SHAPES = [(6, 6), (24, 6), (5, 17)]


def matrix(*shape, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=dtype)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_polynomial_acts_on_the_singular_values(shape):
    x = matrix(*shape)
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    s = s / x.norm()
    for _ in range(5):
        a, b, c = COEFFICIENTS
        s = a * s + b * s**3 + c * s**5
    torch.testing.assert_close(orthogonalised(x), u * s @ v, rtol=0, atol=1e-10)
    assert s.min() > 0.3 and s.max() < 1.3


@pytest.mark.parametrize("shape", SHAPES)
def test_float32_rounds_and_nothing_else(shape):
    x = matrix(*shape)
    torch.testing.assert_close(orthogonalised(x.float()).double(), orthogonalised(x), rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_torch_step_for_step(monkeypatch, shape):
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda x: x.clone())  # torch always casts; here it must not
    ours, theirs = (nn.Parameter(matrix(*shape)) for _ in range(2))
    optimisers = Muon([ours], lr=0.02), torch.optim.Muon([theirs], lr=0.02, momentum=0.95, weight_decay=0.0)
    for step in range(4):
        for weight, optimiser in zip((ours, theirs), optimisers, strict=True):
            weight.grad = (step + 1) * (weight.detach() - 1) ** 3
            optimiser.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    assert not torch.allclose(ours, matrix(*shape))


def test_its_state_and_torchs_are_one():
    weight = nn.Parameter(matrix(4, 3))
    old, new = torch.optim.Muon([weight], lr=0.02, momentum=0.95, weight_decay=0.0), Muon([weight], lr=0.5)
    weight.grad = matrix(4, 3)
    old.step()
    new.load_state_dict(old.state_dict())
    assert new.param_groups[0]["lr"] == 0.02
    new.step()
    assert new.state_dict()["state"][0].keys() == old.state_dict()["state"][0].keys()


def test_no_gradient_no_move_and_a_gradient_of_nought_moves_nothing():
    still, asked = nn.Parameter(matrix(3, 3)), nn.Parameter(matrix(3, 3))
    asked.grad = torch.zeros(3, 3, dtype=torch.float64)
    Muon([still, asked]).step()
    assert torch.equal(still, matrix(3, 3)) and torch.equal(asked, matrix(3, 3))


def test_a_vector_is_refused():
    with pytest.raises(ValueError, match="Muon moves matrices only"):
        Muon([nn.Parameter(torch.zeros(3))])


def test_a_convolution_moves_as_the_matrix_of_its_filters():
    torch.manual_seed(0)
    kernel, gradient = torch.randn(8, 3, 3, 3), torch.randn(8, 3, 3, 3)
    whole, flat = torch.nn.Parameter(kernel.clone()), torch.nn.Parameter(kernel.flatten(1).clone())
    whole.grad, flat.grad = gradient, gradient.flatten(1)
    Muon([whole]).step(), Muon([flat]).step()
    assert torch.equal(whole.flatten(1), flat) and not torch.equal(whole, kernel)
