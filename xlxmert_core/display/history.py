"""The steps of a painting: heard while they are made, and those of several batches put together.

Axes: B pictures, C candidates, N cells.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from xlxmert_core.polish import still


class LastStep:
    """A callback that remembers the last step's codes, of all candidates, and hands each step on."""

    def __init__(self, callback: Callable[[dict], None] | None):
        self.callback, self.codes = callback, torch.zeros(0)

    def __call__(self, step: dict) -> None:
        """Remember a step's codes, and hand it on."""
        self.codes = step["codes"].clone()
        if self.callback is not None:
            self.callback(step)

    def taken(self, codes: Tensor) -> list[int]:
        """Which of its candidates, from 0, each of these pictures is: codes int64 [B, N]."""
        candidates = self.codes.view(len(codes), -1, codes.shape[1])  # [B, C, N]
        return (candidates == codes[:, None]).all(-1).int().argmax(1).tolist()


def joined(histories: Sequence[list[dict]]) -> list[dict]:
    """The steps of batches that were painted one after another as those of one batch.

    A batch that had less to polish stays as it is in the others' last steps.
    """
    if len(histories) <= 1:
        return histories[0] if histories else []
    longest = max(histories, key=len)
    whole = []
    for i, step in enumerate(longest):
        parts = [history[i] if i < len(history) else still(history[-1]["codes"]) for history in histories]
        whole.append(step | {name: torch.cat([part[name] for part in parts]) for name in still(step["codes"])})
    return whole
