"""Chapter 10 in a real JupyterLab and a real browser: type, paint, brush, undo, save, and look at the pixels.

At night the same in Jupyter Notebook 7.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from paint_box_driver import LISTENER, READY, RECORDER, Driver

import xlxmert_core
from book.build.run_chapters import KERNEL, ROOT
from xlxmert_core.display.recipe import read_png
from xlxmert_core.paintbox.recipe import replay

pytestmark = pytest.mark.slow
CHAPTER = "10_paint_box.ipynb"
SECONDS = 420  # after which the whole module gives up
HOUSE, BALLOON = "a large red house on the grass", "a large orange balloon by the water"
FLAGS = "--no-browser --allow-root --ip=127.0.0.1 --IdentityProvider.token= --ServerApp.password="
APPS = {  # by the module that starts it: where the chapter is, and what its server is told
    "jupyterlab": (f"lab/workspaces/paint/tree/{CHAPTER}?reset",
                   "--LabApp.extension_manager=readonly --LabApp.expose_app_in_browser=True"),
    "notebook": (f"notebooks/{CHAPTER}", "--JupyterNotebookApp.expose_app_in_browser=True"),
}  # fmt: skip
NOTEBOOK = "notebook>=7.6,<8"
AWAY = ("chema not found", "load settings", "status of 404")  # Notebook misses settings where it lies in a folder apart
SETTINGS = {  # every cell is in the page at once, and nothing asks about news
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
FITS = """() => [...document.querySelectorAll(".xl-box")].every((box) =>
  box.scrollWidth <= box.clientWidth && box.clientWidth < 400)"""


@pytest.fixture(scope="module", autouse=True)
def alarm():
    """Nothing here may hang for ever."""

    def stop(*_):
        raise TimeoutError(f"JupyterLab's tests took more than {SECONDS} s.")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def write_chapter(path: Path) -> None:
    """The chapter with the cells that make its widgets, writing beside itself."""
    notebook = json.loads((ROOT / "notebooks" / CHAPTER).read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    box, explorer = (
        next(i for i, cell in enumerate(code) if call in "".join(cell["source"]))
        for call in ("PaintBox(painter", "explore_codes(painter")
    )
    notebook["cells"] = [*code[: box + 1], code[explorer]]
    for cell in notebook["cells"]:
        cell["source"] = [line.replace('"../artifacts"', '"artifacts"') for line in cell["source"]]
    path.write_text(json.dumps(notebook), encoding="utf-8")


def fetch_notebook(folder: Path) -> dict[str, str]:
    """Jupyter Notebook 7 beside the JupyterLab that is here, which it needs: the variables that let it be found."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), NOTEBOOK]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{NOTEBOOK} cannot be fetched: {done.stderr.strip().splitlines()[-1]}")
    return {"PYTHONPATH": str(folder), "JUPYTER_PATH": str(folder / "share" / "jupyter")}


