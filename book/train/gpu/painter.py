"""The generator on photographs, and the critic that makes it sharp.

The reconstruction (LPIPS and pixels) and the critic pull at the picture with forces whose ratio is set, so that no loss
weight needs tuning. A GPU replays a whole step as one graph.
Axes: B photographs, P paintings, F feature width, g grid, S pixels, C channels.
"""

import copy
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from book.train.gpu.common import Clock, Data, Record, decay, draw, from_unit, say, sheet, to_unit, wait_for
from book.train.gpu.critic import Critic, LeCam, Views, augment, draw_augmentation
from book.train.gpu.eye import FEATURE, load_codes
from book.train.gpu.networks import Perceptual, unpack
from xlxmert_core import checkpoints
from xlxmert_core import generator as layers
from xlxmert_core.config import GeneratorConfig
from xlxmert_core.generator import Generator, conv
from xlxmert_core.train.muon import Muon, orthogonalised

SIZES = dict(bottleneck=256, channels=(192, 192, 128, 64, 32), spade_hidden=48)
SMALL = dict(bottleneck=32, channels=(16, 16, 16, 16, 8), spade_hidden=8)
CRITIC_FROM, CRITIC_FULL = 0.15, 0.30  # shares of the time: the critic joins, and pulls with all its force
PIXELS = (1.0, 0.3)  # weight of the pixels' loss, without the critic and with it: it blurs what nobody can know
RATIO = 1.0  # how strongly the critic pulls at a picture, as a share of the reconstruction's force
WARM = 100  # steps until the learning rates have grown to their full size


def new_generator(feature_dim: int, small: bool) -> Generator:
    """The module's generator with bilinear up-sampling (no checkerboard), plain weights and a linear end.

    It starts at a light grey, the photographs' mean.
    """
    config = GeneratorConfig(feature_dim=feature_dim, rgb_gain=0.1, squash=False, **(SMALL if small else SIZES))
    generator = Generator(config, made_by=conv).train()
    nn.init.constant_(generator.to_rgb[0].bias, 0.6)
    return generator


def enlarged(x: Tensor, size: int) -> Tensor:
    """Bilinear resizing [B, C, s, s] -> [B, C, size, size] by two matrices."""
    return x if x.shape[-1] == size else (rows := _rows(x.shape[-1], size, x.device, x.dtype)) @ x @ rows.T


