"""One step of the generator on photographs and of its critic, as a GPU repeats it fastest.

The reconstruction (LPIPS and pixels) and the critic pull at the picture with forces whose ratio is set: the critic's
gradient is brought to the length of the reconstruction's, so that no weight between the two needs tuning.
A GPU replays a whole step as one CUDA graph. torch.compile took 164 s to make one step on an H100, too long for a run
of eight minutes.
Axes: B photographs, P paintings, M pictures, N cells, K codes, F feature width, g grid, S pixels, C channels.
"""

import copy
from collections import abc
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from book.train.gpu.common import autocast, from_unit
from book.train.gpu.critic import Critic, LeCam, Views, augment, draw_augmentation, mean_of
from book.train.gpu.eye import GRID
from book.train.gpu.networks import Perceptual
from xlxmert_core import checkpoints
from xlxmert_core import generator as layers
from xlxmert_core.config import GeneratorConfig
from xlxmert_core.generator import Generator, conv
from xlxmert_core.train.muon import Muon

# The widths are a guess: an H100 takes 68 ms a step. The end is linear, for photographs are mostly white, and a tanh's
# slope there is nearly nought.
SIZES = GeneratorConfig(bottleneck=256, channels=(192, 192, 128, 64, 32), spade_hidden=48, rgb_gain=0.1, squash=False)
SMALL = replace(SIZES, bottleneck=32, channels=(16, 16, 16, 16, 8), spade_hidden=8)
LIGHT = 0.6  # the generator's first colour, a light grey: about the photographs' mean
CRITIC_WIDTH, SMALL_CRITIC = 128, 16  # channels of a head; a guess
PIXELS = (1.0, 0.3)  # weight of the pixels' loss, without the critic and with it: it blurs what nobody can know
COARSE = 8  # pixels along a side of the squares whose mean colours are compared: half a cell
LOUDEST = 1e4  # most that the critic's force is multiplied by: it has almost none where it has just joined; a guess
RATES = (0.02, 2e-3, 2e-4)  # of Muon, Adam and the critic: the first is Muon's usual one, the others are guesses
COLOUR_RATE = 0.3  # of Adam's rate, for the layers that make colours: a step of theirs is seen at once; a guess
MOMENTUM = 0.9  # of Muon; less than its usual 0.95, for there are few steps; a guess
BETAS, CRITIC_BETAS = (0.5, 0.99), (0.0, 0.99)  # of Adam: short memories, as against a critic the aim moves
CLIP = 1.0  # longest gradient of the generator; a guess
REHEARSAL = 3  # steps before a graph is captured, as PyTorch advises


def new_generator(feature_dim: int, small: bool) -> Generator:
    """The module's generator with bilinear up-sampling (no checkerboard), plain weights and a linear end."""
    generator = Generator(replace(SMALL if small else SIZES, feature_dim=feature_dim), made_by=conv).train()
    generator.to_rgb[0].bias.data.fill_(LIGHT)
    return generator


def enlarged(x: Tensor, size: int) -> Tensor:
    """Bilinear resizing [B, C, s, s] -> [B, C, size, size] by two products of matrices."""
    if x.shape[-1] == size:
        return x
    rows = _rows(x.shape[-1], size, x.device, x.dtype)
    return rows @ x @ rows.T


