"""``make bench``: every claim of speed measured beside its baseline, in one run, and the page that shows it."""

import argparse
import importlib
import json
import os
import platform
import sys
import time
from pathlib import Path

from book.bench.measure import Family
from book.build.run_chapters import KERNEL, ROOT

FAMILIES = ("painting", "storybook", "training", "vocabulary", "pixels", "processor")
GPU = "gpu"  # a page of its own, since it runs elsewhere: benchmarks_gpu.md
QUIET = {name: KERNEL[name] for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "TOKENIZERS_PARALLELISM")}


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
        families.append(importlib.import_module(f"book.bench.{name}").run(quick))
        print(f"  {name:12} {time.perf_counter() - start:7.1f} s", flush=True)
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
        os.execve(sys.executable, [sys.executable, "-m", "book.bench", *sys.argv[1:]], os.environ | QUIET)
    from book.bench.page import write

    families = measure((GPU,) if options.gpu else tuple(options.only), options.quick)
    name, *head = (
        ("benchmarks_gpu", "Benchmarks on a GPU", "make bench ARGS=--gpu")
        if options.gpu
        else ("benchmarks", "Benchmarks", "make bench")
    )
    write(families, machine(), options.out or ROOT / "book" / f"{name}.md", *head)
    return None
