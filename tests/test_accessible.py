"""Every page can be read by ear, by keyboard and in both colour schemes: axe-core finds nothing serious in it."""

import pytest

from book.build.vendor import AXE, VendorError, fetch

pytestmark = pytest.mark.slow
GRAVE = ("serious", "critical")
LOOK = """async (rules) => {
  const options = rules ? {runOnly: rules, resultTypes: ["violations"]} : {resultTypes: ["violations"]};
  const found = (await axe.run(document, options)).violations;
  return found.map(({id, impact, nodes}) => [impact, `${id}: ${nodes.map((node) => node.html).slice(0, 9)}`]);
}"""


@pytest.fixture(scope="module")
def page(chromium):
    """A page in a browser that brings axe-core into whatever it opens; skips where axe-core cannot be had."""
    try:
        script = (fetch(AXE) / "axe.min.js").read_text("utf-8")
    except VendorError as error:
        pytest.skip(f"Nobody looks for what keeps a reader out: {error}")
    context = chromium.new_context(viewport={"width": 1400, "height": 900}, color_scheme="light")
    context.add_init_script(script)
    yield context.new_page()
    context.close()


def grave(page) -> list[str]:
    """What is serious or critical on the open page, a line a rule; in the dark the contrast is looked at again."""
    found = page.evaluate(LOOK, None)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_timeout(300)  # colours that change slowly
    found += page.evaluate(LOOK, ["color-contrast"])
    return [line for impact, line in found if impact in GRAVE]


def test_nothing_keeps_a_reader_from_any_page(page, book_pages, book_site):
    places = [path.relative_to(book_pages).as_posix() for path in sorted(book_pages.rglob("*.html"))]
    found = {}
    for place in places:
        if place != "index.html" and not place.startswith("_static/"):  # the first only leads to another
            page.goto(f"{book_site}/{place}", wait_until="load")
            found[place] = grave(page)
    assert len(found) > 30 and {place: lines for place, lines in found.items() if lines} == {}


def test_what_keeps_a_reader_out_would_be_seen(page, tmp_path):
    bad = tmp_path / "bad.html"
    style = "<style>html { background: #fff } [data-theme=dark] { background: #000 } h1, p { color: #222 }</style>"
    bad.write_text(f"<html lang=en><title>x</title>{style}<main><button></button><h1>x</h1><p>Dark</p></main></html>")
    page.goto(bad.as_uri())
    assert [line.partition(":")[0] for line in grave(page)] == ["button-name", "color-contrast"]
