"""The reference has every public name of the module, says what its docstring says, and builds without a warning."""

import json
import re
import shutil

import pytest
import yaml

from book.build import reference
from book.build.pages import build_html
from book.build.run_chapters import ROOT, chapters

LINK = re.compile(r"\[([^\]]+)\]\((xlxmert_core[\w.-]*)\)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tree") / "book" / "reference"
    reference.write(folder)
    return folder


def labels(folder) -> list[str]:
    return [name for path in folder.glob("*.md") for name in re.findall(r"(?m)^\((.+)\)=$", path.read_text("utf-8"))]


def test_every_public_name_has_its_place_once(folder):
    found, wanted = labels(folder), reference.names()
    assert len(wanted) > 400 and {"xlxmert_core.pipeline.Pipeline.paint", "xlxmert_core.sampling.fill"} <= set(wanted)
    assert {reference.label(name) for name in wanted} <= set(found)
    assert len(found) == len({name.lower() for name in found})  # Sphinx knows no capitals
    assert (
        reference.label("xlxmert_core.datasets.profiles.profile") == "xlxmert_core.datasets.profiles.profile-function"
    )
    assert reference.label("xlxmert_core.datasets.profiles.Profile") == "xlxmert_core.datasets.profiles.Profile"


def test_everything_that_the_package_offers_is_in_it():
    import xlxmert_core

    offered = [getattr(xlxmert_core, name) for name in xlxmert_core.__all__]
    found = [f"{thing.__module__}.{thing.__name__}" for thing in offered if callable(thing)]
    assert len(found) > 3 and set(found) <= set(reference.names())


def test_the_table_of_contents_has_every_page(folder):
    table = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text("utf-8"))
    [entry] = [page for part in table["parts"] for page in part["chapters"] if page["file"] == "book/reference/index"]
    listed = {entry["file"], *(page["file"] for page in entry["sections"])}
    assert listed == {f"book/reference/{path.stem}" for path in folder.glob("*.md")}


def led(chapter: str) -> list[tuple[str, str]]:
    """Words and label of each link from a chapter into the reference."""
    notebook = json.loads((ROOT / "notebooks" / f"{chapter}.ipynb").read_text("utf-8"))
    return LINK.findall("\n".join("".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "markdown"))


@pytest.fixture(scope="module")
def there(folder) -> set[str]:
    """The labels of all public names on the pages."""
    return {reference.label(name) for name in reference.names()} & set(labels(folder))


@pytest.mark.parametrize("chapter", chapters())
def test_a_chapter_leads_to_what_it_uses(chapter, there):
    found = led(chapter)
    assert 2 <= len(found) <= 6 and len(set(found)) == len(found)  # a name where it comes first, not each time
    assert [label for _, label in found if label not in there] == []
    assert [words for words, label in found if label.rpartition(".")[2] not in words] == []


@pytest.mark.parametrize(("docstring", "markdown"), [
    ("Sums [B, N] of ``x`` by :func:`~a.b.fill`.", r"Sums \[B, N\] of `x` by `a.b.fill`."),
    ("A <b> for $5, {name} and a_b*.", r"A \<b\> for \$5, \{name\} and a\_b\*."),
    ("Do.\n\nArgs:\n    x: a number,\n        or none.\n    y: ``z``.\n\nRaises ValueError.",
     "Do.\n\n\n**Args:**\n\n- `x`: a number,\n  or none.\n- `y`: `z`.\n\nRaises ValueError."),
    ("Do.\n\n>>> f(1)\n>>> f(2)", "Do.\n\n\n    >>> f(1)\n    >>> f(2)"),
])  # fmt: skip
def test_a_docstring_says_the_same_in_markdown(docstring, markdown):
    assert reference.prose(docstring) == markdown


def test_a_call_is_shown_without_self(folder):
    page = (folder / "core.md").read_text("utf-8")
    assert "```python\nPipeline.freeze(engine: Make | None=None) -> 'Pipeline'\n```" in page
    assert "```python\nPipeline.grid -> int\n```" in page and "\nclass Skill(model: " in page


@pytest.mark.slow
def test_the_pages_build_without_a_warning(folder, tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(folder, tree / "book" / "reference")
    shutil.copy(ROOT / "_config.yml", tree)
    shutil.copytree(ROOT / "book" / "_static", tree / "book" / "_static")
    for name in ("references.bib", "notation.md"):
        shutil.copy(ROOT / "book" / name, tree / "book")
    linked = [f"[{words}]({label})" for chapter in chapters() for words, label in led(chapter)]
    (tree / "book" / "notation.md").write_text("\n\n".join(["# Notation", *linked]), "utf-8")  # the real one cites
    files = [{"file": f"book/reference/{path.stem}"} for path in folder.glob("*.md") if path.stem != "index"]
    table = {"format": "jb-book", "root": "book/reference/index", "chapters": [*files, {"file": "book/notation"}]}
    (tree / "book" / "_toc.yml").write_text(yaml.safe_dump(table))
    build_html(tree, tmp_path / "html")
    led_to = re.findall(
        r'href="reference/\w+\.html#([^"]+)"', (tmp_path / "html/book/notation.html").read_text("utf-8")
    )
    assert set(led_to) == {re.sub(r"[._]", "-", line.rpartition("(")[2][:-1]).lower() for line in linked}
    pages = {path.stem: path.read_text("utf-8") for path in (tmp_path / "html" / "book" / "reference").glob("*.html")}
    assert 'id="xlxmert-core-sampling-fill"' in pages["core"] and len(pages) == len(files) + 1
    assert max(map(len, pages.values())) < 3e6
