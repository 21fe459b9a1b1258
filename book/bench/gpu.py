"""Painting and a step of pretraining on a GPU, at the paper's sizes, against the card's own matrix product."""

import copy
import functools
import time
from collections.abc import Callable

import torch

from book.bench import painting as bench_painting
from book.bench import training as bench_training
from book.bench.measure import Family, Growth, Limit, Race, interleaved, operations
from xlxmert_core import sampling
from xlxmert_core.config import ModelConfig, paper
from xlxmert_core.engine import Engine, for_gpu
from xlxmert_core.engine.graphs import forms, plain
from xlxmert_core.model import XLxmert
from xlxmert_core.train import optimisers

ON = "cuda" if torch.cuda.is_available() else "cpu"  # the processor serves to try this file out
TEXT = """A painting is 64 texts in 4 steps; a step of pretraining is 256 texts with pictures, half of the cells masked,
with the paper's dropout. Weights are random. bf16 is bfloat16 throughout for painting, and autocast for training, as
Accelerate does it. *Compiled* is `torch.compile`; *graphs* are CUDA graphs besides, which send a whole reading of the
model to the card at once (`engine.for_gpu`). Arithmetic is counted by PyTorch's own counter, and its ceiling is a large
bf16 product of random matrices on the same card. *Busy* is the share of the time in which a kernel runs, from the
profiler: what is missing to 100 % the card waits for Python."""
PRODUCTS = ("gemm", "nvjet", "cutlass", "xmma", "wgmma")  # names of the kernels of matrix products
ATTENTION = ("flash", "fmha", "attention", "mem_eff", "sdpa")


def ceiling(size: int) -> float:
    """TFLOP/s of a bf16 product of two random square matrices: the median of twenty."""
    a, b = torch.randn(2, size, size, device=ON, dtype=torch.bfloat16)
    return 2 * size**3 / interleaved({"": timed(lambda: a @ b)}, 20, warm=3)[""].median / 1e12


def timed(case: Callable[[], object]) -> Callable[[], None]:
    """The case, and the wait until the card has done it."""

    def run() -> None:
        case()
        if ON == "cuda":
            torch.cuda.synchronize()

    return run


def busy(case: Callable[[], object]) -> str:
    """How long a kernel runs in one call, and of which kind, as shares of the call's time without the profiler."""
    if ON == "cpu":
        return ""
    wall = interleaved({"": timed(case)}, 5)[""].median
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        timed(case)()
    kernels = [(e.key.lower(), e.self_device_time_total / 1e6) for e in seen.key_averages()]
    kinds = {"matrix products": 0.0, "attention": 0.0, "the rest": 0.0}
    for name, seconds in kernels:
        kind = "matrix products" if any(n in name for n in PRODUCTS) else "the rest"
        kinds["attention" if any(n in name for n in ATTENTION) else kind] += seconds
    for name, seconds in sorted(kernels, key=lambda pair: -pair[1])[:12]:
        print(f"      {seconds / wall:6.1%} {name[:120]}")
    parts = ", ".join(f"{name} {seconds / wall:.0%}" for name, seconds in kinds.items())
    return f"busy {sum(kinds.values()) / wall:.0%} ({parts})"


def painters(config: ModelConfig, given: tuple) -> dict:
    """Ways to paint the given texts in four steps."""
    theirs, ours = bench_painting.pair(config)
    theirs, ours = theirs.to(ON), ours.to(ON)
    low, half = copy.deepcopy(theirs).to(torch.bfloat16), copy.deepcopy(ours).to(torch.bfloat16)
    models: dict[str, Engine | XLxmert] = {"plain": ours, "engine": eager(ours), "engine, bf16": eager(half)}
    if ON == "cuda":
        models |= {"engine, bf16, compiled": for_gpu(ours, mode="default"), "engine, bf16, graphs": for_gpu(ours)}
    cases = {
        "Hugging Face": lambda: bench_painting.original(theirs, ours, *given, 4),
        "Hugging Face, bf16": lambda: bench_painting.original(low, half, *given, 4),
    }
    return cases | {name: lambda m=model: sampling.paint(m, *given, steps=4) for name, model in models.items()}


def eager(model: XLxmert) -> Engine:
    """The engine's forms, not compiled."""
    return Engine(model, forms(model, attend=plain))


def painting(config: ModelConfig, texts: int, repetitions: int, best: float) -> list:
    """The race of painters, and how near the fastest comes to the ceiling of ``best`` TFLOP/s."""
    given = tuple(t.to(ON) for t in bench_painting.words_for(config, texts))
    cases = painters(config, given)
    want = cases["plain"]()
    same = ", ".join(f"{name} {bench_painting.share_equal(case(), want):.1%}" for name, case in cases.items())
    times = interleaved({name: timed(case) for name, case in cases.items()}, repetitions, warm=3)
    fastest, work = min(times, key=lambda name: times[name].median), operations(cases["engine, bf16"]) / 1e12
    said = f"codes equal to the plain model's in float32: {same}. {fastest}: {busy(cases[fastest])}"
    said += f". Hugging Face does {operations(cases['Hugging Face']) / 1e12:.2f} TFLOP, the engine {work:.2f}"
    return [Race(f"{texts} texts, 4 steps", times, said=said), *rate("painting", work, times[fastest].median, best)]


