"""The networks with ImageNet's weights that the run starts from, and how each travels in a small file of its own.

Nobody judges with what was trained against: EfficientNet-Lite0 is the eye's start, VGG16 the perceptual loss and what
the critic looks through, EfficientNet-Lite2 the reader's start. Axes: B batch, C channels, S pixels.
"""

from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from xlxmert_core import checkpoints
from xlxmert_core.features import Backbone

# (kernel, stride, expansion, width, repeats) of EfficientNet-Lite2; features.STAGES holds Lite0's.
LITE2 = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 3), (5, 2, 6, 48, 3), (3, 2, 6, 88, 4), (5, 1, 6, 120, 4), (5, 2, 6, 208, 5),
         (3, 1, 6, 352, 1))  # fmt: skip
HALF = ("lite0",)  # kept as float16, for its narrow convolutions lose most in int8; the others as int8


class Lite2(Backbone):
    """EfficientNet-Lite2 without its classifier: pictures [-1, 1] [B, 3, S, S] -> maps at strides 16 and 32."""

    width, plan = LITE2[4][3] + LITE2[6][3], LITE2  # the width is that of both maps together
    blocks = 1 + sum(stage[4] for stage in LITE2[:5])  # layers up to stride 16, the stem among them

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:  # ty: ignore[incompatible-method-override]
        """Two maps, [B, 120, S/16, S/16] and [B, 352, S/32, S/32]."""
        fine = nn.Sequential(*self.layers[: self.blocks])(images)
        return fine, nn.Sequential(*self.layers[self.blocks :])(fine)


