"""Second thoughts: which cells of a finished painting the model itself doubts, painting those anew, choosing the best.

Cells that are drawn one after another may end in a corner: a house with no room for its last quarter. Seen from
all its neighbours such a cell is very unlikely, and that is easily asked: hide every fourth cell, read off how
likely its code is given the other three quarters, and do so four times (pseudo-likelihood, Besag 1975; as a
check on drawn cells close to Token-Critic, Lezama et al. 2022). Axes: B batch, N cells, L words, H hidden.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from xlxmert_core import sampling
from xlxmert_core.engine import Painter
from xlxmert_core.sampling import Sampling

DOUBT = -3.0  # log-probability under which a cell counts as doubtful: one in twenty


@torch.no_grad()
def cell_log_likelihood(model: Painter, words: Tensor, word_mask: Tensor, codes: Tensor) -> Tensor:
    """Log-probability of each code given the text and the cells around it: codes int64 [B, N] -> float [B, N].

    Four passes; pass (r, c) hides the cells whose row and column leave the remainders r and c when halved.
    """
    text = model.encode_text(words, word_mask)  # [B, L, H]
    features = model.embed_codes(codes)  # [B, N, F]
    place = torch.arange(codes.shape[1], device=codes.device)
    group = place // model.config.grid % 2 * 2 + place % model.config.grid % 2  # [N], 0 to 3
    found = torch.zeros(codes.shape, device=codes.device)
    for number in range(4):
        hidden = (group == number).expand(codes.shape)  # [B, N]
        cells = model(words, word_mask, features, hidden, text=text).cells[hidden]  # [hidden, H]
        found[hidden] = -model.code_losses(cells, codes[hidden]).float()
    return found


def polish(model: Painter, words: Tensor, word_mask: Tensor, codes: Tensor, editable: Tensor | None = None,
           rounds: int = 1, steps: int = 4,
           callback: Callable[[dict], None] | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Paint doubtful cells and the eight around each anew, greedily and the easy ones first.

    Rows without a doubtful cell cost nothing more than to find that out.

    Args:
        editable: bool [B, N], the only cells that may change; all of them when None.
        callback: as in :func:`xlxmert_core.sampling.fill`, of all rows; not called when no row is painted anew.

    Returns the codes [B, N], and which rows have no doubtful cell, bool [B]; of a row painted in the last round that
    is not known, and said to be False.
    """
    grid, settled = model.config.grid, torch.zeros(len(codes), dtype=torch.bool, device=codes.device)
    for _ in range(rounds):
        if not len(left := (~settled).nonzero()[:, 0]):  # rows
            break
        doubtful = cell_log_likelihood(model, words[left], word_mask[left], codes[left]) < DOUBT  # [left, N]
        settled[left] = ~doubtful.any(1)
        again = torch.zeros_like(codes, dtype=torch.bool)
        again[left] = F.max_pool2d(doubtful.float().unflatten(1, (1, grid, grid)), 3, 1, 1).flatten(1) > 0
        again = again if editable is None else again & editable
        if len(rows := again.any(1).nonzero()[:, 0]):
            watch = None if callback is None else _of_all(callback, codes, rows)
            new = sampling.paint(model, words[rows], word_mask[rows], codes=codes[rows], editable=again[rows],
                                 callback=watch, steps=steps, order=sampling.easy_first)  # fmt: skip
            codes = codes.index_copy(0, rows, new)
    return codes, settled


def _of_all(callback: Callable[[dict], None], codes: Tensor, rows: Tensor) -> Callable[[dict], None]:
    """Hand a step that concerned some rows on as one of all rows."""

    def watch(step: dict) -> None:
        whole = {name: value.index_copy(0, rows, step[name].to(value)) for name, value in still(codes).items()}
        callback(step | whole)

    return watch


@torch.no_grad()
def match(model: Painter, words: Tensor, word_mask: Tensor, codes: Tensor) -> Tensor:
    """How likely each text belongs to its picture: codes int64 [B, N] -> probabilities [B]."""
    return model.match_logits(model(words, word_mask, model.embed_codes(codes)).pooled).softmax(-1)[:, 1]


@torch.no_grad()
def score(model: Painter, words: Tensor, word_mask: Tensor, codes: Tensor, settled: Tensor | None = None) -> Tensor:
    """What candidates are chosen by, [B]: log-probability of the match, minus one for each doubtful cell.

    Args:
        settled: bool [B], rows that are known to have no doubtful cell, as :func:`polish` returns them.
    """
    left = torch.ones(len(codes), dtype=torch.bool, device=codes.device) if settled is None else ~settled
    odd = torch.zeros(len(codes), device=codes.device)
    if left.any():
        odd[left] = (cell_log_likelihood(model, words[left], word_mask[left], codes[left]) < DOUBT).sum(1).float()
    return match(model, words, word_mask, codes).log() - odd


def paint_best(model: Painter, words: Tensor, word_mask: Tensor, how: Sampling,
               generator: torch.Generator | None = None, codes: Tensor | None = None, editable: Tensor | None = None,
               uncond: tuple[Tensor, Tensor] | None = None,
               callback: Callable[[dict], None] | None = None) -> tuple[Tensor, list[dict]]:  # fmt: skip
    """All that settings say: paint each text ``candidates`` times, polish, and keep the best of each.

    The arguments are those of :func:`xlxmert_core.sampling.paint`; ``callback`` is given the steps of all candidates.
    Returns the codes int64 [B, N], and the steps of those that were kept, polishing too.
    """
    words, word_mask = (t.repeat_interleave(how.candidates, 0) for t in (words, word_mask))  # [B * candidates, L]
    codes, editable = (None if t is None else t.repeat_interleave(how.candidates, 0) for t in (codes, editable))
    history: list[dict] = []

    def remember(step: dict) -> None:
        history.append({k: v.clone() if isinstance(v, Tensor) else v for k, v in step.items()})
        if callback is not None:
            callback(step)

    once = replace(how, candidates=1, polish=0)
    codes = sampling.paint(model, words, word_mask, generator, codes, editable, uncond, remember, **once)
    codes, settled = polish(model, words, word_mask, codes, editable, how.polish, callback=remember)
    if how.candidates > 1:
        best = score(model, words, word_mask, codes, settled).view(-1, how.candidates).argmax(1)
        rows = torch.arange(len(best), device=best.device) * how.candidates + best  # [B]
        codes, history = codes[rows], [of_rows(step, rows) for step in history]
    return codes, history


def still(codes: Tensor) -> dict[str, Tensor]:
    """What a step says of rows in which nothing happens."""
    none = torch.zeros_like(codes, dtype=torch.bool)
    return {"codes": codes, "masked": none, "written": none, "confidence": torch.ones(codes.shape, device=codes.device)}


def of_rows(step: dict, rows: Tensor) -> dict:
    """A step's dict, of some rows alone."""
    return {name: value[rows] if isinstance(value, Tensor) else value for name, value in step.items()}
