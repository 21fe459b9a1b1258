"""What is too long for ``make test``, part by part: ``python -m book.build.nightly`` (or ``make nightly``).

The parts are the test files that have tests marked ``nightly``, ``make regress``, and both commands of the README in
a fresh clone with a fresh environment. The test files run two at a time; the other two parts want both cores.
Each part that passes leaves a stamp with the fingerprint of the tree; started again on the same tree, finished parts
are skipped. What a part says goes to ``_build/nightly/{part}.log``.
"""

import argparse
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from book.build.run_chapters import KERNEL, ROOT

HOME = ROOT / "_build" / "nightly"
PYTEST = (sys.executable, "-m", "pytest", "-m", "nightly")
RUNNING: list[subprocess.Popen] = []
STOPPED = threading.Event()  # Ctrl-C
ONE_CORE = {name: KERNEL[name] for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")} | {"OMP_NUM_THREADS": "1"}


def files(root: Path = ROOT) -> list[Path]:
    """What git knows or would add, sorted."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=root, capture_output=True, check=True, text=True).stdout.split("\0")
    return sorted(root / name for name in names if name and (root / name).is_file())


def tree(root: Path = ROOT) -> str:
    """A fingerprint of everything that would be committed."""
    digest = hashlib.sha256()
    for path in files(root):
        digest.update(f"{path.relative_to(root)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def parts() -> dict[str, list[str]]:
    """Name -> command: the test files, then what keeps both cores busy by itself."""
    marked = [path for path in sorted((ROOT / "tests").glob("test_*.py")) if "mark.nightly" in path.read_text("utf-8")]
    found = {path.stem: [*PYTEST, str(path), f"--junit-xml={HOME / path.stem}.xml"] for path in marked}
    found["regress"] = [sys.executable, "-m", "book.regress"]
    found["fresh"] = [sys.executable, "-m", "book.build.nightly", "--fresh"]
    return found


def fresh() -> None:
    """Both commands of the README, in a copy of the tree that has no environment and nothing made."""
    clone = HOME / "clone"
    shutil.rmtree(clone, ignore_errors=True)
    for path in files():
        target = clone / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    shared = ROOT.parent / "shared"
    if shared.exists():
        (HOME / "shared").unlink(missing_ok=True)
        (HOME / "shared").symlink_to(shared)
    subprocess.run(["git", "init", "--quiet"], cwd=clone, check=True)  # a test asks git what is tracked
    plain = {name: value for name, value in os.environ.items() if "MAKE" not in name}  # ARGS would be inherited
    for target in ("book", "test"):
        subprocess.run(["make", target], cwd=clone, env=plain, check=True)
    shutil.rmtree(clone)  # six gigabytes


def skipped(log: Path) -> str:
    """What pytest left out for want of something, photographs say, since such a part passes too."""
    counts = re.findall(r"(\d+) skipped", log.read_text("utf-8", errors="replace"))
    return f", but {counts[-1]} tests skipped: {os.path.relpath(log)}" if counts else ""


def passed(name: str, command: list[str], now: str) -> bool:
    """Whether a part holds for the tree as it is now; it is run unless it did before."""
    stamp, log = HOME / f"{name}.passed", HOME / f"{name}.log"
    if stamp.exists() and stamp.read_text() == now:
        print(f"  {name:24} skipped: it passed on this very tree", flush=True)
        return True
    print(f"  {name:24} begins", flush=True)
    begun, environment = time.monotonic(), os.environ | (ONE_CORE if name.startswith("test_") else {})
    with open(log, "w") as out:
        part = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT)
        RUNNING.append(part)
        code = part.wait()
    if STOPPED.is_set():
        return False
    outcome = f"FAILED: {os.path.relpath(log)}" if code else f"passed{skipped(log)}"
    print(f"  {name:24} {time.monotonic() - begun:7.0f} s  {outcome}", flush=True)
    if not code:
        stamp.write_text(now)
    return not code


def main() -> int:
    """The command behind ``make nightly``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="PART", choices=parts(), help="these parts")
    parser.add_argument("--fresh", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fresh:
        fresh()
        return 0
    HOME.mkdir(parents=True, exist_ok=True)
    now, commands = tree(), parts()
    names = list(options.only or commands)
    beside = [name for name in names if name.startswith("test_")]
    pool = ThreadPoolExecutor(2)
    try:
        outcomes = list(pool.map(lambda name: passed(name, commands[name], now), beside))
        return int(not all(outcomes + [passed(name, commands[name], now) for name in names if name not in beside]))
    except KeyboardInterrupt:
        STOPPED.set()
        for process in RUNNING:
            process.send_signal(signal.SIGINT)  # nothing to one that has ended
        print("\nInterrupted: make nightly goes on with the parts that had not ended.")
        return 130
    finally:
        pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    sys.exit(main())
