"""What one types paints, captions and answers; a mistake is one sentence, code 2, and nothing is half-written."""

import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import GRID, TEXTS, tiny_painter

from book.build.run_chapters import ROOT
from xlxmert_core.command import main as command
from xlxmert_core.command import serve
from xlxmert_core.display.recipe import read_png
from xlxmert_core.paintbox.recipe import replay
from xlxmert_core.pipeline import load

COMMANDS = ("paint", "caption", "answer", "serve")


@pytest.fixture(scope="module")
def painter():
    return tiny_painter()


@pytest.fixture
def run(painter, monkeypatch, capsys, tmp_path):
    """Type a command in an empty folder: (exit code, what it printed, what it said of mistakes)."""
    monkeypatch.setattr(
        command, "load", lambda name, generator: painter if name == "storybook" else load(name, generator)
    )
    monkeypatch.chdir(tmp_path)

    def typed(*words: str) -> tuple[int, str, str]:
        try:
            code = command.main(words)
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return typed


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "seen.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    return path


def test_a_sentence_becomes_a_picture_that_is_painted_again(run, painter, tmp_path):
    code, out, _ = run("paint", TEXTS[0], "-o", "new/house.png", "--seed", "7", "--steps", "3")
    assert (code, out) == (0, "Painted new/house.png.\n")
    image, recipe = read_png(tmp_path / "new" / "house.png")
    assert recipe.strokes[0].settings.seed == 7 and recipe.strokes[0].settings.steps == 3
    assert np.array_equal(replay(painter, recipe).images[0], image)


def test_several_sentences_are_numbered_and_told_as_json(run, tmp_path):
    code, out, _ = run("paint", *TEXTS, "--json", "--steps", "2")
    assert code == 0
    files = ["painting-1.png", "painting-2.png"]
    assert json.loads(out) == {"texts": TEXTS, "seed": 0, "steps": 2, "files": files}
    assert sorted(path.name for path in tmp_path.iterdir()) == files


def test_a_gif_shows_the_steps(run, tmp_path):
    assert run("paint", TEXTS[0], "-o", "house.gif", "--steps", "4")[0] == 0
    with Image.open(tmp_path / "house.gif") as moving:
        assert moving.format == "GIF" and moving.n_frames > 1


def test_pictures_are_described_and_asked_about(run, painter, picture):
    code, out, _ = run("caption", str(picture), str(picture))
    assert code == 0 and out.splitlines() == painter.caption([picture, picture])
    code, out, _ = run("answer", str(picture), "is it red", "is it blue", "--json")
    answers = painter.answer([picture] * 2, ["is it red", "is it blue"])
    assert code == 0 and json.loads(out)["answers"] == answers


@pytest.mark.parametrize(("words", "said"), [
    (("paint",), "The following arguments are required: SENTENCE"),
    (("paint", "a house", "--seed", "two"), "'two' is no whole number"),
    (("paint", "a house", "--steps", "0"), "The steps must be a whole number from 1 on"),
    (("paint", "a house", "-o", "house.jpg"), "'house.jpg' is no name for a picture: end it in .png or .gif"),
    (("paint", "a house", "-o", "."), "'.' is no name for a picture"),
    (("paint", "a house", "-o", "folder.png"), "folder.png is a folder: name a file in it"),
    (("paint", "a house", "-o", "file/house.png"), "file"),
    (("paint", "a house", "--model", "storybok"), "shipped weights are 'catalogue', 'storybook'"),
    (("paint", "a house", "--model", "https://x.org/a"), "opens local folders only"),
    (("paint", "a house", "--model", "Epoch20_LXRT.pth"), "Epoch20_LXRT.pth"),
    (("caption", "nowhere.png"), "There is no picture at nowhere.png: check the path"),
    (("caption", "file"), "file"),
    (("answer", "nowhere.png", "is it red"), "There is no picture at nowhere.png"),
    (("answer", "file"), "The following arguments are required: question"),
    (("answer", "file", "what", "--skill", "nlvr2"), "invalid choice: 'nlvr2'"),
    (("pant", "a house"), "'pant'"),
    (("serve", "--port", "0"), "0 is no port: give a number from 1 to 65535"),
    (("serve", "--port", "65536"), "65536 is no port"),
])  # fmt: skip
def test_a_mistake_is_one_sentence_and_leaves_nothing(run, tmp_path, words, said):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("no picture")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    code, out, sentence = run(*words)
    assert code == 2 and said in sentence and out == ""
    assert sentence.count("\n") == 1 and "Traceback" not in sentence
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_what_the_model_warns_of_is_a_note_beside_the_answer(run):
    code, out, said = run("paint", "a zebra", "-o", "a.png", "--steps", "1")
    assert code == 0 and said.startswith("Note: ") and "zebra" in said and out == "Painted a.png.\n"


def test_stopped_by_ctrl_c_it_says_so_and_leaves_nothing(run, painter, monkeypatch, tmp_path):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(painter, "paint", stopped)
    assert run("paint", TEXTS[0]) == (130, "", "Stopped.\n")
    assert not list(tmp_path.iterdir())


