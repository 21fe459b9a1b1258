"""Run every chapter and compare its metrics with the accepted run: ``python -m book.regress`` (or ``make regress``).

The accepted *numbers* are committed, in ``tests/accepted/{dataset}-{profile}.json``: for each chapter the seeds, and
for each metric its mean and its spread over them. The accepted *figures* are large: ``--accept`` keeps the executed
notebooks in ``artifacts/accepted/`` of the machine where it runs. A run goes to ``_build/regress/``, away from what
readers use. Any real change fails, better ones too: unless they are accepted, nobody sees them being lost again.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from book.build.bars import BARS, read_bars, read_metrics
from book.build.kept import forget
from book.build.lanes import execute_all
from book.build.run_chapters import ROOT, Result, Run, add_choices, chapters
from book.regress.report import Section, write_report
from book.regress.verdicts import Judgement, Kind, judge, summary
from xlxmert_core.files import replacing, write_json

SEEDS = (0, 1, 2)  # what --accept runs when no seeds are named


@dataclass(frozen=True)
class Places:
    """What is run and where everything about it lies; ``base`` says which notebooks, profile and data set."""

    base: Run = Run()
    build: Path = ROOT / "_build" / "regress"
    numbers: Path = ROOT / "tests" / "accepted"  # committed
    figures: Path = ROOT / "artifacts" / "accepted"  # of this machine
    bars: Path = BARS

    @property
    def name(self) -> str:
        """Data set and profile, as in the accepted file's name."""
        return f"{self.base.dataset}-{self.base.profile}"

    @property
    def accepted(self) -> Path:
        """The accepted numbers."""
        return self.numbers / f"{self.name}.json"

    def run(self, seed: int) -> Run:
        """The run of one seed, with artifacts of its own."""
        work = self.build / self.name / f"seed{seed}"
        return replace(self.base, work=work, artifacts=work / "artifacts", seed=seed)

    def notebook(self, chapter: str, code: str) -> Path:
        """Where an accepted chapter's executed notebook is kept; ``code`` ties it to the accepted numbers."""
        return self.figures / self.name / f"{chapter}-{code}.ipynb"


@dataclass(frozen=True)
class Outcome:
    """One chapter run with one seed; ``error`` is a sentence when it failed."""

    chapter: str
    seed: int
    code: str = ""  # what its result follows from
    seconds: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    error: str = ""


def measure(places: Places, names: list[str], seeds: list[int], whole: bool, afresh: bool) -> list[Outcome]:
    """Every chapter with every seed; a failure does not stop the others.

    ``afresh``: execute those too that were executed from the same; the ``whole`` book then starts from empty artifacts.
    """
    outcomes = []
    for seed in seeds:
        run = places.run(seed)
        if afresh:
            forget(run, names)
            if whole:
                shutil.rmtree(run.work, ignore_errors=True)
        print(f"Seed {seed}:", flush=True)
        for name, found in execute_all(run, names, keep_going=True).items():
            if isinstance(found, Result):
                measured = read_metrics(run.metrics, name)
                outcomes.append(Outcome(name, seed, found.key, found.seconds, measured))
            else:
                outcomes.append(Outcome(name, seed, error=str(found)))
    return outcomes


def read_accepted(path: Path) -> dict[str, dict]:
    """``{chapter: {"code", "commit", "seeds", "seconds", "metrics"}}``; empty when nothing was accepted."""
    return json.loads(path.read_text()) if path.exists() else {}


def section(places: Places, outcomes: list[Outcome], accepted: dict) -> Section:
    """What the report shows of one chapter; ``outcomes`` are its own, one a seed."""
    chapter, good = outcomes[0].chapter, [o for o in outcomes if not o.error]
    bars = read_bars(places.bars).get(chapter, {}) if places.base.gated else {}
    judgements = judge(chapter, [o.metrics for o in good], accepted.get("metrics", {}), bars) if good else []
    return Section(
        chapter=chapter,
        seeds=[o.seed for o in good],
        seconds=[o.seconds for o in good],
        errors=[f"Seed {o.seed}: {o.error}" for o in outcomes if o.error],
        judgements=judgements,
        accepted=accepted,
        now=places.run(good[0].seed).executed / f"{chapter}.ipynb" if good else None,
        then=places.notebook(chapter, accepted["code"]) if accepted else None,
    )


