"""What the bench finds, and how: fair turns, memory, fresh processes."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from book.build.run_chapters import KERNEL, ROOT

ALLOCATOR = {name: value for name, value in KERNEL.items() if name.startswith("MALLOC_")}


class Times(NamedTuple):
    """Seconds of one case: the median of its repetitions, the fastest and the slowest."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Race:
    """Cases that do the same work; the first one is the baseline.

    goals: case -> at least so many times as fast as the baseline. said: what else was found, such as equal results.
    """

    work: str
    times: Mapping[str, Times]
    goals: Mapping[str, float] = field(default_factory=dict)
    said: str = ""

    def ratio(self, case: str) -> float:
        """How many times as fast as the baseline."""
        return next(iter(self.times.values())).median / self.times[case].median


@dataclass(frozen=True)
class Limit:
    """One number that must stay under (or, where ``at_least``, above) its goal; infinite when it has none."""

    work: str
    value: float
    unit: str
    goal: float | None = None
    at_least: bool = False

    def holds(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal


@dataclass(frozen=True)
class Growth:
    """How seconds (and megabytes) grow with one size: size -> seconds, size -> MB."""

    work: str
    size: str
    seconds: Mapping[int, float]
    megabytes: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """One section of the page."""

    title: str
    text: str
    found: list[Race | Limit | Growth]


def interleaved(cases: Mapping[str, Callable[[], object]], repetitions: int, warm: int = 1,
                clock: Callable[[], float] = time.perf_counter) -> dict[str, Times]:  # fmt: skip
    """Run all cases in turn, ``repetitions`` times over, so that a busy minute slows all of them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(warm + repetitions):
        for name, case in cases.items():
            start = clock()
            case()
            seconds[name].append(clock() - start)
    counted = {name: s[warm:] for name, s in seconds.items()}
    return {name: Times(statistics.median(s), min(s), max(s)) for name, s in counted.items()}


def child(function: str, *given: object, environment: Mapping[str, str] | None = None) -> Any:
    """Call ``module:function(*given)`` in a fresh process and return what it returns; both go as JSON.

    Raises RuntimeError with the process's last line when it fails.
    """
    call = [sys.executable, "-m", "book.bench", "--call", function, json.dumps(given)]
    env = {k: v for k, v in os.environ.items() if k not in ALLOCATOR} | {"PYTHONPATH": str(ROOT)}
    env |= environment or {}
    done = subprocess.run(call, env=env, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{function} failed in a child process: {(done.stderr.strip() or '?').splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def _status(name: str) -> float:
    """A line of Linux's own account of this process, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def added_megabytes(work: Callable[[], object]) -> float:
    """How far ``work`` raises this process's memory at its peak; not a number where there is no /proc (not Linux).

    Warm buffers hide what a second call needs, so call it in a fresh :func:`child`.
    """
    if not Path("/proc/self/clear_refs").exists():
        work()
        return float("nan")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def operations(case: Callable[[], object]) -> int:
    """Floating-point operations of one call, as PyTorch counts them (oneDNN's own products are not seen)."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        case()
    return counter.get_total_flops()
