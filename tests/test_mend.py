"""A built page fetches what it uses, its controls have the names that one sees, and heavy paintings become WebP."""

import random
import re

import pytest
from PIL import Image

from book.build import mend

HEAD = """<head><title>x</title>
<link href="../_static/vendor/fontawesome/6.5.2/css/all.min.css?digest=df" rel="stylesheet" />
<link rel="preload" as="font" crossorigin href="../_static/vendor/fontawesome/6.5.2/webfonts/fa-solid-900.woff2" />
<link rel="preload" as="font" crossorigin href="../_static/vendor/fontawesome/6.5.2/webfonts/fa-regular-400.woff2" />
  <script src="../_static/vendor/fontawesome/6.5.2/js/all.min.js?digest=df"></script>
    <script src="../_static/doctools.js"></script>
    <script>window.MathJax = {"options": {}}</script>
    <script defer="defer" src="../_static/mathjax/tex-chtml.js"></script>
    <script>DOCUMENTATION_OPTIONS.pagename = 'x';</script></head>"""


def test_only_what_a_page_uses_is_fetched():
    plain, formula = mend.lighter(f"{HEAD}<p>1</p>"), mend.lighter(f'{HEAD}<span class="math notranslate">x</span>')
    for page in (plain, formula):
        assert re.findall(r"fa-\w+-\d+|all\.min\.\w+|doctools", page) == ["all.min.css", "fa-solid-900", "doctools"]
        assert "pagename" in page
    assert "MathJax" in formula and "mathjax/tex" in formula
    assert "MathJax" not in plain and "mathjax/tex" not in plain


@pytest.mark.parametrize(("theme", "mended"), [
    ('<button class="btn search-button-field x" title="Search" aria-label="Search" data-x="y">',
     '<button class="btn search-button-field x" title="Search" data-x="y">'),
    ('<button class="btn x" title="Search" aria-label="Search">', None),  # it has no words
    ('<summary aria-label="Toggle hidden content">\n<p>Show</p>', "<summary>\n<p>Show</p>"),
    ('<a href="r.html">C &amp; D</a><details open="open"><summary><span class="toctree-toggle">',
     '<a href="r.html">C &amp; D</a><details open="open"><summary aria-label="Pages of C &amp; D">'
     '<span class="toctree-toggle">'),
    ('<div class="citation" id="id1" role="doc-biblioentry">', '<div class="citation" id="id1" role="listitem">'),
])  # fmt: skip
def test_a_control_is_called_what_one_sees(theme, mended):
    assert mend.heard(theme) == (mended or theme)
    assert mend.heard(mend.heard(theme)) == mend.heard(theme)


@pytest.fixture
def html(tmp_path):
    """A site of one page with a painting and a chart, and one file that is not the book's."""
    for folder in ("_images", "_static", "notebooks"):
        (tmp_path / folder).mkdir()
    Image.frombytes("RGB", (240, 200), random.Random(0).randbytes(240 * 200 * 3)).save(tmp_path / "_images" / "a.png")
    Image.new("RGB", (240, 200)).save(tmp_path / "_images" / "b.png")
    page = f'{HEAD}<a href="../_images/a.png"><img src="../_images/a.png" alt="A"></a><img src="../_images/b.png">'
    for name in ("notebooks/01.html", "_static/x.html"):
        (tmp_path / name).write_text(page, "utf-8")
    return tmp_path


def test_a_heavy_painting_is_written_anew_and_found(html):
    heavy = (html / "_images" / "a.png").stat().st_size
    mend.mend(html)
    page = (html / "notebooks" / "01.html").read_text("utf-8")
    assert re.findall(r"_images/(\w\.\w+)", page) == ["a.webp", "a.webp", "b.png"]
    assert sorted(path.name for path in (html / "_images").iterdir()) == ["a.webp", "b.png"]
    with Image.open(html / "_images" / "a.webp") as image:
        assert image.size == (240, 200)
    assert (html / "_images" / "a.webp").stat().st_size < heavy
    assert "a.png" in (html / "_static" / "x.html").read_text("utf-8")


def test_a_second_time_changes_nothing(html):
    mend.mend(html)
    before = {path: path.read_bytes() for path in html.rglob("*.*")}
    mend.mend(html)
    assert {path: path.read_bytes() for path in html.rglob("*.*")} == before
