"""The page that paints, under a reader's hands: mouse, keyboard, wrong settings and lost connections."""

import re

import numpy as np
import pytest
from painter_driver import first_enough, functions, part, picture, start, wait_for_status

import xlxmert_core

pytestmark = pytest.mark.slow
FIELDS = '[...document.querySelectorAll("#painter-panel :is(input, select, textarea)")]'
RESET = f"""(values) => {{
    {FIELDS}.forEach((field, i) => (field.value = values[i]));
    for (const details of document.querySelectorAll("#painter-panel details")) details.open = false;
    document.querySelector("#painter-panel [data-part=clear]").click();
    document.querySelector("#painter-panel [data-part=status]").textContent = "";
    delete window.painter.paint; // what a test put before the real one
}}"""


@pytest.fixture(scope="module")
def painter():
    return xlxmert_core.load("storybook")


def brush(page, row: int, column: int, to_row: int, to_column: int) -> None:
    """Drag with the mouse from the middle of one cell to that of another."""
    grid = part(page, "grid")
    grid.scroll_into_view_if_needed()
    box = grid.bounding_box()
    side = box["width"] / 8
    points = [
        (box["x"] + (c + 0.5) * side, box["y"] + (r + 0.5) * side) for r, c in ((row, column), (to_row, to_column))
    ]
    page.mouse.move(*points[0])
    page.mouse.down()
    page.mouse.move(*points[1], steps=20)
    page.mouse.up()


def brushed(page) -> set[tuple[int, int]]:
    """Rows and columns of the brushed cells."""
    marks = page.locator("#painter-panel [role=gridcell]").evaluate_all(
        "all => all.map(x => x.ariaSelected === 'true')"
    )
    return {divmod(place, 8) for place, mark in enumerate(marks) if mark}


def cells_that_differ(one: np.ndarray, other: np.ndarray) -> set[tuple[int, int]]:
    """Rows and columns of the cells of 16 pixels in which two pictures differ clearly."""
    far = np.abs(one.astype(int) - other.astype(int)).max(-1) > 60  # [S, S]
    return {(int(r), int(c)) for r, c in np.argwhere(far.reshape(8, 16, 8, 16).any((1, 3)))}


def paint_a_house(page) -> None:
    """Start, type a sentence and press Paint."""
    start(page)
    page.keyboard.press("Control+A")  # the sentence has the focus
    page.keyboard.type("a red house on the grass")
    page.get_by_role("button", name="Paint", exact=True).click()
    wait_for_status(page, "Painted")


@pytest.fixture(scope="module")
def opened(chromium, book_site):
    """A page on which a house was painted, and what its fields say."""
    page = chromium.new_page(viewport={"width": 1400, "height": 1000})
    page.goto(f"{book_site}/book/paint.html")
    paint_a_house(page)
    yield page, page.evaluate(f"{FIELDS}.map(x => x.value)")
    page.close()


@pytest.fixture()
def painted(opened):
    """The page with nothing brushed, its fields, its size and its painter as they were; some painting is on it."""
    page, values = opened
    page.set_viewport_size({"width": 1400, "height": 1000})
    page.evaluate(RESET, values)
    return page


def test_a_reader_paints_brushes_repaints_undoes_and_asks(fresh, painter):
    page = fresh
    paint_a_house(page)
    before = picture(page)
    codes = first_enough(painter, "a red house on the grass")
    assert np.abs(before[..., :3].astype(int) - painter.render(codes)[0].astype(int)).max() <= 2

    brush(page, 0, 1, 0, 5)
    marked = {(0, column) for column in range(1, 6)}
    assert brushed(page) == marked
    part(page, "again").fill("a red house on the grass below a yellow star")
    page.get_by_role("button", name="Repaint 5 cells").click()
    assert "5 of 64" in wait_for_status(page, "Repainted")
    after = picture(page)
    around = {(row, column) for row in range(2) for column in range(7)}  # the generator blends neighbours
    assert cells_that_differ(before, after) <= around
    assert brushed(page) == set()

    page.get_by_role("button", name="Undo").click()
    assert np.array_equal(picture(page), before)
    assert part(page, "undo").is_disabled()

    part(page, "question").fill("what colour is the house")
    page.keyboard.press("Enter")
    answer = part(page, "answer").filter(has_text=re.compile(r"\w"))
    answer.wait_for()
    assert answer.inner_text() == painter.answer(codes, "what colour is the house")[0]


