"""What an older processor costs: a step of each training with AVX-512 and held back to AVX2, beside matrix products."""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from book.bench.measure import Family, Limit, Race, Times, child
from book.bench.training import batch
from book.build.run_chapters import KERNEL, ROOT
from xlxmert_core.datasets.profiles import profile
from xlxmert_core.features import Backbone, GridEncoder
from xlxmert_core.generator import Discriminator, Generator
from xlxmert_core.model import XLxmert
from xlxmert_core.train import loop, optimisers
from xlxmert_core.train.finetuning import Answering
from xlxmert_core.train.generator_losses import GeneratorObjective, gan_optimisers
from xlxmert_core.train.labels import LabelObjective
from xlxmert_core.train.pretraining import Pretraining
from xlxmert_core.vocabulary import VisualVocabulary

AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
RECORD = ROOT / "book" / "_static" / "bench" / "avx512.json"  # what a processor with AVX-512 took, for those without
LABELS = {"kind": 13, "colour": 9, "size": 3, "part": 5, "background": 6}
MOST = 2.5  # times as long as the slower matrix products explain
TEXT = f"""Most laptops multiply with AVX2, servers with AVX-512. Here the same step runs on both, in processes of its
own: with all that the processor can do, and with PyTorch, oneDNN and MKL held back to AVX2 by their environment
variables. *Over products* is (time with AVX2 / time with AVX-512) / (rate of a matrix product with AVX-512 / rate with
AVX2): above {MOST} something does not run on AVX2 but is emulated, as bfloat16 is, 25 times as slowly as float32. ONNX
Runtime, which paints, cannot be held back and is measured by the other families. On a processor without AVX-512 the
first column comes from the record of one that has it."""


def eye() -> Callable[[], object]:
    """Chapter 02: 32 pictures through EfficientNet-Lite0 and its label heads."""
    sizes = profile("ci").model
    objective = LabelObjective(GridEncoder(sizes.feature_dim, LABELS, sizes.colour_dim, imagenet=False), noise=1.0)
    labels = {name: torch.randint(2, (32, 8, 8)) for name in LABELS}
    return step(objective, {"all": optimisers.adamw(objective, 2e-3)}, {"images": pictures(32), **labels})


def vocabulary() -> Callable[[], object]:
    """Chapter 03: k-means with 256 codes on 40 000 cells."""
    rows = torch.randn(625, 64, 64).numpy()
    return lambda: VisualVocabulary.fit(rows, 256)


def painting_task(size: int = 64) -> Callable[[], object]:
    """Chapter 05: the painting task, with Muon."""
    objective = Pretraining(network())
    return step(objective, {"all": optimisers.muon(objective)}, batch(size, profile("ci").model))


def generator() -> Callable[[], object]:
    """Chapter 06: pixels and perception, 16 pictures."""
    return gan_step(critic=False)


def critic() -> Callable[[], object]:
    """Chapter 06: both networks."""
    return gan_step(critic=True)


def answers() -> Callable[[], object]:
    """Chapter 09: 64 questions, with Muon."""
    model = network()
    objective, sizes = Answering(model), model.config
    given = {"words": torch.randint(5, sizes.vocab_size, (64, 12)), "word_mask": torch.ones(64, 12, dtype=torch.bool),
             "features": torch.randn(64, 1, sizes.cells, sizes.feature_dim),
             "answers": torch.zeros(64, 1, dtype=torch.long), "scores": torch.ones(64, 1)}  # fmt: skip
    return step(objective, {"all": optimisers.muon(objective)}, given)


def features() -> Callable[[], object]:
    """Chapters 07 to 10: what the eye sees on 16 pictures."""
    encoder = Backbone().eval()
    images = torch.rand(16, 3, 128, 128)
    return torch.inference_mode()(lambda: encoder(images))


STAGES = (eye, vocabulary, painting_task, generator, critic, answers, features)


def network() -> XLxmert:
    """A transformer of the `ci` profile's sizes."""
    sizes = profile("ci").model
    return XLxmert(sizes, torch.randn(sizes.codes, sizes.feature_dim)).train()


def pictures(count: int) -> torch.Tensor:
    """Noise, uint8 [B, 128, 128, 3]."""
    return torch.randint(256, (count, 128, 128, 3), dtype=torch.uint8)


def gan_step(critic: bool) -> Callable[[], object]:
    """One turn of the generator, and of its critic where there is one."""
    run = profile("ci")
    other = Discriminator(run.model.feature_dim, (16, 32, 48, 64, 64), run.generator.image_size) if critic else None
    centroids = torch.randn(run.model.codes, run.model.feature_dim)
    objective = GeneratorObjective(Generator(run.generator), other, Backbone(), centroids)
    codes = torch.randint(run.model.codes, (16, 64))
    return step(objective, gan_optimisers(objective), {"images": pictures(16), "codes": codes})


def step(objective: torch.nn.Module, optimisers: dict, given: dict) -> Callable[[], object]:
    """One step of ``loop.fit``."""
    return lambda: loop.fit(objective, optimisers, lambda *_: given, 1, clip=None)


def seconds(repetitions: int) -> dict[str, float]:
    """Median seconds of every stage, and the GFLOP/s of a matrix product, in this process."""
    torch.manual_seed(0)
    a, b = torch.randn(2, 1024, 1024)
    found = {"product": 2 * 1024**3 / timed(lambda: a @ b, 5 * repetitions) / 1e9}
    return found | {stage.__name__: timed(stage(), repetitions) for stage in STAGES}


def timed(case: Callable[[], object], repetitions: int) -> float:
    """Median seconds of some calls after the first."""
    taken = []
    for _ in range(repetitions + 1):
        start = time.perf_counter()
        case()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def has_avx512() -> bool:
    """Whether this processor does more than AVX2."""
    info = Path("/proc/cpuinfo")
    return info.exists() and "avx512f" in info.read_text()


def run(quick: bool) -> Family:
    """Both columns, and for every stage the quotient that should not pass 2.5."""
    repetitions = 1 if quick else 5
    old = child("book.bench.processor:seconds", repetitions, environment=KERNEL | AVX2)
    if has_avx512():
        new = child("book.bench.processor:seconds", repetitions, environment=KERNEL)
        if not quick:
            RECORD.write_text(json.dumps(new, indent=1) + "\n")
    else:
        new = json.loads(RECORD.read_text())
    explained, found = new["product"] / old["product"], []
    for stage in STAGES:
        name, work = stage.__name__, (stage.__doc__ or "").rstrip(".")
        times = {"AVX-512": Times(*3 * [new[name]]), "AVX2": Times(*3 * [old[name]])}
        found += [Race(work, times), Limit(f"{work}, over products", old[name] / new[name] / explained, "", MOST)]
    rates = [Limit(f"matrix product, {name}", column["product"], "GFLOP/s") for name, column in
             {"AVX-512": new, "AVX2": old}.items()]  # fmt: skip
    return Family("An older processor", TEXT, rates + found)