def rate(name: str, work: float, seconds: float, best: float) -> list[Limit]:
    """TFLOP/s reached, and their share of the ceiling."""
    reached = work / seconds
    return [Limit(f"{name}, fastest", reached, "TFLOP/s"),
            Limit(f"{name}, share of the ceiling", 100 * reached / best, "%")]  # fmt: skip


def trainers(config: ModelConfig, given: dict) -> dict:
    """Ways to take a step of pretraining, each with weights and an optimiser of its own."""
    cases = {
        "Hugging Face": their_step(config, given),
        "Hugging Face, bf16": low(their_step(config, given)),
        "ours": our_step(config, given),
        "ours, bf16": low(our_step(config, given)),
        "ours, bf16, AdamW a kernel each": low(our_step(config, given, fused=False)),
    }
    if ON == "cuda":
        cases["ours, bf16, compiled"] = low(our_step(config, given, compiled=True))
    return cases


def low(step: Callable[[], float]) -> Callable[[], float]:
    """The step in bfloat16, where PyTorch thinks it safe."""

    def run() -> float:
        with torch.autocast(ON, torch.bfloat16):
            return step()

    return run


def their_step(config: ModelConfig, given: dict) -> Callable[[], float]:
    """Hugging Face's encoders under our head for every cell, in training."""
    theirs, head = bench_painting.hugging_face(config, config.dropout).to(ON), ours(config).to(ON)
    optimiser = bench_training.eager_adamw(theirs, head)
    return lambda: bench_training.their_step(theirs, head, optimiser, given)


def our_step(config: ModelConfig, given: dict, compiled: bool = False, fused: bool = True) -> Callable[[], float]:
    """Our model in training."""
    model = ours(config).to(ON).train()
    optimiser = optimisers.adamw(model, 1e-4, fused=fused)
    if compiled:
        model.encoder.compile()
    return lambda: bench_training.our_step(model, optimiser, given)


def ours(config: ModelConfig) -> XLxmert:
    """Our model with random weights."""
    torch.manual_seed(0)
    return XLxmert(config, torch.randn(config.codes, config.feature_dim))


def pretraining(config: ModelConfig, texts: int, repetitions: int, best: float) -> list:
    """The race of training steps, their memory, and how near the fastest comes to the ceiling."""
    batch = bench_training.batch(texts, config)
    given = {k: v.to(ON) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
    cases = trainers(config, given)
    losses = ", ".join(f"{name} {case():.3f}" for name, case in cases.items())
    times = interleaved({name: timed(case) for name, case in cases.items()}, repetitions, warm=3)
    fastest, work = min(times, key=lambda name: times[name].median), operations(cases["ours, bf16"]) / 1e12
    said = f"first loss (each drops out at random): {losses}. {fastest}: {busy(cases[fastest])}"
    memory = [Limit(f"memory added, {name}", held(case), "MB") for name, case in cases.items() if ON == "cuda"]
    found = [Race(f"a step of {texts}", times, said=said), *rate("pretraining", work, times[fastest].median, best)]
    return found + memory


def held(case: Callable[[], object]) -> float:
    """MB on the card that a case needs at its peak beyond what lies there already."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    timed(case)()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def growths(config: ModelConfig, batches: tuple[int, ...]) -> list[Growth]:
    """Seconds of a painting by the number of texts, eager and with CUDA graphs."""
    model = ours(config).to(ON).eval()
    half = eager(copy.deepcopy(model).to(torch.bfloat16))
    found: dict[str, dict[int, float]] = {}
    for batch in batches:
        torch.compiler.reset()  # it compiles for a handful of shapes, then no longer
        given = tuple(t.to(ON) for t in bench_painting.words_for(config, batch))
        ways = {"eager": half} | ({"graphs": for_gpu(model)} if ON == "cuda" else {})
        for name, way in ways.items():
            case = timed(functools.partial(sampling.paint, way, *given, steps=4))
            found.setdefault(name, {})[batch] = interleaved({"": case}, 5, warm=3)[""].median
    return [Growth(f"engine, bf16, {name}", "texts", seconds) for name, seconds in found.items()]


def run(quick: bool) -> Family:
    """Ceiling, painting, pretraining, growth."""
    start, best = time.perf_counter(), ceiling(256 if quick else 8192)
    config = bench_painting.TINY if quick else paper()
    found: list = [Limit("a large bf16 product", best, "TFLOP/s")]
    for part in (
        lambda: painting(config, 2 if quick else 64, 1 if quick else 20, best),
        lambda: pretraining(config, 4 if quick else 256, 1 if quick else 10, best),
        lambda: growths(config, (1, 2) if quick else (1, 4, 16, 64, 256, 1024)),
    ):
        found += part()
        print(f"    {time.perf_counter() - start:.0f} s", flush=True)
    name = torch.cuda.get_device_name() if ON == "cuda" else "no GPU: a try-out on the processor"
    return Family(f"On a GPU ({name})", TEXT, found)
