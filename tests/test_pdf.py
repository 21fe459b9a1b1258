"""The pages become one PDF: every article in the book's order, every link and picture still leading where it led."""

import re

import pytest

from book.build import pdf
from book.build.run_chapters import ROOT, chapters

FIRST = """<html><head><title>Book</title><link rel="stylesheet" href="../_static/book.css"></head><body>
<nav><a href="x.html">menu</a></nav><article class="bd-article"><h1 id="top">First</h1>
<a href="../notebooks/01.html#why">next</a> <a href="#top">up</a> <a href="https://x.org/a">out</a>
<img src="../_images/a.png"></article></body></html>"""
SECOND = """<html><head><script defer="defer" src="../_static/mathjax/tex-chtml.js"></script></head>
<body><article><h1 id="why">Second</h1>
<a href="../book/intro.html">back</a></article></body></html>"""


@pytest.fixture
def html(tmp_path):
    for name, text in {"book/intro": FIRST, "notebooks/01": SECOND}.items():
        path = tmp_path / f"{name}.html"
        path.parent.mkdir()
        path.write_text(text, "utf-8")
    return tmp_path


def test_the_order_is_the_table_of_contents():
    pages = pdf.order()
    assert pages[0] == "book/intro" and [f"notebooks/{name}" for name in chapters()] == pages[1 : 1 + len(chapters())]


def test_links_lead_to_the_same_things_in_one_page(html):
    page = pdf.together(html, ["book/intro", "notebooks/01"])
    ids, links = set(re.findall(r'id="([^"]+)"', page)), re.findall(r'<a href="#([^"]+)"', page)
    assert len(links) == 3 and set(links) <= ids
    assert '<img src="_images/a.png">' in page and 'href="_static/book.css"' in page
    assert 'href="https://x.org/a"' in page and "menu" not in page
    assert page.index("First") < page.index("Second")
    head = page.partition("</head>")[0]
    assert head.count('src="_static/mathjax/tex-chtml.js"') == 1 and "<title>Book</title>" in head


def test_solutions_are_open_on_paper_and_set_up_cells_stay_folded():
    kinds = "<details>a</details><details class='sd-dropdown'>b</details><details class='admonition hide'>c</details>"
    text = pdf.article(f"<article>{kinds}</article>", "book/x.html")
    assert re.findall(r"<details( open)?[^>]*>(.)", text) == [(" open", "a"), (" open", "b"), ("", "c")]


def test_what_is_missing_is_one_sentence(html, monkeypatch, tmp_path):
    with pytest.raises(pdf.PdfError, match="There is no page notebooks/02 yet: run make book first."):
        pdf.write(html, ["notebooks/02"], tmp_path / "book.pdf")
    monkeypatch.setattr(pdf, "BROWSERS", ("no-such-browser",))
    with pytest.raises(pdf.PdfError, match="apt install chromium"):
        pdf.write(html, ["book/intro"], tmp_path / "book.pdf")
    with pytest.raises(pdf.PdfError, match="has no article"):
        pdf.article("<p>x</p>", "book/x.html")
    assert not list(tmp_path.glob("*.pdf")) and not (html / pdf.PRINTED).exists()


@pytest.mark.slow
def test_chromium_prints_a_book(html, tmp_path):
    try:
        pdf.browser()
    except pdf.PdfError:
        pytest.skip("Chromium is not installed: apt install chromium")
    made = pdf.write(html, ["book/intro", "notebooks/01"], tmp_path / "book.pdf").read_bytes()
    assert made.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", made)) == 2
    assert b"/Outlines" in made
    assert not (html / pdf.PRINTED).exists()


def test_make_knows_it():
    assert re.search(r"(?m)^pdf: \$\(STAMP\)\n\t@\$\(BIN\)/python -m book.build.pdf", (ROOT / "Makefile").read_text())
