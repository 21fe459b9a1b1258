"""The recipes of the book, each one call: an eye, a vocabulary, a transformer, a generator, a skill.

Each takes what a data set gives (:mod:`xlxmert_core.datasets`) and its budgets ``run``, and returns what it trained
with the history. The chapters show what is inside.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xlxmert_core.data import lxmert, nlvr2, vqa
from xlxmert_core.features import Backbone, GridEncoder
from xlxmert_core.generator import Discriminator, Generator
from xlxmert_core.model import XLxmert
from xlxmert_core.pipeline import Pipeline
from xlxmert_core.skills import Skill
from xlxmert_core.text import Tokenizer
from xlxmert_core.train import finetuning, loop, optimisers, pretraining
from xlxmert_core.train.generator_losses import GeneratorObjective, gan_optimisers
from xlxmert_core.train.labels import train_on_labels
from xlxmert_core.vocabulary import Features, VisualVocabulary

READ = (0.60, 0.15, 0.25)  # how often a writer reads first captions, other ones, and words for a thing
WHOLE = (0.0, 0.0, 1.0, 1.0)  # the box of a whole picture
TURNS = ("visual", "words", "visual", "matched")  # tasks of the second phase of pretraining


def train_eye(split: Any, run: Any, seed: int, track: loop.Track = loop.SILENT) -> tuple[GridEncoder, list[dict]]:
    """Chapter 02: an eye taught what the cells of a split show."""
    torch.manual_seed(seed)
    eye = GridEncoder(run.model.feature_dim, split.classes, run.model.colour_dim, small=run.small_eye)
    return eye, train_on_labels(eye, split, run.encoder_steps, run.encoder_batch, seed, 1.0, track)


def fit_vocabulary(features: Features, run: Any, seed: int) -> VisualVocabulary:
    """Chapter 03: codes of features [M, N, F], in parts for shape and colour where the sizes ask for it."""
    return VisualVocabulary.fit_product(features, run.code_parts, run.part_widths, seed)


def visual_options(data: Any, tokenizer: Tokenizer) -> dict:
    """How pretraining draws its texts and masks, by what the data set knows of its language."""
    near = [tokenizer.encode([" ".join(words)], 99)[0][0, 1:-1].tolist() for words in data.language.exchangeable]
    return {"word_rate": None, "cell_mask": pretraining.arccos_cell_mask,
            "first_caption": data.language.first_caption, "exchangeable": near}  # fmt: skip


def train_transformer(data: Any, ids: Sequence, codes: np.ndarray, centroids: np.ndarray, run: Any, seed: int,
                      tracks: Sequence[loop.Track] = (loop.SILENT, loop.SILENT)) -> tuple:  # fmt: skip
    """Chapter 05: the visual task alone, then the three in turn; (model, tokenizer, answers, history).

    Args:
        data: the data set; the sentences are those of its split "train".
        ids: of the pictures whose codes int [M, N] are given; centroids float32 [K, F].
        tracks: of the two phases.
    """
    torch.manual_seed(seed)
    texts = data.texts("train")
    tokenizer, answers = Tokenizer.from_corpus(e.sentence for e in texts), lxmert.answer_vocabulary(texts)
    paired = pretraining.PairedText.build(texts, ids, codes, tokenizer, answers, run.max_words)
    sizes = replace(run.model, vocab_size=tokenizer.size, codes=run.codes, answers=max(1, len(answers)))
    model = XLxmert(sizes, torch.from_numpy(centroids))
    objective, options = pretraining.Pretraining(model), visual_options(data, tokenizer)
    history = []
    phases = zip((("visual",), TURNS), (run.painting_steps, run.pretraining_steps), run.rates, strict=True)
    for number, (tasks, steps, rates) in enumerate(phases):
        batches = pretraining.PretrainingBatches(paired, tokenizer, run.pretraining_batch, tasks, **options)
        optimiser = optimisers.muon(objective, *rates)
        history += loop.fit(objective, optimiser, batches, steps, seed=seed + number, track=tracks[number])
    return model.cpu(), tokenizer, answers, history


def train_generator(split: Any, codes: Tensor, centroids: Tensor, run: Any, seed: int,
                    tracks: Sequence[loop.Track] = (loop.SILENT, loop.SILENT)) -> tuple:  # fmt: skip
    """Chapter 06: pixels and perception, then with a critic; (generator, history).

    Args:
        split: its pictures; codes int64 [M, N] of them; centroids float [K, F].
        tracks: of the two phases.
    """
    torch.manual_seed(seed)
    generator, size = Generator(run.generator), (run.generator.image_size, run.generator.grid)
    critic = Discriminator(run.model.feature_dim, (16, 32, 48, 64, 64), *size)
    objective = GeneratorObjective(generator, critic, Backbone().load_imagenet(), centroids)

    def batch_at(step: int, random: torch.Generator) -> dict:
        """Pictures uint8 [B, S, S, 3], their codes int64 [B, N] and where things are, bool [B, g, g]."""
        rows = torch.randint(len(codes), (run.generator_batch,), generator=random)
        pictures, things = split.images[rows.numpy()], split.labels["kind"][rows.numpy()] > 0
        return {"images": torch.from_numpy(pictures), "codes": codes[rows], "things": torch.from_numpy(things)}

    rate, muon_rate = run.generator_rates
    history, phases = [], ((None, (rate, 4e-4, muon_rate), run.generator_steps), (critic, (1e-4,), run.critic_steps))
    for number, (opponent, rates, steps) in enumerate(phases):
        objective.discriminator = opponent
        both = gan_optimisers(objective, *rates)
        history += loop.fit(objective, both, batch_at, steps, seed=seed + number, clip=None, track=tracks[number])
    return generator.cpu().eval(), history


def answers_of(task: str, questions: Sequence[vqa.Question]) -> list[str]:
    """The classes of a task: frequent answers of VQA, all of GQA, true and false of NLVR2."""
    if task == "nlvr2":
        return list(nlvr2.ANSWERS)
    return vqa.answer_vocabulary(questions, *([1] if task == "gqa" else []))


def train_skill(painter: Pipeline, task: str, asked: Any, features: finetuning.FeaturesOf, steps: int, seed: int,
                track: loop.Track = loop.SILENT, layers: int | None = None) -> tuple[Skill, list[dict]]:  # fmt: skip
    """Chapter 09: fine-tune on the questions of a task; (skill, history).

    Args:
        painter: the pipeline to start from; it stays as it was.
        asked: the data set's questions (``data.questions``).
        features: rows of pictures int64 [B, P] -> float [B, P, N, F].
        layers: how many layers are trained; all when None.
    """
    questions = asked.tasks[task]
    rows, answers = [asked.rows(q) for q in questions], answers_of(task, questions)
    return finetuning.tune(painter, questions, rows, features, answers, steps, seed=seed, layers=layers, track=track)


def train_writer(painter: Pipeline, split: Any, features: finetuning.FeaturesOf, steps: int, seed: int,
                 track: loop.Track = loop.SILENT, layers: int | None = None) -> tuple[Skill, list[dict]]:  # fmt: skip
    """Chapter 08, its first lesson: fine-tune on the captions of pictures and on the words for what is in them.

    Args:
        split: a data set's split; the other arguments are those of :func:`train_skill`.
    """
    torch.manual_seed(seed)
    objective, data, _, kinds = writing(painter, split, layers)
    often = (torch.tensor(READ)[:, None] * kinds / kinds.sum(1, keepdim=True).clamp_min(1)).sum(0)
    drawn, track = finetuning.batches(data, features, 64, often), replace(track, origin={"painter": painter.model})
    history = loop.fit(objective, optimisers.muon(objective, 0.005, 0.001), drawn, steps, seed=seed, track=track)
    return Skill(objective.model.eval().requires_grad_(True), painter.tokenizer, lengths_of(painter)), history


def lengths_of(painter: Pipeline) -> list[str]:
    """What a writer's answer head stands for: how many words a caption has."""
    return [str(n) for n in range(painter.model.config.max_words - 1)]


