"""Compare what a chapter measured with the bars in ``tests/bars.toml``."""

import json
import math
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

BARS = Path(__file__).resolve().parent.parent.parent / "tests" / "bars.toml"
TIME = re.compile(r"(^|_)(ms|seconds|minutes|per_second|flat_over_hdf5)(_|$)")  # a metric that depends on the machine


@dataclass(frozen=True)
class Verdict:
    """One metric beside its bar; ``value`` is None when the chapter did not record it."""

    metric: str
    value: float | None
    sign: str  # ">=" or "<="
    bar: float
    chance: str  # what guessing would give, in words
    goal: float | None = None  # what it should come to, where the bar, which a change must not fall behind, is wider

    @property
    def holds(self) -> bool:
        """Whether the metric is there, is a finite number and is on the right side of its bar."""
        if self.value is None or not math.isfinite(self.value):
            return False
        return self._clears(self.bar)

    @property
    def reached(self) -> bool:
        """Whether the goal is reached too; True where there is none."""
        return self.holds and (self.goal is None or self._clears(self.goal))

    def _clears(self, bound: float) -> bool:
        assert self.value is not None
        return self.value >= bound if self.sign == ">=" else self.value <= bound

    def __str__(self) -> str:
        measured = "was not recorded" if self.value is None else f"= {self.value:.4g}"
        return f"{self.metric} {measured}, must be {self.sign} {self.bar:g} (chance: {self.chance})"


def read_bars(path: Path) -> dict[str, dict[str, dict]]:
    """``{chapter: {metric: {"min" or "max": number, "chance": words, and perhaps "goal": number}}}``.

    Raises ValueError naming a bar that is written differently.
    """
    bars = tomllib.loads(path.read_text())
    for chapter, metrics in bars.items():
        for metric, bar in metrics.items():
            if set(bar) - {"goal"} not in ({"min", "chance"}, {"max", "chance"}):
                raise ValueError(
                    f"{path.name}: {chapter}.{metric} needs `chance` and one of `min` and `max`, not {sorted(bar)}."
                )
    return bars


def read_metrics(folder: Path, chapter: str) -> dict[str, float]:
    """What the chapter recorded in ``{folder}/{chapter}.json``; empty when it recorded nothing."""
    path = folder / f"{chapter}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def compare(metrics: dict[str, float], bars: dict[str, dict]) -> list[Verdict]:
    """One verdict for each bar of one chapter, in the file's order."""
    verdicts = []
    for metric, bar in bars.items():
        sign, bound = (">=", bar["min"]) if "min" in bar else ("<=", bar["max"])
        verdicts.append(Verdict(metric, metrics.get(metric), sign, bound, bar["chance"], bar.get("goal")))
    return verdicts
