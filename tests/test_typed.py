"""What a user types: paths count from where they were typed, names that are wrong are told the right ones."""

import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from book.build import pages, read
from book.build.run_chapters import FOLDERS, ROOT, chapters, known
from book.regress import compare
from book.train import weights
from xlxmert_core.chapters.begin import begin, from_notebooks
from xlxmert_core.datasets import DATASETS, open_dataset
from xlxmert_core.datasets.profiles import PROFILES
from xlxmert_core.files import typed_path


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone whose shell is in its root, with photographs beside it and in the home folder."""
    for folder in ("clone/notebooks", "clone/photos", "home/photos"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "clone" / "notebooks" / "01_a.ipynb").touch()
    monkeypatch.chdir(tmp_path / "clone")
    monkeypatch.setenv("PWD", str(tmp_path / "clone"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "clone"


@pytest.mark.parametrize("inside", [".", "notebooks"])
def test_a_typed_path_counts_from_where_it_was_typed(clone, monkeypatch, inside):
    monkeypatch.chdir(clone / inside)  # a chapter runs in notebooks/
    assert typed_path("photos").samefile(clone / "photos")
    assert typed_path("../home/photos").samefile(clone.parent / "home" / "photos") or inside == "notebooks"
    assert typed_path("~/photos") == clone.parent / "home" / "photos"
    assert typed_path(clone / "photos") == clone / "photos"
    assert typed_path("nowhere") == Path.cwd() / "nowhere"


@pytest.mark.parametrize("typed", ["photos", "./photos", "~/photos"])
def test_the_data_sets_folder_is_the_typed_one_also_in_a_chapter(clone, monkeypatch, typed):
    monkeypatch.setenv("XLXMERT_COCO", typed)
    monkeypatch.chdir(clone / "notebooks")
    assert open_dataset("coco", "elsewhere").folder.samefile(os.path.expanduser(clone / Path(typed).expanduser()))
    monkeypatch.delenv("XLXMERT_COCO")
    assert open_dataset("coco", "elsewhere").folder == Path("elsewhere")


@pytest.mark.parametrize("command", [pages.main, compare.main, weights.main])
def test_every_command_makes_the_folders_absolute_and_knows_the_names(clone, monkeypatch, capsys, command):
    for name in FOLDERS:
        monkeypatch.setenv(name, "~/photos" if name == "XLXMERT_VQA" else "photos")
    for wrong in (["--dataset", "nothing"], ["--profile", "nothing"]):
        monkeypatch.setattr(sys, "argv", ["x", *wrong])
        with pytest.raises(SystemExit) as ended:
            command()
        said = capsys.readouterr().err
        names = DATASETS if wrong[0] == "--dataset" else PROFILES
        assert ended.value.code == 2 and "invalid choice: 'nothing'" in said and all(name in said for name in names)
    homes = {"XLXMERT_VQA": clone.parent / "home"}
    assert {name: os.environ[name] for name in FOLDERS} == {n: str(homes.get(n, clone) / "photos") for n in FOLDERS}


def test_a_chapter_that_is_none_is_told_the_others(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["x", "--only", "nothing"])
    with pytest.raises(SystemExit):
        pages.main()
    said = capsys.readouterr().err
    assert all(name in said for name in chapters())


def test_the_names_that_commands_know_are_the_cores():
    assert known("profiles", "PROFILES") == list(PROFILES) and known("__init__", "DATASETS") == list(DATASETS)


@pytest.mark.parametrize(("inside", "wanted"), [("notebooks", "../artifacts"), (".", "artifacts")])
def test_artifacts_stay_in_the_clone_wherever_a_chapter_runs(clone, monkeypatch, inside, wanted):
    monkeypatch.chdir(clone / inside)
    assert os.path.realpath(from_notebooks("../artifacts")) == str(clone / "artifacts")
    _, data, files = begin("smoke", "junior", 0, "../artifacts")
    assert files.folder.resolve() == clone / "artifacts" / "junior" / "smoke"
    assert data.folder == files.folder / "data" / "junior"
    other = begin("smoke", "junior", 0, "../artifacts", about="storybook")
    assert other.files.folder == files.folder and other.data.folder == files.folder / "about" / "storybook"
    assert sorted(path.name for path in clone.parent.iterdir()) == ["clone", "home"]
    assert from_notebooks(clone / "x") == clone / "x" and from_notebooks("~/x") == clone.parent / "home" / "x"


def test_from_anywhere_they_go_to_the_clone_that_the_package_lies_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert from_notebooks("../artifacts") == ROOT / "artifacts"


@pytest.fixture
def site(tmp_path, monkeypatch):
    (tmp_path / "index.html").write_text("the book")
    monkeypatch.setattr(read, "PAGES", tmp_path)
    return tmp_path


def test_a_port_in_use_gives_the_next_one(site):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with read.serve(site, port) as server:
            assert port < server.server_port < port + read.TRIED


def test_no_free_port_is_one_sentence(site, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(read, "TRIED", 1)
        monkeypatch.setattr(sys, "argv", ["read", str(taken.getsockname()[1])])
        assert read.main() == 1
    assert "is free (Address already in use): name another with make read PORT=9000." in capsys.readouterr().err


@pytest.mark.parametrize("port", ["0", "65536", "-1", "abc", "1.5"])
def test_what_is_no_port_is_said(monkeypatch, capsys, port):
    monkeypatch.setattr(sys, "argv", ["read", "--", port])
    with pytest.raises(SystemExit):
        read.main()
    assert f"{port!r} is no port: give a number from 1 to 65535" in capsys.readouterr().err


def test_without_pages_that_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(read, "PAGES", tmp_path / "none")
    monkeypatch.setattr(sys, "argv", ["read"])
    assert read.main() == 1 and "run make book first" in capsys.readouterr().err


def test_make_read_says_which_port_it_took_and_serves(site):
    code = "import sys; from pathlib import Path; from book.build import read\n"
    code += "read.PAGES = Path(sys.argv.pop(1)); read.main()"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-c", code, str(site), port]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            said = process.stdout.readline()
            assert said.startswith(f"Port {port} is in use. Open http://127.0.0.1:")
            with urllib.request.urlopen(said.split()[6]) as page:
                assert page.read() == b"the book"
            process.terminate()
