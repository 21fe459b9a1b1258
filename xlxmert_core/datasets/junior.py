"""Junior: a small storybook, four kinds in three colours at two places, that the reader's own model masters."""

from dataclasses import replace

from xlxmert_core.data import storybook as drawn
from xlxmert_core.datasets.base import Language
from xlxmert_core.datasets.profiles import Profile, profile
from xlxmert_core.datasets.storybook import Storybook

WORLD = drawn.JUNIOR
SHAPES = 96  # of codes; a shape is a part of a kind, or a piece of a landscape
COLOURS = len(WORLD.colours) + 1  # of codes: those of things, and of what is no thing


class Junior(Storybook):
    """Drawn scenes of few things; all that Storybook says and asks, about one or two of them."""

    name = "junior"
    world = WORLD
    language = Language((WORLD.colours, WORLD.kinds, drawn.SIZES, ("left", "right"), ("above", "below")), 0.8,
                        tuple(drawn.RELATIONS))  # fmt: skip

    def budgets(self, profile_name: str) -> Profile:
        """Storybook's, with fewer codes; a model of its own is what all chapters look at."""
        run = profile(profile_name)
        model = replace(run.model, codes=SHAPES * COLOURS, colour_codes=COLOURS)
        return replace(run, codes=model.codes, model=model, painter="pipeline")
