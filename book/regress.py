"""Run every chapter and compare its metrics with the accepted run: ``python book/regress.py`` (or ``make regress``).

The accepted *numbers* are committed, in ``tests/accepted/{dataset}-{profile}.json``: for each chapter the seeds, and
for each metric its mean and its spread over them. The accepted *figures* are large: ``--accept`` keeps the executed
notebooks in ``artifacts/accepted/`` of the machine where it runs. A run goes to ``_build/regress/``, away from what
readers use. Any real change fails, better ones too: unless they are accepted, nobody sees them being lost again.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bars import read_bars
from regress_report import Section, write_report
from regress_verdicts import Judgement, judge, summary
from run_chapters import ROOT, Run, chapters, execute, execution_order
from status_page import BARS

from xlxmert_core.artifacts import replacing, write_json

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
    code: str
    seconds: float = 0.0
    metrics: dict[str, float] | None = None
    error: str = ""


def code_of(notebooks: Path) -> str:
    """A fingerprint of everything that a chapter's result depends on: notebooks, core with weights, versions."""
    core = [p for p in (ROOT / "xlxmert_core").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    digest = hashlib.sha256()
    for path in sorted([*notebooks.glob("*.ipynb"), *core, ROOT / "requirements.txt"]):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def measure(run: Run, chapter: str, code: str, reuse: bool = False) -> Outcome:
    """Execute one chapter and keep its record; with ``reuse``, a record of the very same code is taken as it is."""
    record, metrics = run.work / "records" / f"{chapter}.json", run.metrics / f"{chapter}.json"
    if reuse and record.exists() and (run.executed / f"{chapter}.ipynb").exists():
        kept = Outcome(**json.loads(record.read_text()))
        if kept.code == code:
            return kept
    record.unlink(missing_ok=True)
    metrics.unlink(missing_ok=True)  # what an earlier run measured is not this run's
    try:
        seconds = execute(run, chapter).seconds
        measured = json.loads(metrics.read_text()) if metrics.exists() else {}
    except (RuntimeError, TimeoutError) as error:  # ChapterError, a kernel that died, a cell that hung
        said = str(error) if chapter in str(error) else f"{chapter}.ipynb could not be run: {error}"
        return Outcome(chapter, run.seed, code, error=said)
    outcome = Outcome(chapter, run.seed, code, round(seconds, 1), measured)
    write_json(record, asdict(outcome))
    return outcome


def measure_all(places: Places, names: list[str], seeds: list[int], whole: bool, reuse: bool) -> list[Outcome]:
    """Every chapter with every seed, one progress line each; a failure does not stop the others.

    A whole run starts from empty artifacts, so that no leftover hides what broke.
    """
    outcomes, code = [], code_of(places.base.notebooks)
    for seed in seeds:
        run = places.run(seed)
        if whole and not reuse:
            shutil.rmtree(run.work, ignore_errors=True)
        for name in execution_order(names):
            print(f"  seed {seed}  {name:{max(map(len, names))}} ", end="", flush=True)
            outcomes.append(measure(run, name, code, reuse))
            print("FAILED" if outcomes[-1].error else f"{outcomes[-1].seconds:7.1f} s", flush=True)
    return outcomes


def read_accepted(path: Path) -> dict[str, dict]:
    """``{chapter: {"code", "commit", "seeds", "seconds", "metrics"}}``; empty when nothing was accepted."""
    return json.loads(path.read_text()) if path.exists() else {}


def section(places: Places, outcomes: list[Outcome], accepted: dict) -> Section:
    """What the report shows of one chapter; ``outcomes`` are its own, one a seed."""
    chapter, good = outcomes[0].chapter, [o for o in outcomes if not o.error]
    gated = (places.base.profile, places.base.dataset) == ("ci", "storybook")  # what the bars are written for
    bars = read_bars(places.bars).get(chapter, {}) if gated else {}
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


def regress(places: Places, names: list[str], seeds: list[int], *, whole: bool = True, reuse: bool = False,
            accepting: bool = False) -> int:  # fmt: skip
    """Run, compare, report, and accept if asked; the exit code: 0 when nothing really changed.

    Args:
        names: the chapters; ``whole`` says that they are all there are, so that one that was accepted is missed.
        reuse: do not execute again what was executed with the same code.
    """
    before = read_accepted(places.accepted)
    print(f"Running the chapters for comparison ({places.name}, seeds {' '.join(map(str, seeds))}):", flush=True)
    outcomes = measure_all(places, names, seeds, whole, reuse)
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
    real = [j for j in judgements if j.kind.fails]
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
    parser.add_argument("--profile", default="ci")
    parser.add_argument("--dataset", default="storybook", help="storybook or coco")
    parser.add_argument("--seeds", type=int, nargs="+", help="0; with --accept 0 1 2; more find smaller changes")
    parser.add_argument("--only", nargs="+", metavar="CHAPTER", choices=chapters(), help="these, on what is there")
    parser.add_argument("--reuse", action="store_true", help="keep what was executed with the very same code")
    parser.add_argument("--accept", action="store_true", help="make this run the accepted one")
    options = parser.parse_args()
    return regress(
        Places(Run(profile=options.profile, dataset=options.dataset)),
        options.only or chapters(),
        list(dict.fromkeys(options.seeds or (SEEDS if options.accept else [0]))),
        whole=not options.only,
        reuse=options.reuse,
        accepting=options.accept,
    )


if __name__ == "__main__":
    sys.exit(main())
