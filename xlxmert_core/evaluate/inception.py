"""Inception score and Fréchet distance (FID), each named after the network that looked.

Paper, evaluation of image generation. Numbers of different networks cannot be compared, so every number carries its
network's name. Those of other papers need Inception's weights of 2015 (the file ``pt_inception-2015-12-05`` of
pytorch-fid), which this book does not ship. Axes: M pictures, D = 2048 features, C classes.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.inception import (
    BasicConv2d,
    Inception3,
    InceptionA,
    InceptionAux,
    InceptionB,
    InceptionC,
    InceptionD,
    InceptionE,
)

from xlxmert_core.checkpoints import load_state, read
from xlxmert_core.evaluate.scenes import frechet_distance
from xlxmert_core.features import extract

SIDE = 299  # pixels along one side of what Inception sees
NAMES = {"2015": "Inception of 2015", "torchvision": "torchvision's Inception"}
FILES = {"2015": "pytorch-fid's pt_inception-2015-12-05-6726825d.pth", "torchvision": "torchvision's inception_v3"}


def inside(x: Tensor) -> Tensor:
    """The mean of a 3 x 3 neighbourhood, of what lies in the picture alone: torchvision's counts zeros around it."""
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def largest(x: Tensor) -> Tensor:
    """The largest number of a 3 x 3 neighbourhood."""
    return F.max_pool2d(x, 3, 1, 1)


class _Pooled:
    """A mixed block of torchvision whose last branch pools as the network of 2015."""

    branch_pool: Any
    pool = staticmethod(inside)

    def _forward(self, x: Tensor) -> list[Tensor]:
        return [*super()._forward(x)[:-1], self.branch_pool(self.pool(x))]  # ty: ignore[missing-attribute]


class PooledA(_Pooled, InceptionA):
    """Mixed 5b to 5d of 2015."""


class PooledC(_Pooled, InceptionC):
    """Mixed 6b to 6e of 2015."""


class PooledE(_Pooled, InceptionE):
    """Mixed 7b of 2015."""


class LargestE(PooledE):
    """Mixed 7c of 2015, which takes the largest in place of the mean."""

    pool = staticmethod(largest)


class Inception(nn.Module):
    """Inception v3 up to its last mean: images in [-1, 1] [B, 3, S, S] -> features [B, D].

    Args:
        kind: "2015", the network that FID's tools use, with 1008 classes and its own pooling in nine of the mixed
            blocks; or "torchvision", which was trained anew and gives other numbers.

    Pictures are resized as pytorch-fid does; TensorFlow's own resizing differs a little. Until :func:`open_inception`
    fills in weights they are random, and ``name`` says so. Raises ValueError for another kind.
    """

    def __init__(self, kind: str = "2015"):
        super().__init__()
        if kind not in NAMES:
            raise ValueError(f"There is no Inception {kind!r}: choose {' or '.join(map(repr, NAMES))}.")
        self.kind, self.name = kind, f"random {NAMES[kind]}"
        blocks: list[Any] = [BasicConv2d, PooledA, InceptionB, PooledC, InceptionD, PooledE, InceptionAux]
        if kind == "torchvision":
            blocks = [BasicConv2d, InceptionA, InceptionB, InceptionC, InceptionD, InceptionE, InceptionAux]
        body = Inception3(1008 if kind == "2015" else 1000, False, False, blocks, init_weights=False)
        if kind == "2015":
            body.Mixed_7c = LargestE(2048)
        self.last, body.fc = body.fc, nn.Identity()  # ty: ignore[invalid-assignment]
        self.body = body

    def forward(self, images: Tensor) -> Tensor:
        """images [-1, 1] [B, 3, S, S] -> [B, D]."""
        return self.body(F.interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False))

    @torch.inference_mode()
    def logits(self, features: np.ndarray) -> np.ndarray:
        """features [M, D] -> [M, C]; of the network of 2015 without biases, as the Inception score is defined."""
        bias = None if self.kind == "2015" else self.last.bias
        return F.linear(torch.from_numpy(features).to(self.last.weight), self.last.weight, bias).float().cpu().numpy()


def open_inception(path: str | os.PathLike, kind: str = "2015") -> Inception:
    """Inception with the weights of a file on this machine: pytorch-fid's ("2015") or torchvision's.

    Raises FileNotFoundError when it is not there, ValueError naming what does not fit.
    """
    net = Inception(kind)
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is not there: download {FILES[kind]} first, then give its path.")
    given = {name: value for name, value in read(path).items() if not name.startswith("AuxLogits.")}
    given = {name.replace("fc.", "last.") if name[:3] == "fc." else f"body.{name}": value
             for name, value in given.items()}  # fmt: skip
    counters = {name: value for name, value in net.state_dict().items() if name.endswith("num_batches_tracked")}
    load_state(net, counters | given, source=str(path))  # older files have no counters
    net.name = NAMES[kind]
    return net.eval()


def inception_score(logits: np.ndarray, splits: int = 10) -> tuple[float, float]:
    """exp E KL(p(y | x) || p(y)) of each split (Salimans et al. 2016): logits [M, C] -> mean and deviation over splits.

    1 when all pictures look alike to the network or it is sure of none, at most C. Raises ValueError for fewer
    pictures than splits.
    """
    if not 1 <= splits <= len(logits):
        raise ValueError(f"An Inception score in {splits} parts needs as many pictures, not {len(logits)}.")
    log_p = torch.from_numpy(np.asarray(logits, np.float64)).log_softmax(1)  # [M, C]
    scores = []
    for part in log_p.tensor_split(splits):
        marginal = part.logsumexp(0) - np.log(len(part))  # [C], the log of the mean
        scores.append(float((part.exp() * (part - marginal)).sum(1).mean().exp()))
    return float(np.mean(scores)), float(np.std(scores))


def fid_and_score(net: Inception, real: np.ndarray, made: np.ndarray, splits: int = 10) -> dict[str, float]:
    """Both numbers of pictures uint8 [M, S, S, 3], by names that say who looked and at how many.

    A Fréchet distance falls as the pictures grow in number: compare it with one of as many alone (papers take 30 000).
    """
    seen = extract(net, made)
    mean, deviation = inception_score(net.logits(seen), splits)
    count, distance = min(len(real), len(made)), frechet_distance(extract(net, real), seen)
    return {
        f"FID ({net.name}, {count} pictures)": distance,
        f"Inception score ({net.name}, {len(made)} pictures)": mean,
        f"its deviation over {splits} parts": deviation,
    }
