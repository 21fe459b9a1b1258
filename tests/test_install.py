"""An installation that was killed or that failed is noticed and mended; a whole one is not touched."""

import base64
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from book.build import install
from book.build.run_chapters import ROOT

pytestmark = pytest.mark.slow
night = pytest.mark.nightly
MANY = 1500  # files, so that there is time to be killed
SCRIPT = (
    "import sys; sys.path.insert(0, {!r}); from book.build import install; install.install(install.Path({!r}), {!r})"
)


def wheel(folder: Path, name: str, version: str, files: int = 3, size: int = 0) -> None:
    """A wheel of small files, and one of a given size."""
    folder.mkdir(exist_ok=True)
    about = f"{name}-{version}.dist-info"
    content = {f"{name}/part{i}.py": f"version = {version!r}\n" * 20 for i in range(files)}
    content |= {f"{name}/large.py": "#" * size} if size else {}
    content[f"{about}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    content[f"{about}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    lines = [f"{path},sha256={digest(text)},{len(text)}" for path, text in content.items()]
    content[f"{about}/RECORD"] = "\n".join([*lines, f"{about}/RECORD,,"]) + "\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in content.items():
            archive.writestr(path, text)


def digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> Path:
    """Two versions of a package of many files, and a small one."""
    folder = tmp_path_factory.mktemp("wheels")
    for version in ("1.0", "2.0"):
        wheel(folder, "many", version, MANY)
    wheel(folder, "few", "1.0")
    return folder


@pytest.fixture(scope="module")
def finished(wheels, tmp_path_factory) -> Path:
    """A whole environment with the first version."""
    home = tmp_path_factory.mktemp("finished") / ".venv"
    install.install(home / ".installed-1", steps(wheels, "many==1.0", "few"))
    return home


def steps(wheels: Path, *names: str) -> list[tuple[str, ...]]:
    return [(*install.PIP, "--no-index", "--find-links", str(wheels), "--no-compile", *names)]


@pytest.fixture
def home(finished, tmp_path) -> Path:
    """A copy of it."""
    return shutil.copytree(finished, tmp_path / ".venv", symlinks=True)


def start(stamp: Path, given: list[tuple[str, ...]], **options) -> subprocess.Popen:
    """The installation as a process of its own."""
    code = SCRIPT.format(str(ROOT), str(stamp), given)
    return subprocess.Popen([sys.executable, "-c", code], start_new_session=True, **options)


def site(home: Path) -> Path:
    return next(home.glob("lib/python*/site-packages"))


def state(home: Path) -> tuple[list[str], list[str]]:
    """The stamps and marks, and the versions of the files of the package of many files."""
    signs = sorted(path.name for path in home.glob(".[bi]*"))
    return signs, sorted({path.read_text()[:15] for path in (site(home) / "many").glob("*.py")})


def kill_when(process: subprocess.Popen, there) -> None:
    """End it and all that it started, as kill -9 does, at the moment when something is seen."""
    while not there():
        assert process.poll() is None, "it ended before that was seen"
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_whole_installation_leaves_one_stamp_and_is_renewed_in_place(home, wheels, capfd, monkeypatch):
    assert state(home) == ([".installed-1"], ["version = '1.0'"])
    (home / "of_the_reader").touch()
    monkeypatch.setattr(install, "EVERY", 0.3)
    install.install(home / ".installed-2", steps(wheels, "many==2.0"))
    assert state(home) == ([".installed-2"], ["version = '2.0'"]) and install.damaged(home) == []
    assert (home / "of_the_reader").exists()
    assert re.search(r"^ +\d+ s  ", capfd.readouterr().out, re.MULTILINE)  # it shows that it is alive


def part(home: Path, number: int, version: str):
    """Whether a file of the package is there in a version."""

    def there() -> bool:
        path = site(home) / "many" / f"part{number}.py"
        return path.read_text()[:15] == f"version = '{version}'" if path.exists() else version == ""

    return there


@pytest.mark.parametrize(
    ("number", "version"),
    [pytest.param(0, "", marks=night), (100, "2.0"), pytest.param(MANY - 1, "2.0", marks=night)],
    ids=str,
)
def test_a_renewal_that_is_killed_is_begun_anew(home, wheels, capfd, number, version):
    """While the old version goes, in the middle of the new one, and when all its files are there."""
    kill_when(start(home / ".installed-2", steps(wheels, "many==2.0", "few")), part(home, number, version))
    assert state(home)[0] == [".begun"]  # make finds no stamp
    install.install(home / ".installed-2", steps(wheels, "many==2.0", "few"))
    assert state(home) == ([".installed-2"], ["version = '2.0'"]) and install.damaged(home) == []
    assert {"many", "few", "pip"} <= {name for name, _ in install.packages(home)}
    assert not list(site(home).glob("~*")) and not home.with_name(".venv.old").exists()
    assert "was interrupted: it begins anew" in capfd.readouterr().out


@pytest.mark.parametrize("seen", ["pyvenv.cfg", pytest.param("lib/python*/site-packages/pip/_internal", marks=night)])
def test_an_environment_that_is_half_made_is_made_anew(tmp_path, wheels, seen):
    home = tmp_path / ".venv"
    kill_when(start(home / ".installed-1", steps(wheels, "few")), lambda: list(home.glob(seen)))
    assert not list(home.glob(".installed*"))
    install.install(home / ".installed-1", steps(wheels, "few"))
    assert (home / ".installed-1").exists() and install.damaged(home) == []


def test_a_full_disk_is_noticed_and_mended(home, wheels):
    """No file may become larger than a limit: that is what pip sees of a full disk."""
    wheel(wheels, "large", "1.0", size=3_000_000)
    process = start(home / ".installed-2", steps(wheels, "large"), stderr=subprocess.PIPE, text=True,
                    preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000,) * 2))  # fmt: skip
    assert "The installation stopped" in process.communicate()[1] and process.returncode
    assert not (home / ".installed-2").exists()
    install.install(home / ".installed-2", steps(wheels, "large"))
    assert (home / ".installed-2").exists() and install.damaged(home) == []