@lru_cache
def _rows(size: int, larger: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    eye = torch.eye(size)[None]  # [1, s, s]
    return F.interpolate(eye, size=larger, mode="linear", align_corners=False)[0].T.to(device, dtype)


def quick_layers() -> None:
    """Let the module's generator enlarge by products of matrices: equal, and on a GPU ten times as fast."""
    layers.double, layers._enlarge = lambda x: enlarged(x, 2 * x.shape[-1]), enlarged


class Steady(Muon):
    """Muon whose learning rate is a number on the device, as a captured graph needs it."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # ty: ignore[invalid-method-override]
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                if not (state := self.state[p]):
                    state["momentum_buffer"] = torch.zeros_like(p)
                average = state["momentum_buffer"]
                average.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonalised(p.grad.lerp(average, group["momentum"]).flatten(1))  # [m, n]
                longer = max(1, update.shape[0] / update.shape[1]) ** 0.5
                p.addcmul_(update.view_as(p), group["lr"], value=-longer)


class Trainer:
    """Generator, the average of its weights, critic, perceptual loss and their optimisers: one step at a time.

    Everything that changes from step to step is a tensor on the device, so that a GPU replays a whole step as one
    captured graph: hundreds of small operations, none of which waits for the processor.

    Args:
        network: VGG16 with its LPIPS heads; table: centroids [K, F]; images: some photographs [-1, 1] [M, 3, S, S].
        draw: -> (real [-1, 1] [B, 3, S, S], their codes int64 [B, N], painted codes int64 [P, N]), by the device's
            own random numbers.
        rates: of Muon (the generator's convolutions; 0 for Adam), of Adam, of the critic.
    """

    def __init__(self, network: Perceptual, table: Tensor, images: Tensor, draw: Callable[[], tuple],
                 rates: tuple[float, float, float] = (0.02, 2e-3, 2e-4), small: bool = False):  # fmt: skip
        device = table.device
        self.table, self.draw, self.grid, self.device = table, draw, 8, device.type
        self.generator = new_generator(table.shape[1], small).to(device)
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        last = {"device": device, "memory_format": torch.channels_last}
        self.perceptual = network.to(**last)
        self.views = Views(self.perceptual, images).to(memory_format=torch.channels_last)
        self.critic = Critic(table.shape[1], 16 if small else 128).to(**last)
        self.calm = LeCam(device)
        self.ratio, self.keep, self.factor = (torch.zeros((), device=device) for _ in range(3))
        self.rates: list[tuple[Tensor, float]] = []  # (learning rate on the device, at its largest)
        self.optimisers = self._optimisers(rates)
        self.graphs: dict[bool, tuple[torch.cuda.CUDAGraph, dict]] = {}

    def _rate(self, largest: float) -> Tensor:
        self.rates.append((torch.zeros((), device=self.table.device), largest))
        return self.rates[-1][0]

    def _optimisers(self, rates: tuple[float, float, float]) -> list[torch.optim.Optimizer]:
        inside, colour, rest = [], [], []
        for name, p in self.generator.named_parameters():
            sort = colour if name.startswith("to_rgb") else inside if p.ndim == 4 and rates[0] else rest
            sort.append(p)
        groups = [{"params": rest, "lr": self._rate(rates[1])}, {"params": colour, "lr": self._rate(0.3 * rates[1])}]
        there = self.device == "cuda"
        options = {"fused": there, "capturable": there}
        adam = torch.optim.Adam(groups, betas=(0.5, 0.99), **options)
        critic = torch.optim.Adam(self.critic.parameters(), self._rate(rates[2]), betas=(0.0, 0.99), **options)
        muon = [Steady([{"params": inside, "lr": self._rate(rates[0])}], momentum=0.9)] if inside else []
        return [*muon, adam, critic]

    def autocast(self) -> torch.autocast:
        """bfloat16 on a GPU, nothing on a processor."""
        return torch.autocast("cuda", torch.bfloat16, enabled=self.device == "cuda")

    def features(self, codes: Tensor) -> Tensor:
        """Codes int64 [B, N] -> centroids [B, F, g, g]."""
        return F.embedding(codes, self.table).transpose(1, 2).unflatten(2, (self.grid, self.grid)).contiguous()

    def step(self, factor: float, ratio: float, half_life: float) -> dict[str, Tensor]:
        """One step of the generator, and of the critic where ``ratio`` is above zero: numbers, on the device.

        Args:
            factor: of all learning rates; ratio: how strongly the critic pulls, as a share of the reconstruction's
            force; half_life: steps after which the average has forgotten half.
        """
        for rate, largest in self.rates:
            rate.fill_(largest * factor)
        self.ratio.fill_(ratio)
        self.keep.fill_(0.5 ** (1 / half_life))
        if self.device != "cuda":
            return self._step(ratio > 0)
        if (critical := ratio > 0) not in self.graphs:
            self.graphs[critical] = self._capture(critical)
        graph, numbers = self.graphs[critical]
        graph.replay()
        return numbers

    def _capture(self, critical: bool) -> tuple[torch.cuda.CUDAGraph, dict]:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                self._step(critical)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            numbers = self._step(critical)
        return graph, numbers

    def _step(self, critical: bool) -> dict[str, Tensor]:
        real, codes, painted = self.draw()
        features = self.features(torch.cat([codes, painted]) if critical else codes)
        with self.autocast():
            fake = self.generator(features)
        leaf = fake.detach().float().requires_grad_()  # both forces are gathered here
        force, numbers = self._reconstruction(leaf, real, PIXELS[critical])
        if critical:
            pull, told = self._adversarial(leaf, real, features)
            size = force[: len(real)].norm() / pull[: len(real)].norm().clamp_min(1e-12)
            force = force + self.ratio * size.clamp(max=1e4) * pull
            numbers |= told
        self.generator.zero_grad(set_to_none=True)
        fake.backward(torch.nan_to_num(force).to(fake.dtype))
        torch.nn.utils.clip_grad_norm_(self.generator.parameters(), 1.0)
        for optimiser in self.optimisers[:-1]:
            optimiser.step()
        self._remember()
        return numbers

    def _reconstruction(self, leaf: Tensor, real: Tensor, weight: float) -> tuple[Tensor, dict]:
        """The force [B + P, 3, S, S] of LPIPS and pixels on the picture; none on paintings."""
        made = leaf[: len(real)]
        with self.autocast():
            seen = self.perceptual(_tight(made.clamp(-1, 1)), _tight(real))
        pixel = F.l1_loss(made, real)  # not clamped: it alone calls back what is whiter than white
        coarse = F.l1_loss(F.avg_pool2d(made, 8), F.avg_pool2d(real, 8))  # colours, wherever the edges are
        force = torch.autograd.grad(seen + weight * pixel + coarse, leaf)[0]
        numbers = {"lpips": seen, "pixel": pixel, "coarse": coarse, "beyond": (made.abs() > 1.02).float().mean()}
        return force, {name: value.detach() for name, value in numbers.items()}

    def _adversarial(self, leaf: Tensor, real: Tensor, features: Tensor) -> tuple[Tensor, dict]:
        """Train the critic on this batch, then give its force on the picture."""
        count = len(real)
        draws = draw_augmentation(len(leaf), real.shape[-1], real.device)
        shown = augment(leaf.clamp(-1, 1), draws)
        with self.autocast():
            made = self.views(_tight(shown))
            with torch.no_grad():
                there = self.views(_tight(augment(real, {k: v[:count] for k, v in draws.items()})))
            told = self.critic([torch.cat([r, f]) for r, f in zip(there, made, strict=True)],
                               torch.cat([features[:count], features]))  # fmt: skip
        on_real, on_made = [x[:count] for x in told], [x[count:] for x in told]
        hinge = sum((F.relu(1 - r).mean() + F.relu(1 + f).mean()) for r, f in zip(on_real, on_made, strict=True)) / 4
        score = sum(logits.mean() for logits in on_made) / 4
        pull = torch.autograd.grad(-score, leaf, retain_graph=True)[0]  # of the critic as it was before this step
        own = list(self.critic.parameters())
        for weight, grad in zip(own, torch.autograd.grad(hinge + self.calm(on_real, on_made), own), strict=True):
            weight.grad = grad
        self.optimisers[-1].step()
        told = {"critic": hinge, "fake": score, "real": sum(r.mean() for r in on_real) / 4}
        return pull, {name: value.detach() for name, value in told.items()}

    @torch.no_grad()
    def _remember(self) -> None:
        """Move the average a little towards the weights."""
        ours, theirs = list(self.average.parameters()), [p.detach() for p in self.generator.parameters()]
        torch._foreach_mul_(ours, self.keep)
        torch._foreach_add_(ours, torch._foreach_mul(theirs, 1 - self.keep))

    @torch.no_grad()
    def render(self, codes: Tensor) -> Tensor:
        """Pictures uint8 [M, 3, S, S] of codes [M, N], by the average of the weights, in full precision."""
        return torch.cat([from_unit(self.average(self.features(part))) for part in codes.split(64)])

    def save(self, work: Path) -> None:
        """model/generator.safetensors (the average) and critic.safetensors, both in half precision."""
        checkpoints.save(self.average, work / "model" / "generator.safetensors", half=True)
        checkpoints.save(self.critic, work / "critic.safetensors", half=True)


def _tight(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


class Lessons:
    """What a step trains on, drawn on the device: photographs with their codes, and painted codes for the critic.

    Args:
        data: the photographs; codes int64 [M, 2, N] of them and of their mirror images.
        batch: B photographs and P paintings a step.
    """

    def __init__(self, data: Data, codes: Tensor, batch: tuple[int, int]):
        self.images, self.codes, self.batch, self.rows = data.images, codes, batch, data.rows["trainable"]
        self.painted = codes[draw(self.rows, 4096), 0]  # photographs' own, until there are paintings
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
        """Take up painted codes int [n, N] once their file is there."""
        if self.waits and path.is_file():
            found = torch.load(path, map_location=self.codes.device, weights_only=True).long()
            self.painted.copy_(found[torch.arange(len(self.painted), device=found.device) % len(found)])
            self.waits = False
            say(f"[painter] {len(found)} paintings join")


def train_painter(data: Data, folder: Path, work: Path, clock: Clock, codes_path_waiting: Path,
                  saved: Callable[[], None] = lambda: None, small: bool = False) -> Trainer:  # fmt: skip
    """Train until the clock says so; writes model/generator.safetensors and critic.safetensors into ``work``.

    Args:
        codes_path_waiting: what the eye's stage will write; until then cuDNN tries its algorithms out here.
        saved: called when weights and a sheet have been written: after a quarter, a half, three quarters, and all.
    """
    record, network, batch = Record(work, "painter"), unpack(folder, "vgg"), (4, 2) if small else (64, 16)
    some = to_unit(data.images[data.rows["trainable"][: batch[0]]])
    quick_layers()
    if data.images.is_cuda:
        blank = torch.zeros(len(data.images), 2, 64, dtype=torch.long, device=data.images.device)
        dull = Trainer(network, torch.randn(9, FEATURE, device=blank.device), some, Lessons(data, blank, batch))
        tried = dull._step(False) | dull._step(True)
        say("[painter] has tried out:", *(f"{float(value):.3f}" for value in tried.values()))
        del dull
    wait_for(codes_path_waiting, clock.end)
    table, codes = load_codes(work, data.images.device)
    torch.manual_seed(1)
    lessons = Lessons(data, codes, batch)
    trainer = Trainer(network, table, some, lessons, small=small)
    say(f"[painter] {sum(p.numel() for p in trainer.generator.parameters()) / 1e6:.2f} M parameters")
    clock.start, left = time.time(), [0.25, 0.5, 0.75]
    for share in clock:
        factor = min((clock.step + 1) / WARM, decay(share, 0.0))
        ratio = RATIO * min(1.0, max(0.0, (share - CRITIC_FROM) / (CRITIC_FULL - CRITIC_FROM)))
        numbers = trainer.step(factor, ratio, 30 if share < 0.3 else 100 if share < 0.8 else 200)
        if clock.step % 10 == 0:
            lessons.look_for(work / "painted.pt")
            if clock.due(8):  # waits for the device, too
                record.note(clock, **numbers, **tested(trainer, data, codes))
            elif data.images.is_cuda:
                torch.cuda.synchronize()
        if left and share >= left[0]:
            trainer.save(work)
            preview(trainer, data, codes, lessons.painted, work / "sheets" / f"progress_{100 * left.pop(0):.0f}.png")
            saved()
    trainer.save(work)
    preview(trainer, data, codes, lessons.painted, work / "sheets" / "progress_100.png")
    record.save(steps=clock.step, rate=clock.rate(), test=tested(trainer, data, codes, 800))
    saved()
    return trainer


@torch.no_grad()
def tested(trainer: Trainer, data: Data, codes: Tensor, count: int = 64) -> dict[str, float]:
    """LPIPS and pixel distance of the average's reconstructions of test photographs."""
    found = []
    for rows in data.rows["test"][:count].split(64):
        with trainer.autocast():
            fake = trainer.average(trainer.features(codes[rows, 0])).float().clamp(-1, 1)
        real = to_unit(data.images[rows])
        found.append([float(trainer.perceptual(fake, real)), float(F.l1_loss(fake, real))])
    seen, pixel = torch.tensor(found).mean(0).tolist()
    return {"test_lpips": seen, "test_pixel": pixel}


def preview(trainer: Trainer, data: Data, codes: Tensor, painted: Tensor, path: Path) -> None:
    """Test photographs over their reconstructions, twice, and paintings."""
    rows = data.rows["test"][:: max(1, len(data.rows["test"]) // 32)][:32]
    copies = trainer.render(codes[rows, 0])
    both = [data.images[rows[:16]], copies[:16], data.images[rows[16:]], copies[16:]]
    sheet([*both, trainer.render(painted[:32])], path, 16)
