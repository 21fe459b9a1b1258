"""``nn.Linear`` that trains on oneDNN: it uses the wide vector units of AMD processors, which MKL leaves idle.

On Intel's processors, in eval mode, on a GPU and in any other type than float32 it is ``nn.Linear`` and nothing else.
"""

import platform
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@cache
def intel() -> bool:
    """Whether the processor is Intel's, for which MKL is made: there torch multiplies as fast as it can."""
    known = Path("/proc/cpuinfo")
    return "GenuineIntel" in (known.read_text() if known.exists() else platform.processor())


def on_onednn(x: Tensor) -> bool:
    """Whether oneDNN can multiply x: it is in float32 on the processor."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()


def fast_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``F.linear`` without gradient, by MKL or oneDNN, whichever is faster here."""
    return product(x, weight, bias) if on_onednn(x) and not intel() else F.linear(x, weight, bias)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., in], weight [out, in] -> x weight^T + bias [..., out], in float32 on the processor, without gradient."""
    return torch.ops.mkldnn._linear_pointwise(x.contiguous(), weight.contiguous(), bias, "none", [], "")


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    def backward(ctx, grad):  # ty: ignore[incompatible-method-override]
        x, weight = ctx.saved_tensors
        rows = grad.flatten(0, -2)  # [M, out]
        return product(grad, weight.T), product(rows.T, x.flatten(0, -2).T), rows.sum(0)


class Linear(nn.Linear):
    """The linear map of the transformer's layers; always with a bias."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return _Product.apply(x, self.weight, self.bias) if self.training and _fits(x) else super().forward(x)


def _fits(x: Tensor) -> bool:
    """Whether oneDNN can train on x, and better: some float32 rows on the processor, and gradients to come."""
    there = on_onednn(x) and x.numel() and not intel()
    return bool(there and torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu"))
