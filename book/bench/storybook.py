"""The shipped Storybook model: import, first picture, warm picture, many pictures."""

import subprocess
import sys
import time
from typing import Any

from book.bench.measure import ALLOCATOR, Family, Growth, Limit, Race, Times, child, interleaved

TEXT = """What a reader waits for, with the shipped weights and `Pipeline.paint`. A cold process is a new Python that
imports, loads and paints; the import is what `xlxmert_core` adds to torch's own. The C library gives large buffers
back to the system after each call, and every page of the next one costs a fault; the chapters' kernels therefore set
`MALLOC_TRIM_THRESHOLD_` and `MALLOC_MMAP_THRESHOLD_` so that it keeps them. Both ways are measured, in processes of
their own. Threads that wait sleep after some microseconds (`OMP_WAIT_POLICY=PASSIVE`, `GOMP_SPINCOUNT=1000`), as in the
chapters: spinning ones are a little faster on a quiet machine, and ten times slower beside any other program. So small
a model's operations are over before a second thread is awake: a single picture waits for their number, a batch for
arithmetic."""
SENTENCE = "a large red house in the snow"
ALONE: dict[str, Any] = {"steps": 8, "candidates": 1, "polish": 0}


def import_seconds() -> float:
    """Seconds of ``import xlxmert_core`` in a process that has imported torch."""
    code = "import time, torch; a = time.perf_counter(); import xlxmert_core; print(time.perf_counter() - a)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def first_picture() -> None:
    """Import, load and paint in a process of its own."""
    code = f"import xlxmert_core; xlxmert_core.load('storybook').paint({SENTENCE!r})"
    subprocess.run([sys.executable, "-c", code], check=True)


def warm(pictures: int) -> dict:
    """Seconds of one picture at 8 steps (alone; and as the defaults choose it), and a picture's share of a batch."""
    import xlxmert_core

    painter = xlxmert_core.load("storybook")
    cases = {
        "alone": lambda: painter.paint(SENTENCE, **ALONE),
        "best of 4, polished": lambda: painter.paint(SENTENCE, steps=8),
        "batch": lambda: painter.paint([SENTENCE] * pictures, **ALONE),
    }
    return {name: list(times) for name, times in interleaved(cases, 5).items()}


def run(quick: bool) -> Family:
    """Everything in child processes, as a reader starts it."""
    pictures, repetitions = (2, 1) if quick else (64, 5)
    beyond = sorted(import_seconds() for _ in range(repetitions))[repetitions // 2]
    cold = interleaved({"": first_picture}, repetitions, warm=0, clock=time.perf_counter)[""].median
    alone: dict[str, Times] = {}
    found: list[Race | Limit | Growth] = [
        Limit("import beyond torch", beyond, "s", 1.5),
        Limit("first picture, cold", cold, "s", 5),
    ]
    for name, environment in {"given back": {}, "kept": ALLOCATOR}.items():
        seen = {k: Times(*v) for k, v in child("book.bench.storybook:warm", pictures, environment=environment).items()}
        each = Times(*(seconds / pictures for seconds in seen["batch"]))
        goals = {f"of {pictures}": 4.0}
        found.append(Race(f"a picture, buffers {name}", {"alone": seen["alone"], f"of {pictures}": each}, goals))
        found.append(Limit(f"warm picture, 8 steps, best of 4 and polished, buffers {name}",
                           1000 * seen["best of 4, polished"].median, "ms", 150))  # fmt: skip
        alone[name] = each
    found.append(Race(f"a picture of {pictures}", {f"buffers {name}": times for name, times in alone.items()}))
    return Family("The shipped model", TEXT, found)
