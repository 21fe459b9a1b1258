"""What two processes of test_distributed.py do: train a model that FSDP has spread over them, stop, and go on."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from xlxmert_core.train import distributed, loop, optimisers
from xlxmert_core.train.distributed import mean, share

STEPS = 6


class Toy(nn.Module):
    """Regression on rows that count only where ``x`` is positive: the processes' shares hold different numbers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 8), nn.GELU(), nn.Linear(8, 1))

    def forward(self, batch):
        kept = batch["x"][:, 0] > 0
        return mean((self.net(batch["x"])[kept, 0] - batch["y"][kept]).square())


def batch_at(step: int) -> dict:
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
    return {"x": x, "y": x.sum(1)}


def practise(toy: Toy, optimiser, steps: range, rank: int = 0, world: int = 1) -> list[float]:
    """Train some steps; the losses of the whole batches."""
    losses = []
    for step in steps:
        optimiser.zero_grad()
        loss = toy(share(batch_at(step), rank, world))
        loss.backward()
        optimiser.step()
        losses.append(loss.detach().clone())
        if world > 1:
            dist.all_reduce(losses[-1])
            losses[-1] /= world
    return [float(loss) for loss in losses]


def spread(world: int):
    """The toy, spread out, with its optimiser."""
    toy = Toy()
    fully_shard(toy, mesh=init_device_mesh("cpu", (world,)))
    return toy, optimisers.adamw(toy, 0.05)


def main(path: Path) -> None:
    """Three steps, a checkpoint, and in a new model three more; the losses go into a file beside it."""
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    toy, optimiser = spread(world)
    losses = practise(toy, optimiser, range(3), rank, world)
    loop._save(path, {"toy": 1}, 3, toy, {"all": [optimiser]}, [], rank == 0)
    dist.barrier()
    toy, optimiser = spread(world)
    step, _ = loop._resume(path, {"toy": 1}, toy, {"all": [optimiser]})
    losses += practise(toy, optimiser, range(step, STEPS), rank, world)
    if rank == 0:
        torch.save({"losses": losses, "spread": distributed.is_spread(toy)}, path.with_suffix(".losses"))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
