"""Chapters run side by side as their declared inputs allow, and what still holds is not run again."""

import io
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from itertools import product

import psutil
import pytest
from test_run_chapters import DEFAULTS, write

from book.build import kept, lanes, pages
from book.build.lanes import Declared, Progress, declared, execute_all, next_up, order
from book.build.run_chapters import ROOT, ChapterError, Result, Run, chapters
from xlxmert_core.datasets import DATASETS, open_dataset
from xlxmert_core.datasets.profiles import PROFILES

MAKE = """\
import os, time
from pathlib import Path
folder = Path(artifacts) / dataset / profile
folder.mkdir(parents=True, exist_ok=True)
{read}
time.sleep({seconds})
(folder / "{made}").write_text("{text}")"""
TABLE = """\
[02_b]
makes = ["b.txt", "b.checkpoint.pt"]
[03_c]
needs = ["b.txt"]
makes = ["c.txt"]
[04_d]
makes = ["d.txt"]
"""


def chapter(run: Run, name: str, made: str, read: str = "", text: str = "x", seconds: float = 0) -> None:
    """A notebook that reads one file and writes another."""
    reads = f'(folder / "{read}").read_text()' if read else ""
    write(run, name, DEFAULTS, MAKE.format(made=made, read=reads, text=text, seconds=seconds))


@pytest.fixture
def run(tmp_path, monkeypatch) -> Run:
    """Three chapters, the second of which needs the first."""
    (tmp_path / "table.toml").write_text(TABLE)
    monkeypatch.setattr(lanes, "TABLE", tmp_path / "table.toml")
    run = Run(tmp_path / "notebooks", tmp_path / "work", tmp_path / "artifacts")
    chapter(run, "02_b", "b.txt")
    chapter(run, "03_c", "c.txt", read="b.txt")
    chapter(run, "04_d", "d.txt")
    return run


NAMES = ["02_b", "03_c", "04_d"]


def executed(run: Run, names=NAMES) -> list[str]:
    """The chapters that this run had to execute, by name."""
    return sorted(name for name, found in execute_all(run, names).items() if not found.kept)


def schedule(table: dict[str, Declared], seconds: dict[str, int], count: int = 2) -> list[tuple[int, int, str]]:
    """(begin, end, chapter) of each, as ``execute_all`` starts them, by a clock of whole seconds."""
    now, ended, running, rows = 0, set(), {}, []
    while len(ended) < len(table):
        while len(running) < count and (name := next_up(table, ended, set(running))):
            running[name] = now + seconds[name]
            rows.append((now, running[name], name))
        now = min(running.values())
        ended |= {name for name, end in running.items() if end == now}
        running = {name: end for name, end in running.items() if end > now}
    return rows


def test_the_books_lanes():
    table = declared(chapters())
    rows = schedule(table, dict.fromkeys(table, 60) | {"04_transformer": 10})
    assert rows[0][2] == "02_feature_extraction"
    assert [name[:2] for _, _, name in rows[-3:]] == ["01", "10", "12"]  # they measure time
    for begin, end, name in rows:
        beside = {n for b, e, n in rows if n != name and b < end and begin < e}
        assert not (beside and table[name].timed), (name, beside)
        assert len(beside) <= 3
    ends = {name: end for _, end, name in rows}
    begins = {name: begin for begin, _, name in rows}
    for name, own in table.items():
        makers = [n for n, other in table.items() if n != name and set(other.makes) & set(own.needs)]
        assert all(ends[maker] <= begins[name] for maker in makers)
    assert max(ends.values()) <= 60 * 9  # thirteen chapters


def test_every_need_is_made_by_one_chapter_that_comes_before():
    for painter in (False, True):
        table, made = declared(chapters(), painter), set()
        for name, own in table.items():
            assert set(own.needs) <= made, name
            made |= set(own.makes)


def test_whose_painter_is_taught_is_what_the_budgets_say():
    for dataset, profile in product(DATASETS, PROFILES):
        run = Run(dataset=dataset, profile=profile)
        assert run.own_painter == (open_dataset(dataset, "").budgets(profile).speaker == "pipeline")


def test_two_that_make_the_same_never_run_at_once():
    table = {"a": Declared(makes=("x",)), "b": Declared(makes=("x",)), "c": Declared()}
    assert next_up(table, set(), {"a"}) == "c"
    assert next_up(table, {"c"}, {"a"}) is None
    assert next_up(table, {"a", "c"}, set()) == "b"


def test_circles_are_named(run, monkeypatch):
    monkeypatch.setattr(
        lanes, "declared", lambda *_: {"02_b": Declared(("c",), ("b",)), "03_c": Declared(("b",), ("c",))}
    )
    with pytest.raises(ChapterError, match="02_b, 03_c need each other"):
        execute_all(run, ["02_b", "03_c"])


def test_on_one_core_there_is_one_lane(run, monkeypatch):
    monkeypatch.setattr(lanes, "cores", lambda: 1)
    assert list(execute_all(run, NAMES)) == order(declared(NAMES)) == ["02_b", "03_c", "04_d"]


@pytest.mark.slow
def test_what_nothing_has_changed_for_is_skipped(run, capsys):
    assert executed(run) == NAMES
    assert executed(run) == [] and "02_b skipped: nothing" in capsys.readouterr().out
    chapter(run, "02_b", "b.txt", text="other")
    assert executed(run) == ["02_b", "03_c"]
    chapter(run, "02_b", "b.txt", text="other", read="b.txt")  # another way to the same
    (run.folder / "b.checkpoint.pt").write_text("progress of the other way")
    with pytest.raises(ChapterError, match="No such file or directory"):  # b.txt is not left there for it
        execute_all(run, ["02_b"])
    assert not (run.folder / "b.checkpoint.pt").exists()


