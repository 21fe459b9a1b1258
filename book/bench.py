"""``make bench``: every claim of speed measured beside its baseline, in one run, and the page that shows it."""

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from run_chapters import KERNEL, ROOT

FAMILIES = ("bench_painting", "bench_storybook", "bench_training", "bench_vocabulary", "bench_pixels",
            "bench_processor")  # fmt: skip
GPU = "bench_gpu"  # a page of its own, since it runs elsewhere: benchmarks_gpu.md
ALLOCATOR = {name: value for name, value in KERNEL.items() if name.startswith("MALLOC_")}
QUIET = {name: KERNEL[name] for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "TOKENIZERS_PARALLELISM")}


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


def child(function: str, *given, environment: Mapping[str, str] | None = None):
    """Call ``module:function(*given)`` in a fresh process and return what it returns; both go as JSON.

    Raises RuntimeError with the process's last line when it fails.
    """
    path = os.pathsep.join([str(ROOT / "book"), str(ROOT)])
    call = [sys.executable, str(Path(__file__)), "--call", function, json.dumps(given)]
    env = {k: v for k, v in os.environ.items() if k not in ALLOCATOR} | {"PYTHONPATH": path} | dict(environment or {})
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


def machine() -> str:
    """The processor, its cores and the versions, in one line."""
    import torch

    names = [x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x]
    name = names[0] if names else platform.processor()
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}"


def measure(names: tuple[str, ...], quick: bool) -> list[Family]:
    """Run the families one after another, with a line of progress each."""
    families = []
    for name in names:
        start = time.perf_counter()
        families.append(importlib.import_module(name).run(quick))
        print(f"  {name:18} {time.perf_counter() - start:7.1f} s", flush=True)
    return families


def main() -> None:
    """Measure, and write the page and its plots."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a try-out whose numbers mean nothing")
    parser.add_argument("--gpu", action="store_true", help="measure on a GPU instead, and write benchmarks_gpu.md")
    parser.add_argument("--only", nargs="*", default=FAMILIES, choices=FAMILIES, help="families to run")
    parser.add_argument("--out", type=Path, help="where the page goes; plots to _static/bench beside it")
    parser.add_argument("--call", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.call:
        module, function = options.call[0].split(":")
        return print(json.dumps(getattr(importlib.import_module(module), function)(*json.loads(options.call[1]))))
    if not os.environ.get("GOMP_SPINCOUNT"):  # read once, when OpenMP starts
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | QUIET)
    from bench_page import write

    families = measure((GPU,) if options.gpu else tuple(options.only), options.quick)
    name, *head = (
        ("benchmarks_gpu", "Benchmarks on a GPU", "make bench ARGS=--gpu")
        if options.gpu
        else ("benchmarks", "Benchmarks", "make bench")
    )
    write(families, machine(), options.out or ROOT / "book" / f"{name}.md", *head)
    return None


if __name__ == "__main__":
    sys.modules["bench"] = sys.modules["__main__"]  # the families import this very module
    main()
