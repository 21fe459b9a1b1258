"""Pretraining at any scale, from files: one process, or many with ``accelerate launch -m xlxmert_core.scale.pretrain``.

Needs the codes of the pictures and their centroids (``scale/assign.py``), and sentences in LXMERT's aggregated
layout. The same function runs in a notebook: ``accelerate.notebook_launcher(pretrain, (plan,), num_processes=8)``.
"""

import argparse
import sys
import warnings
from collections import Counter
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from xlxmert_core import checkpoints, config
from xlxmert_core.data import lxmert, vqa
from xlxmert_core.data.files import DataError
from xlxmert_core.data.store import FeatureStore
from xlxmert_core.files import fingerprint, write_json
from xlxmert_core.foreign import convert
from xlxmert_core.model import XLxmert
from xlxmert_core.scale.assign import bind_vocabulary
from xlxmert_core.text import Tokenizer
from xlxmert_core.train import loop, optimisers
from xlxmert_core.train.distributed import whole_state
from xlxmert_core.train.pretraining import TASKS, PairedText, Pretraining, PretrainingBatches
from xlxmert_core.vocabulary import VisualVocabulary

SIZES = {"paper": config.paper, "storybook": config.storybook}


@dataclass(frozen=True)
class Plan:
    """What to pretrain on, and how long; the defaults are the paper's (section 4.1 and its appendix)."""

    codes: str  # folder that assign() filled
    vocabulary: str  # centroids, a .npy file
    sentences: tuple[str, ...]  # LXMERT's aggregated JSON files; those not there are named and passed over
    words: str  # BERT's vocab.txt, or a tokenizer.json
    out: str  # folder for checkpoint, log and weights
    answers: str = ""  # all_ans.json; "" takes the answers of the training questions
    bert: str = ""  # weights of BERT for the language side; "" starts from scratch
    size: str = "paper"  # or "storybook", with as many codes as the vocabulary has
    epochs: float = 20.0  # times each sentence is drawn on average
    batch: int = 256  # sentences a step, of all processes together
    accumulate: int = 1  # parts that each process takes its share in, to save memory
    lr: float = 1e-4
    seed: int = 9595


def read_data(plan: Plan) -> tuple[PairedText, Tokenizer, list[str]]:
    """Codes and sentences, joined by the pictures' ids: (pairs, tokenizer, answer vocabulary).

    Warns of files that are not there and of sentences about pictures without codes. Raises DataError in one sentence
    when nothing is left, or codes and vocabulary do not belong together.
    """
    present = [path for path in plan.sentences if Path(path).is_file()]
    if lost := [path for path in plan.sentences if path not in present]:
        if not present:
            raise DataError(f"None of {', '.join(lost)} is there: fetch LXMERT's aggregated files first.")
        warnings.warn(f"Not there, and passed over: {', '.join(lost)}.", stacklevel=2)
    sizes, counts = config.paper(), Counter()
    if not Path(plan.codes, "index.jsonl").is_file():
        raise DataError(f"{plan.codes} holds no codes: scale.assign.assign() fills it.")
    store = FeatureStore(plan.codes, (sizes.cells,), "int32")
    bind_vocabulary(store, VisualVocabulary.load(plan.vocabulary))
    codes = torch.from_numpy(store[:].copy())
    words = Path(plan.words)
    tokenizer = Tokenizer.load(words) if words.suffix == ".json" else Tokenizer.from_word_pieces(words)
    found = lxmert.iterate_aggregated(*present)
    answers = vqa.read_answers(plan.answers) if plan.answers else lxmert.answer_vocabulary(found)

    def counted():
        for example in lxmert.iterate_aggregated(*present):
            counts[example.source] += 1
            yield example

    data = PairedText.build(counted(), store.ids, codes, tokenizer, answers, sizes.max_words)
    if (silent := counts.total() - len(data.words)) > 0:
        sources = ", ".join(f"{source} {count}" for source, count in counts.items())
        warnings.warn(
            f"{silent} of {counts.total()} sentences ({sources}) are about pictures without codes: passed over.",
            stacklevel=2,
        )
    return data, tokenizer, answers


def build_model(plan: Plan, tokenizer: Tokenizer, answers: list[str]) -> XLxmert:
    """The transformer of the plan's size around the vocabulary, its language side from BERT when the plan has one."""
    centroids = torch.from_numpy(VisualVocabulary.load(plan.vocabulary).centroids)
    sizes = SIZES[plan.size]()
    flat = {"colour_codes": 0, "colour_dim": 0, "mixture": 1}
    torch.manual_seed(plan.seed)
    sizes = replace(sizes, vocab_size=tokenizer.size, codes=len(centroids), feature_dim=centroids.shape[1],
                    answers=max(1, len(answers)), **flat)  # fmt: skip
    model = XLxmert(sizes, centroids)
    if plan.bert:
        convert.initialise_from_bert(model, plan.bert)
    return model


def pretrain(plan: Plan) -> list[dict]:
    """Train as planned and write transformer, tokenizer, answers and history to ``plan.out``; returns the history.

    Stop it anywhere and start it again with the same plan: it goes on from its last checkpoint.
    """
    if plan.size not in SIZES:
        raise DataError(f"There is no size {plan.size!r}: choose {' or '.join(SIZES)}.")
    out = Path(plan.out)
    data, tokenizer, answers = read_data(plan)
    tasks = TASKS
    if not data.is_caption.any():
        tasks = tuple(task for task in TASKS if task != "visual")
        warnings.warn("No sentence is a COCO caption (mscoco): the model will not learn to paint.", stacklevel=2)
    model = build_model(plan, tokenizer, answers)
    objective = Pretraining(model)
    accelerator = loop.accelerate()
    steps = max(1, round(plan.epochs * len(data.words) / plan.batch))
    history = loop.fit(
        objective, optimisers.adamw(objective, plan.lr),
        PretrainingBatches(data, tokenizer, plan.batch, tasks), steps, seed=plan.seed,
        track=loop.Track(out / "checkpoint.pt", out / "log", "pretraining", seconds=600, origin=_origin(plan)),
        accumulate=plan.accumulate, accelerator=accelerator,
    )  # fmt: skip
    state = whole_state(model)
    if accelerator.is_main_process:
        whole = XLxmert(model.config)
        whole.load_state_dict(state)
        checkpoints.save(whole, out / "transformer.safetensors")
        tokenizer.save(out / "tokenizer.json")
        record = {"plan": asdict(plan), "processes": accelerator.num_processes, "answers": answers}
        write_json(out / "pretraining.json", record | {"history": history})
    accelerator.wait_for_everyone()
    return history


def _origin(plan: Plan) -> dict:
    """What a checkpoint is made from, but for the folder that it lies in."""
    given = {name: value for name, value in asdict(plan).items() if name not in ("out", "seed", "accumulate")}
    return given | {"centroids": fingerprint(plan.vocabulary)}


def main() -> int:
    """``accelerate launch -m xlxmert_core.scale.pretrain --codes ... --sentences a.json b.json --out ...``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field in fields(Plan):
        option: dict[str, Any] = {"nargs": "+"} if field.name == "sentences" else {"type": field.type}
        option |= {"required": True} if field.default is MISSING else {"default": field.default}
        parser.add_argument(f"--{field.name}", **option)
    options: dict[str, Any] = vars(parser.parse_args())
    options["sentences"] = tuple(options["sentences"])
    try:
        pretrain(Plan(**options))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
