"""What is left to the night is run once for a tree, part by part, and nothing that is marked for it is left out."""

import subprocess
import sys

import pytest

from book.build import nightly, slowest


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Three parts, two of them side by side; the second fails until a file is there."""
    calls = tmp_path / "calls"
    shell = f"echo {{}} >> {calls}"
    fails = f"{shell.format('b')}; test -e {tmp_path / 'go'}"
    commands = {"test_a": shell.format("a"), "test_b": fails, "c": shell.format("c")}
    monkeypatch.setattr(nightly, "HOME", tmp_path / "nightly")
    monkeypatch.setattr(nightly, "parts", lambda: {name: ["sh", "-c", code] for name, code in commands.items()})
    monkeypatch.setattr(nightly, "tree", lambda: "this tree")
    monkeypatch.setattr(sys, "argv", ["nightly.py"])
    return tmp_path


def test_what_passed_on_this_tree_is_skipped(home, monkeypatch, capsys):
    assert nightly.main() == 1  # and the parts after the failure are run
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines() if "FAILED" in line] == ["test_b"]
    (home / "go").touch()
    assert nightly.main() == 0 == nightly.main()
    calls = (home / "calls").read_text().split()
    assert sorted(calls[:3]) == ["a", "b", "c"] and calls[3:] == ["b"]
    monkeypatch.setattr(nightly, "tree", lambda: "another tree")
    assert nightly.main() == 0
    assert sorted((home / "calls").read_text().split()[4:]) == ["a", "b", "c"]


def test_a_part_that_skipped_tests_says_so(home, monkeypatch, capsys):
    command = ["sh", "-c", "echo '2 passed, 13 skipped in 4.00s'"]
    monkeypatch.setattr(nightly, "parts", lambda: {"a": command})
    assert nightly.main() == 0
    assert "passed, but 13 tests skipped" in capsys.readouterr().out


def test_any_change_is_another_tree(tmp_path):
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text("made/\n")
    seen = [nightly.tree(tmp_path)]
    for name, content in (("a.py", "1"), ("a.py", "2"), ("b.py", "2")):
        (tmp_path / name).write_text(content)
        seen.append(nightly.tree(tmp_path))
    assert len(set(seen)) == 4
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "x").touch()
    assert nightly.tree(tmp_path) == seen[-1]


def test_the_parts_are_marked_tests_regressions_and_both_commands_of_the_readme():
    long = {"test_authors_paper", "test_bench", "test_coco_chapters", "test_real_answers", "regress", "fresh"}
    assert long <= set(nightly.parts()) and "test_muon" not in nightly.parts()


def test_the_slowest_tests_are_named(tmp_path, monkeypatch, capsys):
    report = tmp_path / "tests.xml"
    monkeypatch.setattr(slowest, "REPORT", report)
    assert slowest.main() == 1 and "make test first" in capsys.readouterr().err
    cases = "".join(f'<testcase classname="tests.test_a" name="test_{i}" time="{i}.5"/>' for i in range(30))
    report.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    assert slowest.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 20 and lines[0].split() == ["29.5", "s", "tests.test_a::test_29"]
