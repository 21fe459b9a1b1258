"""What several training processes must agree on, so that together they do exactly what one would.

DDP averages the gradients of its processes, but a batch's share may hold more masked cells in one process than
in another; averages that divide by the count of *all* processes come out as if one had seen the whole batch.
(Dropout aside: each process draws its own.)
"""

from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.checkpoint.state_dict import StateDictOptions


def processes() -> int:
    """How many processes train together; 1 when nobody started several."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def total(count: Tensor) -> Tensor:
    """A number summed over all processes; every process must ask."""
    if processes() > 1:
        count = count.clone()
        dist.all_reduce(count)
    return count


def mean(values: Tensor) -> Tensor:
    """Mean of values [M], M differing between processes, such that its *average over the processes* is the mean of all.

    Zero, with a gradient of zeros, when no process has any value. Every process must ask.
    """
    if processes() == 1 and len(values):
        return values.mean()
    count = total(torch.tensor(float(len(values)), device=values.device))
    return values.sum() * processes() / count.clamp_min(1)


def share(batch: dict, rank: int, world: int) -> dict:
    """The part of a batch that process ``rank`` of ``world`` trains on: its rows of every tensor; the rest is common.

    Raises ValueError when the rows do not divide.
    """
    if world == 1:
        return batch
    rows = next(len(v) for v in batch.values() if isinstance(v, Tensor))
    if rows % world:
        raise ValueError(f"A batch of {rows} does not divide into {world} equal shares: choose a multiple of {world}.")
    part = slice(rank * rows // world, (rank + 1) * rows // world)
    return {name: value[part] if isinstance(value, Tensor) else value for name, value in batch.items()}


def is_spread(module: nn.Module) -> bool:
    """Whether FSDP has spread a module's weights over the processes, so that no process holds them all."""
    if not (dist.is_available() and dist.is_initialized()):
        return False  # without the import, which brings SymPy and takes half a second
    from torch.distributed.tensor import DTensor

    return any(isinstance(p, DTensor) for p in module.parameters())


def whole() -> "StateDictOptions":
    """The options that make FSDP give and take its spread weights in one piece."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    return StateDictOptions(full_state_dict=True, cpu_offload=True)


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """A module's state, also of one that FSDP has spread: the first process gets it, on the processor. All must ask."""
    if not is_spread(module):
        return module.state_dict()
    from torch.distributed.checkpoint.state_dict import get_model_state_dict

    return get_model_state_dict(module, options=whole())  # ty: ignore[invalid-explicit-return]  tensors only
