"""The page of ``make bench``: a table and a plot for each family, with nothing in it but what the run found."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from book.bench.measure import Family, Growth, Limit, Race, Times

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEAD = """\
# {title}

Written by `{command}` in one run: {machine}. Each race runs its cases in turn, over and over, so that a busy
minute slows all of them alike; the table gives the median and, in brackets, the fastest and the slowest
repetition. Machines differ, so the ratios say more than the seconds.
"""


def write(
    families: list[Family], machine: str, out: Path, title: str = "Benchmarks", command: str = "make bench"
) -> None:
    """The page at ``out``, its plots in ``_static/bench`` beside it."""
    plots = out.parent / "_static" / "bench"
    plots.mkdir(parents=True, exist_ok=True)
    parts = [HEAD.format(title=title, command=command, machine=machine)]
    for family in families:
        name = re.sub(r"\W+", "_", family.title.lower()).strip("_")
        draw(family, plots / f"{name}.svg")
        parts.append(section(family, f"_static/bench/{name}.svg"))
    out.write_text("\n".join(parts))


def section(family: Family, plot: str) -> str:
    """One family in MyST Markdown."""
    races = [row for found in family.found if isinstance(found, Race) for row in race_rows(found)]
    limits = [limit_row(found) for found in family.found if isinstance(found, Limit)]
    growths = [growth_table(found) for found in family.found if isinstance(found, Growth)]
    parts = [f"## {family.title}\n\n{family.text}\n"]
    if races:
        head = "| work | case | seconds | times as fast | goal | |\n|:---|:---|---:|---:|---:|:---|\n"
        parts.append(head + "\n".join(races) + "\n")
    if limits:
        parts.append("| work | measured | goal | |\n|:---|---:|---:|:---|\n" + "\n".join(limits) + "\n")
    said = "".join(
        f"- {found.work}: {found.said}\n" for found in family.found if isinstance(found, Race) and found.said
    )
    parts += [said] if said else []
    return "\n".join([*parts, *growths, f"![{family.title}, drawn from the tables above]({plot})\n"])


def race_rows(race: Race) -> list[str]:
    """A row a case; the first one is what the others are measured against."""
    rows = []
    for case, times in race.times.items():
        goal = race.goals.get(case)
        ratio = "1" if case == next(iter(race.times)) else f"{race.ratio(case):.2f}"
        wanted = "" if goal is None else f"≥ {goal:g}"
        rows.append(f"| {race.work} | {case} | {seconds(times)} | {ratio} | {wanted} | {mark(goal, race, case)} |")
    return rows


def mark(goal: float | None, race: Race, case: str) -> str:
    """Whether a case reaches its goal."""
    return "" if goal is None else verdict(race.ratio(case) >= goal)


def verdict(holds: bool | None) -> str:
    """How the page says that a goal is met, or not."""
    return {None: "", True: "holds", False: "**does not hold**"}[holds]


def seconds(times: Times) -> str:
    """Median (fastest to slowest), with three digits."""
    return f"{times.median:.3g} ({times.low:.3g} to {times.high:.3g})"


def limit_row(limit: Limit) -> str:
    """A number beside its goal."""
    wanted = "" if limit.goal is None else f"{'≥' if limit.at_least else '≤'} {limit.goal:g} {limit.unit}"
    return f"| {limit.work} | {digits(limit.value)} {limit.unit} | {wanted} | {verdict(limit.holds())} |"


def digits(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def growth_table(growth: Growth) -> str:
    """Seconds, and megabytes where they were measured, for each size."""
    sizes = list(growth.seconds)
    rows = [f"| {growth.work} by {growth.size} | " + " | ".join(map(str, sizes)) + " |"]
    rows += ["|:---|" + "---:|" * len(sizes)]
    rows += ["| seconds | " + " | ".join(f"{growth.seconds[s]:.3g}" for s in sizes) + " |"]
    if growth.megabytes:
        rows += ["| MB added | " + " | ".join(f"{growth.megabytes.get(s, 0):.0f}" for s in sizes) + " |"]
    return "\n".join(rows) + "\n"


def draw(family: Family, path: Path) -> None:
    """Ratios of the races as bars; below them, growth on logarithmic axes."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    races = [found for found in family.found if isinstance(found, Race)]
    growths = [found for found in family.found if isinstance(found, Growth)]
    ways: list[tuple[Callable, list]] = [(bars, races), (lines, growths)]
    panels = [(paint, shown) for paint, shown in ways if shown]
    with plt.rc_context({"svg.hashsalt": family.title, "svg.fonttype": "none", "font.size": 9}):
        heights: dict[Callable, float] = {bars: 0.9 + 0.28 * sum(len(race.times) - 1 for race in races), lines: 3}
        shares = [heights[paint] for paint, _ in panels] or [1]
        figure, axes = plt.subplots(
            len(shares), 1, figsize=(7, sum(shares)), squeeze=False, height_ratios=shares, layout="constrained"
        )
        for axis, (paint, shown) in zip(axes[: len(panels), 0], panels, strict=True):
            paint(axis, shown)
            axis.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def bars(axis: "Axes", races: list[Race]) -> None:
    """How many times as fast as the baseline each case is; a stroke marks its goal."""
    cases = [(race, case) for race in races for case in list(race.times)[1:]]
    names = [f"{race.work}: {case}" for race, case in cases]
    axis.barh(names, [race.ratio(case) for race, case in cases], color="#4C78A8")
    for place, (race, case) in enumerate(cases):
        if case in race.goals:
            axis.plot([race.goals[case]] * 2, [place - 0.4, place + 0.4], color="#E45756", lw=2)
    axis.axvline(1, color="0.5", lw=0.8)
    axis.invert_yaxis()
    some = any(race.goals for race, _ in cases)
    axis.set_xlabel("times as fast as the baseline" + " (red: the goal)" * some)


def lines(axis: "Axes", growths: list[Growth]) -> None:
    """Seconds against size, both logarithmic."""
    for growth in growths:
        axis.plot(list(growth.seconds), list(growth.seconds.values()), "o-", label=f"{growth.work} by {growth.size}")
    axis.set(xscale="log", yscale="log", xlabel="size", ylabel="seconds")
    axis.legend(frameon=False)
