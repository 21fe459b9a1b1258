"""Pixels to features and codes to pixels: the eye and the image generator against eager layers."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from book.bench.measure import ALLOCATOR, Family, Race, Times, child, interleaved, operations
from xlxmert_core.config import GeneratorConfig, paper_generator
from xlxmert_core.features import GridEncoder, extract, to_float
from xlxmert_core.generator import Generator, fold_spectral_norm

TEXT = """The eye is EfficientNet-Lite0 on 256-pixel pictures; eager means one batch through torch's layers in their
usual order of axes. Ours folds the batch norms into the convolutions, keeps channels last, and reads few pictures at
a time, which stay in the processor's caches. The generator's baseline is the paper's network written down plainly,
spectral norms and all. Both are measured twice: as the C library comes, and told to keep its large buffers. What the
generator gains is the arithmetic that it saves, about a quarter; its convolutions run as fast as the machine
multiplies."""


def eye(count: int, size: int) -> dict:
    """Seconds of both ways to extract features, and the largest difference; in a child."""
    torch.manual_seed(0)
    encoder = GridEncoder(64, {"kind": 3}).eval()
    images = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)

    @torch.inference_mode()
    def eager():
        maps = encoder.backbone(to_float(images).contiguous())
        return F.layer_norm(encoder.neck(maps.flatten(2).transpose(1, 2)), (64,))

    cases = {"eager": eager, "ours": lambda: extract(encoder, images)}
    apart = np.abs(eager().numpy() - extract(encoder, images)).max()
    times = interleaved(cases, 5)
    return {"times": {k: list(t) for k, t in times.items()}, "said": f"largest difference {apart:.1e} of deviation 1"}


def plain_spade(spade: Any, x: Tensor, y: Tensor) -> Tensor:
    """SPADE with the style map made large first."""
    hidden = F.relu(spade.shared(F.interpolate(y, size=x.shape[2:], mode="bilinear", align_corners=False)))
    return F.instance_norm(x) * (1 + spade.gamma(hidden)) + spade.beta(hidden)


def plain_generator(model: Generator, features: Tensor) -> Tensor:
    """The paper's generator, step by step: pictures [B, 3, S, S]."""
    up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    seed = torch.tanh(model.bottleneck(features))
    h, y, image = model.start(seed), model.style(seed), torch.zeros(())
    for block, to_rgb in zip(model.blocks, model.to_rgb, strict=True):
        inner = block.conv1(up(F.leaky_relu(plain_spade(block.norm1, h, y), 0.2)))
        h = block.conv2(F.leaky_relu(plain_spade(block.norm2, inner, y), 0.2)) + block.skip(up(h))
        image = image + F.interpolate(to_rgb(h), size=(model.config.image_size,) * 2, mode="bilinear")
    return torch.tanh(image)


@torch.inference_mode()
def generator(small: bool) -> dict:
    """Seconds of one picture both ways, and how far the pixels are apart; in a child."""
    torch.manual_seed(0)
    sizes = (
        GeneratorConfig(feature_dim=8, bottleneck=8, channels=(8, 8), spade_hidden=8) if small else paper_generator()
    )
    model, features = Generator(sizes).eval(), torch.randn(1, sizes.feature_dim, sizes.grid, sizes.grid)
    folded = fold_spectral_norm(model)
    cases = {"eager": lambda: plain_generator(model, features), "ours": lambda: folded(features)}
    apart = (cases["eager"]() - cases["ours"]()).abs().max().item() * 127.5
    times = interleaved(cases, 9)
    work = [operations(case) / 1e9 for case in (lambda: plain_generator(folded, features), cases["ours"])]
    said = f"pixels at most {apart:.1e}/255 apart; eager does {work[0]:.1f} GFLOP, ours {work[1]:.1f}"
    return {"times": {k: list(t) for k, t in times.items()}, "said": said}


def race(work: str, found: dict, goal: float) -> Race:
    """What a child found, as a race."""
    return Race(work, {name: Times(*times) for name, times in found["times"].items()}, {"ours": goal}, found["said"])


def run(quick: bool) -> Family:
    """Eye and generator, with and without the allocator's settings."""
    count, size, found = 2 if quick else 32, 64 if quick else 256, []
    for name, environment in {"given back": {}, "kept": ALLOCATOR}.items():
        seen = child("book.bench.pixels:eye", count, size, environment=environment)
        found.append(race(f"features of {count} pictures, buffers {name}", seen, 2.4))
        drawn = child("book.bench.pixels:generator", quick, environment=environment)
        found.append(race(f"a generated picture, buffers {name}", drawn, 1.5))
    return Family("The eye and the image generator", TEXT, found)
