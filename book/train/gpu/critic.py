"""The critic of photographs: which pictures are real, and do their cells fit their codes?

It looks at a picture as a Projected GAN's does (Sauer et al. 2021): small discriminators judge the maps of a fixed
ImageNet network, here VGG16's, whose convolutions a GPU is fastest at. It also asks whether a cell fits its code
(projection, Miyato and Koyama 2018). Axes: B pictures, F feature width, g grid, S pixels, C channels, M photographs.
"""

from collections.abc import Iterable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from book.train.gpu.networks import Perceptual

WIDTHS = (48, 96, 192, 256)  # of the critic's views of VGG's four maps: fewer than there, for speed; a guess
NARROWEST = 32  # channels of a head's first layer, on large maps
# How far a picture shown to the critic may be changed: mild, so that it needs no correction later; guesses.
LIGHT, SATURATION, CONTRAST = 0.15, 0.3, 0.15
SHIFT = 5  # pixels
HOLES, HOLE = 0.3, 1 / 6  # the share of pictures with a hole, and half its side as a share of the picture's
CALM, KEPT = 0.1, 0.95  # LeCam: the weight of its term; what a step keeps of the running means; guesses


class Views(nn.Module):
    """Fixed views of a picture for the critic: VGG16's four maps, mixed by fixed random 1x1 convolutions.

    Args:
        network: VGG16, frozen; it stays the perceptual loss's own.
        images: photographs [-1, 1] [M, 3, S, S]; every map is divided by its deviation on them.
    """

    scale: Tensor

    def __init__(self, network: Perceptual, images: Tensor, widths: tuple[int, ...] = WIDTHS):
        super().__init__()
        self.network = [network]  # in a list: not ours to save
        mix = [nn.Conv2d(a, b, 1, bias=False) for a, b in zip(network.WIDTHS, widths, strict=True)]
        for layer in mix:
            nn.init.orthogonal_(layer.weight)
        self.mix = nn.ModuleList(mix)
        self.requires_grad_(False).to(images.device)
        self.register_buffer("scale", torch.ones(len(widths), device=images.device))
        self.scale = torch.stack([1 / x[:, :width].std() for x, width in zip(self(images), widths, strict=True)])

    def forward(self, images: Tensor) -> list[Tensor]:
        """Pictures [-1, 1] [B, 3, S, S] -> maps [B, C, s, s] at strides 1, 2, 4, 8, whose standard deviation is 1.

        The first one has the picture's own red, green and blue as well.
        """
        found = self.network[0].raw_maps(images)
        maps = [layer(x) * self.scale[i] for i, (layer, x) in enumerate(zip(self.mix, found, strict=True))]
        maps[0] = torch.cat([maps[0], images.to(maps[0])], 1)
        return maps


class Head(nn.Module):
    """One small discriminator: a map [B, C, s, s] -> logits [B, g, g], with a term for the code of each cell."""

    def __init__(self, inputs: int, downs: int, feature_dim: int, width: int):
        super().__init__()
        widths = [inputs, max(NARROWEST, width >> (downs - 1)), *[width] * (downs - 1)]  # narrow where the map is large
        convs = [nn.Conv2d(a, b, 4, 2, 1) for a, b in pairwise(widths)]
        convs.append(nn.Conv2d(widths[-1], width, 3, padding=1))
        self.body = nn.Sequential(*(part for conv in convs for part in (spectral_norm(conv), nn.LeakyReLU(0.2))))
        self.real = spectral_norm(nn.Conv2d(width, 1, 3, padding=1))
        self.fits = spectral_norm(nn.Conv2d(feature_dim, width, 1))

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Map x [B, C, s, s], the codes' centroids [B, F, g, g] -> logits [B, g, g] in float32."""
        h = self.body(x)  # [B, width, g, g]
        fit = (h * self.fits(features)).sum(1) / h.shape[1] ** 0.5
        return (self.real(h)[:, 0] + fit).float()


class Critic(nn.Module):
    """A head for each of the four views."""

    def __init__(self, feature_dim: int, width: int = 128):
        super().__init__()
        inputs = (WIDTHS[0] + 3, *WIDTHS[1:])
        self.heads = nn.ModuleList(Head(i, d, feature_dim, width) for i, d in zip(inputs, (4, 3, 2, 1), strict=True))

    def forward(self, maps: list[Tensor], features: Tensor) -> list[Tensor]:
        """The views' maps, the codes' centroids [B, F, g, g] -> logits [B, g, g] of each head."""
        return [head(x, features) for head, x in zip(self.heads, maps, strict=True)]


def augment(images: Tensor, draws: dict[str, Tensor]) -> Tensor:
    """Differentiable augmentation (Zhao et al. 2020): brightness, saturation, contrast, a shift, a hole.

    Pictures [B, 3, S, S] -> the same shape; ``draws`` are those of :func:`draw_augmentation`.
    """
    x = images + draws["light"]
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * draws["saturation"]
    mean = x.mean((1, 2, 3), keepdim=True)
    x = mean + (x - mean) * draws["contrast"]
    theta = torch.eye(2, 3, device=x.device).repeat(len(x), 1, 1)
    theta[:, :, 2] = draws["shift"]
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return x * draws["hole"]


def draw_augmentation(count: int, size: int, device: torch.device, strength: float = 1.0) -> dict[str, Tensor]:
    """What :func:`augment` needs for ``count`` pictures of ``size`` pixels; strength 0 changes nothing."""

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(*shape, device=device) - 1

    shift = (uniform(count, 2) * SHIFT * strength).round() * 2 / size  # whole pixels: nothing is blurred
    centre, half = torch.rand(count, 2, 1, device=device) * size, HOLE * size
    place = torch.arange(size, device=device)
    inside = ((place - centre).abs() < half).float()  # [count, 2, size]
    there = (torch.rand(count, 1, 1, device=device) < HOLES * strength).float()
    hole = 1 - there * inside[:, 0, :, None] * inside[:, 1, None, :]
    return {
        "light": LIGHT * strength * uniform(count, 1, 1, 1),
        "saturation": 1 + SATURATION * strength * uniform(count, 1, 1, 1),
        "contrast": 1 + CONTRAST * strength * uniform(count, 1, 1, 1),
        "shift": shift, "hole": hole[:, None],
    }  # fmt: skip


def mean_of(logits: Iterable[Tensor]) -> Tensor:
    """The mean of the heads' means, one number."""
    return torch.stack([values.mean() for values in logits]).mean()


class LeCam:
    """Keeps a critic that has seen few pictures from being too sure (Tseng et al. 2021).

    Logits on photographs that lie above the running mean of those on made pictures are pulled towards it, and the
    other way round, by the square of the distance.
    """

    def __init__(self, device: torch.device, weight: float = CALM, keep: float = KEPT):
        self.weight, self.keep = weight, keep
        self.real, self.fake = torch.zeros((), device=device), torch.zeros((), device=device)

    def __call__(self, real: list[Tensor], fake: list[Tensor]) -> Tensor:
        """Each head's logits on photographs and on made pictures -> what is added to the critic's loss."""
        with torch.no_grad():
            self.real.lerp_(mean_of(real), 1 - self.keep)
            self.fake.lerp_(mean_of(fake), 1 - self.keep)
        above, below = [F.relu(r - self.fake).square() for r in real], [F.relu(self.real - f).square() for f in fake]
        return self.weight * (mean_of(above) + mean_of(below))
