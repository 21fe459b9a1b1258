"""Training on cell labels: the eye of the model, and the reader that judges its paintings."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlxmert_core.features import to_float
from xlxmert_core.train import loop
from xlxmert_core.train.optimisers import adamw


class LabelObjective(nn.Module):
    """Cross-entropy on every cell label, summed over the heads; -100 marks a cell without label.

    Cells with an object count ``object_weight`` times: most of a picture is background. Noise of standard
    deviation ``noise`` on the features pushes unlike cells apart, so that k-means does not mix them up.
    """

    def __init__(self, encoder: nn.Module, object_weight: float = 4.0, noise: float = 0.0):
        super().__init__()
        self.encoder, self.object_weight, self.noise = encoder, object_weight, noise

    def forward(self, batch: dict) -> tuple[Tensor, dict]:
        """A batch of images uint8 [B, S, S, 3] and labels [B, grid, grid] -> (loss, accuracy per head)."""
        features = self.encoder(to_float(batch["images"]))  # [B, N, F]
        if self.training and self.noise:
            features = features + self.noise * torch.randn_like(features)
        logits = self.encoder.label_logits(features)
        weight = 1 + (self.object_weight - 1) * (batch["kind"].flatten(1) > 0)  # [B, N]
        total, numbers = features.new_zeros(()), {}
        for name, values in logits.items():
            target = batch[name].flatten(1)  # [B, N]
            loss = F.cross_entropy(values.transpose(1, 2), target, reduction="none")
            total = total + (loss * weight).sum() / weight.sum()
            seen = (target > 0) if name != "background" else (target >= 0)
            numbers[name] = (values.argmax(-1) == target)[seen].float().mean()
        return total, {"loss": total.detach(), **numbers}


class PictureObjective(nn.Module):
    """Cross-entropy on labels of whole pictures, summed over the attributes; -100 marks a picture without label.

    The network takes images [-1, 1] [B, 3, S, S] to {attribute: logits [B, classes]}.
    """

    def __init__(self, network: nn.Module, smoothing: float = 0.1):
        super().__init__()
        self.network, self.smoothing = network, smoothing

    def forward(self, batch: dict) -> tuple[Tensor, dict]:
        """A batch of images uint8 [B, S, S, 3] and labels int64 [B] -> (loss, accuracy per attribute)."""
        logits = self.network(to_float(batch["images"]))
        total, numbers = batch["images"].new_zeros((), dtype=torch.float32), {}
        for name, values in logits.items():
            target, seen = batch[name], batch[name] >= 0
            loss = F.cross_entropy(values, target, reduction="sum", label_smoothing=self.smoothing)
            total = total + loss / seen.sum().clamp_min(1)
            numbers[name] = (values.argmax(1) == target)[seen].float().mean()
        return total, {"loss": total.detach(), **numbers}


def labelled_batches(split: Any, size: int) -> loop.BatchAt:
    """``batch_at`` of :func:`xlxmert_core.train.loop.fit`: pictures of a split with their labels, drawn at random."""
    labels = {name: torch.from_numpy(values) for name, values in split.labels.items()}

    def batch_at(step: int, generator: torch.Generator) -> dict:
        """Images uint8 [B, S, S, 3] and labels int64 [B, grid, grid]."""
        rows = torch.randint(len(split), (size,), generator=generator)
        pictures = torch.from_numpy(split.images[rows.numpy()])
        return {"images": pictures, **{name: values[rows] for name, values in labels.items()}}

    return batch_at


def train_on_labels(network: nn.Module, split: Any, steps: int, batch: int, seed: int, noise: float = 0.0,
                    track: loop.Track = loop.SILENT) -> list[dict]:  # fmt: skip
    """Train a network with ``label_logits`` on the cells of a split; returns the history."""
    objective = LabelObjective(network, noise=noise)
    return loop.fit(objective, adamw(objective, 2e-3), labelled_batches(split, batch), steps, seed=seed, track=track)
