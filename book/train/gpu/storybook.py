"""A painter of the wide world with its skills on one GPU, in minutes: ``python -m book.train.gpu.storybook``.

Eye, codes and generator are the shipped Storybook's, which lose nothing of wide scenes. What is trained is the
transformer, then the four skills beside each other, each until its share of the wall clock is over; a judge reads the
paintings at the end. Stages are processes of their own on a GPU, and everything passes through files in a work folder,
so what a stage has finished survives whatever happens to another one.
"""

import argparse
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import xlxmert_core
from book.train.gpu.common import Clock, Record, autocast, muon, say, sheet, train
from book.train.gpu.handover import copy_files, pack_files, write_record
from book.train.gpu.scenes import TASKS, TESTS, draw_world, keep, paired, see, sentences, split_of, take
from book.train.gpu.text import DeviceBatches, pretrain
from xlxmert_core import checkpoints
from xlxmert_core.data import lxmert
from xlxmert_core.data import storybook as drawn
from xlxmert_core.datasets.wide import Wide
from xlxmert_core.evaluate import scores
from xlxmert_core.evaluate.judges import SceneJudge, paint_and_read
from xlxmert_core.evaluate.scenes import SceneReader
from xlxmert_core.model import XLxmert
from xlxmert_core.pipeline import Pipeline
from xlxmert_core.skills import Skill
from xlxmert_core.text import Tokenizer
from xlxmert_core.train import finetuning
from xlxmert_core.train.labels import LabelObjective, labelled_batches
from xlxmert_core.train.loop import to_device
from xlxmert_core.train.optimisers import adamw
from xlxmert_core.train.pretraining import PairedText, Pretraining
from xlxmert_core.train.recipes import READ, answers_of, lengths_of, placing, writing

# When each stage ends, as a share of all the time; drawing takes what it takes.
ENDS = {"judge": 0.30, "transformer": 0.62, "captions": 0.88, "vqa": 0.88, "gqa": 0.88, "nlvr2": 0.88,
        "evaluation": 1.0}  # fmt: skip
LATE = 15  # seconds that a stage may be late
GROUPS = (("draw",), ("transformer", "judge"), ("captions", *TASKS), ("evaluation",))
RELATED = 0.69  # the share of a writer's time after which it mostly reads where things stand, as in chapter 08
READ_RELATED = (0.55, 0.20, 0.10, 0.15)  # then: first captions with a relation, others with one, firsts without, words
SHOWN = 64  # paintings on the sheet


@dataclass(frozen=True)
class Sizes:
    """How much to do: scenes of each kind, sentences or pictures a step, and what to evaluate on."""

    train: int = 40000
    held: int = 500  # in each split that is measured on
    judged: int = 6000
    taught: int = 24000  # scenes of training that the skills learn from
    transformer: int = 512
    skill: int = 256
    judge: int = 64
    judge_steps: int = 3000
    measured: int = 300  # texts painted, and pictures told, of each split
    steps: int | None = None  # of each stage; as many as its time allows


SMOKE = Sizes(train=40, held=6, judged=8, taught=40, transformer=4, skill=4, judge=4, measured=2, steps=2)


class Run:
    """One run: where things are, how much to do, and when each stage has to end."""

    def __init__(self, options: argparse.Namespace):
        self.work, self.out, self.device, self.seed = options.work, options.out, options.device, options.seed
        self.begin, self.seconds = options.begin or time.time(), options.seconds
        self.smoke, self.sizes = options.smoke, SMOKE if options.smoke else Sizes()
        self.settings: dict[str, Any] = dict(steps=2, candidates=1, polish=0) if options.smoke else {}
        self.workers = min(16, os.cpu_count() or 1) if self.device.startswith("cuda") else 1
        self.model = self.work / "model"
        self.model.mkdir(parents=True, exist_ok=True)

    def clock(self, stage: str, steps: int | None = None) -> Clock:
        """The time from now to the end of a stage, or so many steps; a few in the smoke run."""
        torch.manual_seed(self.seed)
        return Clock(self.begin + self.seconds * ENDS[stage], self.sizes.steps or steps)

    def command(self, stage: str) -> list[str]:
        """This module again, for one stage in a process of its own."""
        given = ["--work", self.work, "--out", self.out, "--seconds", self.seconds, "--begin", self.begin,
                 "--device", self.device, "--seed", self.seed, "--stage", stage]  # fmt: skip
        name = "book.train.gpu.storybook"
        return [sys.executable, "-m", name, *map(str, given), *(["--smoke"] if self.smoke else [])]


