"""``nn.Linear`` that trains on oneDNN: it uses the wide vector units of AMD processors, which MKL leaves idle.

In eval mode, on a GPU and in any other type than float32 it is ``nn.Linear`` and nothing else.
"""

import torch
from torch import Tensor, nn


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., in], weight [out, in] -> x weight^T + bias [..., out], in float32 on the processor, without gradient."""
    return torch.ops.mkldnn._linear_pointwise(x.contiguous(), weight.contiguous(), bias, "none", [], "")


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        rows = grad.flatten(0, -2)  # [M, out]
        return product(grad, weight.T), product(rows.T, x.flatten(0, -2).T), rows.sum(0)


class Linear(nn.Linear):
    """The linear map of the transformer's layers; always with a bias."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return _Product.apply(x, self.weight, self.bias) if self.training and _fits(x) else super().forward(x)


def _fits(x: Tensor) -> bool:
    """Whether oneDNN can train on x: some float32 rows on the processor, and gradients to come."""
    there = x.device.type == "cpu" and x.dtype == torch.float32 and x.numel() and torch.backends.mkldnn.is_available()
    return bool(there and torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu"))
