"""Files that are whole or not there: written beside their place and renamed over it; JSON; fingerprints."""

import hashlib
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


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


def write_json(path: Path, value: object) -> None:
    """JSON to a temporary file beside ``path``, then renamed over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


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
