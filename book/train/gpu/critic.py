"""The critic of photographs: which pictures are real, and do their cells fit their codes?

It looks at a picture as a Projected GAN's does (Sauer et al. 2021): small discriminators judge the maps of a fixed
ImageNet network, here VGG16's, whose convolutions a GPU is fastest at. It also asks whether a cell fits its code
(projection, Miyato and Koyama 2018). Axes: B pictures, F feature width, g grid, S pixels, C channels.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from book.train.gpu.networks import Perceptual

WIDTHS = (48, 96, 192, 256)  # of the critic's views of VGG's four maps


class Views(nn.Module):
    """Fixed views of a picture for the critic: VGG16's four maps, mixed by fixed random 1x1 convolutions.

    Args:
        images: photographs [-1, 1] [M, 3, S, S]; every map is divided by its deviation on them.
    """

    scale: Tensor

    def __init__(self, network: Perceptual, images: Tensor, widths: tuple[int, ...] = WIDTHS):
        super().__init__()
        self.network = [network]  # in a list: shared with the perceptual loss
        self.mix = nn.ModuleList(nn.Conv2d(a, b, 1, bias=False) for a, b in zip(network.WIDTHS, widths, strict=True))
        for layer in self.mix:
            nn.init.orthogonal_(layer.weight)
        self.requires_grad_(False).to(images.device)
        self.register_buffer("scale", torch.ones(len(widths), device=images.device))
        self.scale = torch.stack([1 / x[:, :width].std() for x, width in zip(self(images), widths, strict=True)])

    def forward(self, images: Tensor) -> list[Tensor]:
        """Pictures [-1, 1] [B, 3, S, S] -> maps at strides 1, 2, 4, 8, deviating by 1; the first has RGB too."""
        found = self.network[0].raw_maps(images)
        maps = [layer(x) * self.scale[i] for i, (layer, x) in enumerate(zip(self.mix, found, strict=True))]
        maps[0] = torch.cat([maps[0], images.to(maps[0])], 1)
        return maps


class Head(nn.Module):
    """One small discriminator: a map [B, C, s, s] -> logits [B, g, g], with a term for the code of each cell."""

    def __init__(self, inputs: int, downs: int, feature_dim: int, width: int):
        super().__init__()
        widths = [inputs, max(32, width >> (downs - 1)), *[width] * (downs - 1)]  # narrow where the map is large
        convs = [nn.Conv2d(a, b, 4, 2, 1) for a, b in pairwise(widths)]
        convs.append(nn.Conv2d(widths[-1], width, 3, padding=1))
        self.body = nn.Sequential(*(part for conv in convs for part in (spectral_norm(conv), nn.LeakyReLU(0.2))))
        self.real = spectral_norm(nn.Conv2d(width, 1, 3, padding=1))
        self.fits = spectral_norm(nn.Conv2d(feature_dim, width, 1))

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """features [B, F, g, g] are the codes' centroids."""
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
        """Logits [B, g, g] of each head."""
        return [head(x, features) for head, x in zip(self.heads, maps, strict=True)]


def augment(images: Tensor, draws: dict[str, Tensor]) -> Tensor:
    """Differentiable augmentation (Zhao et al. 2020), mild: brightness, saturation, contrast, a shift, a hole."""
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


def draw_augmentation(count: int, size: int, device, strength: float = 1.0) -> dict[str, Tensor]:
    """What :func:`augment` needs for ``count`` pictures; whole pixels of shift, a hole in a third of the pictures."""

    def uniform(*shape):
        return 2 * torch.rand(*shape, device=device) - 1

    shift = (uniform(count, 2) * 5 * strength).round() * 2 / size
    centre, side = torch.rand(count, 2, 1, device=device) * size, size / 6
    place = torch.arange(size, device=device)
    inside = ((place - centre).abs() < side).float()  # [count, 2, size]
    there = (torch.rand(count, 1, 1, device=device) < 0.3 * strength).float()
    hole = 1 - there * inside[:, 0, :, None] * inside[:, 1, None, :]
    return {
        "light": 0.15 * strength * uniform(count, 1, 1, 1),
        "saturation": 1 + 0.3 * strength * uniform(count, 1, 1, 1),
        "contrast": 1 + 0.15 * strength * uniform(count, 1, 1, 1),
        "shift": shift, "hole": hole[:, None],
    }  # fmt: skip


class LeCam:
    """Keeps a critic that has seen few pictures from being too sure (Tseng et al. 2021).

    Its logits on photographs may not leave the running mean of those on pictures that were made, and the reverse.
    """

    def __init__(self, device, weight: float = 0.1, keep: float = 0.95):
        self.weight, self.keep = weight, keep
        self.real, self.fake = torch.zeros((), device=device), torch.zeros((), device=device)

    def __call__(self, real: list[Tensor], fake: list[Tensor]) -> Tensor:
        """What is added to the critic's loss."""
        with torch.no_grad():
            self.real.lerp_(sum(r.mean() for r in real) / len(real), 1 - self.keep)
            self.fake.lerp_(sum(f.mean() for f in fake) / len(fake), 1 - self.keep)
        pulls = [F.relu(r - self.fake).square().mean() + F.relu(self.real - f).square().mean()
                 for r, f in zip(real, fake, strict=True)]  # fmt: skip
        return self.weight * sum(pulls) / len(pulls)