@pytest.fixture(scope="module", params=["jupyterlab", pytest.param("notebook", marks=pytest.mark.nightly)])
def address(request, tmp_path_factory) -> str:
    """Where a JupyterLab (or Notebook) of its own shows the chapter."""
    (place, flags), fetched = APPS[request.param], {}
    if request.param == "notebook":
        fetched = fetch_notebook(tmp_path_factory.mktemp("fetched"))
    home, folder = tmp_path_factory.mktemp("jupyter"), tmp_path_factory.mktemp("notebooks")
    write_chapter(folder / CHAPTER)
    for name, settings in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))
    private = {f"JUPYTER_{name}_DIR": str(home / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    private |= {"JUPYTERLAB_SETTINGS_DIR": str(home / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(home / "spaces")}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = [*FLAGS.split(), *flags.split(), f"--port={port}", f"--ServerApp.root_dir={folder}"]
    kernel = {name: value for name, value in KERNEL.items() if name != "MPLBACKEND"}
    with open(home / "log.txt", "w") as log:
        environment = os.environ | kernel | private | fetched | {"IPYTHONDIR": str(home / "ipython")}
        command = [sys.executable, "-m", request.param, *flags]
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        wait_for(f"http://127.0.0.1:{port}/api", home / "log.txt")
        yield f"http://127.0.0.1:{port}/{place}"
        server.terminate()
        server.wait(30)


def wait_for(address: str, log: Path, seconds: int = 60) -> None:
    for _ in range(5 * seconds):
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(f"Jupyter did not start in {seconds} s: {log.read_text()[-1000:]}")


@pytest.fixture(scope="module")
def opened(address, chromium) -> Driver:
    """The chapter, opened and run."""
    page, errors = chromium.new_page(viewport={"width": 1400, "height": 1000}), []
    page.set_default_timeout(90_000)
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.add_init_script(RECORDER)
    page.goto(address)
    page.wait_for_function(READY)
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")  # not awaited: no limit
    page.locator(".xl-choose .xl-thumb").first.wait_for()  # the last cell's widget
    page.wait_for_function(READY)
    page.evaluate(LISTENER)
    yield Driver(page, errors)
    page.close()


@pytest.fixture
def driver(opened) -> Driver:
    """The box with a red house on it and nothing brushed."""
    opened.page.set_viewport_size({"width": 1400, "height": 1000})
    opened.box.scroll_into_view_if_needed()
    opened.button("Clear brush").click()
    opened.paint(HOUSE)
    return opened


def test_a_typed_text_appears_step_by_step(driver):
    before = driver.pixels()
    driver.page.evaluate("window.drawn = []")
    driver.paint(BALLOON)
    drawn = driver.page.evaluate("window.drawn")
    assert len({picture for picture, _ in drawn}) >= 5  # of eight steps; neighbours may be alike
    assert len({frame for _, frame in drawn}) >= 3  # not all at once, at the end
    assert np.abs(driver.pixels().astype(int) - before).mean() > 10


def test_brushed_cells_change_and_undo_and_redo_give_back_each_pixel(driver):
    first = driver.pixels()
    driver.drag(2, 5, 13, 10)  # row 1, columns 3 to 6, and below
    assert driver.brushed() == [2, 3, 4, 5, 10, 11, 12, 13]
    driver.repaint("a small yellow star")
    second, change = driver.pixels(), np.abs(driver.pixels().astype(int) - first).mean(-1)
    inside = np.kron(np.isin(np.arange(64), [2, 3, 4, 5, 10, 11, 12, 13]).reshape(8, 8), np.ones((16, 16))) > 0
    far = np.zeros((128, 128), bool)
    far[64:] = True
    assert change[inside].mean() > 5 and change[far].mean() < 1 and driver.brushed() == []
    driver.press("Undo", "Undone")
    assert np.array_equal(driver.pixels(), first) and len(driver.brushed()) == 8
    driver.press("Redo", "Done again")
    assert np.array_equal(driver.pixels(), second)


def test_the_keyboard_brushes_and_the_notebook_keeps_its_cell(driver):
    notebook = "() => { const { activeCellIndex, mode } = window.jupyterapp.shell.currentWidget.content;"
    notebook += " return [activeCellIndex, mode, document.querySelectorAll('.jp-Cell.jp-mod-selected').length]; }"
    driver.page.locator(".jp-Cell .jp-InputPrompt").first.click()  # keys now belong to the notebook
    driver.cells.first.click()
    driver.cells.first.press("Escape")
    before = driver.page.evaluate(notebook)
    assert before[1] == "command"
    for key in (
        "ArrowDown",
        "ArrowRight",
        "ArrowRight",
        "ArrowUp",
        "ArrowUp",
        "End",
        "ArrowRight",
        "Home",
        "ArrowRight",
    ):
        driver.page.keyboard.press(key)
    assert driver.focused() == 1 and driver.brushed() == []
    for key in ("Space", "Shift+ArrowRight", "Shift+ArrowDown"):
        driver.page.keyboard.press(key)
    assert driver.brushed() == [1, 2, 10] and driver.focused() == 10
    driver.page.keyboard.press("Space")
    assert driver.brushed() == [1, 2]
    assert driver.cells.evaluate_all("cells => cells.filter(cell => cell.tabIndex === 0).length") == 1
    driver.page.keyboard.press("Escape")
    assert driver.brushed() == []
    driver.button("Paint").focus()
    driver.until("Painted in", lambda: driver.page.keyboard.press("Enter"))
    assert driver.page.evaluate(notebook) == before


def test_the_saved_png_is_the_canvas_and_its_recipe_replays(driver, tmp_path):
    driver.drag(4, 5)
    driver.repaint("a small yellow star")
    with driver.page.expect_download() as download:
        driver.press("Save PNG", "Saved as a-large-red-house")
    assert download.value.suggested_filename == "a-large-red-house-on-the-grass-then-a-small-yellow-star.png"
    path = tmp_path / "saved.png"
    download.value.save_as(path)
    image, recipe = read_png(path)
    shown = driver.pixels()
    assert np.array_equal(image, shown) and [stroke.cells for stroke in recipe.strokes] == [None, (4, 5)]
    again = replay(xlxmert_core.load("storybook"), recipe)
    assert again.codes[0].tolist() == list(recipe.codes)
    assert np.abs(again.images[0].astype(int) - shown).max() <= 1  # other threads add in another order
    driver.paint(BALLOON)
    chooser = driver.box.locator("input[type=file]")
    driver.until("Opened", lambda: chooser.set_input_files(path))
    assert np.array_equal(driver.pixels(), shown)


def test_failures_are_sentences_and_the_box_goes_on(driver):
    before = driver.pixels()
    driver.press("Repaint", "Nothing is brushed: brush over the cells to repaint first.")
    file = {"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"}
    chooser = driver.box.locator("input[type=file]")
    driver.until("The file is no PNG, or a broken one", lambda: chooser.set_input_files(files=[file]))
    assert np.array_equal(driver.pixels(), before)
    driver.box.get_by_label("Text", exact=True).fill("a crimson house")
    driver.press("Paint", "Words the model never learned: 'crimson'")
    assert driver.box.locator(".xl-status").get_attribute("role") == "status"


def test_a_word_shows_where_it_looks(driver):
    driver.box.get_by_label("Question", exact=True).fill("what colour is the house")
    driver.press("Ask", "Question: what colour is the house: red.")
    dims = "cells => cells.map(cell => +getComputedStyle(cell).getPropertyValue('--xl-dim'))"
    assert set(driver.cells.evaluate_all(dims)) == {0}
    driver.box.locator(".xl-word", has_text="house").hover()
    dim = np.array(driver.cells.evaluate_all(dims))
    assert (dim < 0.4).sum() < 20 and (dim > 0.7).sum() > 30  # a few cells lit, most of them not
    assert "house" in driver.box.locator(".xl-note").inner_text()
    driver.page.mouse.move(5, 5)
    assert set(driver.cells.evaluate_all(dims)) == {0}
    driver.box.locator(".xl-word", has_text="colour").focus()
    assert max(driver.cells.evaluate_all(dims)) > 0.5


def test_candidates_are_beside_each_other_and_can_be_taken(driver):
    before, thumbs = driver.pixels(), driver.box.locator(".xl-thumb")
    pressed = thumbs.evaluate_all("all => all.map(one => one.ariaPressed)")
    assert sorted(pressed) == ["false", "false", "false", "true"]
    other = pressed.index("false")
    driver.until(f"Took candidate {other + 1}.", thumbs.nth(other).click)
    assert thumbs.nth(other).get_attribute("aria-pressed") == "true"
    assert not np.array_equal(driver.pixels(), before)


def test_the_slider_shows_an_earlier_step(driver):
    before = driver.pixels()
    handle = driver.box.get_by_role("slider").first
    handle.focus()
    handle.press("Home")
    driver.box.locator(".xl-cell.xl-hidden").first.wait_for()
    assert not np.array_equal(driver.pixels(), before)
    handle.press("End")
    driver.page.wait_for_function("!document.querySelector('.xl-cell.xl-hidden')")
    assert np.array_equal(driver.pixels(), before)


def test_a_narrow_screen_is_enough(driver):
    driver.page.set_viewport_size({"width": 400, "height": 800})
    driver.page.evaluate("() => window.jupyterapp.shell.collapseLeft()")  # the list of files
    driver.page.wait_for_function(FITS, timeout=10_000)  # JupyterLab takes its time to follow
    assert driver.box.bounding_box()["width"] > 240
    heights = driver.box.locator("button:visible, input:visible").evaluate_all(
        "all => all.filter(one => one.type !== 'file').map(one => one.getBoundingClientRect().height)"
    )
    assert min(heights) >= 24  # WCAG's least target size
    driver.cells.nth(20).scroll_into_view_if_needed()
    driver.drag(20, 22)
    assert driver.brushed() == [20, 21, 22]
    driver.repaint("a small yellow star")


def test_a_chosen_cell_shows_its_code(driver):
    explorer = driver.page.locator(".xl-choose")
    explorer.locator(".xl-cell").nth(0).click()
    status = explorer.locator(".xl-status")
    first = status.inner_text()
    assert first.startswith("Code ") and "of 12800 cells" in first
    driver.page.keyboard.press("End")
    driver.page.wait_for_function(
        "text => document.querySelector('.xl-choose .xl-status').textContent !== text", arg=first
    )
    assert explorer.locator(".xl-cell[aria-selected=true]").count() == 1


def test_the_widget_in_twenty_lines_answers_a_click(driver):
    square = driver.page.get_by_role("button", name="square 8")
    assert square.inner_text() == "□"
    square.click()
    driver.page.get_by_role("button", name="square 8").filter(has_text="■").wait_for()


def test_every_control_has_a_name(driver):
    driver.box.get_by_text("Settings").click()
    driver.box.get_by_label("Seed").wait_for()
    named = "one.ariaLabel || one.labels?.length || one.textContent.trim() || one.title"
    inside = "one.closest('[aria-label]') || one.querySelector('[aria-label]')"
    controls = driver.box.locator("button, input, select, canvas, [role]")
    nameless = controls.evaluate_all(f"all => all.filter(one => !({named} || {inside})).map(one => one.outerHTML)")
    assert nameless == []
    driver.box.get_by_text("Settings").click()


def test_the_console_stays_clean(driver, address):
    ours = [error for error in driver.errors if "/lab/" in address or not any(known in error for known in AWAY)]
    assert ours == []
