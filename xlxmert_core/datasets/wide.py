"""Wide: the storybook of more words and more things, for which no painter is trained yet."""

from dataclasses import replace

from xlxmert_core.data import storybook as drawn
from xlxmert_core.data.storybook.captions import EXCHANGEABLE, RELATION_WORDS
from xlxmert_core.datasets.base import Language
from xlxmert_core.datasets.profiles import Profile, profile
from xlxmert_core.datasets.storybook import Storybook


class Wide(Storybook):
    """Drawn scenes in which kinds repeat, told as people write; "counts" has numbers that training never shows."""

    name = "wide"
    world = drawn.WIDE
    tests = ("test", "composition", "counts")
    language = Language(tuple(map(tuple, EXCHANGEABLE)), 0.5, RELATION_WORDS)

    def budgets(self, profile_name: str) -> Profile:
        """Storybook's; no shipped painter knows all of its words."""
        return replace(profile(profile_name), painter="pipeline", speaker="pipeline", apart=self.tests[1:])