def placing(data: Any, tokenizer: Tokenizer) -> list[int]:
    """Ids of the words that say where things stand and have an opposite, "left" for instance."""
    told = {word for words in data.language.relations for word in words.split()}
    opposite = {word for group in data.language.exchangeable for word in group} & told
    return tokenizer.encode([" ".join(sorted(opposite))], len(opposite) + 2)[0][0, 1:-1].tolist() if opposite else []


def writing(painter: Pipeline, split: Any, layers: int | None = None, placed: Sequence[int] = ()) -> tuple:
    """What a writer learns from: (objective, data, its S texts, which are first captions, others, about a thing).

    The last is float [3, S], the kinds that :data:`READ` weighs; ``placed`` is what :func:`placing` gives, and the
    other arguments are those of :func:`train_writer`.
    """
    told = [(text, i, WHOLE) for i, record in enumerate(split.records) for text in record.captions]
    named = [(region.text, i, region.box) for i, those in enumerate(split.regions) for region in those]
    texts, pictures, boxes = zip(*told, *named, strict=True)
    tokenizer, most = painter.tokenizer, painter.model.config.max_words
    data = finetuning.FineTuningData.build(texts, [[i] for i in pictures], [{}] * len(texts), tokenizer, [], most)
    data = replace(data, hidden=~finetuning.inside(torch.tensor(boxes), painter.grid))
    firsts = split.texts
    first = torch.tensor([text == firsts[i] for text, i, _ in told] + [False] * len(named))
    about = torch.arange(len(texts)) >= len(told)
    kinds = torch.stack([first, ~first & ~about, about]).float()  # [3, S]
    pupil = finetuning.adopt(painter.model, tokenizer, painter.answers, lengths_of(painter))
    return finetuning.Writing(optimisers.only_last(pupil, layers), tokenizer, placed), data, texts, kinds