@lru_cache
def _rows(size: int, larger: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    eye = torch.eye(size)[None]  # [1, s, s]
    return F.interpolate(eye, size=larger, mode="linear", align_corners=False)[0].T.to(device, dtype)


@contextmanager
def quick_layers() -> abc.Generator[None]:
    """Let the module's generator enlarge by products of matrices: equal, and on a GPU ten times as fast."""
    quick = {"double": lambda x: enlarged(x, 2 * x.shape[-1]), "_enlarge": enlarged}
    plain = {name: getattr(layers, name) for name in quick}
    try:
        for name, function in quick.items():
            setattr(layers, name, function)
        yield
    finally:
        for name, function in plain.items():
            setattr(layers, name, function)


class Steady(Muon):
    """Muon whose learning rate is a number on the device, as a captured graph needs it."""

    def _move(self, p: Tensor, update: Tensor, rate: Tensor | float, longer: float) -> None:
        p.addcmul_(update, torch.as_tensor(rate), value=-longer)


class Trainer:
    """Generator, the average of its weights, critic, perceptual loss and their optimisers: one step at a time.

    Everything that changes from step to step is a tensor on the device, so that a GPU replays a whole step as one
    captured graph: hundreds of small operations, none of which waits for the processor.

    Args:
        network: VGG16 with its LPIPS heads; table: centroids [K, F]; images: some photographs [-1, 1] [M, 3, S, S].
        draw: -> (real [-1, 1] [B, 3, S, S], their codes int64 [B, N], painted codes int64 [P, N]), by the device's
            own random numbers.
        rates: of Muon (the generator's convolutions; 0 for Adam), of Adam, of the critic.
        small: tiny networks.
    """

    def __init__(self, network: Perceptual, table: Tensor, images: Tensor, draw: Callable[[], tuple],
                 rates: tuple[float, float, float] = RATES, small: bool = False):  # fmt: skip
        device = table.device
        self.table, self.draw, self.device = table, draw, device.type
        self.generator = new_generator(table.shape[1], small).to(device)
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        last = {"device": device, "memory_format": torch.channels_last}
        self.perceptual = network.to(**last)
        self.views = Views(self.perceptual, images).to(memory_format=torch.channels_last)
        self.critic = Critic(table.shape[1], SMALL_CRITIC if small else CRITIC_WIDTH).to(**last)
        self.calm = LeCam(device)
        self.ratio, self.keep = torch.zeros((), device=device), torch.zeros((), device=device)
        self.rates: list[tuple[Tensor, float]] = []  # (learning rate on the device, at its largest)
        self.optimisers = self._optimisers(rates)
        self.graphs: dict[bool, tuple[torch.cuda.CUDAGraph, dict]] = {}

    def _rate(self, largest: float) -> Tensor:
        """A learning rate on the device, at 0 until a step sets it."""
        self.rates.append((torch.zeros((), device=self.table.device), largest))
        return self.rates[-1][0]

    def _optimisers(self, rates: tuple[float, float, float]) -> list[torch.optim.Optimizer]:
        inside, colour, rest = [], [], []
        for name, p in self.generator.named_parameters():
            sort = colour if name.startswith("to_rgb") else inside if p.ndim == 4 and rates[0] else rest
            sort.append(p)
        groups = [{"params": rest, "lr": self._rate(rates[1])},
                  {"params": colour, "lr": self._rate(COLOUR_RATE * rates[1])}]  # fmt: skip
        there = self.device == "cuda"
        options = {"fused": there, "capturable": there}
        adam = torch.optim.Adam(groups, betas=BETAS, **options)
        critic = torch.optim.Adam(self.critic.parameters(), self._rate(rates[2]), betas=CRITIC_BETAS, **options)
        muon = [Steady([{"params": inside, "lr": self._rate(rates[0])}], momentum=MOMENTUM)] if inside else []
        return [*muon, adam, critic]

    def features(self, codes: Tensor) -> Tensor:
        """Codes int64 [B, N] -> centroids [B, F, g, g]."""
        return F.embedding(codes, self.table).transpose(1, 2).unflatten(2, (GRID, GRID)).contiguous()

    def step(self, factor: float, ratio: float, half_life: float) -> dict[str, Tensor]:
        """One step of the generator, and of the critic where ``ratio`` is above zero: numbers, on the device.

        Args:
            factor: of all learning rates.
            ratio: how strongly the critic pulls, as a share of the reconstruction's force.
            half_life: steps after which the average has forgotten half.
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
        """The step as a graph, and where its numbers lie; the steps before it count as any."""
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(REHEARSAL):
                self._step(critical)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            numbers = self._step(critical)
        return graph, numbers

    def _step(self, critical: bool) -> dict[str, Tensor]:
        real, codes, painted = self.draw()
        features = self.features(torch.cat([codes, painted]) if critical else codes)
        with autocast(self.device):
            fake = self.generator(features)
        leaf = fake.detach().float().requires_grad_()  # both forces are gathered here
        force, numbers = self._reconstruction(leaf, real, PIXELS[critical])
        if critical:
            pull, told = self._adversarial(leaf, real, features)
            size = force[: len(real)].norm() / pull[: len(real)].norm().clamp_min(1e-12)
            force = force + self.ratio * size.clamp(max=LOUDEST) * pull
            numbers |= told
        self.generator.zero_grad(set_to_none=True)
        fake.backward(torch.nan_to_num(force).to(fake.dtype))
        torch.nn.utils.clip_grad_norm_(self.generator.parameters(), CLIP)
        for optimiser in self.optimisers[:-1]:
            optimiser.step()
        self._remember()
        return numbers

    def _reconstruction(self, leaf: Tensor, real: Tensor, weight: float) -> tuple[Tensor, dict]:
        """The force [B + P, 3, S, S] of LPIPS and pixels on the picture; none on paintings."""
        made = leaf[: len(real)]
        with autocast(self.device):
            seen = self.perceptual(_tight(made.clamp(-1, 1)), _tight(real))
        pixel = F.l1_loss(made, real)  # not clamped: it alone calls back what is whiter than white
        coarse = F.l1_loss(F.avg_pool2d(made, COARSE), F.avg_pool2d(real, COARSE))  # colours, wherever the edges are
        force = torch.autograd.grad(seen + weight * pixel + coarse, leaf)[0]
        beyond = (made.abs() > 1.02).float().mean()  # what is cut off: 0.02 and more, over two of 255 steps
        numbers = {"lpips": seen, "pixel": pixel, "coarse": coarse, "beyond": beyond}
        return force, {name: value.detach() for name, value in numbers.items()}

    def _adversarial(self, leaf: Tensor, real: Tensor, features: Tensor) -> tuple[Tensor, dict]:
        """Train the critic on this batch, then give its force on the picture."""
        count = len(real)
        draws = draw_augmentation(len(leaf), real.shape[-1], real.device)
        shown = augment(leaf.clamp(-1, 1), draws)
        with autocast(self.device):
            made = self.views(_tight(shown))
            with torch.no_grad():
                there = self.views(_tight(augment(real, {k: v[:count] for k, v in draws.items()})))
            told = self.critic([torch.cat([r, f]) for r, f in zip(there, made, strict=True)],
                               torch.cat([features[:count], features]))  # fmt: skip
        on_real, on_made = [x[:count] for x in told], [x[count:] for x in told]
        hinge = mean_of(F.relu(1 - r) for r in on_real) + mean_of(F.relu(1 + f) for f in on_made)
        score = mean_of(on_made)
        pull = torch.autograd.grad(-score, leaf, retain_graph=True)[0]  # of the critic as it was before this step
        own = list(self.critic.parameters())
        for weight, grad in zip(own, torch.autograd.grad(hinge + self.calm(on_real, on_made), own), strict=True):
            weight.grad = grad
        self.optimisers[-1].step()
        numbers = {"critic": hinge, "fake": score, "real": mean_of(on_real)}
        return pull, {name: value.detach() for name, value in numbers.items()}

    @torch.no_grad()
    def _remember(self) -> None:
        """Move the average a little towards the weights."""
        ours: list[Tensor] = list(self.average.parameters())
        theirs = [p.detach() for p in self.generator.parameters()]
        torch._foreach_mul_(ours, self.keep)
        torch._foreach_add_(ours, torch._foreach_mul(theirs, 1 - self.keep))

    @torch.no_grad()
    def render(self, codes: Tensor) -> Tensor:
        """Pictures uint8 [M, 3, S, S] of codes [M, N], by the average of the weights, in full precision."""
        return torch.cat([from_unit(self.average(self.features(part))) for part in codes.split(64)])

    def save(self, work: Path) -> None:
        """model/generator.safetensors (the average) and critic.safetensors, both in half precision."""
        checkpoints.save(self.average, work / "model" / "generator.safetensors", bits=16)
        checkpoints.save(self.critic, work / "critic.safetensors", bits=16)


def _tight(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)