def draw(run: Run) -> None:
    """All scenes, what is said and asked of them, and what the shipped eye sees in them."""
    sizes, start = run.sizes, time.time()
    world = draw_world(sizes.train, sizes.held, sizes.judged, run.seed, run.workers)
    painter = xlxmert_core.load()
    say(f"[draw] {sum(len(those['scenes']) for those in world.values())} scenes after {time.time() - start:.0f} s")
    for split, fields in world.items():
        seen = {} if split == "judged" else see(painter, fields["images"], run.device)
        keep(run.work, split, {name: value for name, value in (fields | seen).items()
                               if split != "train" or name != "images"})  # fmt: skip
    Record(run.work, "draw").save(seconds=time.time() - start, scenes={s: len(f["scenes"]) for s, f in world.items()})


def transformer(run: Run) -> None:
    """The transformer at the data set's sizes; writes the whole pipeline, with the shipped eye and generator."""
    texts, budgets = sentences(run.work, "train"), Wide(run.work).budgets("train")
    known = {word for example in texts for word in example.sentence.split()}  # all of them, also where some are read
    tokenizer = Tokenizer.from_corpus([*(e.sentence for e in texts[::5]), " ".join(sorted(known))])
    answers, record = lxmert.answer_vocabulary(texts), Record(run.work, "transformer")
    found = [paired(those, take(run.work, split, "codes"), tokenizer, answers, budgets.max_words, run.workers)
             for split, those in (("train", texts), ("val", sentences(run.work, "val")))]  # fmt: skip
    pairs = [PairedText(*(values.to(run.device) for values in vars(those).values())) for those in found]
    shipped = xlxmert_core.load()
    clock = run.clock("transformer")
    model = XLxmert(replace(budgets.model, vocab_size=tokenizer.size, codes=budgets.codes, answers=len(answers)),
                    shipped.model.centroids).to(run.device)  # fmt: skip
    batch = run.sizes.transformer
    pretrain(Pretraining(model), DeviceBatches(pairs[0], tokenizer, batch, Wide),
             DeviceBatches(pairs[1], tokenizer, batch, Wide, caption_dropout=0.0), record, clock)  # fmt: skip
    Pipeline(model.cpu(), tokenizer, shipped.generator, shipped.encoder, answers).save(run.model, bits=16)


def judge(run: Run) -> None:
    """A reader of pictures, from scenes of its own."""
    reader = SceneReader(world=drawn.WIDE).to(run.device)
    objective, record = LabelObjective(reader).train(), Record(run.work, "judge")
    drawn_at = labelled_batches(split_of(run.work, "judged"), run.sizes.judge)
    clock, draws = run.clock("judge", run.sizes.judge_steps), torch.Generator().manual_seed(run.seed + 100)
    lesson = lambda _: objective(to_device(drawn_at(clock.step, draws), torch.device(run.device)))  # noqa: E731
    train(clock, record, reader, [adamw(reader, 2e-3)], lesson, 1.0, 8)
    checkpoints.save(reader.eval(), run.work / "reader.safetensors")
    record.save(steps=clock.step)


def of_task(task: str, painter: Pipeline, work: Path, most: int) -> tuple[Any, ...]:
    """(objective, its data, answers, tokenizer, float [1, Q]: all questions alike) of "vqa", "gqa" or "nlvr2"."""
    asked = [q for q in take(work, "train", task) if max(q.images) < most]
    answers, tokenizer = answers_of(task, asked), painter.tokenizer.extended(q.text for q in asked)
    data = questions(asked, tokenizer, answers, painter)
    kind = finetuning.Judging if task == "nlvr2" else finetuning.Answering
    objective = kind(finetuning.adopt(painter.model, tokenizer, painter.answers, answers))
    return objective, data, answers, tokenizer, torch.ones(1, len(data))


