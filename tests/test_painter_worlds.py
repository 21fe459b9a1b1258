"""The page that paints in its second world: fetched when asked for, and its codes are Python's."""

import re
import time

import numpy as np
import pytest
from painter_driver import functions, paint, part, picture, start, wait_for_status

import xlxmert_core
from book.build.bars import BARS, read_bars
from book.build.export_onnx import WORLDS
from xlxmert_core.folder import shipped_names

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("catalogue" not in shipped_names(), reason="the weights of catalogue are not shipped yet"),
]
BYTES = 25e6  # the most that the second world may fetch
SECONDS = read_bars(BARS)["pages"]["seconds_per_painting"]["max"]
TEXTS = ("a striped blue shirt for men", "a plain red handbag", "these sports shoes are white and blue")
SETTINGS = [
    {"temperature": 0, "polish": 0},
    {"temperature": 0, "polish": 0, "order": "mask_predict", "schedule": "linear", "steps": 4},
    {"seed": 12_345},  # the page's own, but for the candidates
    {"seed": 5, "order": "random", "schedule": "linear", "steps": 8, "temperature": 1.0, "polish": 2},
]


@pytest.fixture(scope="module")
def painter():
    return xlxmert_core.load("catalogue")


def enter(page, name: str = "photographs") -> str:
    """Choose a world and wait until it is there; what the status line says."""
    world(page, name).click()
    line = part(page, "status").filter(has_text="Write a sentence, or take an example.")
    page.locator("#painter-panel[aria-busy=false]").wait_for(timeout=120_000)
    line.wait_for()
    return line.inner_text()


def world(page, name: str):
    return part(page, "worlds").get_by_role("button", name=name)


@pytest.fixture(scope="module")
def visit(chromium, book_site):
    """A page in the second world, and what was asked for since the first one was there."""
    context = chromium.new_context(viewport={"width": 1400, "height": 1000})
    page, requests = context.new_page(), []
    context.route("**", lambda route: (requests.append(route.request.url), route.continue_()))
    page.goto(f"{book_site}/book/paint.html", wait_until="networkidle")
    start(page)
    wait_for_status(page, "Ready")
    before, said = requests.copy(), world(page, "photographs").inner_text()
    assert "Ready after" in enter(page)
    yield page, before, requests[len(before) :], said
    context.close()


@pytest.fixture()
def page(visit):
    return visit[0]


def test_the_second_world_is_fetched_only_when_asked_for(visit, book_site, book_pages):
    _, before, since, said = visit
    assert [url for url in before if "/catalogue/" in url] == []
    assert len([url for url in since if url.endswith(".onnx")]) in (3, 4)
    fetched = sum((book_pages / url.removeprefix(book_site).lstrip("/")).stat().st_size for url in since)
    assert fetched <= BYTES and abs(int(re.search(r"(\d+) MB", said)[1]) * 1e6 - fetched) < 1e6


@pytest.mark.parametrize("options", SETTINGS, ids=lambda options: "-".join(map(str, options.values())))
def test_codes_are_those_of_python(options, page, painter):
    options = {"candidates": 1} | options
    found = [paint(page, text, **options) for text in TEXTS]
    assert found == [painter.paint(text, **functions(options)).codes[0].tolist() for text in TEXTS]


def test_pictures_are_those_of_python(page, painter):
    codes = painter.paint(TEXTS[0], candidates=1).codes
    found = page.evaluate("(codes) => painter.render(codes).then((picture) => [...picture])", codes[0].tolist())
    found = np.array(found).reshape(128, 128, 4)[..., :3]
    assert np.abs(found - painter.render(codes)[0].astype(int)).max() <= 2


def test_answers_are_those_of_python_where_it_answers(page, painter):
    quiz = part(page, "quiz")
    if "vqa" not in painter.skills:
        assert not quiz.is_visible()
        return
    assert quiz.is_visible()
    codes = painter.paint(TEXTS[1], candidates=1).codes
    script = "([codes, question]) => painter.answer(codes, question)"
    question = WORLDS["catalogue"].question
    assert page.evaluate(script, [codes[0].tolist(), question]) == painter.answer(codes, question)[0]


def test_a_painting_does_not_try_a_readers_patience(page):
    taken = []
    for seed in range(5):  # the fastest of a few: other programs may run on this machine
        begun = time.perf_counter()
        paint(page, TEXTS[0], seed=seed)
        taken.append(time.perf_counter() - begun)
    assert min(taken) < SECONDS


def test_each_world_keeps_its_painting_and_its_fields(page):
    part(page, "text").fill(TEXTS[1])
    part(page, "text").press("Enter")
    wait_for_status(page, "Painted")
    photograph = picture(page)
    enter(page, "Drawings")
    assert part(page, "text").input_value() == WORLDS["storybook"].examples[0]
    assert not picture(page).any() and part(page, "undo").is_disabled() and part(page, "send").is_disabled()
    assert part(page, "quiz").is_visible() and "house" in part(page, "words").text_content()
    part(page, "text").press("Enter")
    wait_for_status(page, "Painted")
    assert np.abs(picture(page).astype(int) - photograph).mean() > 10
    enter(page)
    assert np.array_equal(picture(page), photograph) and part(page, "text").input_value() == TEXTS[1]
    assert "handbag" in part(page, "words").text_content()
    assert part(page, "examples").locator("button").all_inner_texts() == list(WORLDS["catalogue"].examples)


def test_the_keyboard_alone_changes_worlds(page):
    assert world(page, "photographs").get_attribute("aria-pressed") == "true"
    world(page, "photographs").focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('[data-world=storybook]').ariaPressed === 'true'")
    page.locator("#painter-panel[aria-busy=false]").wait_for()
    assert page.evaluate("document.activeElement.dataset.world") == "storybook"  # the focus stays
    enter(page)


def test_a_world_that_does_not_arrive_is_a_sentence_and_the_first_goes_on(fresh):
    start(fresh)
    fresh.context.route("**/catalogue/cells.onnx", lambda route: route.fulfill(status=404, body=""))
    world(fresh, "photographs").click()
    assert "cells.onnx did not arrive" in wait_for_status(fresh, "cells")
    part(fresh, "text").press("Enter")
    wait_for_status(fresh, "Painted")
    fresh.context.unroute_all()
    enter(fresh)
    assert world(fresh, "photographs").get_attribute("aria-pressed") == "true"
