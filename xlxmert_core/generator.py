"""Codes become pixels: the image generator, the discriminator that trains it, and their losses.

Paper, section 3.3. The generator reads the codes' centroids on the 8x8 grid twice: once as the map
that grows into a picture, once as the *style* map that modulates every layer (SPADE), so that a
cell keeps saying what belongs there at all sizes.
Axes: B batch, C/O channels in and out, F feature width, K codes, N cells, g grid, S image.
"""

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize, skip_init
from torch.nn.utils.parametrizations import spectral_norm

from xlxmert_core.config import GeneratorConfig

Folded = TypeVar("Folded", bound=nn.Module)
Maker = Callable[..., nn.Module]  # of a convolution: inputs, outputs, kernel, groups


def conv(inputs: int, outputs: int, kernel: int, groups: int = 1) -> nn.Conv2d:
    """A size-keeping convolution that starts orthogonal, with bias zero."""
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups)
    nn.init.orthogonal_(layer.weight)
    layer.bias.data.zero_()
    return layer


def sn_conv(inputs: int, outputs: int, kernel: int, groups: int = 1) -> nn.Module:
    """The same with spectral normalisation: the weight divided by its largest singular value."""
    return spectral_norm(conv(inputs, outputs, kernel, groups))


def fold_spectral_norm(module: Folded) -> Folded:
    """A copy, in eval mode, whose spectral norms are folded into plain weights; outputs are equal.

    The module itself is left as it is, ready to train on. A module without spectral norms is fine.
    """
    folded = copy.deepcopy(module).eval()
    for name, part in list(folded.named_modules()):
        if parametrize.is_parametrized(part, "weight"):
            folded.set_submodule(name, _plain(part))
    return folded


def _plain(part: nn.Conv2d) -> nn.Conv2d:
    # Not remove_parametrizations: a copy shares its class, and with it `weight`, with the original.
    sizes = part.in_channels, part.out_channels, part.kernel_size
    layer = skip_init(nn.Conv2d, *sizes, padding=part.padding, groups=part.groups, device=part.bias.device)
    layer.load_state_dict({"weight": part.weight, "bias": part.bias})
    return layer.eval()


def double(x: Tensor) -> Tensor:
    """Bilinear up-sampling by two: [B, C, s, s] -> [B, C, 2s, 2s]."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


TAPS: dict[tuple, Tensor] = {}  # what resize_taps has made


def resize_taps(grid: int, size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Bilinear resizing of a row of cells, as a 3-tap kernel sees it: [size, 3 * grid].

    Column (t, i) holds what cell i gives to the pixel at offset t - 1; outside the picture is zero. Kept, unless an
    exporter traces: its tensors have no values, and the next painting would get them.
    """
    if (key := (grid, size, device, dtype)) in TAPS:
        return TAPS[key]
    with torch.inference_mode(False), torch.no_grad():
        eye = torch.eye(grid, dtype=torch.float64)[None]  # [1, grid, grid]
        rows = F.interpolate(eye, size=size, mode="linear", align_corners=False)[0]
        padded = F.pad(rows.T, (0, 0, 1, 1))  # [size + 2, grid]
        taps = torch.cat([padded[t : t + size] for t in range(3)], 1)  # [size, 3 * grid]
        taps = taps.to(device, dtype)
    if not torch.compiler.is_compiling():
        TAPS[key] = taps
    return taps


def resized_conv3(y: Tensor, weight: Tensor, bias: Tensor, size: int) -> Tensor:
    """``conv3x3(bilinear_resize(y, size))`` without the resized map: [B, C, g, g] -> [B, O, S, S].

    Resizing and convolving are both linear, so the channels are mixed on the small grid (once per
    tap) and only the result is stretched, by one matrix from the left and one from the right.
    Exact, borders included, with 3 * g multiplications a pixel instead of 9 * C.
    """
    mixed = torch.einsum("bcij,ocst->bositj", y, weight)  # [B, O, 3, g, 3, g]
    mixed = mixed.flatten(4).flatten(2, 3)  # [B, O, 3 * g, 3 * g]
    taps = resize_taps(y.shape[-1], size, y.device, y.dtype)  # [size, 3 * g]
    return (taps @ mixed @ taps.T).add_(bias[:, None, None])


