"""What a built book has too much and what it lacks: pages without what they do not use, and with names to be heard.

The theme fetches FontAwesome twice, as fonts and as a script twice as heavy as all the rest; the fonts stay. A reader
with a screen reader hears a name for each control, and the name is what the others see.
"""

import re
from html import escape, unescape
from pathlib import Path

from PIL import Image

SIGNS = re.compile(r'\s*<script src="[^"]*/fontawesome/[^"]*"></script>|\s*<link [^>]*/fa-regular-400\.woff2" ?/>')
FORMULAS = re.compile(r"\s*<script>window\.MathJax = [^<]*</script>|\s*<script [^>]*/mathjax/[^>]*></script>")
SAID = re.compile(r'(<summary|class="btn search-button-field [^>]*title="Search") aria-label="[^"]*"')  # not as seen
MUTE = re.compile(r'(<a [^>]*>([^<]*)</a><details[^>]*><summary)(><span class="toctree-toggle")')
ENTRY = re.compile(r'(<div class="citation"[^>]*) role="doc-biblioentry"')  # in a list, and so an item of it
PAINTING = 100_000  # bytes of a picture from which on it is no chart: those keep every sharp line
QUALITY = 90


def lighter(page: str) -> str:
    """A page without the script of FontAwesome and the font that nobody uses, and without MathJax if it can be."""
    page = SIGNS.sub("", page)
    return page if 'class="math' in page else FORMULAS.sub("", page)


def heard(page: str) -> str:
    """A page whose buttons and folds are called what is written on them, or after the page that they belong to."""

    def named(match: re.Match) -> str:
        name = escape(f"Pages of {unescape(match[2]).strip()}")
        return f'{match[1]} aria-label="{name}"{match[3]}'

    return MUTE.sub(named, ENTRY.sub(r'\1 role="listitem"', SAID.sub(r"\1", page)))


def smaller(picture: Path) -> Path:
    """Write a heavy PNG anew as WebP, of as many pixels, and remove it; returns the file that is there now.

    A picture below ``PAINTING`` bytes stays as it is, and so does one that WebP would not make smaller.
    """
    if picture.stat().st_size < PAINTING:
        return picture
    target = picture.with_suffix(".webp")
    with Image.open(picture) as image:
        image.save(target, quality=QUALITY)
    unused = picture if target.stat().st_size < picture.stat().st_size else target
    unused.unlink()
    return target if unused is picture else picture


def mend(html: Path) -> None:
    """Make every page of a built book lighter and heard, and the figures in its folder ``_images`` smaller."""
    names = {picture.name: smaller(picture).name for picture in sorted((html / "_images").glob("*.png"))}
    shown = re.compile("|".join(map(re.escape, names)) or r"(?!)")
    for path in html.rglob("*.html"):
        if "_static" not in path.relative_to(html).parts:
            page = heard(lighter(path.read_text("utf-8")))
            path.write_text(shown.sub(lambda match: names[match[0]], page), "utf-8")
