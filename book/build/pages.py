"""Run every chapter and build the pages: ``python -m book.build --profile ci``."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from book.build import kept, mend, reference, site
from book.build.captions import set_captions
from book.build.lanes import execute_all
from book.build.run_chapters import ROOT, ChapterError, Result, Run, add_choices, chapters
from book.build.status_page import status_page
from book.build.vendor import RUNTIME, VendorError, fetch

CARD = ROOT / "xlxmert_core" / "weights" / "storybook" / "README.md"


class BookError(RuntimeError):
    """The pages could not be built; the message holds Sphinx's own warnings."""


def make_tree(run: Run, results: list[Result], model: Path | None = None) -> Path:
    """A clean copy of everything the pages are made of: prose, executed notebooks, status page, exported model."""
    book = ROOT / "book"
    tree = run.work / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(book, tree / "book", ignore=programs)
    (tree / "notebooks").mkdir()
    for result in results:
        name = f"{result.chapter}.ipynb"
        set_captions(run.executed / name, tree / "notebooks" / name)
    shutil.copy(book.parent / "_config.yml", tree)
    shutil.copy(CARD, tree / "book" / "model_card.md")
    reference.write(tree / "book" / "reference")
    (tree / "book" / "status.md").write_text(status_page(run, results), encoding="utf-8")
    add_painter(tree / "book", model)
    return tree


def programs(folder: str, names: list[str]) -> set[str]:
    """Of the names in a folder, those that no page is made of: Python, and tables for it."""
    packages = {name for name in names if (Path(folder) / name / "__init__.py").exists()}
    return packages | {name for name in names if name.endswith((".py", ".toml")) or name == "__pycache__"}


def add_painter(book: Path, model: Path | None) -> None:
    """Put beside the page "Paint in this page" what it fetches: its modules, their runtime, the exported worlds."""
    from book.build.export_onnx import export_shipped  # brings PyTorch, whose memory the chapters need

    target = book / "_static" / "painter"
    shutil.copytree(book / "painter", target, ignore=shutil.ignore_patterns("*.html"))
    shutil.copytree(fetch(RUNTIME), target / "ort")
    if model is None:
        export_shipped(target / "model")
    else:
        shutil.copytree(model, target / "model")
    sizes = partial(sizes_of, target)
    runs = sizes([target / "ort" / "ort-wasm-simd-threaded.wasm"])
    worlds = {folder.name: sizes(sorted(folder.iterdir())) for folder in sorted((target / "model").iterdir())}
    (target / "files.json").write_text(json.dumps({"runtime": runs, "worlds": worlds}, indent=1) + "\n")
    panel = book / "painter" / "panel.html"
    megabytes = f"{sum((runs | worlds['storybook']).values()) / 1e6:.0f}"
    panel.write_text(panel.read_text(encoding="utf-8").replace("SIZE", megabytes), encoding="utf-8")


def sizes_of(folder: Path, files: Iterable[Path]) -> dict[str, int]:
    """Bytes of files by their path inside a folder, as an address writes it."""
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def build_html(tree: Path, html: Path) -> Path:
    """Build the pages with warnings as errors, from nothing; returns the first page."""
    scratch = tree.parent / "pages"
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.rmtree(html, ignore_errors=True)
    command = [Path(sys.executable).with_name("jupyter-book"), "build", str(tree)]
    command += ["--toc", str(tree / "book" / "_toc.yml"), "--config", str(tree / "_config.yml")]
    done = subprocess.run(
        [*command, "--path-output", str(scratch), "-W", "-n", "--keep-going"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    (tree.parent / "pages.log").write_text(done.stdout, encoding="utf-8")
    if done.returncode:
        lines = [x for x in done.stdout.splitlines() if "WARNING" in x or "ERROR" in x]
        raise BookError("\n".join(["The pages do not build:", *(lines or [done.stdout[-2000:]])]))
    shutil.move(scratch / "_build" / "html", html)
    return html / "index.html"


def publish(run: Run, results: list[Result], model: Path | None = None) -> Path:
    """Tree, then pages; returns the first page. Built anew only when something that they are made of has changed.

    ``model``: a folder that ``export_onnx.export_shipped`` has filled; None makes it.
    """
    record, html = run.work / "pages.json", run.work / "html"
    parts = kept.contents(
        ROOT / "book", ROOT / "_config.yml", CARD, *(run.executed / f"{r.chapter}.ipynb" for r in results)
    )
    made_from = f"{parts} {kept.code()} {run.parameters()}"
    if html.exists() and record.exists() and json.loads(record.read_text()) == [made_from, kept.contents(html)]:
        return html / "index.html"
    record.unlink(missing_ok=True)
    (run.work / "run.json").write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")
    page = build_html(make_tree(run, results, model), html)
    mend.mend(html)
    site.finish(html)
    kept.write(record, [made_from, kept.contents(html)])
    return page


def main() -> int:
    """The command behind ``make book``."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_choices(parser)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", metavar="CHAPTER", choices=chapters(), help="run these, build no pages")
    parser.add_argument("--work", type=Path, help="where everything goes, instead of _build/book and artifacts")
    parser.add_argument("--afresh", action="store_true", help="run those too that nothing has changed for")
    options = parser.parse_args()
    work = options.work and Path(os.path.abspath(options.work.expanduser()))
    places = {"work": work, "artifacts": work / "artifacts"} if work else {}
    run = Run(profile=options.profile, dataset=options.dataset, seed=options.seed, **places)
    names = options.only or chapters()
    try:
        print(f"Running the chapters (profile {run.profile}, data set {run.dataset}):", flush=True)
        if options.afresh:
            kept.forget(run, names)
        results = [found for found in execute_all(run, names).values() if isinstance(found, Result)]
        if options.only:
            return 0
        start = time.perf_counter()
        page = publish(run, results)
    except (ChapterError, BookError, VendorError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted: make book goes on from here.", file=sys.stderr)
        return 130
    print(f"Built the pages in {time.perf_counter() - start:.0f} s. Open {os.path.relpath(page)}, or make read.")
    return 0