@pytest.mark.slow
def test_results_that_are_no_longer_there_or_no_longer_the_same_are_made_again(run):
    executed(run, ["02_b", "03_c"])
    for spoil in (
        lambda: (run.folder / "b.txt").write_text("half"),
        lambda: (run.folder / "b.txt").unlink(),
        lambda: (run.executed / "02_b.ipynb").write_text("{"),
        lambda: (run.work / "records" / "02_b.json").write_text("{"),
        lambda: kept.forget(run, ["02_b"]),
    ):
        spoil()
        assert executed(run, ["02_b", "03_c"]) == ["02_b"]
    assert executed(replace(run, seed=1), ["02_b"]) == ["02_b"]


def test_a_setting_that_changes_numbers_runs_a_chapter_again(run, monkeypatch):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    before = kept.key(run, "02_b", (), 1)
    assert kept.key(run, "02_b", (), 1) == before != kept.key(run, "02_b", (), 2)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert kept.key(run, "02_b", (), 1) != before


def test_only_an_attempt_from_the_same_goes_on_from_its_checkpoint(run):
    makes = ("b.txt", "b.checkpoint.pt")
    checkpoint = run.folder / "b.checkpoint.pt"
    for key, stays in (("one", False), ("one", True), ("two", False)):
        run.folder.mkdir(parents=True, exist_ok=True)
        checkpoint.touch()
        kept.begin(run, "02_b", key, makes)
        assert checkpoint.exists() is stays
    checkpoint.touch()
    kept.finish(run, Result("02_b", 1.0, key="two"), makes)
    kept.begin(run, "02_b", "two", makes)  # it had ended, so it starts from nothing
    assert not checkpoint.exists()
    checkpoint.touch()
    kept.begin(replace(run, profile="train", artifacts=run.artifacts), "02_b", "three", makes)  # hours of work
    assert checkpoint.exists()


INTERRUPT = """import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from book.build import lanes
from book.build.run_chapters import Run
lanes.TABLE = Path({folder!r}) / "table.toml"
run = Run(*(Path({folder!r}) / name for name in ("notebooks", "work", "artifacts")))
lanes.execute_all(run, ["02_b", "03_c", "04_d"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_after_an_interruption_the_rest_is_run(run, how):
    place = run.notebooks.parent
    chapter(run, "03_c", "c.txt", read="b.txt", seconds=60)
    code = INTERRUPT.format(root=str(ROOT), folder=str(place))
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # what runs in the background of a shell does not
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, preexec_fn=listen)
    seen = [process.stdout.readline() for _ in range(5)]  # begins, begins, ended, begins, ended in some order
    assert sum("ok" in line for line in seen) == 2 and sum("begins" in line for line in seen) == 3
    while not run.opened("03_c").exists():  # its kernel sleeps
        time.sleep(0.1)
    process.send_signal(how)
    process.wait(60)
    assert not list(run.executed.glob("03_c*"))
    time.sleep(2)  # a kernel looks once a second whether its parent lives
    open_kernels = [p for p in psutil.process_iter(["cmdline"]) if str(place) in " ".join(p.info["cmdline"] or [])]
    assert open_kernels == []
    chapter(run, "03_c", "c.txt", read="b.txt")
    assert executed(run) == ["03_c"]


@pytest.mark.slow
def test_a_failure_ends_what_runs_beside_it_unless_all_is_wanted(run):
    write(run, "02_b", DEFAULTS, "raise ValueError('no codes')")
    chapter(run, "04_d", "d.txt", seconds=60)
    with pytest.raises(ChapterError, match="ValueError: no codes"):
        execute_all(run, NAMES)
    assert not (run.executed / "04_d.ipynb").exists()
    chapter(run, "04_d", "d.txt")
    outcomes = execute_all(run, NAMES, keep_going=True)
    assert [isinstance(outcomes[name], ChapterError) for name in NAMES] == [True, True, False]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_the_seconds_as_they_run(monkeypatch):
    screen, now = Terminal(), iter([0, 0, 7.4, 8.6, 9])
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    show = Progress(["02_b", "03_c"])
    show.start("02_b")
    show.start("03_c")
    show.tick()
    assert screen.getvalue().endswith("\r  ... 02_b 7 s, 03_c 7 s\x1b[K")
    show.end("02_b", Result("02_b", 8.0))
    assert screen.getvalue().endswith("\r\x1b[K  [ 1/2] 02_b     8.0 s  ok\n")
    show.tick()
    assert screen.getvalue().endswith("\r  ... 03_c 9 s\x1b[K")


def test_pages_are_built_again_only_when_something_they_are_made_of_changed(run, monkeypatch):
    built = []

    def build(tree, html):
        html.mkdir(exist_ok=True)
        (html / "index.html").write_text("page")
        built.append(tree)
        return html / "index.html"

    monkeypatch.setattr(pages, "make_tree", lambda *_: "tree")
    monkeypatch.setattr(pages, "build_html", build)
    results = list(execute_all(run, ["02_b"]).values())
    assert pages.publish(run, results) == pages.publish(run, results) == run.work / "html" / "index.html"
    assert len(built) == 1
    (run.work / "html" / "index.html").write_text("half a")
    pages.publish(run, results)
    (run.executed / "02_b.ipynb").write_text("another notebook")
    pages.publish(run, results)
    assert len(built) == 3
