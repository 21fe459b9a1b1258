"""Files that are whole or not there, written beside their place and renamed over it; one writer; JSON; fingerprints."""

import hashlib
import json
import os
import time
import tokenize
import zipfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where nobody is kept out
    fcntl = None


# What numpy raises of a damaged .npy or .npz file; TokenError from Python 3.12 on.
NO_ARRAYS = (ValueError, TypeError, KeyError, EOFError, OSError, MemoryError, SyntaxError, zipfile.BadZipFile,
             tokenize.TokenError)  # fmt: skip


def why(error: BaseException) -> str:
    """What an error says, on one line, for a sentence of ours: it may quote a name with a line's end in it."""
    return " ".join(str(error).split())


def some(names: Sequence[str], most: int = 8) -> str:
    """Names as a sentence tells them: the first few, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class BusyError(ValueError):
    """A place that another process writes; the message says which one and what to do."""


@contextmanager
def replacing(path: str | os.PathLike, failures: tuple[type[Exception], ...] = (OSError,),
              remedy: str = "free some space, or name another folder") -> Generator[Path]:  # fmt: skip
    """A temporary file to write to; at the end it is flushed to disk and renamed over ``path``: all or nothing.

    Args:
        failures: what the writer raises on a full disk, for instance; it becomes an OSError in one sentence.
        remedy: how that sentence ends.

    Whatever is raised, the temporary file is removed and what was at ``path`` stays.
    """
    temporary = Path(f"{os.fspath(path)}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except failures as error:
        reason = getattr(error, "strerror", None) or error
        raise OSError(f"{path} cannot be written ({reason}): {remedy}.") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def only_writer(path: str | os.PathLike, patience: float = 0.0) -> Generator[None]:
    """Keep other processes from writing ``path`` meanwhile, by a lock on the file ``path``.lock beside it.

    The system gives the lock back when the process ends, however it does; its file is removed by whoever has the lock.
    Raises :class:`BusyError` when another process keeps it for longer than ``patience`` seconds.
    """
    if fcntl is None:
        yield
        return
    place, until = Path(f"{os.fspath(path)}.lock"), time.monotonic() + patience
    place.parent.mkdir(parents=True, exist_ok=True)
    while (file := _locked(place)) is None:
        if time.monotonic() >= until:
            raise BusyError(f"Another process is writing {path}: wait until it has ended, or name another place.")
        time.sleep(0.02)
    try:
        yield
    finally:
        place.unlink(missing_ok=True)
        fcntl.flock(file, fcntl.LOCK_UN)  # closing alone would leave it to a forked process
        os.close(file)


def _locked(place: Path) -> int | None:
    """The lock file, open and locked; None while another has it, or has just removed it."""
    file = os.open(place, os.O_RDWR | os.O_CREAT, 0o644)
    with suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file), os.stat(place)):
            return file
    os.close(file)
    return None


def write_json(path: Path, value: object) -> None:
    """JSON to a temporary file beside ``path``, then renamed over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def typed_path(text: str | os.PathLike) -> Path:
    """A path that somebody typed, absolute: ``~`` is their home, and it counts from where they were.

    That is the working folder or, for a chapter, whose working folder is notebooks/, the one that the shell was in.
    """
    path = Path(text).expanduser()
    places = [Path.cwd() / path, Path(os.environ.get("PWD", "")).absolute() / path]
    return next((place for place in places if place.exists()), places[0])


def fingerprint(path: str | os.PathLike) -> str:
    """SHA-256 of a file, or of the names and contents of a folder; 16 hex digits."""
    digest, path = hashlib.sha256(), Path(path)
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        if path.is_dir():
            digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
        with open(file, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]
