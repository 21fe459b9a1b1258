"""Execute the chapters with papermill into a build copy; committed notebooks stay untouched."""

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest.mock import patch

import nbformat
import papermill
import yaml

ROOT = Path(__file__).resolve().parent.parent
PARAMETERS = ("profile", "dataset", "seed", "artifacts")
LAST = "01_the_idea"  # read first, run last: it shows the model that the others train
CELL_SECONDS = 6 * 3600  # a cell that takes longer hangs
KERNEL = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "OMP_NUM_THREADS": "2",
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin while they wait slow a shared machine tenfold
    "GOMP_SPINCOUNT": "1000",  # some microseconds: less doubles the time of a small model's steps on a quiet machine
    "MALLOC_TRIM_THRESHOLD_": "4294967296",  # glibc keeps large buffers instead of returning them after each call
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "TOKENIZERS_PARALLELISM": "false",
    "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this .venv, not one of the home folder
}


class ChapterError(RuntimeError):
    """A chapter could not be run; the message says in one sentence which, where and why."""


@dataclass(frozen=True)
class Run:
    """One way through the book: where its chapters are, what to do, and where everything goes."""

    notebooks: Path = ROOT / "notebooks"
    work: Path = ROOT / "_build" / "book"  # executed copies and pages
    artifacts: Path = ROOT / "artifacts"
    profile: str = "ci"
    dataset: str = "storybook"
    seed: int = 0

    @property
    def executed(self) -> Path:
        """Where finished notebooks are; a notebook that failed is never here."""
        return self.work / "executed"

    @property
    def metrics(self) -> Path:
        """Where this run's chapters record their metrics."""
        return self.artifacts / self.dataset / self.profile / "metrics"

    def parameters(self) -> dict:
        """What a chapter's ``parameters`` cell is set to; paths are relative to the notebooks."""
        values = (self.profile, self.dataset, self.seed)
        artifacts = os.path.relpath(self.artifacts, self.notebooks)
        return dict(zip(PARAMETERS, (*values, artifacts), strict=True))


@dataclass(frozen=True)
class Result:
    """One executed chapter."""

    chapter: str
    seconds: float

    as_dict = asdict


def chapters(toc: Path = ROOT / "book" / "_toc.yml") -> list[str]:
    """The chapters' names in the order in which a reader meets them."""
    parts = yaml.safe_load(toc.read_text())["parts"]
    files = [entry["file"] for part in parts for entry in part["chapters"]]
    return [Path(file).name for file in files if file.startswith("notebooks/")]


def execution_order(names: list[str]) -> list[str]:
    """The same chapters in the order in which each finds its inputs."""
    return sorted(names, key=lambda name: (name == LAST, names.index(name)))


def check_parameters(notebook: Path, wanted: dict) -> dict:
    """The wanted parameters that differ from the notebook's own values.

    Raises :class:`ChapterError` for one that the notebook does not have.
    """
    found = papermill.inspect_notebook(str(notebook))
    missing = [name for name in wanted if name not in found]
    if missing:
        raise ChapterError(
            f"{notebook.name} has no parameter {', '.join(missing)}: give it a cell tagged "
            f"`parameters` that sets {', '.join(PARAMETERS)}."
        )
    return {k: v for k, v in wanted.items() if found[k]["default"] not in (repr(v), f'"{v}"')}


def execute(run: Run, chapter: str) -> Result:
    """Run one chapter; its copy appears in ``run.executed`` only when every cell worked."""
    source = run.notebooks / f"{chapter}.ipynb"
    if not source.exists():
        raise ChapterError(f"{source.name} is listed in book/_toc.yml but is not in notebooks/.")
    parameters = check_parameters(source, run.parameters())
    attempt, finished = run.work / "failed" / source.name, run.executed / source.name
    attempt.parent.mkdir(parents=True, exist_ok=True)
    run.executed.mkdir(parents=True, exist_ok=True)
    finished.unlink(missing_ok=True)
    start = time.perf_counter()
    try:
        with patch.dict(os.environ, KERNEL):
            papermill.execute_notebook(
                str(source),
                str(attempt),
                parameters,
                kernel_name="python3",
                cwd=str(run.notebooks),
                progress_bar=False,
                execution_timeout=CELL_SECONDS,
                extra_arguments=["--IPKernelApp.log_level=40"],  # errors only
            )
    except papermill.PapermillExecutionError as error:
        raise ChapterError(
            f"{source.name} failed in the cell that starts with `{error.source.splitlines()[0]}`: "
            f"{error.ename}: {error.evalue} (the whole of it is in {os.path.relpath(attempt)})"
        ) from error
    seconds = time.perf_counter() - start
    nbformat.write(without_records(nbformat.read(attempt, as_version=4)), finished)
    attempt.unlink()
    return Result(chapter, seconds)


def without_records(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook without papermill's records, which name folders of this machine, and without widgets' state."""
    notebook.metadata.pop("widgets", None)
    for part in (notebook, *notebook.cells):
        part.metadata.pop("papermill", None)
    return notebook


def execute_all(run: Run, names: list[str]) -> list[Result]:
    """Run the chapters one after another, with one progress line each; the first failure stops."""
    results = []
    width = max(map(len, names))
    for number, name in enumerate(execution_order(names), 1):
        print(f"  [{number}/{len(names)}] {name:{width}} ", end="", flush=True)
        try:
            results.append(execute(run, name))
        except ChapterError:
            print("FAILED", flush=True)
            raise
        print(f"{results[-1].seconds:7.1f} s  ok", flush=True)
    return results