def test_a_stroke_that_begins_on_a_brushed_cell_wipes(painted):
    brush(painted, 2, 2, 2, 6)
    brush(painted, 2, 4, 2, 7)
    assert brushed(painted) == {(2, 2), (2, 3)}
    painted.get_by_role("button", name="Clear").click()
    assert brushed(painted) == set()
    assert part(painted, "apply").is_disabled()


def test_the_keyboard_alone_is_enough(fresh):
    fresh.locator("[data-part=start]").focus()
    fresh.keyboard.press("Enter")
    fresh.wait_for_function("window.painter", timeout=120_000)
    fresh.keyboard.press("Control+A")
    fresh.keyboard.type("a blue boat by the water")
    fresh.keyboard.press("Enter")
    wait_for_status(fresh, "Painted")
    for _ in range(20):  # past examples, seed and settings, into the picture
        fresh.keyboard.press("Tab")
        if fresh.evaluate("document.activeElement.getAttribute('role')") == "gridcell":
            break
    for key in ("ArrowDown", "ArrowRight", "Space", "ArrowRight", "Space", "ArrowUp", "ArrowUp", "Space"):
        fresh.keyboard.press(key)
    assert brushed(fresh) == {(1, 1), (1, 2), (0, 2)}
    fresh.keyboard.press("Space")
    assert brushed(fresh) == {(1, 1), (1, 2)}
    fresh.keyboard.press("Tab")
    fresh.keyboard.type(" at night")
    fresh.keyboard.press("Enter")
    wait_for_status(fresh, "Repainted 2 of 64")


def test_an_unknown_word_is_named_in_the_status_line(painted):
    part(painted, "text").fill("a Dragon above a red house")
    painted.keyboard.press("Enter")
    line = wait_for_status(painted, r"Painted .*dragon")
    assert "never learned “dragon”" in line


def test_a_setting_out_of_range_is_refused_in_the_status_line(painted):
    painted.locator("#painter-panel summary").first.click()
    part(painted, "steps").fill("0")
    painted.get_by_role("button", name="Paint", exact=True).click()
    wait_for_status(painted, "Steps:")


def test_settings_reach_the_painter(painted, painter):
    painted.locator("#painter-panel summary").first.click()
    part(painted, "order").select_option("mask_predict")
    part(painted, "schedule").select_option("linear")
    for name, value in {"steps": "4", "temperature": "0", "polish": "0", "seed": "5", "candidates": "1"}.items():
        part(painted, name).fill(value)
    painted.get_by_role("button", name="Paint", exact=True).click()
    wait_for_status(painted, r"Painted .* seed 5\.")
    options = functions(
        {"order": "mask_predict", "schedule": "linear", "steps": 4, "temperature": 0, "polish": 0, "candidates": 1}
    )
    expected = painter.paint("a red house on the grass", **options).images[0]
    assert np.abs(picture(painted)[..., :3].astype(int) - expected.astype(int)).max() <= 2


def test_an_example_is_painted_at_once_and_the_dice_rolls_another_seed(painted):
    painted.locator("#painter-panel .painter-examples button").nth(1).click()
    wait_for_status(painted, "Painting")
    wait_for_status(painted, "Painted")
    first = part(painted, "seed").input_value()
    painted.get_by_role("button", name="Paint with another seed").click()
    wait_for_status(painted, "Painted .* seed (?!0\\.)")
    assert part(painted, "seed").input_value() != first


def test_a_file_that_does_not_arrive_is_named_and_start_can_be_pressed_again(fresh):
    fresh.context.route("**/cells.onnx", lambda route: route.fulfill(status=404, body=""))
    fresh.click("[data-part=start]")
    assert "cells.onnx did not arrive" in wait_for_status(fresh, "cells")
    fresh.context.unroute_all()
    start(fresh)
    wait_for_status(fresh, "Ready")
    assert len(fresh.workers) == 1  # the thread that failed is gone