class Spade(nn.Module):
    """Instance norm, then scale and shift read from a style map (Park et al. 2019)."""

    shared: Any  # convolutions, of whose biases torch's hints are not sure
    gamma: Any
    beta: Any

    def __init__(self, channels: int, style: int, hidden: int):
        super().__init__()
        self.shared = conv(style, hidden, 3)
        self.gamma = conv(hidden, channels, 3)
        self.beta = conv(hidden, channels, 3)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x [B, C, s, s], style y [B, Y, g, g] -> [B, C, s, s]."""
        hidden = resized_conv3(y, self.shared.weight, self.shared.bias, x.shape[-1]).relu_()
        weight = torch.cat([self.gamma.weight, self.beta.weight])  # one convolution for both
        bias = torch.cat([self.gamma.bias, self.beta.bias])
        gamma, beta = F.conv2d(hidden, weight, bias, padding=1).chunk(2, 1)  # [B, C, s, s] each
        return torch.addcmul(beta, F.instance_norm(x), 1 + gamma)


class UpBlock(nn.Module):
    """One doubling: SPADE, noise, LeakyReLU, up, conv; SPADE, noise, LeakyReLU, conv; a skip.

    With ``sub_pixel`` a convolution makes the four pixels that replace one, each with weights of its own: the
    same multiplications, but a pixel knows at once which part of its cell it is.
    """

    def __init__(
        self, inputs: int, outputs: int, style: int, hidden: int, sub_pixel: bool = False, made_by: Maker = sn_conv
    ):
        super().__init__()
        self.sub_pixel, made = sub_pixel, 4 * outputs if sub_pixel else outputs
        self.norm1, self.norm2 = Spade(inputs, style, hidden), Spade(outputs, style, hidden)
        self.conv1, self.conv2 = made_by(inputs, made, 3), made_by(outputs, outputs, 3)
        self.skip = made_by(inputs, made, 1)
        self.noise1, self.noise2 = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, y: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """x [B, C, s, s], style y [B, Y, g, g] -> [B, C', 2s, 2s]."""
        h = add_noise(self.norm1(x, y), self.noise1, noise)
        h = F.leaky_relu(h, 0.2)
        h = F.pixel_shuffle(self.conv1(h), 2) if self.sub_pixel else self.conv1(double(h))
        h = add_noise(self.norm2(h, y), self.noise2, noise)
        h = self.conv2(F.leaky_relu(h, 0.2))
        x = self.skip(x)  # 1x1 conv and up-sampling commute; this way is 4x cheaper
        return h + (F.pixel_shuffle(x, 2) if self.sub_pixel else double(x))


def add_noise(x: Tensor, scale: Tensor, noise: torch.Generator | None) -> Tensor:
    """Add one channel of Gaussian noise times a learned scale; nothing when ``noise`` is None."""
    if noise is None:
        return x
    drawn = torch.randn(x[:, :1].shape, generator=noise, device=noise.device)  # [B, 1, s, s]
    return x + scale * drawn.to(x)


class Generator(nn.Module):
    """Centroid features on the grid -> a picture (paper, section 3.3; 1.77 M parameters there).

    Deterministic unless a ``torch.Generator`` is passed as ``noise`` (the original always drew it). ``made_by=conv``
    makes it without spectral norms, for weights into which they are folded.
    """

    def __init__(self, config: GeneratorConfig, made_by: Maker = sn_conv):
        super().__init__()
        self.config = config
        first, widths = config.channels[0], config.channels
        self.bottleneck = conv(config.feature_dim, config.bottleneck, 1)
        self.start = made_by(config.bottleneck, first, 3, config.groups)
        self.style = made_by(config.bottleneck, first, 3, config.groups)
        pairs, sizes = list(pairwise(widths)), (first, config.spade_hidden, config.sub_pixel, made_by)
        self.blocks = nn.ModuleList(UpBlock(a, b, *sizes) for a, b in pairs)
        self.to_rgb = nn.ModuleList(conv(b, 3, 3) for _, b in pairs)
        for to_rgb in self.to_rgb:
            to_rgb.weight.data.mul_(config.rgb_gain)

    def forward(self, features: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """features [B, F, g, g] -> pictures in [-1, 1], [B, 3, S, S]; a little beyond without ``squash``.

        Raises ValueError when the features do not have the shape of the configuration.
        """
        grid, size = self.config.grid, self.config.image_size
        if features.shape[1:] != (self.config.feature_dim, grid, grid):
            raise ValueError(
                f"The generator reads features [B, {self.config.feature_dim}, {grid}, {grid}], "
                f"got {list(features.shape)}: move the feature axis before the two grid axes."
            )
        seed = torch.tanh(self.bottleneck(features))  # [B, bottleneck, g, g]
        h, y = self.start(seed), self.style(seed)
        image: Any = 0  # there is a block
        for block, to_rgb in zip(self.blocks, self.to_rgb, strict=True):
            h = block(h, y, noise)
            image = image + _enlarge(to_rgb(h), size)
        return torch.tanh(image) if self.config.squash else image


def _enlarge(rgb: Tensor, size: int) -> Tensor:
    if rgb.shape[-1] == size:
        return rgb
    return F.interpolate(rgb, size=(size, size), mode="bilinear", align_corners=False)


def halved_conv3(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``avg_pool2d(conv3x3(x), 2)`` as one strided convolution: [B, C, s, s] -> [B, O, s/2, s/2].

    The mean of four shifted kernels is a kernel; exact, with less than half the multiplications.
    """
    spread = F.pad(weight, (1, 1, 1, 1))  # [O, C, 5, 5]
    kernel = F.avg_pool2d(spread, 2, stride=1)  # [O, C, 4, 4]
    return F.conv2d(x, kernel, bias, stride=2, padding=1)


class DownBlock(nn.Module):
    """One halving (or none): conv, instance norm, LeakyReLU, conv, average pool; plus a skip."""

    conv2: Any  # a convolution whose weight is parametrised

    def __init__(self, inputs: int, outputs: int, halve: bool, activate_first: bool):
        super().__init__()
        self.conv1, self.conv2 = sn_conv(inputs, outputs, 3), sn_conv(outputs, outputs, 3)
        self.skip = sn_conv(inputs, outputs, 1)
        self.halve, self.activate_first = halve, activate_first

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, s, s] -> [B, C', s/2, s/2], or the same size when not halving."""
        if self.activate_first:
            x = F.leaky_relu(x, 0.2)
        h = F.leaky_relu(F.instance_norm(self.conv1(x)), 0.2)
        if not self.halve:
            return self.conv2(h) + self.skip(x)
        return halved_conv3(h, self.conv2.weight, self.conv2.bias) + self.skip(F.avg_pool2d(x, 2))


class Discriminator(nn.Module):
    """Is each patch real, and which code is at each cell? Paper, section 3.3.

    Args:
        feature_dim: F, the width of a code's centroid.
        channels: one width for all blocks, or a sequence with one width a block (log2(S / g) + 1).
        image_size: S in pixels; grid: g, cells along one side.
    """

    def __init__(
        self,
        feature_dim: int,
        channels: int | Sequence[int] = 64,
        image_size: int = 256,
        grid: int = 8,
    ):
        super().__init__()
        downs = (image_size // grid).bit_length() - 1
        if image_size != grid * 2**downs:
            raise ValueError(
                f"Discriminator: image_size {image_size} is not grid {grid} times a power of two; choose one that is."
            )
        widths = [channels] * (downs + 1) if isinstance(channels, int) else list(channels)
        if len(widths) != downs + 1:
            raise ValueError(f"Discriminator: {len(widths)} channel widths for {downs + 1} blocks; give one a block.")
        pairs = pairwise([3, *widths])
        self.blocks = nn.ModuleList(
            DownBlock(a, b, halve=i < downs, activate_first=i > 0) for i, (a, b) in enumerate(pairs)
        )
        self.patch = sn_conv(widths[-1], 1, 3)
        self.code = conv(widths[-1], feature_dim, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Judge pictures [B, 3, S, S] in [-1, 1].

        Returns patch logits [B, 1, g, g], the list of one map a block, code features [B, F, g, g].
        """
        maps, h = [], images
        for block in self.blocks:
            h = block(h)
            maps.append(h)
        h = F.relu(h)
        return self.patch(h), maps, self.code(h)
