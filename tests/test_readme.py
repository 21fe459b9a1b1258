"""What the README tells a reader to type works, and its tree is the tree on disk."""

import re
import shlex
import subprocess
from collections import Counter
from pathlib import PurePosixPath as Path

import pytest

from book.build.nightly import files
from book.build.run_chapters import ROOT
from xlxmert_core.command.main import parser

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, block in BLOCKS if not kind for line in block.splitlines()]
TREE = next(block for kind, block in BLOCKS if kind == "text")
DISK = [Path(path.relative_to(ROOT).as_posix()) for path in files()]


def test_the_two_commands_are_there_and_make_knows_them():
    assert COMMANDS[:2] == ["make book", "make test"]
    for command in COMMANDS:
        if command.startswith("python "):
            continue
        target = re.search(r"make (\w+)", command).group(1)
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_what_is_typed_in_a_terminal_is_understood():
    typed = [shlex.split(command)[3:] for command in COMMANDS if command.startswith("python -m xlxmert_core")]
    assert [parser().parse_args(words).does.__name__ for words in typed] == ["paint", "caption", "answer", "page"]


def named(tree: str) -> dict[str, list[str]]:
    """Path -> what the tree says of it, a line each; an indented name lies in the folder above it."""
    found, above = {}, ""
    for indent, name, said in re.findall(r"(?m)^( *)(\S+) +(\S.*)$", tree):
        above = above if indent else name
        found.setdefault(f"{above}{name}" if indent else name, []).append(said)
    return found


def wanted(paths: list[Path]) -> set[str]:
    """What a tree must name: the core's files, its folders and those of book/ and tests/, and the top folders."""
    paths = [path for path in paths if len(path.parts) > 1 and not path.parts[0].startswith(".")]
    core = {str(path) for path in paths if len(path.parts) == 2 and path.match("xlxmert_core/*.py")}
    return core | {f"{'/'.join(path.parts[:deep])}/" for path in paths for deep in (1, 2) if len(path.parts) > deep}


def wrong(tree: str, paths: list[Path]) -> list[str]:
    """What a tree names twice, not at all, or though it is not there, a sentence each."""
    lines, there = named(tree), {str(path) for path in paths}
    there |= {f"{above}/" for path in paths for above in path.parents}
    found = [f"{name} stands in the README's tree twice." for name, said in lines.items() if len(said) > 1]
    found += [f"{name} is not in the README's tree: say in a line what it does." for name in wanted(paths) - set(lines)]
    found += [f"{name} is in the README's tree and not on disk." for name in set(lines) - there]
    for name, said in lines.items():
        inner = {name + word for word in re.findall(r"\b\w+\.(?:py|js|toml)\b", " ".join(said)) if name.endswith("/")}
        found += [f"{path}, of which the README's tree speaks, is not on disk." for path in inner - there]
    return sorted(found)


def test_the_tree_is_the_one_on_disk():
    assert wrong(TREE, DISK) == []


def test_the_tree_is_read_as_it_is_printed():
    assert Counter(map(len, named(TREE).values())) == Counter({1: len(TREE.splitlines())})
    assert "xlxmert_core/sampling.py" in named(TREE) and "book/bench/" in named(TREE)


@pytest.mark.parametrize(("tree", "said"), [
    ("a/  top\n    b/  one\n    b/  two", "a/b/ stands in the README's tree twice."),
    ("a/  top", "a/b/ is not in the README's tree: say in a line what it does."),
    ("a/  top\n    b/  one\n    d/  two", "a/d/ is in the README's tree and not on disk."),
    ("a/  top\n    b/  with e.py", "a/b/e.py, of which the README's tree speaks, is not on disk."),
])  # fmt: skip
def test_a_fault_of_the_tree_is_a_sentence(tree, said):
    assert wrong(tree, [Path("a/b/c.py"), Path("Makefile"), Path(".ci/run")]) == [said]


def test_a_file_of_the_core_must_be_named():
    assert wrong("xlxmert_core/  core", [Path("xlxmert_core/new.py")]) == [
        "xlxmert_core/new.py is not in the README's tree: say in a line what it does."
    ]