class Perceptual(nn.Module):
    """LPIPS on VGG16 whose pools do not alias (ST-LPIPS, Ghildyal and Liu 2022), the first four of its five slices.

    ``forward(ours, theirs)``: pictures [-1, 1] [B, 3, S, S] -> the learned distance, one number.
    """

    SLICES = ((0, 2), (6, 8), (12, 14, 16), (20, 22, 24))  # the numbers of the convolutions in the package's file
    WIDTHS = (64, 128, 256, 512)
    shift: Tensor
    scale: Tensor

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleDict()
        width = 3
        for index, (numbers, outputs) in enumerate(zip(self.SLICES, self.WIDTHS, strict=True), 1):
            for number in numbers:
                self.convs[f"{index}-{number}"] = nn.Conv2d(width, outputs, 3, padding=1)
                width = outputs
        self.weights = nn.ParameterList(nn.Parameter(torch.zeros(1, w, 1, 1)) for w in self.WIDTHS)
        self.register_buffer("shift", torch.zeros(1, 3, 1, 1))
        self.register_buffer("scale", torch.ones(1, 3, 1, 1))

    def load_package(self, file: Path) -> "Perceptual":
        """Fill in ``vgg_shift_tolerant.pth`` of stlpips-pytorch."""
        given = torch.load(file, map_location="cpu", weights_only=True)
        state = {"shift": given["scaling_layer.shift"], "scale": given["scaling_layer.scale"]}
        for name in self.convs:
            index, number = name.split("-")
            for part in ("weight", "bias"):
                state[f"convs.{name}.{part}"] = given[f"net.slice{index}.{number}.{part}"]
        for index in range(len(self.WIDTHS)):
            state[f"weights.{index}"] = given[f"lin{index}.model.1.weight"]
        self.load_state_dict(state)
        return self

    def raw_maps(self, images: Tensor) -> list[Tensor]:
        """The maps at strides 1, 2, 4 and 8 as VGG16 has them: [B, C, s, s] for each C of WIDTHS."""
        x, found, last = (images - self.shift) / self.scale, [], "1"
        for name, conv in self.convs.items():
            if name[0] != last:
                found.append(x)
                x, last = self._pool(x), name[0]
            x = F.relu(conv(x))
        return [*found, x]

    def _pool(self, x: Tensor) -> Tensor:
        """MaxPool(2, stride 1), then a blur of [1, 2, 1] and every second pixel: [B, C, s, s] -> [B, C, s/2, s/2].

        By two matrix products over channels that lie last, ten times as fast on a GPU as its pools.
        """
        rows = _blur(x.shape[-1], x.device, x.dtype)
        x = F.max_pool2d(x, 2, 1).permute(0, 2, 3, 1)  # [B, s - 1, s - 1, C]
        x = rows @ x  # [B, s - 1, s / 2, C]
        x = (rows @ x.flatten(2)).unflatten(2, x.shape[2:])  # [B, s / 2, s / 2, C]
        return x.permute(0, 3, 1, 2)

    def forward(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """No gradient goes into ``theirs``."""
        with torch.no_grad():
            target = [_of_length_one(x) for x in self.raw_maps(theirs)]
        pairs = zip(self.raw_maps(ours), target, self.weights, strict=True)
        terms = [((_of_length_one(a) - b).square().mean((0, 2, 3)).float() * w.flatten()).sum() for a, b, w in pairs]
        return torch.stack(terms).sum()


@lru_cache
def _blur(size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """[size / 2, size - 1]: each row a quarter, a half, a quarter of three neighbours; those outside are the edge's."""
    rows = torch.zeros(size // 2, size - 1)
    for i in range(size // 2):
        for place, share in ((2 * i - 1, 0.25), (2 * i, 0.5), (2 * i + 1, 0.25)):
            rows[i, min(max(place, 0), size - 2)] += share
    return rows.to(device, dtype)


def _of_length_one(x: Tensor) -> Tensor:
    """Each cell's vector divided by its length, in the type that it has: [B, C, s, s]."""
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32).clamp_min(1e-8)
    return x * (1 / length).to(x.dtype)


NETWORKS = {"lite0": Backbone, "vgg": Perceptual, "lite2": Lite2}


def counts(key: str) -> bool:
    """Whether a tensor of a state is a weight, and no count of batches."""
    return "num_batches" not in key


def file_of(folder: Path, name: str) -> Path:
    """Where a network of NETWORKS lies in a packed folder."""
    return folder / f"networks_{name}.safetensors"


def pack(folder: Path, name: str, network: nn.Module) -> None:
    """Write one network: convolutions as float16, or as int8 with a scale for each output channel."""
    state = {}
    for key, value in network.state_dict().items():
        if value.ndim == 4 and value.shape[0] > 1 and name not in HALF:
            scale = value.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12) / 127
            state[f"{key}.scale"] = scale.contiguous()
            state[key] = (value / scale).round().to(torch.int8).contiguous()
        elif counts(key):
            state[key] = (value.half() if value.ndim == 4 else value).contiguous()
    save_file(state, file_of(folder, name))


def has(folder: Path, name: str) -> bool:
    """Whether a packed folder holds this network."""
    return file_of(folder, name).is_file()


def unpack(folder: Path, name: str) -> nn.Module:
    """One network of a packed folder, frozen and in eval mode; raises ValueError where the file is another's."""
    network, given = NETWORKS[name](), load_file(file := file_of(folder, name))
    scales = {key: given.pop(key) for key in list(given) if key.endswith(".scale")}
    state = {k: v.float() * scales[f"{k}.scale"] if v.dtype == torch.int8 else v.float() for k, v in given.items()}
    counted = {key: value for key, value in network.state_dict().items() if not counts(key)}
    checkpoints.load_state(network, counted | state, source=str(file))
    return network.eval().requires_grad_(False)


class Aside(nn.Module):
    """AlexNet's convolutions with ImageNet's weights, set aside: nothing is trained or chosen by them.

    Those of ST-LPIPS, whose pools do not alias. ``forward(pictures [-1, 1] [B, 3, S, S])`` -> the means of the last
    map, [B, 256].
    """

    NUMBERS = ("1.0", "2.5", "3.9", "4.11", "5.13")  # slice and place of the convolutions in the package's file
    shift: Tensor
    scale: Tensor

    def __init__(self):
        super().__init__()
        sizes = ((3, 64, 11), (64, 192, 5), (192, 384, 3), (384, 256, 3), (256, 256, 3))
        self.convs = nn.ModuleList(nn.Conv2d(a, b, kernel, padding=min(2, kernel // 2)) for a, b, kernel in sizes)
        self.register_buffer("shift", torch.zeros(1, 3, 1, 1))
        self.register_buffer("scale", torch.ones(1, 3, 1, 1))

    def load_package(self, site: Path) -> "Aside":
        """Fill in ``alex_shift_tolerant.pth`` of stlpips-pytorch, unpacked below ``site``."""
        file = next((site / "stlpips_pytorch").rglob("alex_shift_*.pth"))
        given = torch.load(file, map_location="cpu", weights_only=True)
        state = {"shift": given["scaling_layer.shift"], "scale": given["scaling_layer.scale"]}
        for index, number in enumerate(self.NUMBERS):
            for part in ("weight", "bias"):
                state[f"convs.{index}.{part}"] = given[f"net.slice{number[0]}.{number[2:]}.{part}"]
        checkpoints.load_state(self, state, source=str(file))
        return self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Pictures [-1, 1] [B, 3, S, S] -> [B, 256]."""
        first, second, *rest = self.convs
        x = F.relu(_halved(first((images - self.shift) / self.scale)))
        x = F.relu(second(_halved(F.max_pool2d(x, 3, 1))))
        x = _halved(F.max_pool2d(x, 3, 1))
        for conv in rest:
            x = F.relu(conv(x))
        return x.mean((2, 3))


def _halved(x: Tensor) -> Tensor:
    """Blur by [1, 2, 1] both ways, mirrored beyond the edge, and take every second pixel."""
    row = x.new_tensor([0.25, 0.5, 0.25])
    kernel = (row[:, None] * row).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=x.shape[1])
