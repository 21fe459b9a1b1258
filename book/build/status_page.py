"""The book's status page: each chapter's run time, its metrics beside their bars, the versions."""

import platform
from importlib.metadata import version
from pathlib import Path

from book.build.bars import BARS, Verdict, compare, read_bars, read_metrics
from book.build.lanes import cores, declared
from book.build.run_chapters import Result, Run

PACKAGES = ("torch", "torchvision", "numpy", "faiss-cpu", "tokenizers", "jupyter-book")

PAGE = """\
# Status of this build

Every number below was measured on the machine that made these pages: {n} chapters, profile `{profile}`,
data set `{dataset}`, seed {seed}, on {cores} processor cores. Their seconds add up to {minutes:.1f} minutes;
two run side by side, one core each, but for those that measure time.

## Run times

A chapter that was *kept* was run earlier, and nothing that it follows from has changed since. MB is the most memory
that its process had. The two largest that may run at once had {megabytes} MB.

| chapter | seconds | MB | |
|:---|---:|---:|:---|
{times}

## Metrics and bars

A chapter passes when each metric is on the right side of its bar. The bars are wide: they tell
a model that learned from one that guesses. A *goal* is what a student of minutes should come to; where yours
does not, the table says so.

{metrics}

## Versions

| package | version |
|:---|:---|
{versions}
"""


def status_page(run: Run, results: list[Result], bars: Path = BARS) -> str:
    """The page as MyST Markdown."""
    names = sorted(result.chapter for result in results)
    seconds = {result.chapter: result.seconds for result in results}
    return PAGE.format(
        n=len(names),
        profile=run.profile,
        dataset=run.dataset,
        seed=run.seed,
        minutes=sum(seconds.values()) / 60,
        cores=cores(),
        megabytes=side_by_side(results),
        times="\n".join(map(row, sorted(results, key=lambda result: result.chapter))),
        metrics=metrics_table(run, names, read_bars(bars) if run.gated else {}),
        versions="\n".join(f"| {name} | {v} |" for name, v in versions()),
    )


def row(result: Result) -> str:
    """One row of the table of run times."""
    megabytes = "" if result.megabytes is None else f"{result.megabytes:.0f}"
    return f"| {link(result.chapter)} | {result.seconds:.1f} | {megabytes} | {'kept' if result.kept else ''} |"


def side_by_side(results: list[Result]) -> str:
    """The most memory that chapters running at once can have had, in MB; unknown where Linux does not say it."""
    table = declared([result.chapter for result in results])
    most = {result.chapter: result.megabytes for result in results if result.megabytes is not None}
    if len(most) < len(results):
        return "unknown"
    together = sorted((taken for chapter, taken in most.items() if not table[chapter].timed), reverse=True)[:2]
    return f"{max([sum(together), *most.values()]):.0f}"


def link(chapter: str) -> str:
    """A Markdown link whose text is the chapter's own title."""
    return f"[](../notebooks/{chapter}.ipynb)"


def versions() -> list[tuple[str, str]]:
    """Python's and the main packages' versions."""
    return [("Python", platform.python_version()), *((name, version(name)) for name in PACKAGES)]


def metrics_table(run: Run, names: list[str], bars: dict) -> str:
    """All metrics that were recorded: those with a bar beside it, the others plain."""
    rows = []
    for name in names:
        metrics = read_metrics(run.metrics, name)
        verdicts = compare(metrics, bars.get(name, {}))
        rows += [judged(name, verdict) for verdict in verdicts]
        free = sorted(set(metrics) - {verdict.metric for verdict in verdicts})
        rows += [f"| {name[:2]} | {metric} | {metrics[metric]:.4g} | | | |" for metric in free]
    if not rows:
        return "No chapter recorded a metric."
    head = "| chapter | metric | measured | bar | chance | |\n|:---|:---|---:|---:|:---|:---|\n"
    return head + "\n".join(rows)


def judged(name: str, verdict: Verdict) -> str:
    """One row of the table for a metric that has a bar."""
    value = "missing" if verdict.value is None else f"{verdict.value:.4g}"
    mark = "holds" if verdict.reached else f"**goal {verdict.goal:g} missed**" if verdict.holds else "**does not hold**"
    sign = {">=": "≥", "<=": "≤"}[verdict.sign]
    return f"| {name[:2]} | {verdict.metric} | {value} | {sign} {verdict.bar:g} | {verdict.chance} | {mark} |"
