"""What a site has beside its pages: a map for search engines, a page for wrong addresses, and pictures of its links.

All of it names absolute addresses, those of GitHub Pages for the repository that _config.yml names.
"""

import re
from html import escape, unescape
from pathlib import Path

from book.build.address import current

PICTURE = "_static/painting.png"  # painted by the shipped weights
PLAIN = ("genindex.html", "search.html", "404.html")  # pages that nobody looks for
STRIP = re.compile(r"<[^>]+>")
LOST = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>There is no such page</title>
<style>
:root {{ color-scheme: light dark; font: 18px/1.5 system-ui, sans-serif; }}
body {{ max-width: 34rem; margin: 4rem auto; padding: 0 1rem; }}
</style>
</head>
<body>
<main>
<h1>There is no such page</h1>
<p>Pages are renamed now and then. The one that you look for may be found from the
<a href="{site}">first page of the book</a>, or by <a href="{site}search.html">a word in it</a>.</p>
</main>
</body>
</html>
"""


def address(repository: str) -> str:
    """Where GitHub Pages shows a repository "owner/name", with a slash at its end."""
    owner, name = repository.split("/")
    host = f"{owner.lower()}.github.io"
    return f"https://{host}/" if name.lower() == host else f"https://{host}/{name}/"


def shown(html: Path) -> list[Path]:
    """The pages that a reader may look for, relative to the folder, sorted; not those that only lead to another."""
    pages = (path for path in html.rglob("*.html") if "_static" not in path.relative_to(html).parts)
    found = [path.relative_to(html) for path in pages if 'http-equiv="Refresh"' not in path.read_text("utf-8")[:500]]
    return sorted(path for path in found if path.as_posix() not in PLAIN)


def words(fragment: str) -> str:
    """What a piece of HTML says, on one line."""
    return " ".join(unescape(STRIP.sub("", fragment)).split())


def card(page: str, place: str, site: str) -> str:
    """What a link to a page shows elsewhere (Open Graph): its title, first paragraph, and a painting."""
    title = re.search(r"<title>(.*?)</title>", page, re.DOTALL)
    paragraphs = (words(text) for text in re.findall(r"<p>(.*?)</p>", page.partition("<article")[2], re.DOTALL))
    first = next((text for text in paragraphs if len(text) > 40), "")
    said = {
        "og:type": "article", "og:title": words(title[1]) if title else "", "og:url": site + place,
        "og:description": first if len(first) <= 200 else f"{first[:199].rsplit(' ', 1)[0]} …",
        "og:image": site + PICTURE, "og:image:alt": "Paintings of the shipped model, above their sentences.",
    }  # fmt: skip
    tags = [f'<meta property="{name}" content="{escape(text)}">' for name, text in said.items() if text]
    return "\n".join([*tags, f'<meta name="description" content="{escape(said["og:description"])}">' * bool(first)])


def finish(html: Path) -> None:
    """Give a built book its map, its page for wrong addresses, and its cards."""
    site = address(current())
    pages = shown(html)
    for path in pages:
        page = (html / path).read_text("utf-8")
        if "og:title" not in page:
            head = f"{card(page, path.as_posix(), site)}\n</head>"
            (html / path).write_text(page.replace("</head>", head, 1), "utf-8")
    lines = [f"  <url><loc>{site}{path.as_posix()}</loc></url>" for path in pages]
    head = '<?xml version="1.0" encoding="utf-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
    (html / "sitemap.xml").write_text("\n".join([head, *lines, "</urlset>", ""]), "utf-8")
    (html / "robots.txt").write_text(f"User-agent: *\nAllow: /\nSitemap: {site}sitemap.xml\n", "utf-8")
    (html / "404.html").write_text(LOST.format(site=site), "utf-8")
