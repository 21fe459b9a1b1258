"""The page that paints, served by the model in Python, to this machine alone unless others are named. Axes: N cells.

A page of a stranger must not use the server, and so it answers to its own names only (no DNS rebinding) and takes JSON
only (no form of another page).
"""

import base64
import errno
import io
import json
import socket
import threading
from collections.abc import Callable, Iterable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xlxmert_core.display.recipe import save_png
from xlxmert_core.files import why
from xlxmert_core.pipeline import Painting, Pipeline

PAGE = Path(__file__).with_name("page.html")
TRIED = 20  # ports, one after another
LONGEST = 2**16  # bytes of a request
NAMES = ("127.0.0.1", "localhost")


class Desk:
    """What the page asks for, one request at a time; raises ValueError in one sentence."""

    def __init__(self, painter: Pipeline):
        self.painter, self.lock = painter, threading.Lock()
        self.calls: dict[str, Callable[[dict], dict]] = {
            "/paint": self.paint, "/repaint": self.repaint, "/answer": self.answer, "/caption": self.caption,
        }  # fmt: skip

    def about(self) -> dict:
        """What the page must know."""
        return {"grid": self.painter.grid, "model": repr(self.painter)}

    def paint(self, asked: dict) -> dict:
        """{text, seed} -> {image, codes}."""
        return self._shown(self.painter.paint(_text(asked, "text"), seed=_number(asked)))

    def repaint(self, asked: dict) -> dict:
        """{codes, cells, text, seed} -> {image, codes}; the cells are numbers from 0, row by row."""
        grid, mask = self.painter.grid, np.zeros(self.painter.grid**2, bool)
        cells = [cell for cell in asked.get("cells", []) if type(cell) is int and 0 <= cell < grid**2]
        if not cells:
            raise ValueError("Nothing is brushed: drag over the cells to repaint first.")
        mask[cells] = True
        return self._shown(self.painter.repaint(self._codes(asked), mask.reshape(grid, grid), _text(asked, "text"),
                                                seed=_number(asked)))  # fmt: skip

    def answer(self, asked: dict) -> dict:
        """{codes, question} -> {answer}."""
        return {"answer": self.painter.answer(self._codes(asked), _text(asked, "question"))[0]}

    def caption(self, asked: dict) -> dict:
        """{codes} -> {caption}."""
        return {"caption": self.painter.caption(self._codes(asked))[0]}

    def _codes(self, asked: dict) -> Tensor:
        codes = asked.get("codes")
        if not isinstance(codes, list) or not all(type(code) is int and 0 <= code < 2**31 for code in codes):
            raise ValueError("There is no picture yet: paint one first.")
        return torch.tensor([codes], dtype=torch.int64)

    def _shown(self, painting: Painting) -> dict:
        file = io.BytesIO()
        codes = painting.codes[0].tolist()
        recipe = painting.made.recipe(0, painting.texts[0], tuple(codes)) if painting.made else None
        save_png(file, painting.images[0], recipe, painting.texts[0])
        return {"image": f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}", "codes": codes}


def _text(asked: dict, name: str) -> str:
    text = asked.get(name)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"There is no {'sentence' if name == 'text' else name}: write one first.")
    return text


def _number(asked: dict) -> int:
    seed = asked.get("seed", 0)
    if type(seed) is not int or not 0 <= seed < 2**31:
        raise ValueError(f"The seed is a whole number from 0 to {2**31 - 1}.")
    return seed


class Handler(BaseHTTPRequestHandler):
    """One request of the page; ``names`` are those that the server answers to, in small letters."""

    def __init__(self, desk: Desk, names: frozenset[str], *args: Any):
        self.desk, self.names = desk, names
        super().__init__(*args)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _reply(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store"),
                            ("X-Content-Type-Options", "nosniff")):  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _say(self, status: int, found: dict) -> None:
        self._reply(status, "application/json", json.dumps(found).encode())

    def _known(self) -> bool:
        return self.headers.get("Host", "").partition(":")[0].lower() in self.names

    def do_GET(self) -> None:  # noqa: N802  http.server's name
        """The page itself, and what it must know."""
        if not self._known():
            self._say(403, {"error": "This server does not answer to that name: start it with --name and the name."})
        elif self.path == "/":
            self._reply(200, "text/html; charset=utf-8", PAGE.read_bytes())
        elif self.path == "/about":
            self._say(200, self.desk.about())
        else:
            self._say(404, {"error": f"There is nothing at {self.path}."})

    def do_POST(self) -> None:  # noqa: N802  http.server's name
        """Paint, repaint, answer or caption."""
        call, size = self.desk.calls.get(self.path), self.headers.get("Content-Length", "")
        if not self._known() or self.headers.get_content_type() != "application/json":
            self._say(403, {"error": "This server answers its own page only."})
        elif call is None or not size.isdecimal() or int(size) > LONGEST:
            self._say(404 if call is None else 413, {"error": "There is nothing here for that."})
        else:
            try:
                asked = json.loads(self.rfile.read(int(size)))
                if not isinstance(asked, dict):
                    raise ValueError("The question is no JSON object.")
                with self.desk.lock:
                    self._say(200, call(asked))
            except (ValueError, RecursionError) as error:
                self._say(400, {"error": why(error)})


class Server(ThreadingHTTPServer):
    """A server whose port is its own: two would share one on Windows if an address could be used twice."""

    allow_reuse_address = False


def listen(painter: Pipeline, port: int, host: str = NAMES[0], names: Iterable[str] = ()) -> Server:
    """A server of the page at the first free port from ``port`` on; raises OSError or ValueError in one sentence.

    Args:
        painter: what paints.
        port: the first to try.
        host: where it listens; "0.0.0.0" is every network that the machine is in.
        names: what others may call it, as an address has it, beside ``NAMES``: "paint.example.org".
    """
    if not 0 < port < 2**16:
        raise ValueError(f"{port} is no port: give a number from 1 to 65535.")
    known = frozenset(name.lower() for name in (*NAMES, *names))
    reason = ""
    for number in range(port, min(port + TRIED, 2**16)):
        try:
            return Server((host, number), partial(Handler, Desk(painter), known))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
                raise OSError(f"{host} is no address of this machine: give another with --host.") from error
            reason = error.strerror
    raise OSError(f"No port from {port} on is free ({reason}): name another with --port 9000.")
