"""The book as one PDF: ``python -m book.build.pdf`` (or ``make pdf``), printed by Chromium from the built pages.

The articles of all pages, in the order of the table of contents, become one page with the book's own style; Chromium
sets its formulas and prints it.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from posixpath import join, normpath

import yaml

from book.build.mend import FORMULAS
from book.build.read import PAGES, serve
from book.build.run_chapters import ROOT

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
WAIT = 60_000  # milliseconds of the page's own clock, which formulas have
TARGET = ROOT / "_build" / "book" / "x-lxmert.pdf"
PRINTED = "printed.html"
STYLE = """<style>
@page { size: A4; margin: 18mm 16mm; }
body { font-size: 10.5pt; }
article { break-before: page; max-width: none; }
article:first-of-type { break-before: auto; }
pre, figure, table, img { break-inside: avoid; }
h1, h2, h3 { break-after: avoid; }
.headerlink, .copybtn, .tocsection { display: none !important; }
</style>"""


class PdfError(RuntimeError):
    """The book cannot be printed; the message says why and what to do."""


def order(toc: Path = ROOT / "book" / "_toc.yml") -> list[str]:
    """The pages of the table of contents, from the first on, without an ending."""
    table = yaml.safe_load(toc.read_text("utf-8"))
    return [table["root"], *(page["file"] for part in table["parts"] for page in part["chapters"])]


def article(page: str, place: str) -> str:
    """A page's article with its links as they are seen from the folder of all pages; links to pages stay in the PDF."""
    found = re.search(r"<article.*?</article>", page, re.DOTALL)
    if found is None:
        raise PdfError(f"{place} has no article: build the pages again with make book.")
    folder = place.rpartition("/")[0]

    def moved(match: re.Match) -> str:
        name, target = match.groups()
        if re.match(r"[a-z]+:|/|$", target):
            return match[0]
        if target.startswith("#"):
            return f'{name}="#{anchor(place)}{target[1:]}"'
        path, _, part = target.partition("#")
        path = normpath(join(folder, path))
        return f'{name}="#{anchor(path)}{part}"' if path.endswith(".html") else f'{name}="{path}"'

    text = re.sub(r'\bid="([^"]+)"', lambda match: f'id="{anchor(place)}{match[1]}"', found[0])
    text = re.sub(r'\b(src|href)="([^"]*)"', moved, text)
    text = re.sub(r"<details(?! class=.admonition hide)", "<details open", text)  # solutions, but not set-up cells
    return text.replace("<article", f'<article id="{anchor(place)}"', 1)


def anchor(place: str) -> str:
    """What the anchors of a page begin with, so that those of two pages differ."""
    return re.sub(r"\W", "-", place.removesuffix(".html")) + "--"


def together(html: Path, pages: list[str]) -> str:
    """All articles as one page, with the head of the first one's page."""
    texts = {f"{page}.html": (html / f"{page}.html").read_text("utf-8") for page in pages}
    first = next(iter(texts))
    formulas = next(filter(None, map(FORMULAS.findall, texts.values())), [])  # not every page fetches what sets them
    head = FORMULAS.sub("", texts[first].partition("</head>")[0]) + "".join(formulas)
    head = re.sub(r'\b(src|href)="\.\./', r'\1="', head)
    articles = "\n".join(article(text, place) for place, text in texts.items())
    return f"{head}{STYLE}</head><body>{articles}</body></html>"


def browser() -> str:
    """The browser that prints; raises PdfError when there is none."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise PdfError("Chromium prints the book, and there is none: apt install chromium, then make pdf again.")
    return found


def write(html: Path, pages: list[str], target: Path) -> Path:
    """Print these pages of a built book; the PDF is whole or not there. Raises PdfError."""
    if missing := [page for page in pages if not (html / f"{page}.html").is_file()]:
        raise PdfError(f"There is no page {missing[0]} yet: run make book first.")
    program, page = browser(), html / PRINTED
    server = serve(html, 8000)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        page.write_text(together(html, pages), "utf-8")
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "book.pdf"
            call = [program, *FLAGS, f"--user-data-dir={folder}/profile", f"--virtual-time-budget={WAIT}"]
            call += ["--no-pdf-header-footer", "--generate-pdf-document-outline", f"--print-to-pdf={made}"]
            done = subprocess.run([*call, f"http://127.0.0.1:{server.server_port}/{PRINTED}"], capture_output=True)
            if done.returncode or not made.is_file():
                raise PdfError(f"Chromium could not print the book: {done.stderr.decode(errors='replace')[-300:]}")
            shutil.copy(made, target.with_suffix(".tmp"))
            target.with_suffix(".tmp").replace(target)
    finally:
        page.unlink(missing_ok=True)
        server.shutdown()
        server.server_close()
    return target


def main() -> int:
    """The command behind ``make pdf``."""
    try:
        target = write(PAGES, order(), TARGET)
    except (PdfError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Printed {target.relative_to(ROOT)}, {target.stat().st_size / 1e6:.0f} MB.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
