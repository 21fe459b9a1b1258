"""Junior: a small storybook, four kinds in three colours at two places, that the reader's own model masters."""

from dataclasses import replace

from xlxmert_core.data import storybook as drawn
from xlxmert_core.datasets.base import Language
from xlxmert_core.datasets.profiles import Profile, profile
from xlxmert_core.datasets.storybook import Storybook
from xlxmert_core.sampling import Sampling

WORLD = drawn.JUNIOR
SHAPES = 96  # of codes; a shape is a part of a kind, or a piece of a landscape
WAY = Sampling(steps=32, guidance=1.0)
COLOURS = len(WORLD.colours) + 1  # of codes: those of things, and of what is no thing
# Steps of the "ci" profile: all of them together take some minutes on two cores.
LEARNED = dict(train=4800, encoder_steps=300, painting_steps=690, pretraining_steps=90, pretraining_batch=32,
               rates=((0.02, 2e-3), (0.005, 5e-4)), generator_steps=300, generator_rates=(3e-3, 0.05),
               critic_steps=12, generator_batch=4, taught=1600, asked=160)  # fmt: skip


class Junior(Storybook):
    """Drawn scenes of few things; all that Storybook says and asks, about one or two of them."""

    name = "junior"
    world = WORLD
    judged = 1600
    language = Language((WORLD.colours, WORLD.kinds, drawn.SIZES, ("left", "right"), ("above", "below")), 1.0,
                        tuple(drawn.RELATIONS))  # fmt: skip

    def budgets(self, profile_name: str) -> Profile:
        """A smaller model that learns for longer; chapter 07 looks at it, 09 teaches the blind twin itself."""
        run = profile(profile_name)
        model = replace(run.model, codes=SHAPES * COLOURS, colour_codes=COLOURS, feed_forward=256, language_layers=1,
                        visual_layers=0, cross_layers=2, neighbours=True)  # fmt: skip
        generator = replace(run.generator, bottleneck=64, channels=(48, 48, 32, 16, 8), spade_hidden=16)
        steps = LEARNED if profile_name == "ci" else {}
        return replace(run, codes=model.codes, model=model, generator=generator, small_eye=True, painter="pipeline",
                       recorded=("samplers", "continuous"), way=WAY, **steps)  # fmt: skip
