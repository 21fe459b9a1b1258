"""Training on cell labels: the eye of the model, and the reader that judges its paintings."""

from typing import Any

import torch
from torch import nn

from xlxmert_core.features import LabelObjective
from xlxmert_core.train import loop
from xlxmert_core.train.optimisers import adamw


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