def test_what_failed_before_anything_changed_costs_nothing(home, wheels):
    with pytest.raises(install.InstallError, match="pip install ended with 1.*run make again"):
        install.install(home / ".installed-2", steps(wheels, "not-there"))  # no network, for instance
    assert state(home) == ([".installed-1"], ["version = '1.0'"])


def test_lost_and_cut_files_and_records_are_seen(home):
    part, record = site(home) / "few" / "part1.py", site(home) / "few-1.0.dist-info" / "RECORD"
    for path, content in ((part, None), (part, b"version"), (record, None)):
        before = path.read_bytes()
        path.unlink() if content is None else path.write_bytes(content)
        assert install.damaged(home) == ["few"]
        path.write_bytes(before)
        assert install.damaged(home) == []
    part.unlink()
    with pytest.raises(install.InstallError, match="few in .venv lost files or parts of them: run make again"):
        install.install(home / ".installed-2", [])
    assert state(home)[0] == [".begun"]


def test_without_a_gpu_pip_takes_the_small_build_for_the_pinned_version(tmp_path):
    """As the README says: the address of the CPU builds is named beside the usual one."""
    usual, small = tmp_path / "usual", tmp_path / "small"
    wheel(usual, "torch", "2.14.1")
    wheel(small, "torch", "2.14.1+cpu")
    call = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-index", "--quiet"]
    call += ["--find-links", str(usual), "--report", "-", "torch==2.14.1"]
    for links, version in ((None, "2.14.1"), (small, "2.14.1+cpu")):
        given = call if links is None else [*call, "--find-links", str(links)]
        report = json.loads(subprocess.run(given, capture_output=True, check=True).stdout)
        assert [found["metadata"]["version"] for found in report["install"]] == [version]
