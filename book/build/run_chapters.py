"""Execute a chapter with papermill into a build copy; committed notebooks stay untouched (``lanes.py`` runs all)."""

import argparse
import ast
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent.parent
PARAMETERS = ("profile", "dataset", "seed", "artifacts")
PHOTOGRAPHS = ("coco", "catalogue")  # data sets that nothing has drawn
FOLDERS = tuple(f"XLXMERT_{name}" for name in ("COCO", "VG", "GQA", "NLVR2", "VQA", "AUTHORS", "CATALOGUE"))  # settings
WATCH = ROOT / "book" / "build" / "watch.py"
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
    dataset: str = "junior"
    seed: int = 0

    @property
    def executed(self) -> Path:
        """Where finished notebooks are; a notebook that failed is never here."""
        return self.work / "executed"

    @property
    def folder(self) -> Path:
        """Where this run's chapters leave things for each other."""
        return self.artifacts / self.dataset / self.profile

    @property
    def metrics(self) -> Path:
        """Where this run's chapters record their metrics."""
        return self.folder / "metrics"

    @property
    def photographs(self) -> bool:
        """Whether its pictures are photographs, of which no scene is known."""
        return self.dataset in PHOTOGRAPHS

    @property
    def own_painter(self) -> bool:
        """Whether chapters 08 and 09 teach this run's painter (``Profile.speaker``) and not the shipped one."""
        return self.photographs or self.dataset == "wide" or self.profile == "train"

    @property
    def gated(self) -> bool:
        """Whether it is what the bars are written for: a run with the usual data set and profile."""
        return (self.profile, self.dataset) == (Run.profile, Run.dataset)

    def opened(self, chapter: str) -> Path:
        """Where a chapter's kernel says which artifacts it opened (``watch.py``)."""
        return self.work / "opened" / f"{chapter}.json"

    def parameters(self) -> dict:
        """What a chapter's ``parameters`` cell is set to; paths are relative to the notebooks."""
        values = (self.profile, self.dataset, self.seed)
        artifacts = os.path.relpath(self.artifacts, self.notebooks)
        return dict(zip(PARAMETERS, (*values, artifacts), strict=True))


@dataclass(frozen=True)
class Result:
    """One executed chapter, as its record keeps it (``kept.py``)."""

    chapter: str
    seconds: float
    megabytes: float | None = None  # its kernel's peak; None where there is no /proc
    key: str = ""  # what it follows from
    made: dict[str, str] | None = None  # notebook, metrics and artifacts -> fingerprint; None until it has ended
    kept: bool = False  # an earlier run executed it


def known(module: str, table: str) -> list[str]:
    """The names in a table of the core, read off its source: importing it would bring PyTorch."""
    tree = ast.parse((ROOT / "xlxmert_core" / "datasets" / f"{module}.py").read_text("utf-8"))
    tables = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
    return [ast.literal_eval(key) for key in tables[table].keys]  # ty: ignore[missing-attribute]  a dict


def add_choices(parser: argparse.ArgumentParser, profile: str = Run.profile, dataset: str = Run.dataset) -> None:
    """The options that name a run, with the names that there are; settings that name folders become absolute.

    Chapters run in notebooks/, but what was typed counts from here.
    """
    profiles, sets = known("profiles", "PROFILES"), known("__init__", "DATASETS")
    parser.add_argument("--profile", default=profile, choices=profiles, help=f"how much to do: {', '.join(profiles)}")
    parser.add_argument("--dataset", default=dataset, choices=sets, help=f"{', '.join(sets)}; {dataset} when left out")
    for name in FOLDERS:
        if os.environ.get(name):
            os.environ[name] = os.path.abspath(os.path.expanduser(os.environ[name]))


def chapters(toc: Path = ROOT / "book" / "_toc.yml") -> list[str]:
    """The chapters' names in the order in which a reader meets them."""
    parts = yaml.safe_load(toc.read_text())["parts"]
    files = [entry["file"] for part in parts for entry in part["chapters"]]
    return [Path(file).name for file in files if file.startswith("notebooks/")]


def check_parameters(notebook: Path, wanted: dict) -> dict:
    """The wanted parameters that differ from the notebook's own values.

    Raises :class:`ChapterError` for one that the notebook does not have.
    """
    import papermill  # a second and a half, which the bench's many processes need not spend

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
    import nbformat
    import papermill

    source = run.notebooks / f"{chapter}.ipynb"
    if not source.exists():
        raise ChapterError(f"{source.name} is listed in book/_toc.yml but is not in notebooks/.")
    parameters = check_parameters(source, run.parameters())
    attempt, finished, seen = run.work / "failed" / source.name, run.executed / source.name, run.opened(chapter)
    for place in (attempt, finished, seen):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
    given = {"out": str(seen), "folder": os.path.realpath(run.folder), "home": str(run.notebooks)}
    start = time.perf_counter()
    try:
        papermill.execute_notebook(
            str(source),
            str(attempt),
            parameters,
            kernel_name="python3",
            progress_bar=False,
            execution_timeout=CELL_SECONDS,
            extra_arguments=[
                "--IPKernelApp.log_level=50",  # or it reports that it was interrupted when it is shut down
                f"--IPKernelApp.exec_lines=__import__('runpy').run_path({str(WATCH)!r}, {given!r})",
            ],
        )
    except papermill.PapermillExecutionError as error:
        raise ChapterError(
            f"{source.name} failed in the cell that starts with `{error.source.splitlines()[0]}`: "
            f"{error.ename}: {error.evalue} (the whole of it is in {os.path.relpath(attempt)})"
        ) from error
    except (RuntimeError, TimeoutError) as error:  # a kernel that died, a cell that hung
        raise ChapterError(f"{source.name} could not be run: {error}") from error
    seconds = time.perf_counter() - start
    nbformat.write(without_records(nbformat.read(attempt, as_version=4)), attempt)
    attempt.replace(finished)
    return Result(chapter, round(seconds, 1), json.loads(seen.read_text())["megabytes"])


def without_records(notebook: "NotebookNode") -> "NotebookNode":
    """The notebook without papermill's records, which name folders of this machine, and without widgets' state."""
    notebook.metadata.pop("widgets", None)
    for part in (notebook, *notebook.cells):
        part.metadata.pop("papermill", None)
    return notebook
