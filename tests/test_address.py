"""The repository's address is the same wherever it stands, and one command changes it everywhere."""

import re
import shutil
import subprocess

import pytest

from book.build import address
from book.build.nightly import files
from book.build.run_chapters import ROOT

NAMED = (
    "_config.yml",
    "CITATION.cff",
    "pyproject.toml",
    "README.md",
    "notebooks/01_the_idea.ipynb",
    ".github/PULL_REQUEST_TEMPLATE.md",
)


def test_every_file_names_the_same_repository():
    owner, name = address.current().split("/")
    host = r"(?:github\.com|google\.com/github|mybinder\.org/v2/gh)"
    other = re.compile(rf"{host}/(?:{owner}/(?!{name}\b)|(?!{owner}/)[\w-]+/{name}\b)")
    hits = [
        str(path)
        for path in files()
        if path.suffix != ".png" and other.search(path.read_bytes().decode("utf-8", "ignore"))
    ]
    assert hits == []


@pytest.fixture
def clone(tmp_path):
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    for name in NAMED:
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    (tmp_path / "picture.png").write_bytes(b"\xff" + address.current().encode())
    (tmp_path / "other.md").write_text(f"https://github.com/{address.current()}-photographs and xlxmert")
    return tmp_path


@pytest.mark.parametrize("url", ["https://github.com/you/my.book", "https://github.com/you/my.book/",
                                 "https://github.com/you/my.book.git"])  # fmt: skip
def test_one_command_changes_it_everywhere(clone, url):
    old = address.current()
    assert sorted(str(path.relative_to(clone)) for path in address.change(url, clone)) == sorted(NAMED)
    assert address.current(clone) == "you/my.book" and address.change(url, clone) == []
    for name in NAMED:
        text = (clone / name).read_text("utf-8")
        assert "https://github.com/you/my.book" in text or name == "README.md"
        assert re.search(r"(github|gh)(\.com)?/you/my\.book", text) and old not in text
    assert (clone / "other.md").read_text().startswith(f"https://github.com/{old}-photographs")
    address.change(f"https://github.com/{old}", clone)
    assert all((clone / name).read_bytes() == (ROOT / name).read_bytes() for name in NAMED)


@pytest.mark.parametrize("url", ["", "you/book", "https://example.org/you/book", "https://github.com/you", "-"])
def test_what_is_no_address_is_refused(clone, url):
    with pytest.raises(ValueError, match="is no address of a repository"):
        address.change(url, clone)