def test_help_begins_with_four_lines_to_type(run):
    code, out, _ = run()
    assert code == 0 == run("--help")[0]
    for name in COMMANDS:
        assert f"python -m xlxmert_core {name}" in out and run(name, "--help")[0] == 0


@pytest.fixture
def desk(painter):
    """A served page: ask(path, JSON) -> (status, reply)."""
    server = serve.listen(painter, 18000)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def ask(path, asked=None, **headers):
        body = None if asked is None else json.dumps(asked).encode()
        address = f"http://127.0.0.1:{server.server_port}{path}"
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"} | headers)
        try:
            with urllib.request.urlopen(request) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())["error"]

    ask.port = server.server_port
    yield ask
    server.shutdown()
    server.server_close()


def test_the_page_paints_repaints_and_answers(desk, painter):
    assert "<title>Paint with X-LXMERT</title>" in desk("/")[1]
    assert json.loads(desk("/about")[1])["grid"] == GRID
    first = json.loads(desk("/paint", {"text": TEXTS[0], "seed": 3})[1])
    assert first["codes"] == painter.paint(TEXTS[0], seed=3).codes[0].tolist()
    asked = {"text": TEXTS[1], "seed": 1, "codes": first["codes"], "cells": [0, 5]}
    second = json.loads(desk("/repaint", asked)[1])
    kept = [i for i in range(GRID**2) if i not in (0, 5)]
    assert [second["codes"][i] for i in kept] == [first["codes"][i] for i in kept]
    codes = torch.tensor([first["codes"]])
    reply = json.loads(desk("/answer", {"codes": first["codes"], "question": "is it red"})[1])
    assert reply == {"answer": painter.answer(codes, "is it red")[0]}
    assert json.loads(desk("/caption", {"codes": first["codes"]})[1]) == {"caption": painter.caption(codes)[0]}


@pytest.mark.parametrize(("path", "asked", "said"), [
    ("/paint", {"text": " "}, "There is no sentence: write one first."),
    ("/paint", {"text": "a house", "seed": -1}, "The seed is a whole number"),
    ("/paint", ["a house"], "The question is no JSON object."),
    ("/repaint", {"text": "a house", "codes": [1] * GRID**2, "cells": []}, "Nothing is brushed"),
    ("/answer", {"codes": None, "question": "is it red"}, "There is no picture yet"),
    ("/answer", {"codes": [10**6] * GRID**2, "question": "is it red"}, "codes"),
    ("/caption", {"codes": [1]}, "codes"),
])  # fmt: skip
def test_what_the_page_cannot_do_is_a_sentence(desk, path, asked, said):
    status, error = desk(path, asked)
    assert status == 400 and said in error


def test_other_pages_and_other_names_get_nothing(desk):
    asked = {"text": TEXTS[0]}
    assert desk("/paint", asked, **{"Content-Type": "text/plain"})[0] == 403
    assert desk("/paint", asked, Host="evil.example")[0] == 403 == desk("/", Host="evil.example")[0]
    assert desk("/paint", {"text": "a" * 2**17})[0] == 413
    assert desk("/nothing", asked)[0] == 404 == desk("/../pyproject.toml")[0]


def test_other_machines_call_it_by_the_names_that_were_given(painter):
    def ask(name: str) -> int:
        request = urllib.request.Request(f"http://127.0.0.1:{server.server_port}/about", headers={"Host": name})
        try:
            with urllib.request.urlopen(request) as reply:
                return reply.status
        except urllib.error.HTTPError as error:
            return error.code

    with serve.listen(painter, 18000, "0.0.0.0", ["Paint.example"]) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        named = {name: ask(name) for name in ("paint.EXAMPLE", "paint.example:443", "localhost", "evil.example")}
        server.shutdown()
    assert named == {"paint.EXAMPLE": 200, "paint.example:443": 200, "localhost": 200, "evil.example": 403}


def test_an_address_that_is_not_this_machines_is_refused_at_once(painter):
    with pytest.raises(OSError, match=r"192\.0\.2\.1 is no address of this machine: give another with --host\."):
        serve.listen(painter, 18000, "192.0.2.1")  # an address of no machine (RFC 5737)


def test_a_port_that_is_taken_is_passed_over(desk, painter):
    with serve.listen(painter, desk.port) as other:
        assert desk.port < other.server_port <= desk.port + serve.TRIED


@pytest.mark.slow
def test_the_shipped_model_paints_reads_and_answers_from_a_shell(tmp_path):
    def typed(*words):
        call = [sys.executable, "-m", "xlxmert_core", *words]
        return subprocess.run(call, cwd=ROOT, capture_output=True, text=True)

    path = str(tmp_path / "house.png")
    assert typed("paint", "a large red house in the snow", "-o", path).stdout == f"Painted {path}.\n"
    assert "house" in typed("caption", path).stdout
    assert typed("answer", path, "what colour is the house").stdout == "red\n"
    refused = typed("caption", f"{path}x")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
