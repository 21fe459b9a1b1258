"""What an earlier run executed and need not be executed again: one record a chapter, believed only when all of it fits.

A chapter's key says what its result follows from: its notebook, the core with its weights, the pinned versions, the
run's parameters, its cores and settings, and the content of the artifacts that it needs (``chapters.toml``). A record
is written twice: with the key alone when the chapter starts, and with the content of all that it made when it has
ended. So what an interrupted chapter left half done is never taken for its result; the next attempt with the same key
goes on from its checkpoints, any other one starts from nothing.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

from book.build.run_chapters import ROOT, Result, Run

SETTINGS = ("XLXMERT_", "ONEDNN_", "ATEN_", "MKL_")  # environment variables that change what a chapter computes


def contents(*places: Path) -> str:
    """A fingerprint of files and of all files in folders, but for what Python compiled; 16 hex digits."""
    digest = hashlib.sha256()
    for place in places:
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file() and "__pycache__" not in path.parts:
                with open(path, "rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
                digest.update(f"{path.relative_to(place)} {found}\n".encode())
    return digest.hexdigest()[:16]


def write(path: Path, value: object) -> None:
    """JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".tmp").write_text(json.dumps(value, indent=1) + "\n")
    path.with_suffix(".tmp").replace(path)


@cache
def code() -> str:
    """A fingerprint of the core with its weights and of the versions, as they are when a process first asks."""
    return f"{sys.version_info[:2]} {contents(ROOT / 'xlxmert_core', ROOT / 'requirements.txt')}"


def key(run: Run, chapter: str, needs: Iterable[str], cores: int) -> str:
    """A fingerprint of everything that a chapter's result follows from, 12 hex digits."""
    settings = {name: value for name, value in os.environ.items() if name.startswith(SETTINGS)}
    notebook = contents(run.notebooks / f"{chapter}.ipynb")
    given = [notebook, code(), run.parameters(), cores, settings, _artifacts(run.folder, needs)]
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:12]


def kept(run: Run, chapter: str, wanted: str) -> Result | None:
    """The earlier result, if its key is the wanted one and all that it made is still as it was."""
    found = _read(run, chapter)
    if found is None or found.key != wanted or not found.made:
        return None
    return replace(found, kept=True) if found.made == _made(run, chapter, list(found.made)) else None


def begin(run: Run, chapter: str, wanted: str, makes: Iterable[str]) -> None:
    """Forget the earlier result, and remove what is left of it unless this attempt goes on with it.

    The long ``train`` profile keeps what it has.
    """
    before = _read(run, chapter)
    goes_on = before is not None and before.key == wanted and not before.made
    if not goes_on and run.profile != "train":
        for path in _found(run.folder, makes):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (run.metrics / f"{chapter}.json").unlink(missing_ok=True)
    write(_place(run, chapter), asdict(Result(chapter, 0.0, key=wanted)))


def finish(run: Run, result: Result, makes: Iterable[str]) -> Result:
    """Write the record, last of all."""
    names = [path.relative_to(run.folder).as_posix() for path in _found(run.folder, makes)]
    result = replace(result, made=_made(run, result.chapter, ["notebook", "metrics", *names]))
    write(_place(run, result.chapter), asdict(result))
    return result


def forget(run: Run, chapters: Iterable[str]) -> None:
    """Make the next run execute these chapters from nothing."""
    for chapter in chapters:
        _place(run, chapter).unlink(missing_ok=True)


def _place(run: Run, chapter: str) -> Path:
    return run.work / "records" / f"{chapter}.json"


def _read(run: Run, chapter: str) -> Result | None:
    try:
        return Result(**json.loads(_place(run, chapter).read_text()))
    except (OSError, TypeError, ValueError):  # none, or one that another version of the book wrote
        return None


def _found(folder: Path, patterns: Iterable[str]) -> list[Path]:
    """The artifacts that are there, each with its manifest."""
    return sorted({path for name in patterns for end in ("", ".manifest.json") for path in folder.glob(name + end)})


def _artifacts(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Name -> fingerprint of what is there."""
    return {path.relative_to(folder).as_posix(): contents(path) for path in _found(folder, names)}


def _made(run: Run, chapter: str, names: list[str]) -> dict[str, str]:
    """The same for what a chapter made: its executed notebook, its metrics and its artifacts."""
    own = {"notebook": run.executed / f"{chapter}.ipynb", "metrics": run.metrics / f"{chapter}.json"}
    there = {name: own.get(name, run.folder / name) for name in names}
    return {name: contents(path) for name, path in there.items() if path.exists()}
