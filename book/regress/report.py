"""The regression report: one HTML file that needs nothing outside itself, with the figures side by side."""

import base64
import io
from collections import Counter
from dataclasses import dataclass
from html import escape
from itertools import zip_longest
from pathlib import Path

import nbformat
import numpy as np
from PIL import Image

from book.regress.verdicts import Judgement, Kind
from xlxmert_core.files import replacing

SEEN = 8  # of 255: a pixel whose colour moved less looks the same
WIDEST = 1200  # pixels of a figure in the report; differences are counted before it is made smaller

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>Regression run: {name}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>Regression run <small>{name}</small></h1>
<p class="lead {mood}">{lead}</p>
{lost}
<p class="soft">Accepted numbers are means ± standard deviations over the seeds. A change counts when chance alone would
explain it less than once in a hundred times. In pairs of figures the accepted one comes first.</p>
<ul class="counts">{counts}</ul>
<nav aria-label="Chapters">{links}</nav>
{sections}
</main>
</body>
</html>
"""

STYLE = """
:root { --bg: #fff; --fg: #1d2733; --soft: #55626f; --line: #d5dce3; --box: #f4f7fa; --link: #2f5d8a;
  --good: #14683a; --bad: #a3211b; --new: #2f5d8a; --bad-box: #fdecea; --good-box: #e7f4ec; }
@media (prefers-color-scheme: dark) { :root { --bg: #14181d; --fg: #e3e8ed; --soft: #a0abb6; --line: #36404a;
  --box: #1d232a; --link: #8fb8e0; --good: #7fd1a0; --bad: #ff9c8f; --new: #8fb8e0; --bad-box: #3a1f1d;
  --good-box: #1a3024; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--bg); color: var(--fg); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 75rem; margin: 0 auto; padding: 1rem clamp(0.9rem, 3vw, 2rem) 4rem; }
h1 { margin: 0.6rem 0; font-size: 1.7rem; }
h1 small { color: var(--soft); font-weight: 400; white-space: nowrap; }
h2 { margin: 0; font-size: 1.25rem; overflow-wrap: anywhere; }
a { color: var(--link); }
p { margin: 0.4rem 0; }
.lead, .error { padding: 0.6rem 0.9rem; border-left: 4px solid; border-radius: 4px; overflow-wrap: anywhere; }
.lead.good { background: var(--good-box); border-color: var(--good); }
.lead.bad, .error { background: var(--bad-box); border-color: var(--bad); }
.soft { color: var(--soft); font-size: 0.9rem; }
.counts, nav { display: flex; flex-wrap: wrap; gap: 0.4rem; margin: 0.9rem 0; padding: 0; list-style: none; }
.counts li, nav a { padding: 0.15rem 0.6rem; border: 1px solid var(--line); border-radius: 1rem; font-size: 0.88rem; }
nav a { text-decoration: none; background: var(--box); }
li.good, td.good { color: var(--good); }
li.bad, td.bad { color: var(--bad); }
li.new, td.new { color: var(--new); }
section { margin-top: 1.6rem; padding-top: 1.4rem; border-top: 1px solid var(--line); }
table { width: 100%; margin: 0.8rem 0; border-collapse: collapse; table-layout: fixed; font-size: 0.92rem; }
th:nth-child(1) { width: 28%; } th:nth-child(2) { width: 11%; } th:nth-child(3) { width: 20%; }
th:nth-child(4) { width: 9%; }
th, td { padding: 0.3rem 0.6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td:first-child { overflow-wrap: anywhere; }
tr.bad { background: var(--bad-box); }
td.bad { font-weight: 600; }
.symbol { display: inline-block; width: 1.3em; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 0.4rem 1rem; margin: 1rem 0 1.6rem; }
.pair h3 { grid-column: 1 / -1; margin: 0; font-size: 1rem; }
figure { min-width: 0; margin: 0; }
figcaption { color: var(--soft); font-size: 0.88rem; }
img { max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line); border-radius: 4px; }
.none { padding: 1.5rem; border: 1px dashed var(--line); border-radius: 4px; color: var(--soft); }
summary { cursor: pointer; color: var(--link); }
@media (max-width: 42rem) {
  .pair { grid-template-columns: 1fr; }
  thead { display: none; }
  tr { display: flex; flex-wrap: wrap; gap: 0 1rem; padding: 0.4rem; border-bottom: 1px solid var(--line); }
  td { padding: 0.1rem 0; border: 0; }
  td:empty { display: none; }
  td:first-child, td.verdict { flex-basis: 100%; }
  td:first-child { font-weight: 600; }
  .n { text-align: left; }
  .n::before { content: attr(data-label) " "; color: var(--soft); }
}
"""


@dataclass(frozen=True)
class Section:
    """One chapter of the report; ``now`` and ``then`` are executed notebooks, where there are any."""

    chapter: str
    seeds: list[int]
    seconds: list[float]
    errors: list[str]
    judgements: list[Judgement]
    accepted: dict  # code, commit, seeds, seconds, metrics; empty when never accepted
    now: Path | None
    then: Path | None

    @property
    def fails(self) -> bool:
        """Whether this chapter needs a look."""
        return bool(self.errors) or any(j.kind.fails for j in self.judgements)


def figures(notebook: Path | None) -> list[tuple[str, bytes]]:
    """Each PNG in a notebook's outputs and the heading that it stands under, in order; none without a notebook."""
    if notebook is None or not notebook.exists():
        return []
    found, heading = [], ""
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "markdown":
            titles = [line.lstrip("# ") for line in cell.source.splitlines() if line.startswith("#")]
            heading = titles[-1] if titles else heading
        pictures = [output.get("data", {}).get("image/png") for output in cell.get("outputs", [])]
        found += [(heading, base64.b64decode(picture)) for picture in pictures if picture]
    return found


def difference(then: bytes, now: bytes) -> float | None:
    """The share of pixels whose colour visibly differs between two PNGs; None when their sizes differ."""
    a, b = (np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.int16) for png in (then, now))
    return None if a.shape != b.shape else float((np.abs(a - b).max(-1) > SEEN).mean())


def picture(png: bytes | None, caption: str) -> str:
    """A figure with its picture inside the page, as WebP, which is a fifth of PNG's size."""
    if png is None:
        return f'<figure><figcaption>{caption}</figcaption><div class="none">no such figure</div></figure>'
    image, file = Image.open(io.BytesIO(png)).convert("RGB"), io.BytesIO()
    image.thumbnail((WIDEST, 10 * WIDEST))
    image.save(file, "WEBP", quality=88)
    source = f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
    size = f'width="{image.width}" height="{image.height}"'
    return f'<figure><figcaption>{caption}</figcaption><img alt="{caption}" {size} src="{source}"></figure>'


def how_different(then: bytes | None, now: bytes | None) -> str:
    """The difference of two figures in words."""
    if then is None or now is None:
        return "not accepted yet" if then is None else "no longer there"
    share = difference(then, now)
    return "another size" if share is None else f"{share:.1%} of the pixels differ" if share else "the same"


def pairs(section: Section) -> str:
    """All figures of a chapter, matched by their order: those that differ in the open, the others folded."""
    then, now = figures(section.then), figures(section.now)
    if section.accepted and not section.then.exists():
        note = "The accepted figures are not on this machine: they stay where make regress ARGS=--accept ran."
        return f'<p class="soft">{note}</p>' + "".join(single(i, *f) for i, f in enumerate(now, 1))
    if not section.accepted:
        return "".join(single(i, *f) for i, f in enumerate(now, 1))
    shown, same = [], []
    seeds = section.accepted["seeds"][0], section.seeds[0] if section.seeds else "-"
    for number, (a, b) in enumerate(zip_longest(then, now, fillvalue=("", None)), 1):
        said = how_different(a[1], b[1])
        html = f'<div class="pair"><h3>Figure {number}: {escape(b[0] or a[0])} <span class="soft">({said})</span></h3>'
        html += picture(a[1], f"accepted, seed {seeds[0]}") + picture(b[1], f"now, seed {seeds[1]}") + "</div>"
        (same if said == "the same" else shown).append(html)
    count = "1 figure is" if len(same) == 1 else f"{len(same)} figures are"
    folded = f"<details><summary>{count} the same</summary>{''.join(same)}</details>" if same else ""
    return "".join(shown) + folded


def single(number: int, heading: str, png: bytes) -> str:
    """A figure with nothing beside it."""
    return f'<div class="pair"><h3>Figure {number}: {escape(heading)}</h3>{picture(png, "now")}</div>'


def tone(kind: Kind) -> str:
    """The class that colours a verdict."""
    return "bad" if kind.fails else {Kind.SAME: "good", Kind.NEW: "new"}.get(kind, "soft")


def row(judgement: Judgement) -> str:
    """One metric's row; its last cell says in symbol, words and colour what follows."""
    labels = ("now", "accepted", "bar")
    cells = "".join(
        f'<td class="n" data-label="{label}">{text}</td>' for label, text in zip(labels, judgement.cells(), strict=True)
    )
    kind, said = tone(judgement.kind), f'<span class="symbol">{judgement.kind.symbol}</span>{escape(judgement.words)}'
    name, mark = escape(judgement.metric), ' class="bad"' if judgement.kind.fails else ""
    return f'<tr{mark}><td>{name}</td>{cells}<td class="verdict {kind}">{said}</td></tr>'


def times(section: Section) -> str:
    """Run times and where the accepted run comes from, in a sentence."""
    said = []
    if section.seeds:
        seconds = ", ".join(f"{s:.0f} s (seed {n})" for s, n in zip(section.seconds, section.seeds, strict=True))
        said.append(f"Ran in {seconds}.")
    if section.accepted:
        was, seeds = section.accepted, ", ".join(map(str, section.accepted["seeds"]))
        mean = sum(was["seconds"]) / len(was["seconds"])
        said.append(f"Accepted at commit {escape(was['commit'])}, seeds {seeds}: {mean:.0f} s on average.")
    return " ".join(said or ["Nothing is accepted yet."])


def chapter_html(section: Section) -> str:
    """One chapter: errors, run time, table, figures."""
    errors = "".join(f'<p class="error">✗ {escape(error)}</p>' for error in section.errors)
    ordered = sorted(section.judgements, key=lambda j: not j.kind.fails)  # what needs a look comes first
    head = '<thead><tr><th>metric</th><th class="n">now</th><th class="n">accepted</th><th class="n">bar</th>'
    body = f"<tbody>{''.join(map(row, ordered))}</tbody>"
    table = f"<table>{head}<th>verdict</th></tr></thead>{body}</table>" if ordered else ""
    title = f"<h2>{section.chapter[:2]} · {escape(section.chapter[3:].replace('_', ' '))}</h2>"
    soft = f'<p class="soft">{times(section)}</p>'
    return f'<section id="{section.chapter}">{title}{soft}{errors}{table}{pairs(section)}</section>'


def lead(sections: list[Section], lost: list[str]) -> str:
    """What the run comes to, in a sentence."""
    real = sum(j.kind.fails for s in sections for j in s.judgements)
    broken = sum(bool(s.errors) for s in sections)
    parts = [f"{real} of {sum(len(s.judgements) for s in sections)} metrics need a look"] if real else []
    parts += [f"{broken} of {len(sections)} chapters failed"] if broken else []
    parts += ["a chapter is gone"] if lost else []
    if parts:
        return f"✗ {'; '.join(parts)}."
    if not any(s.accepted for s in sections):
        return "Nothing is accepted yet, so there is nothing to compare with; every bar holds."
    return "✓ Nothing really changed since the accepted run."


def write_report(path: Path, name: str, sections: list[Section], lost: list[str]) -> Path:
    """Write the report; ``lost`` are sentences about chapters that are gone. Returns ``path``."""
    found = Counter(j.kind for s in sections for j in s.judgements)
    counts = [
        f'<li class="{tone(kind)}"><span class="symbol">{kind.symbol}</span>{kind.value[1]}: {found[kind]}</li>'
        for kind in Kind
        if found[kind]
    ]
    links = [f'<a href="#{s.chapter}">{s.chapter[:2]} {"✗" if s.fails else "✓"}</a>' for s in sections]
    bad = lost or any(s.fails for s in sections)
    page = PAGE.format(
        name=escape(name),
        style=STYLE,
        mood="bad" if bad else "good",
        lead=lead(sections, lost),
        lost="".join(f'<p class="error">✗ {escape(sentence)}</p>' for sentence in lost),
        counts="".join(counts),
        links="".join(links),
        sections="".join(map(chapter_html, sections)),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path
