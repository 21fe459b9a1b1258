"""The sampler: one loop that fills in what is masked, from easy to hard or in any order.

Paper, section 3.2 and appendix. ``fill`` is the loop; an *order* says which cells to trust, a *schedule*
how many stay masked, a *prediction* what the model thinks; :class:`Sampling` holds the settings. ``paint`` fills a grid
of codes, captioning.py a row of words. Axes: B batch, N cells (or word slots), K codes, L words, F feature width,
M scored cells.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from xlxmert_core.config import check_number
from xlxmert_core.engine import Painter


class Step(NamedTuple):
    """Where the loop is: step ``index`` of ``count``, counted from 0."""

    index: int
    count: int


# (values [B, N], masked [B, N], scored [B, N], step) -> logits [M, K] of the scored cells, row by row, and the values
# that they are of, int64 [M, K]; None when these are 0 to K - 1
Predict = Callable[[Tensor, Tensor, Tensor, Step], tuple[Tensor, Tensor | None]]
# (confidence [B, N], masked [B, N], step, rows) -> score [B, N]: the lowest scores are masked next
Order = Callable[[Tensor, Tensor, Step, "Rows"], Tensor]
Schedule = Callable[[int, int], float]  # (step, steps) -> share of the editable cells still masked


def fill(predict: Predict, values: Tensor, masked: Tensor, steps: int, order: Order | str, schedule: Schedule | str,
         temperature: float = 0.0, generator: torch.Generator | None = None,
         callback: Callable[[dict], None] | None = None) -> Tensor:  # fmt: skip
    """Fill the masked cells in ``steps`` rounds; all others keep their values and are seen throughout.

    Args:
        values: int64 [B, N]; what stands in masked cells does not matter.
        masked: bool [B, N], the cells to fill; the only ones that are ever written.
        order, schedule: a function, or its name in ``ORDERS`` or ``SCHEDULES``.
        temperature: 0 takes the likeliest value, otherwise values are sampled.
        generator: source of all randomness; each row draws from a stream of its own.
        callback: called after each step with step (from 0), codes int64 [B, N], masked bool [B, N]
            (to be filled again), written bool [B, N] (filled in this step), and confidence
            float [B, N] (probability of the value; 1 for given cells).

    Returns values int64 [B, N]. Raises ValueError for no steps, or when a random choice has no generator.
    """
    if steps < 1:
        raise ValueError(f"fill() got steps={steps}: give at least 1.")
    check_number("temperature", temperature, 0, whole=False)
    order, schedule = named("order", order), named("schedule", schedule)
    editable, rows = masked, Rows(generator, len(values))
    confidence = torch.ones(values.shape, device=values.device)
    for index in range(steps):
        step = Step(index, steps)
        scored = torch.ones_like(masked) if rescores(order) else masked
        logits, names = predict(values, masked, scored, step)  # [M, K]
        choice, probability = choose(logits, masked[scored], masked.sum(1), temperature, rows)
        choice = choice if names is None else names.gather(1, choice[:, None])[:, 0]
        confidence = confidence.masked_scatter(scored, probability)
        written, values = masked, values.masked_scatter(masked, choice[masked[scored]])
        score = order(confidence, masked, step, rows).masked_fill(~editable, math.inf)
        masked = lowest(score, remaining(schedule, step, editable))
        if callback is not None:
            state = {"codes": values, "masked": masked, "written": written}
            callback({"step": index, "confidence": confidence, **state})
    return values


def lowest(score: Tensor, count: Tensor) -> Tensor:
    """Mark the ``count`` [B] lowest scores of each row [B, N]; of equal ones, the later cells."""
    rank = score.argsort(dim=1, descending=True, stable=True).argsort(1)  # 0 is the highest score
    return rank >= score.shape[1] - count[:, None]


def remaining(schedule: Schedule, step: Step, editable: Tensor) -> Tensor:
    """How many cells of each row are still masked after a step, rounded down: int64 [B]."""
    share = schedule(step.index + 1, step.count)
    return (share * editable.sum(1).double() + 1e-6).long()  # 1e-6: a whole number stays whole


def choose(logits: Tensor, masked: Tensor, counts: Tensor, temperature: float, rows: "Rows") -> tuple[Tensor, Tensor]:
    """Pick a value for each scored cell: logits [M, K] -> (values [M], their probabilities [M]).

    At a temperature above 0 the ``masked`` ones [M] (``counts`` [B] in each row) are drawn, one random number
    a cell; cells that are only scored always show their likeliest value's probability.
    """
    every = logits.float().softmax(-1)  # [M, K]; bfloat16 would make too many of them equal
    probability, choice = every.max(-1)
    if temperature > 0:
        share = (logits[masked].float() / temperature).softmax(-1).cumsum(-1)  # [masked, K], rising to 1
        drawn = rows.uniform(counts.tolist(), 1).to(share) * share[:, -1:]  # [masked, 1]
        sampled = torch.searchsorted(share, drawn, right=True)[:, 0].clamp_max(logits.shape[-1] - 1)
        choice = choice.masked_scatter(masked, sampled)
        probability = every.gather(-1, choice[:, None])[:, 0]
    return choice, probability


class Rows:
    """One random stream a row, so that a row's result does not depend on its neighbours."""

    def __init__(self, generator: torch.Generator | None, batch: int):
        self.streams: list[torch.Generator] | None = None
        if generator is not None:
            drawn = torch.randint(2**62, (batch,), generator=generator, device=generator.device)
            self.streams = [torch.Generator().manual_seed(seed) for seed in drawn.tolist()]

    def uniform(self, counts: Sequence[int], *shape: int) -> Tensor:
        """Numbers in [0, 1), float [sum(counts), *shape]: ``counts[b]`` of them from row b's stream."""
        if self.streams is None:
            raise ValueError("This order or temperature draws at random: pass generator=torch.Generator().")
        pairs = zip(counts, self.streams, strict=True)
        return torch.cat([torch.rand(n, *shape, generator=stream) for n, stream in pairs])

    def gumbel(self, counts: Sequence[int], *shape: int) -> Tensor:
        """Standard Gumbel noise, shaped as in :meth:`uniform`."""
        tiny = torch.finfo(torch.float32).tiny
        return -(-self.uniform(counts, *shape).clamp_min(tiny).log()).clamp_min(tiny).log()


