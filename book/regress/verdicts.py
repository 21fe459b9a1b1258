"""Whether a metric really changed since the accepted run: one judgement a metric."""

import math
from dataclasses import dataclass
from enum import Enum
from statistics import fmean, stdev

from scipy.stats import t

from book.build.bars import TIME, Verdict, compare

SURE = 0.99  # of a hundred unchanged metrics with fresh seeds, about one is called changed


class Kind(Enum):
    """What is said about a metric: a symbol, words, and whether it fails the run."""

    SAME = ("=", "within the spread", False)
    BETTER = ("▲", "better", True)
    WORSE = ("▼", "worse", True)
    CHANGED = ("◆", "changed", True)
    BELOW = ("✗", "does not hold its bar", True)
    GONE = ("∅", "not recorded", True)
    UNDEFINED = ("!", "not a number in every run", True)
    NEW = ("+", "new, nothing to compare with: accept it", True)
    TIME = ("~", "a time, not compared", False)

    @property
    def symbol(self) -> str:
        """One character, so that colour is never all there is."""
        return self.value[0]

    @property
    def fails(self) -> bool:
        """Whether ``make regress`` ends with an error."""
        return self.value[2]


@dataclass(frozen=True)
class Judgement:
    """One metric now, its accepted values, its bar, and what follows."""

    chapter: str
    metric: str
    values: list[float]  # one a seed; NaN for a seed that did not record it
    accepted: dict | None  # mean, spread, values
    bar: Verdict | None

    @property
    def now(self) -> float | None:
        """The mean over the seeds; None when none of them recorded the metric."""
        return fmean(self.values) if self.values else None

    @property
    def change(self) -> float:
        """How far the mean moved."""
        return math.nan if self.now is None or self.accepted is None else self.now - self.accepted["mean"]

    @property
    def kind(self) -> Kind:
        """The first thing that is to be said about it, the gravest first."""
        if self.now is None:
            return Kind.GONE
        if not math.isfinite(self.now):
            return Kind.UNDEFINED
        if self.bar and not self.bar.holds:
            return Kind.BELOW
        if self.is_time:
            return Kind.TIME
        if self.accepted is None:
            return Kind.NEW
        if abs(self.change) <= allowance(self.values, self.accepted["values"]):
            return Kind.SAME
        if self.bar is None:
            return Kind.CHANGED
        return Kind.BETTER if (self.change > 0) == (self.bar.sign == ">=") else Kind.WORSE

    @property
    def words(self) -> str:
        """The verdict in words; a real change says by how much, and what chance would explain."""
        said = self.kind.value[1]
        if self.accepted and self.kind in (Kind.BETTER, Kind.WORSE, Kind.CHANGED):
            allowed = allowance(self.values, self.accepted["values"])
            said += f" by {self.change:+.3g} (chance explains {allowed:.2g})"
        if self.kind is Kind.BELOW and self.is_time:
            said += " (a time: was the machine busy?)"
        return said + (": accept it" if self.kind is Kind.BETTER else "")

    @property
    def unfit(self) -> bool:
        """Whether a run with this metric cannot be accepted; a slow machine does not spoil the other numbers."""
        return self.kind is Kind.UNDEFINED or bool(self.bar and not self.bar.holds and not self.is_time)

    @property
    def is_time(self) -> bool:
        """Whether the metric depends on the machine; it is only held against its bar."""
        return bool(TIME.search(self.metric))

    def cells(self) -> tuple[str, str, str]:
        """Now, accepted and bar as a table shows them; empty where there is none."""
        then = f"{number(self.accepted['mean'])} ± {self.accepted['spread']:.2g}" if self.accepted else ""
        bar = f"{'≥' if self.bar.sign == '>=' else '≤'} {self.bar.bar:g}" if self.bar else ""
        return "" if self.now is None else number(self.now), then, bar


def number(value: float) -> str:
    """Four digits; a large count in full."""
    return f"{value:,.0f}" if abs(value) >= 1000 and value % 1 == 0 else f"{value:.4g}"


def floor(mean: float) -> float:
    """The least change that counts, whatever the spread.

    Two hundredths: a score over some hundred pictures is no finer, and three seeds that all score 1 do not prove
    that the next one will; nor do three that score 0. For a small number, 5 % of it. Never under 1e-5: sums in
    float32 on another processor.
    """
    return max(1e-5, min(0.02, 0.05 * abs(mean) if mean else 0.02))


def allowance(now: list[float], accepted: list[float]) -> float:
    """How far the means of two sets of runs may lie apart when nothing changed.

    Both sets are taken as draws from one normal distribution, whose standard deviation is estimated from both
    (pooled). Then the difference of the means, divided by ``s * sqrt(1/m + 1/n)``, follows Student's t with
    ``m + n - 2`` degrees of freedom. With one run now this is the prediction interval for one further run. A fixed
    "three standard deviations" would be wrong for few seeds: a spread from three runs is itself so uncertain that
    99 % needs 11.5 of them (one run now), 5.0 from five runs; three runs on either side need 3.8. So more seeds,
    on either side, find smaller changes. The same seeds on the same machine repeat to the last digit, which no
    interval can call a change. Raises ValueError when there are fewer than three runs altogether.
    """
    freedom = len(now) + len(accepted) - 2
    if freedom < 1:
        raise ValueError("One run beside one run shows no spread: accept at least three seeds.")
    squares = sum((len(runs) - 1) * stdev(runs) ** 2 for runs in (now, accepted) if len(runs) > 1)
    error = math.sqrt(squares / freedom * (1 / len(now) + 1 / len(accepted)))
    return max(floor(fmean(accepted)), t.ppf((1 + SURE) / 2, freedom) * error)


def summary(runs: list[dict[str, float]]) -> dict[str, dict]:
    """``{metric: {"mean", "spread", "values"}}`` of several seeds' metrics, as it is stored."""
    numbers = {metric: [run[metric] for run in runs] for metric in runs[0]}
    return {name: {"mean": fmean(v), "spread": stdev(v), "values": v} for name, v in numbers.items()}


def judge(chapter: str, runs: list[dict[str, float]], accepted: dict[str, dict], bars: dict) -> list[Judgement]:
    """One judgement for each metric that was recorded, was accepted, or has a bar, by name.

    Args:
        runs: what the chapter recorded, one dict a seed; not empty.
        accepted: as :func:`summary` makes it; empty for a chapter that was never accepted.
        bars: the chapter's part of ``tests/bars.toml``.
    """
    recorded = set().union(*runs)
    values = {name: [run.get(name, math.nan) for run in runs] for name in recorded}
    verdicts = {v.metric: v for v in compare({n: fmean(v) for n, v in values.items()}, bars)}
    names = sorted(recorded | set(accepted) | set(bars))
    return [Judgement(chapter, n, values.get(n, []), accepted.get(n), verdicts.get(n)) for n in names]
