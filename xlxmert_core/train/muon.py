"""Muon (Jordan et al. 2024): gradient descent whose updates of a matrix are as long in every direction."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan's quintic: steep at 0, so that few steps suffice


def orthogonalised(matrix: Tensor, steps: int = 5) -> Tensor:
    """[m, n] -> nearly U V^T of the matrix's singular value decomposition U S V^T, by Newton-Schulz iterations.

    Each step puts x^5-polynomials of the singular values in their place, which pulls all of them to about 1 (0.7 to
    1.2). In bfloat16 on a GPU, as Jordan does; on a processor in the matrix's own type, because most
    processors only emulate bfloat16 (25 times as slow).
    """
    a, b, c = COEFFICIENTS
    x = matrix.bfloat16() if matrix.is_cuda else matrix
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x  # the smaller Gram matrix
    x = x / x.norm().clamp_min(1e-7)  # no singular value above 1
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)  # a x + (b G + c G^2) x
    return (x.T if tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Steps along the orthogonalised Nesterov momentum of each matrix [m, n]; equals ``torch.optim.Muon`` to rounding.

    A convolution's weight [m, c, h, w] counts as the matrix [m, c * h * w] (as in Jordan's first use of it). A tall
    matrix's steps are sqrt(m / n) times as long, so that what it adds to its output is as large.
    Raises ValueError for a vector.
    """

    def __init__(self, matrices: Iterable, lr: float = 0.01, momentum: float = 0.95):
        super().__init__(matrices, {"lr": lr, "momentum": momentum})
        if any(p.ndim < 2 for group in self.param_groups for p in group["params"]):
            raise ValueError("Muon moves matrices only: give vectors and tables to another optimiser.")

    @torch.no_grad()
    def step(  # ty: ignore[incompatible-method-override]
        self, closure: Callable[[], float] | None = None
    ) -> float | None:
        """Move every matrix that has a gradient; returns the closure's loss."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                if not (state := self.state[p]):
                    state["momentum_buffer"] = torch.zeros_like(p)
                average = state["momentum_buffer"]
                average.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonalised(p.grad.lerp(average, group["momentum"]).flatten(1))  # [m, n]
                self._move(p, update.view_as(p), group["lr"], max(1, update.shape[0] / update.shape[1]) ** 0.5)
        return loss

    def _move(self, p: Tensor, update: Tensor, rate: float, longer: float) -> None:
        p.sub_(update, alpha=rate * longer)
