"""Run the chapters side by side where their declared inputs allow it, one core each, and say how far they are.

``chapters.toml`` says what each chapter needs and makes. A chapter starts when all that it needs is made; the one that
most others wait for goes first, and two that make the same file never run at once. Those that measure time come last,
one by one, with two cores each.
"""

import os
import sys
import time
import tomllib
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from unittest.mock import patch

import psutil

from book.build import kept
from book.build.bars import BARS, TIME, read_bars
from book.build.run_chapters import KERNEL, ROOT, ChapterError, Result, Run, execute

TABLE = ROOT / "book" / "chapters.toml"
Outcome = Result | ChapterError


@dataclass(frozen=True)
class Declared:
    """What a chapter needs of others and makes for them, and whether it measures time."""

    needs: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    timed: bool = False  # it has a bar on a time, so it comes last, with no other beside it


def declared(names: list[str], own: bool = False) -> dict[str, Declared]:
    """What these chapters declare (``own``: where the painter is the run's); one that is not in the table: nothing."""
    rows, bars, found = tomllib.loads(TABLE.read_text()), read_bars(BARS), {}
    for name in names:
        row = rows.get(name, {})
        both = (row, row.get("own", {})) if own else (row,)
        needs, makes = (tuple(chain.from_iterable(part.get(kind, ()) for part in both)) for kind in ("needs", "makes"))
        found[name] = Declared(needs, makes, any(map(TIME.search, bars.get(name, {}))))
    return found


def waits(table: dict[str, Declared]) -> dict[str, set[str]]:
    """Each chapter -> those that make something it needs."""
    return {name: {n for n, other in table.items() if n != name and set(other.makes) & set(own.needs)}
            for name, own in table.items()}  # fmt: skip


def order(table: dict[str, Declared]) -> list[str]:
    """The chapters as one lane runs them: those that most others wait for first, those that measure time last."""
    direct = waits(table)

    def behind(name: str, found: set[str]) -> set[str]:
        for later in {n for n in direct if name in direct[n]} - found:
            found.add(later)
            behind(later, found)
        return found

    return sorted(table, key=lambda name: (table[name].timed, -len(behind(name, set())), list(table).index(name)))


def next_up(table: dict[str, Declared], ended: set[str], running: set[str]) -> str | None:
    """The chapter that may start now, if any."""
    if any(table[name].timed for name in running):
        return None
    direct, busy = waits(table), {made for name in running for made in table[name].makes}
    for name in order(table):
        if name in ended | running or direct[name] - ended:
            continue
        if table[name].timed:
            return None if running else name
        if not busy & set(table[name].makes):
            return name
    return None


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def one(run: Run, name: str, own: Declared, threads: int) -> Result:
    """One chapter, unless an earlier run's result still holds."""
    if not (run.notebooks / f"{name}.ipynb").exists():
        raise ChapterError(f"{name}.ipynb is listed in book/_toc.yml but is not in notebooks/.")
    key = kept.key(run, name, own.needs, threads)
    if found := kept.kept(run, name, key):
        return found
    kept.begin(run, name, key, own.makes)
    return kept.finish(run, replace(execute(run, name), key=key), own.makes)


def execute_all(run: Run, names: list[str], keep_going: bool = False) -> dict[str, Outcome]:
    """Run the chapters in two lanes, or in one where there is one core, with a progress line each.

    ``keep_going``: a failure stops nothing and is among the outcomes. Otherwise it is raised at once.
    What ends early, by a failure or by Ctrl-C, ends its kernels too. What was finished is kept for the next time.
    """
    table, outcomes, running, show = declared(names, run.own_painter), {}, {}, Progress(names)
    lanes = min(2, cores())
    with patch.dict(os.environ, KERNEL), ThreadPoolExecutor(lanes) as pool:
        try:
            while len(outcomes) < len(names):
                while len(running) < lanes and (name := next_up(table, set(outcomes), set(running.values()))):
                    threads = lanes if table[name].timed else 1
                    os.environ["OMP_NUM_THREADS"] = str(threads)  # what runs beside it has the same number
                    running[pool.submit(one, run, name, table[name], threads)] = name
                    show.start(name)
                if not running:
                    left = ", ".join(sorted(set(names) - set(outcomes)))
                    raise ChapterError(f"{left} need each other: mend book/chapters.toml.")
                for future in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
                    name = running.pop(future)
                    outcomes[name] = outcome_of(future)
                    show.end(name, outcomes[name])
                    if isinstance(outcomes[name], ChapterError) and not keep_going:
                        raise outcomes[name]
                show.tick()
        except BaseException:
            show.clear()
            stop(running)
            raise
    return outcomes


def outcome_of(future: Future) -> Outcome:
    """What a chapter that has ended leaves: its result, or why it failed."""
    try:
        return future.result()
    except ChapterError as error:
        return error


def stop(running: dict[Future, str]) -> None:
    """End the kernels of chapters that run, those that are just starting too."""
    while wait(running, timeout=0.5).not_done:
        for process in psutil.Process().children():
            with suppress(psutil.Error):  # it ended just now
                if "ipykernel_launcher" in process.cmdline():
                    process.kill()


class Progress:
    """A line for each chapter that has ended; on a terminal, a line below with the seconds of those that run."""

    def __init__(self, names: list[str]):
        self.count, self.width, self.ended = len(names), max(map(len, names)), 0
        self.begun: dict[str, float] = {}
        self.live = sys.stdout.isatty()

    def start(self, name: str) -> None:
        """A chapter begins."""
        self.begun[name] = time.monotonic()
        if not self.live:
            print(f"          {name:{self.width}} begins", flush=True)

    def end(self, name: str, outcome: Outcome) -> None:
        """A chapter has ended, and how."""
        del self.begun[name]
        self.ended += 1
        said = "FAILED" if isinstance(outcome, ChapterError) else f"{outcome.seconds:7.1f} s  ok"
        if getattr(outcome, "kept", False):
            said = "skipped: nothing that it follows from has changed"
        self.clear()
        print(f"  [{self.ended:2}/{self.count}] {name:{self.width}} {said}", flush=True)

    def tick(self) -> None:
        """The seconds go on."""
        if self.live and self.begun:
            now = time.monotonic()
            said = ", ".join(f"{name} {now - begun:.0f} s" for name, begun in self.begun.items())
            print(f"\r  ... {said}", end="\x1b[K", flush=True)

    def clear(self) -> None:
        """Remove the line of those that run."""
        if self.live:
            print("\r\x1b[K", end="", flush=True)