def questions(asked: Sequence, tokenizer: Tokenizer, answers: Sequence[str],
              painter: Pipeline) -> finetuning.FineTuningData:  # fmt: skip
    """Questions whose pictures are rows, as fine-tuning takes them."""
    labels = [finetuning.label_of(q) for q in asked]
    return finetuning.FineTuningData.build([q.text for q in asked], [q.images for q in asked], labels, tokenizer,
                                           answers, painter.model.config.max_words)  # fmt: skip


def of_captions(painter: Pipeline, work: Path, most: int) -> tuple[Any, ...]:
    """The same of "captions": float [2, S], how often each text is read before and after RELATED."""
    told = split_of(work, "train", most, seen=False)
    objective, data, texts, kinds = writing(painter, told, placed=placing(Wide, painter.tokenizer))
    relations = [f" {words} " for words in Wide.language.relations]
    related = torch.tensor([any(words in f" {text} " for words in relations) for text in texts])
    first, other, about = kinds
    lessons = ((READ, (first, other, about)),
               (READ_RELATED, (first * related, other * related, first * ~related, about)))  # fmt: skip
    often = [sum(share * which / which.sum().clamp_min(1) for share, which in zip(*both, strict=True))
             for both in lessons]  # fmt: skip
    return objective, data, lengths_of(painter), painter.tokenizer, torch.stack(often)


def skill(run: Run, task: str) -> None:
    """Fine-tune on a task until the clock says so, and write the skill beside the transformer."""
    painter, record, device = xlxmert_core.load(run.model), Record(run.work, task), torch.device(run.device)
    torch.manual_seed(run.seed)
    given = painter, run.work, run.sizes.taught
    objective, data, answers, tokenizer, often = of_captions(*given) if task == "captions" else of_task(task, *given)
    data, objective = finetuning.FineTuningData(**to_device(vars(data), device)), objective.to(device)
    seen = take(run.work, "train", "features").to(device)
    lessons = [finetuning.batches(data, lambda rows: seen[rows].float(), run.sizes.skill, those) for those in often]
    clock, draws = run.clock(task), torch.Generator().manual_seed(run.seed)
    if isinstance(objective, finetuning.Answering):
        objective.eval().settle(lessons[0](0, draws))

    def lesson(share: float) -> tuple[Tensor, dict]:
        torch.manual_seed(clock.step)  # by which a writer hides words
        with autocast(run.device):
            return objective(lessons[-1 if share > RELATED else 0](clock.step, draws))

    train(clock, record, objective.train(), muon(objective, 0.005, 0.001), lesson, 1.0, 8)
    record.save(steps=clock.step)
    if task != "captions":
        asked, seen = take(run.work, "test", task), take(run.work, "test", "features").to(device)
        tests = finetuning.FineTuningData(**to_device(vars(questions(asked, tokenizer, answers, painter)), device))
        found = finetuning.predict(objective, tests, lambda rows: seen[rows].float())
        said = {q.id: answers[i] for q, i in zip(asked, found.tolist(), strict=True)}
        record.save(test=getattr(scores, f"{task}_scores")(asked, said))
        say(f"[{task}]", record.numbers["test"]["all"])
    Skill(objective.model.cpu().eval(), tokenizer, answers).save(run.model / task, 16, painter.model)


