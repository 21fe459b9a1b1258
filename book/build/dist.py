"""The wheel and the source distribution: ``python -m book.build.dist`` (or ``make dist``), into ``_build/dist``.

They are built in a copy of what git tracks, so that nothing that lies about gets in.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from book.build.nightly import files
from book.build.run_chapters import ROOT

HOME = ROOT / "_build" / "dist"
BUILD = "from setuptools import build_meta as b; print(b.build_{0}({1!r}))"


class DistError(RuntimeError):
    """The package cannot be built; the message says why."""


def version() -> str:
    """The package's version."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]


def check_tag(tag: str) -> None:
    """Raise DistError unless the tag is the version's: v0.1.0 of 0.1.0."""
    if tag != f"v{version()}":
        raise DistError(f"The tag is {tag}, but pyproject.toml says version {version()}: change one of them.")


def build(kind: str, home: Path = HOME) -> Path:
    """Build the "wheel" or the "sdist" into a folder; returns its path. Raises DistError."""
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        for path in files():
            target = tree / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        done = subprocess.run(
            [sys.executable, "-c", BUILD.format(kind, str(home))], cwd=tree, capture_output=True, text=True
        )
    if done.returncode:
        raise DistError(f"The {kind} does not build:\n{done.stderr[-2000:]}")
    return home / done.stdout.split()[-1]


def main() -> int:
    """The command behind ``make dist``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tag", type=str, help="refuse unless this is the version's tag")
    options = parser.parse_args()
    try:
        if options.tag is not None:
            check_tag(options.tag)
        shutil.rmtree(HOME, ignore_errors=True)
        for kind in ("wheel", "sdist"):
            path = build(kind)
            print(f"{path.relative_to(ROOT)}  {path.stat().st_size / 1e6:.0f} MB")
    except DistError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
