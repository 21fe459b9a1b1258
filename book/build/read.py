"""Show the built pages on this machine: ``python -m book.build.read 8000`` (or ``make read``)."""

import argparse
import sys
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from book.build.run_chapters import ROOT

PAGES = ROOT / "_build" / "book" / "html"
TRIED = 20  # ports, one after another


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and prints nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def serve(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server of a folder at the first free port from ``port`` on; raises OSError in one sentence."""
    for number in range(port, min(port + TRIED, 2**16)):
        try:
            return ThreadingHTTPServer(("127.0.0.1", number), partial(Quiet, directory=folder))
        except OSError as error:
            reason = error.strerror
    raise OSError(f"No port from {port} on is free ({reason}): name another with make read PORT=9000.")


def port_number(text: str) -> int:
    """A port that a user may open."""
    if not (text.isdigit() and 0 < int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give a number from 1 to 65535")
    return int(text)


def main() -> int:
    """The command behind ``make read``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", nargs="?", type=port_number, default=8000)
    port = parser.parse_args().port
    if not (PAGES / "index.html").exists():
        print("There are no pages yet: run make book first.", file=sys.stderr)
        return 1
    try:
        server = serve(PAGES, port)
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    taken = "" if server.server_port == port else f"Port {port} is in use. "
    print(f"{taken}Open http://127.0.0.1:{server.server_port} (Ctrl-C ends)", flush=True)
    with suppress(KeyboardInterrupt):
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
