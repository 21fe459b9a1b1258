"""A figure's caption stands once: under its cell, in markdown, where a reader on Colab sees it too.

The cell's metadata gives the figure's name and its words for a blind reader; the markdown cell that follows begins with
``**Figure.**`` and the caption, a paragraph. The pages set that paragraph as the figure's caption.
"""

import json
from pathlib import Path

MARK = "**Figure.** "


def figure(cell: dict) -> dict | None:
    """What a cell's metadata say of its figure; None when it draws none."""
    return cell["metadata"].get("mystnb", {}).get("figure")


def captions(cells: list[dict]) -> dict[str, str]:
    """Figure's name -> its caption, the paragraph under the cell; "" where there is none."""
    found = {}
    for cell, following in zip(cells, [*cells[1:], None], strict=True):
        if (given := figure(cell)) is not None:
            found[given["name"]] = under(following)[0]
    return found


def under(cell: dict | None) -> tuple[str, str]:
    """The caption that a markdown cell begins with, and the rest of it; no caption: ("", all of it)."""
    text = "".join(cell["source"]) if cell else ""
    if cell is None or cell["cell_type"] != "markdown" or not text.startswith(MARK):
        return "", text
    caption, _, rest = text.removeprefix(MARK).partition("\n\n")
    return " ".join(caption.split()), rest.lstrip("\n")


def is_progress(output: dict) -> bool:
    """Whether an output is a bar that showed how far a training was, a widget without a picture: no figure."""
    shown = output.get("data", {})
    return "application/vnd.jupyter.widget-view+json" in shown and "image/png" not in shown


def set_captions(source: Path, target: Path) -> None:
    """Copy a notebook for the pages: captions leave the markdown and become those of the figures."""
    notebook = json.loads(source.read_text(encoding="utf-8"))
    known, kept = captions(notebook["cells"]), []
    for before, cell in zip([None, *notebook["cells"][:-1]], notebook["cells"], strict=True):
        if (given := figure(cell)) is not None:
            given["caption"] = known[given["name"]]
            cell["outputs"] = [output for output in cell.get("outputs", []) if not is_progress(output)]
        if before is not None and figure(before) is not None:
            cell["source"] = under(cell)[1]
        if cell["source"] or cell["cell_type"] == "code":
            kept.append(cell)
    notebook["cells"] = kept
    target.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
