"""What ``make tables`` compares: the rows of each table, and how each row's models are trained."""

from dataclasses import dataclass, replace
from typing import Any

from xlxmert_core.train.generator_losses import STORYBOOK_WEIGHTS, LossWeights


@dataclass(frozen=True)
class Recipe:
    """How a painter is trained; the defaults are the book's. Every field is one thing that can be taken away."""

    head: str = "mixture"  # of HEADS
    mask: str = "arccos"  # how many cells are hidden: {mask}_cell_mask
    texts: str = "first captions"  # mostly; or "captions", or "everything": questions too
    vocabulary: str = "codes.npz"
    optimiser: str = "muon"  # with a rate of its own; without one: at the rates of the budget


FLAT = {"mixture": 1, "colour_codes": 0, "colour_dim": 0}
HEADS: dict[str, dict] = {"mixture": {}, "one guess": {"mixture": 1}, "flat": FLAT, "regression": FLAT}

# From LXMERT's recipe to the paper's, one change a row; the last row is the book's, with all that it adds.
LXMERT = Recipe("regression", "bernoulli", "everything")
BEFORE_AFTER = {
    "LXMERT's recipe": LXMERT,
    "+ codes": replace(LXMERT, head="flat"),
    "+ uniform masking": replace(LXMERT, head="flat", mask="uniform"),
    "+ the right text": replace(LXMERT, head="flat", mask="uniform", texts="captions"),
    "the book": Recipe(),
}

# row: (the row to hold it against, the one thing that differs between the two)
BESIDE: dict[str, tuple[str, dict[str, str]]] = {
    "uniform masking (the paper's)": ("the book", {"mask": "uniform"}),
    "Bernoulli masking, 0.15 (LXMERT's)": ("the book", {"mask": "bernoulli"}),
    "any caption": ("the book", {"texts": "captions"}),
    "any caption or question": ("any caption", {"texts": "everything"}),
    "one guess a cell": ("the book", {"head": "one guess"}),
    "flat codes": ("one guess a cell", {"head": "flat"}),
    "regression": ("flat codes", {"head": "regression"}),
    "ImageNet's vocabulary": ("flat codes", {"vocabulary": "codes_imagenet.npz"}),
    **{f"Muon, rate {rate}": ("the book", {"optimiser": f"muon {rate}"}) for rate in (0.005, 0.01)},
    **{f"AdamW, rate {rate}": ("the book", {"optimiser": f"adamw {rate}"}) for rate in (0.0005, 0.001, 0.002, 0.004)},
}
ONE_BY_ONE = {"the book": Recipe()}
for _row, (_other, _change) in BESIDE.items():
    ONE_BY_ONE[_row] = replace(ONE_BY_ONE[_other], **_change)

NOTHING = LossWeights(perceptual=0, hinge=0, matching=0, code=0, pixel=0)
GENERATOR_LOSSES = {  # each of the four alone, as much of it as there is in all four together
    "pixels": replace(NOTHING, pixel=STORYBOOK_WEIGHTS.pixel),
    "perception": replace(NOTHING, perceptual=STORYBOOK_WEIGHTS.perceptual),
    "a critic": replace(NOTHING, hinge=STORYBOOK_WEIGHTS.hinge, matching=STORYBOOK_WEIGHTS.matching),
    "codes": replace(NOTHING, code=STORYBOOK_WEIGHTS.code),
    "all four": STORYBOOK_WEIGHTS,
}

TABLES: dict[str, dict[str, Any]] = {"before_after": BEFORE_AFTER, "one_by_one": ONE_BY_ONE,
                                     "generator_losses": GENERATOR_LOSSES}  # fmt: skip