def table(judgements: list[Judgement]) -> str:
    """The comparison as text, one line a metric."""
    rows = [("", "chapter", "metric", "now", "accepted", "bar", "")]
    rows += [(j.kind.symbol, j.chapter[:2], j.metric, *j.cells(), j.words) for j in judgements]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(f"{c:{w}}" for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def commit() -> str:
    """The checked-out commit, with "-dirty" when files differ from it; "unknown" without git."""
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=9"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def accept(places: Places, outcomes: list[Outcome], whole: bool) -> None:
    """Write the numbers of these chapters, one outcome a seed each, and keep their figures.

    Other chapters stay accepted, unless these are the ``whole`` book.
    """
    accepted, at = {} if whole else read_accepted(places.accepted), commit()
    for chapter in {o.chapter for o in outcomes}:
        runs = [o for o in outcomes if o.chapter == chapter]
        accepted[chapter] = {
            "code": runs[0].code,
            "commit": at,
            "seeds": [o.seed for o in runs],
            "seconds": [o.seconds for o in runs],
            "metrics": summary([o.metrics for o in runs]),
        }
        keep_notebook(places, runs[0])
    write_json(places.accepted, accepted)


def keep_notebook(places: Places, outcome: Outcome) -> None:
    """Copy an executed notebook to the accepted figures, then remove the chapter's earlier ones."""
    kept = places.notebook(outcome.chapter, outcome.code)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with replacing(kept) as temporary:
        shutil.copy(places.run(outcome.seed).executed / f"{outcome.chapter}.ipynb", temporary)
    for old in set(kept.parent.glob(f"{outcome.chapter}-*.ipynb")) - {kept}:
        old.unlink()


def refusal(sections: list[Section], seeds: list[int]) -> str:
    """Why this run cannot be accepted, in one sentence; empty when it can."""
    if len(seeds) < 3:
        return f"Not accepted: the spread needs at least three seeds, for instance --seeds {' '.join(map(str, SEEDS))}."
    failed = [s.chapter for s in sections if s.errors]
    broken = [f"{j.chapter} {j.metric} {j.words}" for s in sections for j in s.judgements if j.unfit]
    return f"Not accepted: {'; '.join([*(f'{c} failed' for c in failed), *broken])}." if failed or broken else ""


def regress(places: Places, names: list[str], seeds: list[int], *, whole: bool = True, afresh: bool = False,
            accepting: bool = False) -> int:  # fmt: skip
    """Run, compare, report, and accept if asked; the exit code: 0 when nothing really changed.

    Args:
        names: the chapters; ``whole`` says that they are all there are, so that one that was accepted is missed.
        afresh: execute again what was executed from the same.
    """
    before = read_accepted(places.accepted)
    print(f"Running the chapters for comparison ({places.name}, seeds {' '.join(map(str, seeds))}):", flush=True)
    outcomes = measure(places, names, seeds, whole, afresh)
    sections = [section(places, [o for o in outcomes if o.chapter == n], before.get(n, {})) for n in names]
    lost = [f"{name} was accepted, but is no longer in the book." for name in sorted(set(before) - set(names)) if whole]
    report = write_report(places.build / "report.html", places.name, sections, lost)
    judgements = [j for s in sections for j in s.judgements]
    print(f"\n{table(judgements)}\n\nReport: {os.path.relpath(report)}", flush=True)
    errors = [error for s in sections for error in s.errors]
    for sentence in (*errors, *lost):
        print(sentence, file=sys.stderr)
    if accepting:
        return conclude(places, outcomes, refusal(sections, seeds), whole)
    if not before:
        print(
            f"Nothing is accepted yet for {places.name}: make regress ARGS=--accept runs three seeds and keeps them.",
            flush=True,
        )
    real = [j for j in judgements if j.kind.fails and (before or j.kind is not Kind.NEW)]
    if real:
        print(f"{len(real)} of {len(judgements)} metrics need a look; when they are as you want them, make regress "
              "ARGS=--accept makes them the accepted run.", file=sys.stderr)  # fmt: skip
    return int(bool(real or errors or lost))


def conclude(places: Places, outcomes: list[Outcome], refused: str, whole: bool) -> int:
    """Accept the run or say why not; the exit code."""
    if refused:
        print(refused, file=sys.stderr)
        return 1
    accept(places, outcomes, whole)
    print(f"Accepted in {os.path.relpath(places.accepted)}: commit it. Its figures stay on this machine, in "
          f"{os.path.relpath(places.figures)}.")  # fmt: skip
    return 0


def main() -> int:
    """The command behind ``make regress``."""
    parser = argparse.ArgumentParser(description="Compare a run of the chapters with the accepted run.")
    add_choices(parser)
    parser.add_argument("--seeds", type=int, nargs="+", help="0; with --accept 0 1 2; more find smaller changes")
    parser.add_argument("--only", nargs="+", metavar="CHAPTER", choices=chapters(), help="these, on what is there")
    parser.add_argument("--afresh", action="store_true", help="execute those too that nothing has changed for")
    parser.add_argument("--accept", action="store_true", help="make this run the accepted one")
    options = parser.parse_args()
    return regress(
        Places(Run(profile=options.profile, dataset=options.dataset)),
        options.only or chapters(),
        list(dict.fromkeys(options.seeds or (SEEDS if options.accept else [0]))),
        whole=not options.only,
        afresh=options.afresh,
        accepting=options.accept,
    )