def evaluation(run: Run) -> None:
    """What the judge sees in scenes, rebuilt scenes and paintings; how true the captions are. Of the saved folder."""
    record, painter = Record(run.work, "evaluation"), xlxmert_core.load(run.model).to(run.device)
    reader = SceneReader(world=drawn.WIDE)
    checkpoints.load(reader, run.work / "reader.safetensors")
    reader = reader.to(run.device).eval()
    judge, shown = SceneJudge(lambda: reader, drawn.WIDE), []
    for name in TESTS[1:]:
        split = split_of(run.work, name, run.sizes.measured)
        codes = take(run.work, name, "codes")[: len(split)].long().to(run.device)
        painted, images = paint_and_read(painter, judge, split, (run.seed,), **run.settings)
        record.save(**{name: {"real": judge.paintings(split.images, split), "painted": painted,
                              "rebuilt": judge.paintings(painter.render(codes), split)}})  # fmt: skip
        say(f"[evaluation] {name}:", painted)
        shown.append(images[: SHOWN // 2 if name == "test" else SHOWN // 4])
    sheet([torch.from_numpy(images).permute(0, 3, 1, 2) for images in shown], run.work / "sheets" / "paintings.png", 8)
    split = split_of(run.work, "test", run.sizes.measured)
    if "captions" in painter.skills:
        lines = painter.caption(take(run.work, "test", "features")[: len(split)].float())
        record.save(captions=judge.captions(lines, split) | {"relation": relations(split.scenes, lines)},
                    lines=list(zip(split.texts[:SHOWN], lines[:SHOWN], strict=True)))  # fmt: skip
        say("[evaluation] captions:", record.numbers["captions"])


def relations(scenes: Sequence[drawn.Scene], lines: Sequence[str]) -> float | None:
    """The share of relations that hold, among those that captions state; None where they state none."""
    held = [drawn.facts_hold(scene, [fact])[0] for scene, line in zip(scenes, lines, strict=True)
            for fact in drawn.stated_facts(line, scene.world) if fact[0] in ("relation", "between")]  # fmt: skip
    return float(np.mean(held)) if held else None


def perform(run: Run, stage: str) -> None:
    """One stage, here."""
    say(f"== {stage}")
    if stage in ("captions", *TASKS):
        return skill(run, stage)
    return {f.__name__: f for f in (draw, transformer, judge, evaluation)}[stage](run)


def beside(run: Run, stages: Sequence[str]) -> bool:
    """Stages in processes of their own, each until a little after its end; whether all went well."""
    processes, fine = {stage: subprocess.Popen(run.command(stage)) for stage in stages}, True
    for stage, process in processes.items():
        last = run.begin + run.seconds * ENDS.get(stage, ENDS["judge"]) + LATE
        try:
            code = process.wait(max(1.0, last - time.time()))
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        say(f"== {stage} {'done' if code == 0 else 'FAILED'}, {time.time() - run.begin:.0f} s of {run.seconds:.0f}")
        fine &= code == 0
    return fine


def here(run: Run, stage: str) -> bool:
    """A stage in this process, an error being printed; whether it went well."""
    try:
        perform(run, stage)
    except Exception:
        traceback.print_exc()
        return False
    return True


def export(run: Run) -> None:
    """Put what there is into the out folder: at most eight files, none above 16 MiB."""
    run.out.mkdir(parents=True, exist_ok=True)
    for folder in (run.model, *(run.model / task for task in ("captions", *TASKS))):
        if (folder / "config.json").is_file():
            inside = folder.relative_to(run.work).as_posix()
            pack_files(run.out / f"{folder.name}.tar", sorted(folder.glob("*.*")), inside)
    copy_files(run.out, [run.work / "reader.safetensors", run.work / "sheets" / "paintings.png"])
    write_record(run, ENDS, seconds=run.seconds, seed=run.seed)


def whole(run: Run) -> int:
    """All stages, those of a group beside each other on a GPU; 0 when all went well."""
    say(f"torch {torch.__version__} on {run.device}, {run.seconds:.0f} s")
    fine = True
    for group in GROUPS:
        fine &= beside(run, group) if run.device.startswith("cuda") else all([here(run, stage) for stage in group])
        export(run)
    say(f"all over after {time.time() - run.begin:.0f} s")
    return 0 if fine else 1


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What the command is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where weights, record and sheet go")
    parser.add_argument("--work", type=Path, default=Path("/tmp/wide"))
    parser.add_argument("--seconds", type=float, default=460.0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few steps on a few scenes")
    parser.add_argument("--stage", choices=[stage for group in GROUPS for stage in group], help="one stage alone")
    parser.add_argument("--begin", type=float, help="when the run began (time.time())")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = options_of(arguments)
    run = Run(options)
    if options.stage is not None:
        perform(run, options.stage)
        return 0
    return whole(run)


if __name__ == "__main__":
    sys.exit(main())