def test_a_connection_lost_in_the_midst_is_a_sentence(fresh):
    script = """async () => {
        const it = await import(new URL("../_static/painter/model.js", location.href));
        const real = window.fetch;
        const broken = () => new ReadableStream({ start: (stream) => stream.error(new TypeError("network error")) });
        window.fetch = async (url) => (url.endsWith("files.json") ? real(url) : new Response(broken()));
        const base = new URL("../_static/painter/", location.href).href;
        return it.openModel(base, "storybook", () => {}).catch((error) => error.message);
    }"""
    said = fresh.evaluate(script)
    assert re.fullmatch(r"\S+ did not arrive \(no connection\): reload the page to try again\.", said)


def test_enter_does_no_more_than_the_button_beside_it(fresh):
    start(fresh)
    before = wait_for_status(fresh, "Ready")
    part(fresh, "again").press("Enter")  # nothing is painted yet
    assert part(fresh, "status").inner_text() == before
    part(fresh, "text").press("Enter")
    before = wait_for_status(fresh, "Painted")
    part(fresh, "again").press("Enter")  # nothing is brushed yet
    assert part(fresh, "status").inner_text() == before


def test_a_painting_that_fails_leaves_the_one_before(painted):
    before = picture(painted)
    painted.evaluate("""() => {
        const real = painter.paint.bind(painter);
        const fail = () => Promise.reject(new Error("The memory is full."));
        painter.paint = (text, options, onStep) => real(text, { ...options, seed: 7 }, onStep).then(fail);
    }""")
    part(painted, "text").fill("a blue boat at night")
    part(painted, "text").press("Enter")
    wait_for_status(painted, "The memory is full")
    assert np.array_equal(picture(painted), before)


def test_a_button_that_disables_itself_hands_the_focus_to_the_picture(painted):
    in_the_picture = "document.activeElement.getAttribute('role') === 'gridcell'"
    cell = painted.locator("#painter-panel [role=gridcell]").first
    cell.press("Space")
    part(painted, "clear").press("Enter")
    assert painted.evaluate(in_the_picture)
    cell.press("Space")
    part(painted, "apply").press("Enter")
    wait_for_status(painted, "Repainted 1")
    painted.wait_for_function(in_the_picture)
    while part(painted, "undo").is_enabled():  # to the first painting of all
        part(painted, "undo").press("Enter")
    assert painted.evaluate(in_the_picture)


def test_keys_with_a_modifier_are_left_to_the_browser(painted):
    taken = """(cell, modifier) => !cell.dispatchEvent(
        new KeyboardEvent("keydown", { key: "ArrowLeft", [modifier]: true, bubbles: true, cancelable: true }))"""
    cell = painted.locator("#painter-panel [role=gridcell]").first
    assert cell.evaluate(taken, "shiftKey")
    assert not any(cell.evaluate(taken, modifier) for modifier in ("altKey", "ctrlKey", "metaKey"))


def test_a_page_opened_as_a_file_says_how_to_serve_it(chromium, book_pages):
    context = chromium.new_context()
    page = context.new_page()
    page.goto((book_pages / "book" / "paint.html").as_uri())
    part(page, "served").wait_for()
    page.wait_for_timeout(1200)  # it shows late, so that a served page never flashes it
    assert "python -m http.server" in part(page, "served").inner_text()
    assert not part(page, "start").is_visible()
    context.close()


def test_every_field_and_button_has_a_name(painted):
    names = painted.locator("#painter-panel :is(input, select, textarea, progress)").evaluate_all(
        "all => all.map(x => x.labels?.[0]?.textContent || x.ariaLabel || '')"
    )
    names += painted.locator("#painter-panel button").evaluate_all(
        "all => all.map(x => x.textContent.trim() || x.ariaLabel)"
    )
    assert len(names) >= 15
    assert all(names)


@pytest.mark.parametrize("width", [1400, 400])
def test_nothing_sticks_out(width, painted):
    painted.set_viewport_size({"width": width, "height": 900})
    painted.locator("#painter-panel summary").first.click()
    panel = painted.locator("#painter-panel").bounding_box()
    outside = painted.locator("#painter-panel :is(button, input, select, textarea, canvas, p)").evaluate_all(
        """(all, right) => all.filter((x) => x.getBoundingClientRect().right > right).map((x) => x.outerHTML)""",
        panel["x"] + panel["width"],
    )
    assert panel["x"] + panel["width"] <= width
    assert outside == []
