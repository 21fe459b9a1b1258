"""Who takes the steps, and how long they are: AdamW as in BERT, Muon for matrices, schedules of the learning rate.

And what they move: all of a transformer, or its last layers.
"""

import torch
from torch import nn

from xlxmert_core.config import check_number
from xlxmert_core.model import XLxmert
from xlxmert_core.train.muon import Muon


def only_last(model: XLxmert, layers: int | None) -> XLxmert:
    """Leave to the optimisers the last ``layers`` of the cross layers, the words and all heads; None: everything.

    Of a single stream the last of its layers. Raises ValueError for more layers than there are.
    """
    if layers is None:
        return model
    stack = "single" if model.config.single_layers else "cross"
    count = len(getattr(model.encoder, stack))
    check_number("layers", layers, 0, count)
    free = tuple(f"encoder.{stack}.{i}." for i in range(count - layers, count))
    for name, p in model.named_parameters():
        p.requires_grad_(name.startswith(free) or not name.startswith(("encoder.", "cell_embedding.")))
    return model


def adamw(module: nn.Module, lr: float, weight_decay: float = 0.01, betas: tuple[float, float] = (0.9, 0.999),
          fused: bool = True) -> torch.optim.AdamW:  # fmt: skip
    """AdamW with no decay on biases and LayerNorm, as in BERT and LXMERT (paper, section 4).

    ``fused``: all of a step in one kernel (one pass over the memory) instead of one for each operation.
    """
    decay = [p for p in module.parameters() if p.requires_grad and p.dim() >= 2]
    plain = [p for p in module.parameters() if p.requires_grad and p.dim() < 2]
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0}]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=fused)


def muon(module: nn.Module, lr: float = 0.01, adam_lr: float = 1.5e-3) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices inside the network, AdamW for embeddings, heads, biases, norms.

    :class:`~.muon.Muon` makes every direction of a matrix's momentum equally long, so rare patterns, such
    as one word naming a few cells, move the weights as much as frequent ones. Inside means: named ``encoder`` or
    ``transform``.
    """
    matrices, rest = [], []
    for name, p in module.named_parameters():
        if p.requires_grad:
            inside = p.dim() == 2 and ("encoder." in name or "transform." in name)
            (matrices if inside else rest).append(p)
    return [
        Muon(matrices, lr=lr),
        torch.optim.AdamW(rest, lr=adam_lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def warmup_linear(step: int, steps: int, warmup: float = 0.05) -> float:
    """Learning-rate factor: linear warm-up over a share of the steps, then linear decay to zero."""
    progress = (step + 1) / max(1, steps)
    if progress < warmup:
        return progress / warmup
    return max(0.0, min(1.0, (1 - step / steps) / (1 - warmup)))


def constant(step: int, steps: int) -> float:
    """Learning-rate factor 1 throughout (the generator's schedule)."""
    return 1.0
