"""What a machine can check of the text: symbols, figures, sections, references, spelling."""

import json
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

import xlxmert_core
from book.build.captions import captions, figure
from book.build.run_chapters import ROOT, chapters
from xlxmert_core import config
from xlxmert_core.datasets import profiles

CHAPTERS = chapters()
PAGES = sorted(path for path in (ROOT / "book").glob("*.md"))
CITED = re.compile(r"\{cite(?::\w+)?\}`([^`]+)`")
DRAWS = re.compile(r"(?m)^\S.*\b(plots\.\w+|plt\.subplots|plt\.figure)\(")  # not inside a function or a choice
# Words that codespell takes for mistakes: names, metrics, two-letter variables, VQA's own spellings.
KNOWN_WORDS = "abd,ans,caf,couldnt,groth,medow,oclock,ot,rouge,unter"


def cells(chapter: str, kind: str) -> list[dict]:
    """The markdown or code cells of a chapter."""
    notebook = json.loads((ROOT / "notebooks" / f"{chapter}.ipynb").read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def text(chapter: str) -> str:
    """All prose of a chapter."""
    return "\n\n".join("".join(cell["source"]) for cell in cells(chapter, "markdown"))


def figures(chapter: str) -> list[dict]:
    """What a chapter says of its figures: {"figure": {"name": ..., "caption": ...}, "image": ...}."""
    notebook = json.loads((ROOT / "notebooks" / f"{chapter}.ipynb").read_text(encoding="utf-8"))
    declared = [cell["metadata"]["mystnb"] for cell in notebook["cells"] if figure(cell)]
    for given in declared:
        given["figure"]["caption"] = captions(notebook["cells"])[given["figure"]["name"]]
    return declared


def numbered(block: str) -> int:
    """How many numbered points a block of markdown has."""
    return len(re.findall(r"(?m)^\d+\. ", block))


# --- Sections ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_has_the_sections_that_every_chapter_has(chapter):
    prose = text(chapter)
    wanted = ["**Promise.**", "\n## What broke, and why\n", "} Paper and book\n", "\n## Exercises\n", "\n## Summary\n"]
    assert [part for part in wanted if prose.count(part) != 1] == []
    assert prose.index("\n## Exercises\n") < prose.index("\n## Summary\n")


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_exercise_has_a_folded_solution(chapter):
    exercises = text(chapter).partition("\n## Exercises\n")[2].partition("\n## ")[0]
    asked, fold, solved = exercises.partition(":::{dropdown} Solution")
    assert fold and numbered(asked) >= 3
    assert numbered(solved) == numbered(asked)


@pytest.mark.parametrize("chapter, following", zip(CHAPTERS, [*CHAPTERS[1:], ""], strict=True))
def test_chapter_ends_by_leading_into_the_next(chapter, following):
    last = text(chapter).strip().splitlines()[-1]
    assert f"Next: []({following}" in last, "only the last chapter leads to another page"


# --- Symbols -----------------------------------------------------------------------------------------


def table_of_sizes() -> dict[str, list[str]]:
    """Notation page: letter -> [meaning, Storybook, paper]."""
    rows = re.findall(r"(?m)^\| \$(\w)\$ \|(.+)\|(.+)\|(.+)\|$", (ROOT / "book" / "notation.md").read_text("utf-8"))
    return {letter: [part.strip() for part in row] for letter, *row in rows}


def number(cell: str) -> int:
    """A table's number: `10 000`, `≤ 32`."""
    return int(re.sub(r"\D", "", cell))


def sizes_of(model: config.ModelConfig) -> dict[str, int]:
    """The letters that a configuration gives a value."""
    return {"L": model.max_words, "N": model.cells, "H": model.hidden, "h": model.heads, "F": model.feature_dim,
            "d": model.hidden // model.heads, "K": model.codes, "V": model.vocab_size, "A": model.answers}  # fmt: skip


def test_notation_gives_the_sizes_of_the_shipped_model():
    painter = xlxmert_core.load("storybook")
    expected = sizes_of(painter.model.config)
    expected |= {"S": painter.image_size, "B": profiles.profile("train").pretraining_batch}
    assert {letter: number(table_of_sizes()[letter][1]) for letter in expected} == expected


def test_notation_gives_the_sizes_of_the_paper():
    expected = sizes_of(config.paper()) | {"S": config.paper_generator().image_size}
    assert {letter: number(table_of_sizes()[letter][2]) for letter in expected} == expected


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_shape_comments_use_the_letters_of_the_table(chapter):
    code = "\n".join("".join(cell["source"]) for cell in cells(chapter, "code"))
    shapes = re.findall(r"\[([A-Z][\w*+ ]*(?:, [\w*+ .]+)*)\]", "\n".join(re.findall(r"#.*|\"\"\".*", code)))
    letters = {letter for shape in shapes for letter in re.findall(r"\b[A-Z]\b", shape)}
    assert letters - set(table_of_sizes()) == set()


# --- Figures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_figure_says_what_to_see_and_what_a_blind_reader_needs(chapter):
    for given in figures(chapter):
        caption, alt = given["figure"]["caption"], given["image"]["alt"]
        assert given["figure"]["name"].startswith(f"fig-{chapter[:2]}-")
        assert len(caption.split()) >= 6 and caption.endswith((".", "*", ")")), caption
        assert len(alt.split()) >= 6 and alt != caption, alt


def test_every_figure_has_a_name_of_its_own():
    names = Counter(given["figure"]["name"] for chapter in CHAPTERS for given in figures(chapter))
    assert [name for name, times in names.items() if times > 1] == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_cell_that_draws_declares_its_figure(chapter):
    bare = []
    for cell in cells(chapter, "code"):
        code = "".join(cell["source"])
        if DRAWS.search(code) and "figure" not in cell["metadata"].get("mystnb", {}):
            bare.append(code[:60])
    assert bare == []


PICTURE = re.compile(r"!\[([^]]*)\]\(([^)]+)\)")


def test_every_picture_in_the_prose_is_there_and_has_words():
    places = [(ROOT / "notebooks", text(chapter)) for chapter in CHAPTERS]
    places += [(page.parent, page.read_text("utf-8")) for page in PAGES]
    pictures = [(folder / name, alt) for folder, prose in places for alt, name in PICTURE.findall(prose)]
    assert len(pictures) >= 5
    assert [path.name for path, alt in pictures if not path.is_file() or len(alt.split()) < 6] == []


class Pictures(HTMLParser):
    """The pictures among a page's outputs, and what stands with each: (src, alt, has a caption)."""

    def __init__(self, page: str):
        super().__init__()
        self.depth, self.output, self.figure, self.found = 0, None, None, []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag == "div":
            self.depth += 1
            if self.output is None and "cell_output" in given.get("class", "").split():
                self.output = self.depth
        elif tag == "figure":
            self.figure = len(self.found)
        elif tag == "img" and self.output is not None:
            self.found.append([given.get("src", ""), given.get("alt", ""), False])
        elif tag == "figcaption" and self.figure is not None:
            for picture in self.found[self.figure :]:
                picture[2] = True

    def handle_endtag(self, tag):
        if tag == "div":
            if self.depth == self.output:
                self.output = None
            self.depth -= 1
        elif tag == "figure":
            self.figure = None


def bare_pictures(page: str) -> list[str]:
    """Pictures of a page's outputs without caption, or with no words or a file's name for alt text."""
    return [src for src, alt, caption in Pictures(page).found
            if not caption or not alt.strip() or "/" in alt or Path(src).stem in alt]  # fmt: skip


def test_a_bare_picture_is_seen():
    named = (
        '<div class="cell_output"><div><figure><img src="a.png" alt="A house"><figcaption>x</figcaption></figure></div>'
    )
    outside = '</div><img src="logo.png">'
    loose = '<div class="cell_output"><img src="b.png" alt="A house"></div>'
    silent = (
        '<div class="cell_output"><figure><img src="c.png" alt="../c.png"><figcaption>x</figcaption></figure></div>'
    )
    assert bare_pictures(named + outside) == []
    assert bare_pictures(named + outside + loose + silent) == ["b.png", "c.png"]


@pytest.mark.slow
def test_every_picture_in_the_pages_has_a_caption_and_alt_text(book_pages):
    pages = {chapter: (book_pages / "notebooks" / f"{chapter}.html").read_text("utf-8") for chapter in CHAPTERS}
    assert {chapter: bare for chapter, page in pages.items() if (bare := bare_pictures(page))} == {}


# --- References and spelling -------------------------------------------------------------------------


def test_citations_and_references_name_each_other():
    prose = [text(chapter) for chapter in CHAPTERS] + [page.read_text("utf-8") for page in PAGES]
    cited = {key.strip() for part in prose for keys in CITED.findall(part) for key in keys.split(",")}
    listed = re.findall(r"(?m)^@\w+\{([^,\s]+),", (ROOT / "book" / "references.bib").read_text("utf-8"))
    assert len(listed) == len(set(listed))
    assert cited == set(listed)


def test_spelling():
    places = ["notebooks", "book", "README.md", "xlxmert_core", "tests"]
    command = [Path(sys.executable).with_name("codespell"), *places, "--ignore-words-list", KNOWN_WORDS]
    command += ["--skip", "*.safetensors,*.json,*.png,*.onnx,*.graph,*.pyc"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
