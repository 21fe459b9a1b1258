"""How much to do: the budgets of a run, from a try-out (``smoke``) over some minutes (``ci``) to hours (``train``)."""

from dataclasses import dataclass, replace

from xlxmert_core.config import GeneratorConfig, ModelConfig, storybook, storybook_generator


@dataclass(frozen=True)
class Profile:
    """Budgets of one run of the chapters; steps are optimiser steps."""

    train: int = 1600  # pictures to learn from
    held_out: int = 320  # pictures to measure on
    encoder_steps: int = 180
    encoder_batch: int = 32
    codes: int = 2304  # K: 256 shapes x 9 colours
    painting_steps: int = 140  # visual task alone, before the three in turn
    pretraining_steps: int = 190
    pretraining_batch: int = 48
    generator_steps: int = 100  # pixels and perception
    critic_steps: int = 12  # then all four losses
    generator_batch: int = 16
    reader_steps: int = 150
    painted: int = 64  # texts painted and read back
    seeds: int = 1  # how often each text is painted
    sampler_texts: int = 0  # texts for the table of all samplers; 0 shows the recorded one
    ablation_steps: int = 0  # steps for each row of the ablation table; 0 shows the recorded one
    writing_steps: int = 20  # fine-tuning on captions
    relation_steps: int = 10  # then mostly on those that say where things stand
    answering_steps: int = 20  # on VQA, and as many on GQA
    judging_steps: int = 10  # on NLVR2
    blind_steps: int = 0  # the same three without pictures; 0 shows the recorded scores
    captioned: int = 32  # pictures captioned
    photo_steps: int = 20  # fine-tuning on photographs, captions and as many on questions
    model: ModelConfig = storybook()
    generator: GeneratorConfig = storybook_generator()

    @property
    def composition_texts(self) -> int:
        """Texts with a pair that training holds out, painted as often as the others."""
        return self.painted // 5

    @property
    def repainted(self) -> int:
        """Scenes in which one thing is given another colour."""
        return max(32, self.painted // 4)

    def for_dataset(self, dataset: str) -> "Profile":
        """The same run on another data set: photographs are fewer here, and need fewer codes."""
        if dataset == "storybook":
            return self
        long = self.train > 10000
        few = {name: min(value, getattr(self, name)) for name, value in FEW_PHOTOGRAPHS.items()}
        model = replace(self.model, codes=256 if long else 128, colour_codes=0, colour_dim=0, mixture=1,
                        dropout=0.1 if long else 0.0)  # fmt: skip
        return replace(self, **(PHOTOGRAPHS if long else few), codes=model.codes, model=model)


# A hundred real photographs cannot fill a thousand codes; two thousand (Flickr8k and COCO) fill 256.
FEW_PHOTOGRAPHS = dict(train=160, held_out=60, encoder_steps=30, painted=32, painting_steps=30, pretraining_steps=30,
                       pretraining_batch=16, generator_steps=20, critic_steps=4)  # fmt: skip
PHOTOGRAPHS = dict(train=2400, held_out=900, encoder_steps=400, painted=64, painting_steps=2400, pretraining_steps=1200,
                   generator_steps=1400, critic_steps=200, ablation_steps=0, sampler_texts=0, photo_steps=800,
                   writing_steps=20, relation_steps=10, answering_steps=20, judging_steps=10, blind_steps=0,
                   captioned=64)  # fmt: skip


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
        photo_steps=2,
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
        ablation_steps=300,
        writing_steps=2000,
        relation_steps=900,
        answering_steps=1200,
        judging_steps=1000,
        blind_steps=300,
        captioned=500,
    ),
}


def profile(name: str, dataset: str = "storybook") -> Profile:
    """The budgets called ``name``; raises KeyError naming the known ones."""
    if name not in PROFILES:
        raise KeyError(f"There is no profile {name!r}; known: {', '.join(PROFILES)}.")
    return PROFILES[name].for_dataset(dataset)
