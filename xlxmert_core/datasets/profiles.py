"""How much to do: the budgets of a run, from a try-out (``smoke``) over some minutes (``ci``) to hours (``train``)."""

from dataclasses import dataclass

from xlxmert_core.config import GeneratorConfig, ModelConfig, storybook
from xlxmert_core.sampling import Sampling


def storybook_generator() -> GeneratorConfig:
    """The book's generator: 8x8 cells to 128x128 pixels."""
    return GeneratorConfig(
        feature_dim=64,
        bottleneck=128,
        channels=(64, 64, 48, 32, 16),
        spade_hidden=32,
        groups=4,
        sub_pixel=True,
        rgb_gain=0.1,
    )


@dataclass(frozen=True)
class Profile:
    """Budgets of one run of the chapters; steps are optimiser steps."""

    train: int = 1600  # pictures to learn from
    held_out: int = 320  # pictures to measure on
    encoder_steps: int = 180
    encoder_batch: int = 32
    small_eye: bool = False  # an eye that starts from nothing in place of ImageNet's
    codes: int = 2304  # K: 256 shapes x 9 colours
    painting_steps: int = 140  # visual task alone, before the three in turn
    pretraining_steps: int = 190
    pretraining_batch: int = 48
    rates: tuple[tuple[float, float], ...] = ((0.01, 1.5e-3), (0.005, 1e-3))  # Muon's and AdamW's, of both phases
    generator_steps: int = 100  # pixels and perception
    critic_steps: int = 12  # then all four losses
    generator_batch: int = 16
    generator_rates: tuple[float, float] = (1.5e-3, 0.0)  # Adam's, and Muon's for convolutions (0: Adam moves all)
    reader_steps: int = 150
    painted: int = 64  # texts painted and read back
    way: Sampling = Sampling()  # how: what the painter does best with
    seeds: int = 1  # how often each text is painted
    sampler_texts: int = 0  # texts for the table of all samplers
    taught: int | None = None  # pictures that skills are learned from; all when None
    asked: int | None = None  # test pictures that questions are put about; all when None
    writing_steps: int = 20  # fine-tuning on captions
    relation_steps: int = 10  # then mostly on those that say where things stand
    answering_steps: int = 20  # on VQA, and as many on GQA
    judging_steps: int = 10  # on NLVR2
    blind_steps: int = 0  # without pictures; 0: as many as the same skill with them
    captioned: int = 32  # pictures captioned
    max_words: int = storybook().max_words  # of a text for pretraining, with [CLS] and [SEP]
    painter: str = "storybook"  # whose paintings chapter 07 measures: the shipped weights', or "pipeline", this run's
    speaker: str = "storybook"  # who learns to write and to answer in chapters 08 and 09
    apart: tuple[str, ...] = ("composition",)  # splits of what training holds out
    recorded: tuple[str, ...] = ("samplers", "blind", "continuous")  # comparisons shown as they were measured once
    model: ModelConfig = storybook()
    generator: GeneratorConfig = storybook_generator()

    @property
    def composition_texts(self) -> int:
        """Texts with a pair that training holds out, painted as often as the others."""
        return self.painted // 5

    @property
    def lessons(self) -> dict[str, int]:
        """Steps of fine-tuning, by task."""
        return {"vqa": self.answering_steps, "gqa": self.answering_steps, "nlvr2": self.judging_steps}

    @property
    def blind_lessons(self) -> dict[str, int]:
        """The same without pictures, by task."""
        return {task: self.blind_steps or steps for task, steps in self.lessons.items()}

    @property
    def code_parts(self) -> tuple[int, ...]:
        """How many shapes and colours the codes are the pairs of, or how many codes there are."""
        colours = self.model.colour_codes
        return (self.codes // colours, colours) if colours else (self.codes,)

    @property
    def part_widths(self) -> tuple[int, ...]:
        """How many of a feature's numbers each part of a code stands for."""
        colour = self.model.colour_dim
        return (self.model.feature_dim - colour, colour) if colour else (self.model.feature_dim,)

    @property
    def judged(self) -> dict[str, int]:
        """Texts painted and judged, by split."""
        return {"test": self.painted, **dict.fromkeys(self.apart, self.composition_texts)}

    @property
    def repainted(self) -> int:
        """Scenes in which one thing is given another colour."""
        return max(32, self.painted // 4)


PROFILES = {
    "ci": Profile(),
    "smoke": Profile(  # every cell runs, nothing is learned: for tests
        encoder_steps=2,
        painting_steps=2,
        pretraining_steps=3,  # three tasks in turn
        generator_steps=2,
        critic_steps=1,
        reader_steps=2,
        writing_steps=2,
        relation_steps=2,
        answering_steps=2,
        judging_steps=2,
        captioned=8,
    ),
    "train": Profile(
        train=24000,
        held_out=1000,
        encoder_steps=800,
        painting_steps=3000,
        pretraining_batch=64,
        pretraining_steps=2500,
        generator_steps=2500,
        critic_steps=0,
        reader_steps=1500,
        painted=1000,
        seeds=3,
        sampler_texts=16,
        writing_steps=2000,
        relation_steps=900,
        answering_steps=1200,
        judging_steps=1000,
        blind_steps=300,
        captioned=500,
        painter="pipeline",
        speaker="pipeline",
        recorded=(),
    ),
}


def profile(name: str) -> Profile:
    """The budgets called ``name``, for Storybook; raises KeyError naming the known ones."""
    if name not in PROFILES:
        raise KeyError(f"There is no profile {name!r}; known: {', '.join(PROFILES)}.")
    return PROFILES[name]