# --- Schedules: (step, steps) -> share still masked; 1 at step 0, 0 at the end. ---------------------


def linear(step: int, steps: int) -> float:
    """The same number of cells every step (Mask-Predict; the paper's)."""
    return (steps - step) / steps


def cosine(step: int, steps: int) -> float:
    """Few cells first, many at the end (MaskGIT)."""
    return max(0.0, math.cos(math.pi / 2 * step / steps)) if step < steps else 0.0


def arccos(step: int, steps: int) -> float:
    """Nearly even at first, many cells at the very end (Muse's mask ratio)."""
    return 2 / math.pi * math.acos(step / steps)


# --- Orders: the higher a cell's score, the sooner it is kept. --------------------------------------


def rescores(order: Order) -> bool:
    """Whether an order is given the confidence of *all* cells afresh: then a cell once written may be masked again.

    It says so by its attribute ``rescores``, a ``functools.partial`` by its function's. For all other orders a
    written cell keeps the confidence that it was written with.
    """
    while isinstance(order, partial) and not hasattr(order, "rescores"):
        order = order.func
    return bool(getattr(order, "rescores", False))


def mask_predict(confidence: Tensor, masked: Tensor, step: Step, rows: Rows) -> Tensor:
    """Trust the most confident of *all* cells, scored afresh; any other may be masked again.

    Mask-Predict-T (Ghazvininejad et al. 2019): the paper's four-step sampler.
    """
    return confidence


mask_predict.rescores = True  # ty: ignore[missing-attribute]  what an order says of itself


def easy_first(confidence: Tensor, masked: Tensor, step: Step, rows: Rows) -> Tensor:
    """Keep what is kept, then add the most confident masked cells."""
    return confidence.masked_fill(~masked, math.inf)


