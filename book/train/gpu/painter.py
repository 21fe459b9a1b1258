"""The stage that trains the generator on photographs, with the critic that makes it sharp (trainer.py has the step).

Axes: B photographs, P paintings, M pictures, N cells, S pixels.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from book.train.gpu.common import Clock, Data, Record, autocast, decay, draw, say, sheet, to_unit, wait_for
from book.train.gpu.eye import FEATURE, GRID, load_codes
from book.train.gpu.networks import Perceptual, unpack
from book.train.gpu.trainer import Trainer, quick_layers

BATCH, SMALL_BATCH = (64, 16), (2, 1)  # photographs and paintings a step; a guess
POOL = 4096  # painted codes that the critic's paintings are drawn from: a tensor of one size, as a graph needs it
CRITIC_FROM, CRITIC_FULL = 0.15, 0.30  # shares of the time: the critic joins, and pulls with all its force; guesses
RATIO = 1.0  # how strongly the critic pulls at a picture, as a share of the reconstruction's force; a guess
WARM = 100  # steps until the learning rates have grown to their full size; a guess
HALF_LIVES = ((0.3, 30), (0.8, 100), (1.0, 200))  # (until this share of the time, steps): see Trainer.step; a guess
# Steps between two looks for paintings, where a GPU is waited for: else the processor runs ahead of the clock.
LOOK = 10
NOTE = 8  # seconds between two notes


class Lessons:
    """What a step trains on, drawn on the device: photographs with their codes, and painted codes for the critic.

    Args:
        data: the photographs.
        codes: int64 [M, 2, N], of them and of their mirror images.
        batch: B photographs and P paintings a step.
    """

    def __init__(self, data: Data, codes: Tensor, batch: tuple[int, int]):
        self.images, self.codes, self.batch, self.rows = data.images, codes, batch, data.rows["trainable"]
        self.painted = codes[draw(self.rows, POOL), 0]  # photographs' own, until there are paintings
        self.waits = True

    def __call__(self) -> tuple[Tensor, Tensor, Tensor]:
        """(real [-1, 1] [B, 3, S, S], its codes [B, N], painted codes [P, N])."""
        rows = draw(self.rows, self.batch[0])
        mirror = torch.rand(self.batch[0], device=rows.device) < 0.5
        real = to_unit(self.images[rows])
        real = torch.where(mirror[:, None, None, None], real.flip(3), real)
        others = torch.randint(len(self.painted), (self.batch[1],), device=rows.device)
        return real, self.codes[rows, mirror.long()], self.painted[others]

    def look_for(self, path: Path) -> None:
        """Take up painted codes int [n, N] when their file is there, once, in the tensor that a graph reads."""
        if self.waits and path.is_file():
            found = torch.load(path, map_location=self.codes.device, weights_only=True).long()
            self.painted.copy_(found[torch.arange(len(self.painted), device=found.device) % len(found)])
            self.waits = False
            say(f"[painter] {len(found)} paintings join")


def train_painter(data: Data, folder: Path, work: Path, clock: Clock, codes_path_waiting: Path,
                  saved: Callable[[], None] = lambda: None, small: bool = False) -> Trainer:  # fmt: skip
    """Train until the clock says so; writes model/generator.safetensors and critic.safetensors into ``work``.

    Args:
        data: the photographs.
        folder: where VGG16 was packed; work: where codes.pt and painted.pt appear, and everything is written.
        clock: when to end.
        codes_path_waiting: what the eye's stage will write; until then cuDNN tries its algorithms out here. The graphs
            are captured at the first step without the critic and at the first step with it.
        saved: called when weights and a sheet have been written: after a quarter, a half, three quarters, and all.
        small: tiny networks and batches.
    """
    record, network = Record(work, "painter"), cast("Perceptual", unpack(folder, "vgg"))
    batch = SMALL_BATCH if small else BATCH
    some = to_unit(data.images[data.rows["trainable"][: batch[0]]])
    with quick_layers():
        if data.images.is_cuda:
            try_out(network, some, data, batch)
        wait_for(codes_path_waiting, clock.end)
        table, codes = load_codes(work, data.images.device)
        torch.manual_seed(1)
        lessons = Lessons(data, codes, batch)
        trainer = Trainer(network, table, some, lessons, small=small)
        say(f"[painter] {sum(p.numel() for p in trainer.generator.parameters()) / 1e6:.2f} M parameters")
        clock.start, left = time.time(), [0.25, 0.5, 0.75]
        for share in clock:
            numbers = trainer.step(*plan(share, clock.step))
            if clock.step % LOOK == 0:
                lessons.look_for(work / "painted.pt")
                if clock.due(NOTE):  # waits for the device, too
                    record.note(clock, **numbers, **tested(trainer, data, codes))
                elif data.images.is_cuda:
                    torch.cuda.synchronize()
            if left and share >= left[0]:
                write_out(trainer, data, codes, lessons.painted, work, left.pop(0))
                saved()
        write_out(trainer, data, codes, lessons.painted, work, 1.0)
        record.save(steps=clock.step, rate=clock.rate(), test=tested(trainer, data, codes, 800))
    saved()
    return trainer


def try_out(network: Perceptual, some: Tensor, data: Data, batch: tuple[int, int]) -> None:
    """Take both kinds of step once, of a trainer that is thrown away: cuDNN tries its algorithms out for each shape."""
    blank = torch.zeros(len(data.images), 2, GRID**2, dtype=torch.long, device=some.device)
    dull = Trainer(network, torch.randn(9, FEATURE, device=some.device), some, Lessons(data, blank, batch))
    tried = dull._step(False) | dull._step(True)
    say("[painter] has tried out:", *(f"{float(value):.3f}" for value in tried.values()))


def plan(share: float, step: int) -> tuple[float, float, float]:
    """What :meth:`Trainer.step` takes, when a share of the time and so many steps are over."""
    factor = min((step + 1) / WARM, decay(share, 0.0))
    ratio = RATIO * min(1.0, max(0.0, (share - CRITIC_FROM) / (CRITIC_FULL - CRITIC_FROM)))
    return factor, ratio, next(half_life for until, half_life in HALF_LIVES if share < until)


def write_out(trainer: Trainer, data: Data, codes: Tensor, painted: Tensor, work: Path, share: float) -> None:
    """Write the weights, and a sheet with the share of the time in its name."""
    trainer.save(work)
    preview(trainer, data, codes, painted, work / "sheets" / f"progress_{100 * share:.0f}.png")


@torch.no_grad()
def tested(trainer: Trainer, data: Data, codes: Tensor, count: int = 64) -> dict[str, float]:
    """LPIPS and pixel distance of the average's reconstructions of test photographs; the codes are int64 [M, 2, N]."""
    found = []
    for rows in data.rows["test"][:count].split(64):
        with autocast(trainer.device):
            fake = trainer.average(trainer.features(codes[rows, 0])).float().clamp(-1, 1)
        real = to_unit(data.images[rows])
        found.append([float(trainer.perceptual(fake, real)), float(F.l1_loss(fake, real))])
    seen, pixel = torch.tensor(found).mean(0).tolist()
    return {"test_lpips": seen, "test_pixel": pixel}


def preview(trainer: Trainer, data: Data, codes: Tensor, painted: Tensor, path: Path) -> None:
    """A sheet of test photographs over their reconstructions, twice, and of paintings of ``painted`` [n, N]."""
    rows = data.rows["test"][:: max(1, len(data.rows["test"]) // 32)][:32]
    copies = trainer.render(codes[rows, 0])
    both = [data.images[rows[:16]], copies[:16], data.images[rows[16:]], copies[16:]]
    sheet([*both, trainer.render(painted[:32])], path, 16)
