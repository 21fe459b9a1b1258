"""The harness of ``make bench``: fair turns, honest ratios, memory, child processes, and the page."""

import os
import subprocess
import sys

import pytest
import torch

from book.bench import page as bench_page
from book.bench import painting as bench_painting
from book.bench.measure import ALLOCATOR, Family, Growth, Limit, Race, Times, child, interleaved
from book.bench.run import FAMILIES, machine, measure
from book.build.run_chapters import ROOT
from xlxmert_core import sampling


def test_cases_take_turns_and_warm_turns_are_not_counted():
    order, ticks = [], iter(range(0, 10_000, 1))
    clock = lambda: next(ticks) ** 2  # noqa: E731  each span is longer than the one before
    times = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3, warm=1, clock=clock)
    assert order == list("abababab")
    # calls of the clock: 2 a case; turn t of case c starts at tick 4 t + 2 c and spans 2 (4 t + 2 c) + 1
    spans = {name: [2 * (4 * t + 2 * c) + 1 for t in (1, 2, 3)] for c, name in enumerate("ab")}
    assert times == {name: Times(s[1], s[0], s[2]) for name, s in spans.items()}


def test_a_ratio_says_how_many_times_as_fast():
    race = Race("work", {"theirs": Times(6, 5, 9), "ours": Times(3, 2, 4)}, {"ours": 2.5})
    assert race.ratio("ours") == 2 and race.ratio("theirs") == 1
    assert "**does not hold**" in bench_page.race_rows(race)[1]
    assert "≥ 2.5" in bench_page.race_rows(race)[1] and "≥" not in bench_page.race_rows(race)[0]


@pytest.mark.parametrize(("limit", "holds"), [
    (Limit("w", 3, "s", 5), True), (Limit("w", 6, "s", 5), False), (Limit("w", 6, "s"), None),
    (Limit("w", 94, "%", 95, at_least=True), False), (Limit("w", 96, "%", 95, at_least=True), True),
])  # fmt: skip
def test_a_limit_knows_its_side(limit, holds):
    assert limit.holds() is holds


def test_a_child_starts_fresh_and_a_failing_one_is_named(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "7")
    assert child("tests.bench_children:twice", 21) == 42
    assert child("tests.bench_children:setting", "MALLOC_TRIM_THRESHOLD_") is None
    kept = child("tests.bench_children:setting", "MALLOC_TRIM_THRESHOLD_", environment=ALLOCATOR)
    assert kept == ALLOCATOR["MALLOC_TRIM_THRESHOLD_"]
    with pytest.raises(RuntimeError, match="fail failed in a child process: ValueError: no such luck"):
        child("tests.bench_children:fail")


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="memory is measured on Linux only")
def test_memory_is_what_the_work_adds_even_after_a_higher_peak():
    assert 90 < child("tests.bench_children:hold", 100) < 130


def test_the_page_says_what_was_found_and_nothing_else(tmp_path):
    race = Race("run", {"theirs": Times(6, 5, 9), "ours": Times(3, 2, 4)}, {"ours": 1.5}, "all equal")
    growth = Growth("run", "cells", {16: 0.5, 64: 2.0}, {16: 10.2, 64: 41.0})
    family = Family("The runners", "Who runs.", [race, Limit("memory", 12, "MB", 10), growth])
    bench_page.write([family, Family("Nothing", "Not run.", [])], "a machine", tmp_path / "benchmarks.md")
    page = (tmp_path / "benchmarks.md").read_text()
    assert "in one run: a machine." in page and "Who runs." in page and "- run: all equal" in page
    assert "| run | ours | 3 (2 to 4) | 2.00 | ≥ 1.5 | holds |" in page
    assert "| memory | 12 MB | ≤ 10 MB | **does not hold** |" in page
    assert "| run by cells | 16 | 64 |" in page and "| MB added | 10 | 41 |" in page
    first = (tmp_path / "_static/bench/the_runners.svg").read_bytes()
    assert b"<svg" in first and "_static/bench/the_runners.svg" in page
    bench_page.draw(family, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() == first  # so that a page made anew has no diff of its own


def test_the_baseline_paints_as_the_book_does():
    """The race is fair: Hugging Face, driven as the original drives it, paints the very same codes."""
    config = bench_painting.TINY
    theirs, ours = bench_painting.pair(config)
    given = bench_painting.words_for(config, 2)
    want = bench_painting.original(theirs, ours, *given, 4)
    assert torch.equal(want, sampling.paint(ours, *given, steps=4)) and want.unique().numel() > 2
    slow = bench_painting.original_one_by_one(theirs, ours, *given)
    assert torch.equal(slow, sampling.paint(ours, *given, steps=64, order=sampling.raster))


def test_importing_the_book_brings_nothing_heavy():
    code = (
        "import sys, torch; before = set(sys.modules); import xlxmert_core;"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    brought = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"accelerate", "faiss", "h5py", "matplotlib", "pandas", "ray", "scipy", "sklearn", "sympy", "tensorboard",
             "torchvision", "transformers"}  # fmt: skip
    assert "xlxmert_core" in brought and not heavy & set(brought)


@pytest.mark.nightly
def test_a_quick_run_of_a_family_makes_its_section(tmp_path):
    [family] = measure(("training",), quick=True)
    assert {"ours", "Hugging Face"} == set(family.found[0].times) and family.found[0].ratio("ours") > 0
    bench_page.write([family], machine(), tmp_path / "benchmarks.md")
    page = (tmp_path / "benchmarks.md").read_text()
    assert page.count("\n## ") == page.count(".svg)") == 1 and "nan" not in page


@pytest.mark.nightly
@pytest.mark.parametrize(("options", "families", "goals"), [((), len(FAMILIES), True), (("--gpu",), 1, False)])
def test_a_quick_run_of_every_family_writes_a_page(tmp_path, options, families, goals):
    out = tmp_path / "benchmarks.md"
    call = [sys.executable, "-m", "book.bench", "--quick", "--out", str(out), *options]
    subprocess.run(call, check=True, capture_output=True, cwd=ROOT)
    page = out.read_text()
    assert page.count("\n## ") == families and page.count(".svg)") == families
    assert ("holds" in page) is goals and "nan" not in page
