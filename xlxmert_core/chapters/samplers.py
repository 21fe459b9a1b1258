"""Chapter 07's comparison of samplers: which settings are tried, and what was found of them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from xlxmert_core.files import write_json
from xlxmert_core.sampling import Sampling

STEPS = (1, 4, 8, 16, 64)
SCHEDULES = ("linear", "cosine", "arccos")
GREEDY = {"temperature": 0.0, "guidance": 0.0, "candidates": 1, "polish": 0}
SAMPLED = [GREEDY | {"temperature": 0.7, "guidance": g, "candidates": c} for g in (0.0, 1.0) for c in (1, 4)]


def settings() -> list[dict]:
    """All rows of the table: orders, schedules and steps, greedy and sampled; the best order also with polishing."""
    rows = [row for steps in STEPS for row in _of(steps)]
    best = [row for row in rows if row["order"] == "halton" and row["schedule"] == "cosine" and row["temperature"]]
    return rows + [row | {"polish": 1} for row in best]


def _of(steps: int) -> list[dict]:
    """The rows of so many steps: with one of them all orders are alike, with one or one a cell all schedules."""
    orders = ("mask_predict", "easy_first", "random", "raster", "maskgit", "halton") if steps > 1 else ("random",)
    schedules = ("linear",) if steps in (1, 64) else SCHEDULES
    ways = [GREEDY, *(way for way in SAMPLED if steps < 64 or way["candidates"] == 1)]
    return [{"order": order, "schedule": schedule, "steps": steps} | way
            for order in orders for schedule in schedules for way in ways]  # fmt: skip


def complete(table: list[dict], measure: Callable[[dict], Mapping], path: Path) -> list[dict]:
    """Measure the settings that a table lacks at its end, and write it to ``path`` after each; returns the table."""
    for row in settings()[len(table) :]:
        table.append(row | dict(measure(row)))
        write_json(path, table)
    return table


def found(table: list[dict], way: Sampling | None = None, **wanted: Any) -> dict:
    """The first row of the given settings; raises StopIteration where the table has none."""
    given = {} if way is None else {name: getattr(way[name], "__name__", way[name]) for name in way.keys()}
    return next(row for row in table if (given | wanted).items() <= row.items())
