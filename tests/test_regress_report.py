"""The report stands alone, shows accepted and new figures side by side, and says how much they differ."""

import base64
import io

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from book.regress.report import Section, difference, figures, write_report
from book.regress.verdicts import judge, summary


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def notebook(path, *pictures: bytes):
    """An executed notebook with a heading and one picture a code cell."""
    cells = [new_markdown_cell("## A <figure>\n\nWords.")]
    for picture in pictures:
        data = {"image/png": base64.b64encode(picture).decode()}
        cells.append(new_code_cell("draw()", outputs=[new_output("display_data", data)]))
    nbformat.write(new_notebook(cells=cells), path)
    return path


BLUE = np.full((20, 30, 3), (20, 30, 200))
DOTTED = BLUE.copy()
DOTTED[:3, :10] = 255  # 30 of 600 pixels


@pytest.fixture
def section(tmp_path) -> Section:
    """A chapter with one metric lost, one changed, one as before; of two figures the second changed."""
    then = notebook(tmp_path / "then.ipynb", png(BLUE), png(BLUE))
    now = notebook(tmp_path / "now.ipynb", png(BLUE), png(DOTTED))
    runs = [{"same": 1.0, "probe": 0.9 + i / 100, "lost": 1.0} for i in range(3)]
    accepted = {"code": "c0de", "commit": "abc", "seeds": [0, 1, 2], "seconds": [3.0] * 3, "metrics": summary(runs)}
    judgements = judge("02_b", [{"same": 1.0, "probe": 0.2}], accepted["metrics"], {})
    return Section("02_b", [4], [2.0], [], judgements, accepted, now, then)


def test_difference_is_the_share_of_visibly_different_pixels():
    assert difference(png(BLUE), png(DOTTED)) == pytest.approx(30 / 600)
    assert difference(png(BLUE), png(BLUE + 3)) == 0.0
    assert difference(png(BLUE), png(BLUE[:10])) is None


def test_figures_come_in_order_with_their_heading(section):
    assert figures(section.now) == [("A <figure>", png(BLUE)), ("A <figure>", png(DOTTED))]
    assert figures(None) == figures(section.now.with_name("none.ipynb")) == []


def test_page_says_what_changed(section, tmp_path):
    page = write_report(tmp_path / "out" / "report.html", "storybook-ci", [section], []).read_text()
    assert "✗ 2 of 3 metrics need a look." in page
    assert "◆</span>changed by -0.71" in page and "∅</span>not recorded" in page
    assert "5.0% of the pixels differ" in page and "1 figure is the same" in page
    assert "accepted, seed 0" in page and "now, seed 4" in page
    assert "A &lt;figure&gt;" in page and "<figure>:" not in page
    assert page.index(">lost<") < page.index(">same<")  # what needs a look comes first


def test_page_says_when_the_accepted_figures_are_elsewhere(section, tmp_path):
    section.then.unlink()
    page = write_report(tmp_path / "report.html", "storybook-ci", [section], []).read_text()
    assert "The accepted figures are not on this machine" in page and page.count("data:image/webp") == 2


def test_page_tells_failed_and_lost_chapters(tmp_path):
    failed = Section("02_b", [], [], ["Seed 0: x < y"], [], {}, None, None)
    page = write_report(tmp_path / "report.html", "storybook-ci", [failed], ["03_c was accepted."]).read_text()
    assert "✗ 1 of 1 chapters failed; a chapter is gone." in page
    assert "x &lt; y" in page and "03_c was accepted." in page


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 400])
def test_report_opens_alone_in_a_browser(section, tmp_path, chromium, width, scheme):
    path = write_report(tmp_path / "report.html", "storybook-ci", [section], [])
    page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    asked, troubles = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.goto(path.as_uri())
    page.click("summary")
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    assert troubles == []
    assert page.evaluate("[...document.images].map(i => i.decode().then(() => i.naturalWidth))[0]") == 30
    assert page.evaluate("document.images.length") == 4
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    tops = page.evaluate("[...document.querySelectorAll('.pair')[0].children].slice(1).map(f => f.offsetTop)")
    assert (tops[0] == tops[1]) is (width == 1400)  # side by side, or one below the other
    page.close()
