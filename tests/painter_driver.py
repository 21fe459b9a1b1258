"""What the two tests of the page that paints do with it: start it, paint, read it; and what Python would paint."""

import math
import re

import numpy as np
import torch

from xlxmert_core import sampling
from xlxmert_core.polish import polish


def start(page) -> None:
    """Press the button and wait for the model."""
    page.click("[data-part=start]")
    page.wait_for_function("window.painter", timeout=120_000)


def part(page, name: str):
    return page.locator(f"#painter-panel [data-part={name}]")


def wait_for_status(page, beginning: str) -> str:
    """The status line, once it begins like this."""
    line = part(page, "status").filter(has_text=re.compile(f"^{beginning}"))
    line.wait_for(timeout=60_000)
    return line.inner_text()


def paint(page, text: str, **options) -> list[int]:
    """The codes that the page's painter makes."""
    script = "([text, options]) => painter.paint(text, options).then((made) => [...made.codes])"
    return page.evaluate(script, [text, options])


def functions(options: dict) -> dict:
    """A page's settings in Python's names: orders and schedules are functions there, and nothing is enough."""
    given = {name: value for name, value in options.items() if name != "enough"}
    return given | {name: getattr(sampling, given[name]) for name in ("order", "schedule") if name in given}


def picture(page) -> np.ndarray:
    """What the canvas shows: uint8 [S, S, 4]."""
    data = page.evaluate("""() => {
        const canvas = document.querySelector("#painter-panel canvas");
        return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
    }""")
    return np.array(data, np.uint8).reshape(128, 128, 4)


def first_enough(painter, text: str, seed: int = 0) -> torch.Tensor:
    """Of four candidates the first that is good enough, or else the best: codes int64 [1, N]."""
    words, word_mask = (t.expand(4, -1) for t in painter.tokenizer.encode([text], painter.model.config.max_words))
    how = {"order": sampling.halton, "schedule": sampling.cosine, "temperature": 0.7}
    source = torch.Generator().manual_seed(seed)
    codes = sampling.paint(painter.model, words, word_mask, steps=16, generator=source, **how)
    codes, _ = polish(painter.model, words, word_mask, codes)
    score = painter.score(text, codes)  # [4]
    good = (score >= math.log(0.5)).nonzero().flatten()
    return codes[[int(good[0]) if len(good) else int(score.argmax())]]
