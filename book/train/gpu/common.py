"""What all stages of a run on photographs share: the clock, the data on the device, augmentation, the record.

A stage is given a stretch of wall-clock time, not a number of steps: learning rates follow the elapsed share, so
that a stage always ends decayed and saved, whatever machine it runs on. Axes: M pictures, B batch, S pixels.
"""

import gzip
import io
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from xlxmert_core.data.catalogue import Product, captions, product_masks
from xlxmert_core.data.coco import Record as Told
from xlxmert_core.datasets.catalogue import numbers_of
from xlxmert_core.files import replacing, write_json
from xlxmert_core.train import optimisers
from xlxmert_core.train.muon import COEFFICIENTS, Muon

# held_out: training photographs of pairs that training never shows; composition: those of val and test.
ROLES = ("trainable", "held_out", "val", "test", "composition")
BLOCK = 128  # pictures that a process decodes at a time


@dataclass
class Clock:
    """A stage's stretch of time: from now to ``end`` (in ``time.time()``), or ``steps`` when those are over sooner."""

    end: float
    steps: int | None = None
    start: float = field(default_factory=time.time)
    step: int = 0
    noted: float = 0.0

    def progress(self) -> float:
        """The share of the stage that is over, 0 to 1."""
        share = (time.time() - self.start) / max(1e-6, self.end - self.start)
        return min(1.0, max(share, self.step / self.steps if self.steps else 0.0))

    def __iter__(self) -> Iterator[float]:
        """Yield the share at each step, until it is 1; at least once."""
        while True:
            share = self.progress()
            if share >= 1 and self.step:
                return
            yield min(share, 0.999)
            self.step += 1

    def due(self, seconds: float) -> bool:
        """Whether a note is due: every ``seconds``, and at the first step."""
        if time.time() - self.noted < seconds:
            return False
        self.noted = time.time()
        return True

    def rate(self) -> float:
        """Steps a second so far."""
        return self.step / max(1e-6, time.time() - self.start)


def wait_for(path: Path, end: float) -> None:
    """Wait until another stage's file is there; raises TimeoutError where it is not when ``end`` has come."""
    while not path.is_file():
        if time.time() > end:
            raise TimeoutError(f"{path.name} did not come in time: its stage has failed, or was too slow.")
        time.sleep(0.1)


def save_tensors(path: Path, tensors: Tensor | dict[str, Tensor]) -> None:
    """``torch.save``, renamed when whole: other stages may be waiting for it."""
    with replacing(path) as temporary:
        torch.save(tensors, temporary)


def decay(share: float, warmup: float = 0.04) -> float:
    """Learning-rate factor: linear warm-up, then half a cosine to zero."""
    if warmup and share < warmup:
        return max(0.02, share / warmup)
    return 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))