def random(confidence: Tensor, masked: Tensor, step: Step, rows: Rows) -> Tensor:
    """Keep what is kept, then add masked cells at random."""
    batch, cells = masked.shape
    return rows.uniform([1] * batch, cells).to(confidence).masked_fill(~masked, math.inf)


def raster(confidence: Tensor, masked: Tensor, step: Step, rows: Rows) -> Tensor:
    """Top left to bottom right, or left to right for words."""
    place = torch.arange(masked.shape[1], device=masked.device)
    return (-place.to(confidence)).expand(masked.shape).masked_fill(~masked, math.inf)


left_to_right = raster


def maskgit(confidence: Tensor, masked: Tensor, step: Step, rows: Rows, noise: float = 4.5) -> Tensor:
    """Keep what is kept, then add by log-probability plus Gumbel noise that fades to nothing.

    MaskGIT (Chang et al. 2022); ``noise`` is the strength at the start (set it with functools.partial).
    """
    batch, cells = masked.shape
    strength = noise * (1 - (step.index + 1) / step.count)
    shaken = confidence.log() + strength * rows.gumbel([1] * batch, cells).to(confidence)
    return shaken.masked_fill(~masked, math.inf)


def halton(confidence: Tensor, masked: Tensor, step: Step, rows: Rows) -> Tensor:
    """Spread over the picture: visit cells along a Halton sequence (Besnier et al. 2025)."""
    place = torch.tensor(halton_places(masked.shape[1]), device=masked.device)  # [N]
    return (-place.to(confidence)).expand(masked.shape).masked_fill(~masked, math.inf)


@lru_cache
def halton_places(cells: int) -> tuple[int, ...]:
    """When each cell of a square grid is visited, 0 first: its row follows base 2, its column base 3.

    Raises ValueError when the cells do not make a square.
    """
    side = math.isqrt(cells)
    if side * side != cells:
        raise ValueError(f"The halton order needs a square grid, not {cells} cells in a row.")
    visited: dict[int, int] = {}
    point = 1
    while len(visited) < cells:
        row, column = int(_radical_inverse(point, 2) * side), int(_radical_inverse(point, 3) * side)
        visited.setdefault(row * side + column, len(visited))
        point += 1
    return tuple(visited[cell] for cell in range(cells))


def _radical_inverse(number: int, base: int) -> float:
    value, scale = 0.0, 1.0 / base
    while number:
        number, digit = divmod(number, base)
        value, scale = value + digit * scale, scale / base
    return value


# --- The settings, and painting with them. ----------------------------------------------------------

ORDERS = {f.__name__: f for f in (halton, mask_predict, easy_first, maskgit, random, raster)}
SCHEDULES = {f.__name__: f for f in (cosine, arccos, linear)}
WHOLE = {"steps": 1, "candidates": 1, "polish": 0}  # settings that are whole numbers, and the least of each
REAL = {"temperature": 0, "guidance": 0}


def named(what: str, given: Any) -> Any:
    """An "order" or a "schedule", given as a function or by its name; raises ValueError naming all that there are."""
    known = ORDERS | {"left_to_right": left_to_right} if what == "order" else SCHEDULES  # as one says of words
    if callable(function := known.get(given) if isinstance(given, str) else given):
        return function
    raise ValueError(f"There is no {what} {given!r}: choose {', '.join(known)}.")


@dataclass(frozen=True)
class Sampling:
    """How to paint; the defaults are the best of chapter 07's table. ``paint(text, **sampling)`` hands all of it over.

    Attributes:
        steps: forward passes; the slow modes of the paper take one for each cell, with a one-cell order.
        order, schedule: which cells to trust, and how many stay masked: a function, or its name in ``ORDERS`` or
            ``SCHEDULES``.
        temperature: 0 takes the likeliest code, otherwise codes are drawn.
        guidance: w of classifier-free guidance, (1 + w) c - w u, rising linearly to its full value; of a model that
            was trained with empty captions too (the authors' was not).
        candidates: paint each text so many times and keep the best (:func:`xlxmert_core.polish.score`).
        polish: how often doubtful cells are painted anew at the end (:func:`xlxmert_core.polish.polish`).

    Raises ValueError in one sentence for a setting that is none.
    """

    steps: int = 16
    order: Order = halton
    schedule: Schedule = cosine
    temperature: float = 0.7
    guidance: float = 0.0
    candidates: int = 4
    polish: int = 1

    def __post_init__(self):
        for name in ("order", "schedule"):
            object.__setattr__(self, name, named(name, getattr(self, name)))
        for name, least in (WHOLE | REAL).items():
            check_number(name, getattr(self, name), least, whole=name in WHOLE)

    def keys(self) -> list[str]:
        """The names of the settings: with it and ``[name]`` they can be handed over by ``**``."""
        return [field.name for field in fields(self)]

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)


