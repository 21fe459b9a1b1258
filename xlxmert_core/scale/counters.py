"""What a stage costs, counted before it runs: operations of a call, pictures a second of a store."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np


def operations(call: Callable[[], object]) -> float:
    """FLOPs of one call; under ``torch.device("meta")`` they are counted on shapes alone."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


def pictures_a_second(source: Any, seed: int = 0, rounds: int = 40, batch: int = 16) -> float:
    """How fast ``source`` (``ids``, ``rows``) gives the features of pictures drawn at random."""
    rng, ids, start = np.random.default_rng(seed), source.ids, time.perf_counter()
    for _ in range(rounds):
        source.rows([ids[i] for i in rng.integers(0, len(ids), batch)]).sum()
    return rounds * batch / (time.perf_counter() - start)