def set_rate(optimisers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    """Set every group's learning rate to ``factor`` times the one it was made with."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group.setdefault("first_lr", group["lr"])
            group["lr"] = group["first_lr"] * factor


def say(*words: object) -> None:
    """One line of the log, with the time of day."""
    print(time.strftime("%H:%M:%S"), *words, flush=True)


class Record:
    """record_<stage>.json in the work folder: numbers and curves, written anew at every note."""

    def __init__(self, work: Path, stage: str):
        self.path, self.numbers, self.curve, self.stage = work / f"record_{stage}.json", {}, [], stage

    def note(self, clock: Clock, **values: Tensor | float) -> None:
        """Add a point to the curve and a line to the log; waits for the device."""
        point = {name: round(float(torch.as_tensor(value).detach()), 5) for name, value in values.items()}
        self.curve.append({"step": clock.step, "seconds": round(time.time() - clock.start, 1), **point})
        shown = " ".join(f"{name} {value:.3f}" for name, value in point.items())
        say(f"[{self.stage}] step {clock.step} ({clock.rate():.1f}/s) {shown}")
        self.save()

    def save(self, **numbers: object) -> None:
        """Add final numbers and write the file."""
        self.numbers |= numbers
        write_json(self.path, {"numbers": self.numbers, "curve": self.curve})


def train(clock: Clock, record: Record, module: nn.Module, optimisers: Sequence[torch.optim.Optimizer],
          lesson: Callable[[float], tuple[Tensor, dict]], clip: float, seconds: float,
          tested: Callable[[], dict] = dict) -> None:  # fmt: skip
    """One step after another until the clock says so, at rates that decay; a note every ``seconds``.

    Args:
        lesson: the share of the time that is over -> (the loss, its numbers).
        clip: the longest gradient of the module; tested: more numbers for a note.
    """
    for share in clock:
        set_rate(optimisers, decay(share))
        loss, numbers = lesson(share)
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
        for optimiser in optimisers:
            optimiser.step()
        if clock.due(seconds):
            record.note(clock, **numbers, **tested())


class Together(Muon):
    """Muon that moves all matrices of a shape at once: a GPU waits for the number of operations, not for their size."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every matrix that has a gradient; returns the closure's loss."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for p in (p for p in group["params"] if p.grad is not None):
                self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
                shapes.setdefault(p.shape, []).append(p)
            for (rows, columns), those in shapes.items():
                grads = [p.grad for p in those if p.grad is not None]
                averages = [self.state[p]["momentum_buffer"] for p in those]
                torch._foreach_lerp_(averages, grads, 1 - group["momentum"])
                update = orthogonalised(torch.stack(torch._foreach_lerp(grads, averages, group["momentum"])))
                rate = group["lr"] * max(1, rows / columns) ** 0.5
                torch._foreach_add_(those, list(update.unbind()), alpha=-rate)
        return loss


def orthogonalised(stack: Tensor) -> Tensor:
    """As :func:`xlxmert_core.train.muon.orthogonalised`, of several matrices: [n, m, k] -> [n, m, k]."""
    a, b, c = COEFFICIENTS
    x = stack.bfloat16() if stack.is_cuda else stack
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(stack.dtype)


def muon(module: nn.Module, lr: float = 0.01, adam_lr: float = 1.5e-3) -> list[torch.optim.Optimizer]:
    """As :func:`xlxmert_core.train.optimisers.muon`, the matrices moved together."""
    inside, rest = optimisers.muon(module, lr, adam_lr)
    return [Together(inside.param_groups[0]["params"], lr), rest]


@dataclass
class Data:
    """Pictures uint8 [M, 3, S, S] on the device, their products, and the rows of each of ROLES."""

    images: Tensor
    products: list[Product]
    rows: dict[str, Tensor]

    @cached_property
    def records(self) -> list[Told]:
        """What is said of each product: five captions with their facts, as in the catalogue's files."""
        told = [list(zip(*captions(product), strict=True)) for product in self.products]
        return [Told(p.id, Path(f"{p.id}.jpg"), list(texts), list(facts))
                for p, (texts, facts) in zip(self.products, told, strict=True)]  # fmt: skip

    @cached_property
    def labels(self) -> dict[str, Tensor]:
        """Labels of all pictures by attribute (catalogue.LABELS), int64 [M]; UNLABELLED where there is none."""
        return {name: torch.from_numpy(v).to(self.images.device) for name, v in numbers_of(self.records).items()}


def decode(folder: Path, work: Path, workers: int) -> None:
    """Decode photographs.npz into work: pictures.npy uint8 [M, 3, S, S], masks.npy bool [M, S, S]."""
    with np.load(folder / "photographs.npz") as file:
        data, ends = file["data"].tobytes(), file["ends"].tolist()
    parts = [data[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    blocks = [parts[i : i + BLOCK] for i in range(0, len(parts), BLOCK)]
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            found = list(pool.map(_unpacked, blocks))
    else:
        found = [_unpacked(block) for block in blocks]
    for name, arrays in zip(("masks", "pictures"), list(zip(*found, strict=True))[::-1], strict=True):
        np.save(work / f"{name}.npy", np.concatenate(arrays))


def _unpacked(parts: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Bytes of pictures -> (uint8 [n, 3, S, S], where their products are: bool [n, S, S])."""
    images = np.stack([np.asarray(Image.open(io.BytesIO(part)).convert("RGB")) for part in parts])
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), product_masks(images)


def read_products(folder: Path) -> dict[str, list[Product]]:
    """The products of each split, in the order in which their photographs were packed."""
    splits = json.loads(gzip.decompress((folder / "products.json.gz").read_bytes()))
    return {split: [Product(**values) for values in those] for split, those in splits.items()}


def load_data(folder: Path, work: Path, device: str) -> Data:
    """Pictures and products of all splits."""
    splits, products, rows = read_products(folder), [], {role: [] for role in ROLES}
    for split, those in splits.items():
        for product in those:
            aside = "held_out" if split == "train" else "composition"
            rows[aside if product.held_out else "trainable" if split == "train" else split].append(len(products))
            products.append(product)
    images = torch.from_numpy(np.load(work / "pictures.npy"))
    return Data(images.to(device), products, {name: torch.tensor(r, device=device) for name, r in rows.items()})


def to_unit(images: Tensor) -> Tensor:
    """uint8 [B, 3, S, S] -> float in [-1, 1]."""
    return images.float() / 127.5 - 1


def from_unit(images: Tensor) -> Tensor:
    """float in [-1, 1] -> uint8, same shape."""
    return ((images.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def jitter(images: Tensor, shift: float = 0.08, scale: float = 0.12) -> Tensor:
    """Mirror half of the pictures [B, C, S, S] and move, stretch all a little; the border's colour fills the rest."""
    count, device = len(images), images.device
    size = 1 + scale * (2 * torch.rand(count, 2, device=device) - 1)
    mirror = torch.where(torch.rand(count, device=device) < 0.5, -1.0, 1.0)
    theta = torch.zeros(count, 2, 3, device=device)
    theta[:, 0, 0], theta[:, 1, 1] = size[:, 0] * mirror, size[:, 1]
    theta[:, :, 2] = shift * 2 * (2 * torch.rand(count, 2, device=device) - 1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def autocast(device: str) -> torch.autocast:
    """bfloat16 on a GPU, nothing on a processor."""
    return torch.autocast("cuda", torch.bfloat16, enabled=device.startswith("cuda"))


def draw(rows: Tensor, batch: int) -> Tensor:
    """``batch`` of the rows, at random."""
    return rows[torch.randint(len(rows), (batch,), device=rows.device)]


def sheet(rows: list[Tensor], path: Path, columns: int) -> None:
    """Write a contact sheet: each entry uint8 [n, 3, S, S] is laid out below the one before, ``columns`` a line."""
    lines = []
    for images in (those for those in rows if len(those)):
        for part in images.cpu().split(columns):
            line = torch.cat([*part], 2)  # [3, S, n * S]
            lines.append(F.pad(line, (0, (columns - len(part)) * images.shape[-1]), value=255))
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(torch.cat(lines, 1).permute(1, 2, 0).numpy()).save(path)