DEFAULT = Sampling()
PAPER = Sampling(4, mask_predict, linear, 0.0, candidates=1, polish=0)  # the authors' demo: greedy, nothing done after
PAINT_BOX = Sampling(steps=8, guidance=1.0)  # as good as DEFAULT (chapter 07's table), in half as many steps


@torch.no_grad()
def paint(model: Painter, words: Tensor, word_mask: Tensor, generator: torch.Generator | None = None,
          codes: Tensor | None = None, editable: Tensor | None = None, uncond: tuple[Tensor, Tensor] | None = None,
          callback: Callable[[dict], None] | None = None, **settings: Any) -> Tensor:  # fmt: skip
    """Paint each sentence once: words int64 [B, L] with word_mask bool [B, L] -> codes int64 [B, N].

    Args:
        model: an XLxmert in eval mode, or its engine; the text is encoded once.
        codes, editable: an existing picture, int64 [B, N], and the cells to repaint, bool [B, N].
        uncond: (words, word_mask) of the text to move away from, one row or B rows: the empty text,
            or a negative prompt. Needed with guidance.
        settings: of :class:`Sampling`, in place of ``PAPER``'s; candidates and polish are
            :func:`xlxmert_core.polish.paint_best`'s.

    The other arguments are those of :func:`fill`. Raises ValueError when arguments contradict each other.
    """
    how = replace(PAPER, **settings)
    if how.candidates > 1 or how.polish:
        raise ValueError("sampling.paint() paints once: candidates and polish are polish.paint_best()'s.")
    codes, editable = _canvas(model, len(words), words.device, codes, editable)
    text = model.encode_text(words, word_mask)  # [B, L, H]
    if how.guidance:
        if uncond is None:
            raise ValueError("paint() with guidance needs uncond=(words, word_mask): the encoded empty text.")
        other = (model.encode_text(*uncond), *uncond)
        other_text, *other_words = [t.expand(len(words), *t.shape[1:]) for t in other]

    def predict(values, masked, scored, step):
        """Codes and masked cells [B, N] -> logits [M, K] of the scored cells, guided if asked, and which codes."""
        features = model.embed_codes(values)  # [B, N, F]
        cells = model(words, word_mask, features, masked, text=text).cells[scored]  # [M, H]
        names = model.likely_codes(cells)
        logits = model.code_logits(cells, names)
        if not how.guidance:
            return logits, names
        weight = how.guidance * (step.index + 1) / step.count
        cells = model(*other_words, features, masked, text=other_text).cells[scored]
        return (1 + weight) * logits - weight * model.code_logits(cells, names), names

    return fill(predict, codes, editable, how.steps, how.order, how.schedule, how.temperature, generator, callback)


def _canvas(model, batch, device, codes, editable):
    shape = (batch, model.config.cells)
    if codes is None and editable is not None:
        raise ValueError("paint() got editable cells but no codes: pass the codes of the picture.")
    if codes is None:
        codes = torch.zeros(shape, dtype=torch.long, device=device)
    if editable is None:
        editable = torch.ones(shape, dtype=torch.bool, device=device)
    for name, value in (("codes", codes), ("editable", editable)):
        if value.shape != shape:
            raise ValueError(f"paint() needs {name} {list(shape)} for {batch} texts, got {list(value.shape)}.")
    return codes, editable.bool()
