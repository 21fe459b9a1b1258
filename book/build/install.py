"""Install the pinned packages into an environment: ``python3 book/build/install.py .venv/.installed-1234``.

The file named last says that the installation is whole: make looks for it alone. While anything changes there is a mark
in its place, which is renamed to it at the very end. So an installation that was killed, or that met a full disk, is
never believed: the next one finds the mark, removes the environment and begins anew (pip keeps what it downloaded).
Needs nothing but Python itself.
"""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PIP = ("-m", "pip", "install", "--disable-pip-version-check")
STEPS = (
    (*PIP, "-r", "requirements.txt"),
    (*PIP, "--no-deps", "--no-build-isolation", "-e", "."),
    ("-m", "pip", "check"),
    ("-m", "book.build.vendor"),
)
EVERY = 10  # seconds between two lines where there is no terminal


class InstallError(RuntimeError):
    """The environment is not whole; the message says in one sentence why and what to do."""


def install(stamp: Path, steps: Iterable[tuple[str, ...]] = STEPS) -> None:
    """Make or renew the environment that the stamp lies in, then leave the stamp. Raises InstallError."""
    home, mark = stamp.parent, stamp.parent / ".begun"
    old = home.with_name(f"{home.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if mark.exists():
        print(f"An earlier installation into {home.name} was interrupted: it begins anew.", flush=True)
        home.rename(old)  # first, so that a removal that is interrupted leaves no half of it
        shutil.rmtree(old)
    home.mkdir(parents=True, exist_ok=True)
    mark.touch()
    before, stamps = packages(home), sorted(home.glob(".installed-*"))
    for earlier in stamps:
        earlier.unlink()
    try:
        run([sys.executable, "-m", "venv", str(home)])
        for step in steps:
            run([str(home / "bin" / "python"), *step])
    except InstallError:
        if stamps and packages(home) == before and not damaged(home):  # no network, for instance: nothing has changed
            mark.rename(stamps[0])
        raise
    if broken := damaged(home):
        raise InstallError(f"{', '.join(broken)} in {home.name} lost files or parts of them: run make again.")
    mark.rename(stamp)


def run(command: list[str]) -> None:
    """Run one step: on a terminal with its own progress, elsewhere with a line now and then. Raises InstallError."""
    if sys.stdout.isatty():
        code = subprocess.run(command, cwd=ROOT).returncode
    else:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, errors="replace")
        said = ["starts"]
        threading.Thread(target=lambda: said.extend(process.stdout or ()), daemon=True).start()
        begun = time.monotonic()
        while (code := wait(process)) is None:
            print(f"  {time.monotonic() - begun:4.0f} s  {said[-1].strip()[:100]}", flush=True)
    if code:
        raise InstallError(f"The installation stopped ({' '.join(command[1:4])} ended with {code}); run make again.")


def wait(process: subprocess.Popen) -> int | None:
    """How a process ended; None when it still runs after some seconds."""
    try:
        return process.wait(EVERY)
    except subprocess.TimeoutExpired:
        return None


def installed(home: Path) -> list[Distribution]:
    """The packages of an environment."""
    return list(distributions(path=[str(path) for path in home.glob("lib/python*/site-packages")]))


def packages(home: Path) -> list[tuple[str, str]]:
    """Names and versions of the packages."""
    return sorted((package.name, package.version) for package in installed(home))


def damaged(home: Path) -> list[str]:
    """Packages whose files are not all there in their full sizes."""
    return sorted({package.name for package in installed(home) if not whole(package)})


def whole(package: Distribution) -> bool:
    """Whether every file that pip recorded of a package has the size that it recorded."""
    files = [file for file in package.files or [] if file.size is not None]
    return bool(files) and all(size(str(package.locate_file(file))) == file.size for file in files)


def size(path: str | os.PathLike) -> int | None:
    """A file's size; None without the file."""
    try:
        return Path(path).stat().st_size
    except OSError:
        return None


def main() -> int:
    """The command behind the first make."""
    try:
        install(Path(sys.argv[1]))
    except (InstallError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
