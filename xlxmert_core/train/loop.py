"""One fit loop for every model of the book, on Hugging Face Accelerate: one process or many.

A model is trained by an *objective*: an ``nn.Module`` whose ``forward(batch)`` returns a loss and a dict of numbers
worth plotting. Networks that are trained against each other take turns in each step: their objective is called as
``forward(batch, turn)`` and may return a third value, tensors that the batch of the step's next turn also holds.
Everything random in step ``i`` (the batch, the masks, dropout) is
derived from ``(seed, i)`` alone, so a run that was killed and resumed repeats the very same steps. A checkpoint knows
what it was made from (:mod:`xlxmert_core.origins`): another run does not go on from it.
"""

import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from tqdm.auto import tqdm

from xlxmert_core import origins
from xlxmert_core.config import check_number
from xlxmert_core.files import only_writer, replacing
from xlxmert_core.train.distributed import is_spread, share, whole
from xlxmert_core.train.optimisers import warmup_linear

if TYPE_CHECKING:
    from accelerate import Accelerator

PROBES = 3  # batches that stand for the data
RANKS = 2**52  # above every step_seed: the processes' seeds lie this far apart
BatchAt = Callable[[int, torch.Generator], dict]
Optimisers = torch.optim.Optimizer | Sequence[torch.optim.Optimizer]


@dataclass(frozen=True)
class Track:
    """Where a training keeps its progress and shows it.

    checkpoint: file to resume from if it exists, written every ``seconds`` and at the end; log: folder of a TensorBoard
    log; progress: title of the progress bar; on_step: called after each step with its number and its values. None for
    none of it. origin: what the training is made from besides what :func:`fit` sees, by name ("answers", "painter").
    """

    checkpoint: str | os.PathLike | None = None
    log: str | os.PathLike | None = None
    progress: str | None = None
    seconds: float = 60.0
    on_step: Callable[[int, dict], None] | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)


SILENT = Track()
ONLY = "all"  # the one turn of a model that trains alone, as checkpoints call it


def step_seed(seed: int, step: int) -> int:
    """The random seed of one step; distinct for all (seed < 2**20, step < 2**31)."""
    return seed * 2**31 + step


def save_atomically(state: dict, path: Path) -> None:
    """``torch.save`` to a temporary file beside ``path``, flushed to disk, then renamed over it.

    Raises OSError in one sentence, on a full disk for instance; what was at ``path`` stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = "the last one is kept" if path.exists() else "there is none yet"
    failures = (OSError, RuntimeError)  # torch's writer reports a full disk as either
    with replacing(path, failures, f"free some space; {kept}") as temporary, open(temporary, "wb") as file:
        torch.save(state, file)


def fit(
    objective: nn.Module,
    optimisers: Optimisers | dict[str, Optimisers],
    batch_at: BatchAt,
    steps: int,
    *,
    seed: int = 0,
    schedule: Callable[[int, int], float] = warmup_linear,
    clip: float | None = 1.0,
    track: Track = SILENT,
    accumulate: int = 1,
    accelerator: "Accelerator | None" = None,
) -> list[dict]:
    """Train ``objective`` and return the history, one dict of floats a step.

    Args:
        optimisers: one, or several that share the gradient; for networks that take turns {turn: such}, and in each
            step every turn is taken once, in order ("generator" then "discriminator" for the image generator).
        batch_at: ``(step, generator) -> batch``, a dict of tensors; must depend on nothing else.
        clip: largest gradient norm, or None.
        accumulate: take each batch in so many parts, one after another, for its gradient; saves memory. Parts weigh
            alike, whatever they mask.
        accelerator: see :func:`accelerate`; with several processes each takes its share of every batch.

    Raises ValueError in one sentence for a checkpoint that is damaged, was made from something else, or that another
    process writes.
    """
    check_number("seed", seed, 0, 2**32 - 1)
    check_number("steps", steps, 0)
    accelerator, path = accelerator or accelerate(), None if track.checkpoint is None else Path(track.checkpoint)
    seed = int(seed)  # of numpy's, the step's would be cut off
    settings = {"seed": seed, "steps": steps, "schedule": schedule, "clip": clip, "accumulate": accumulate}
    origin = {} if path is None else origins.origin(**track.origin) | _origin(objective, optimisers, batch_at, settings)
    prepared, turns = _prepare(accelerator, objective, optimisers, accumulate)
    first, every = accelerator.is_main_process, [o for several in turns.values() for o in several]
    lock = only_writer(path) if path is not None and first else nullcontext()
    with lock, _rates(every) as rates:
        start, history = _resume(path, origin, objective, turns)
        prepared.train()
        saved = time.monotonic()
        for step, tell in _told(track, start, steps, first):
            batch = _batch(batch_at, step, seed, accelerator)
            values: dict = {"step": step}
            for group, rate in zip(_groups(every), rates, strict=True):
                group["lr"] = rate * schedule(step, steps)
            for turn, its_own in turns.items():
                found, handed = _turn(prepared, its_own, batch, turn, clip, accelerator, accumulate)
                values, batch = values | found, batch | handed
            history.append(values)
            tell(values)
            due = torch.tensor(float(time.monotonic() - saved > track.seconds), device=accelerator.device)
            if path is not None and (accelerator.reduce(due) > 0 or step == steps - 1):
                _save(path, origin, step + 1, objective, turns, history, first)
                saved = time.monotonic()
    objective.eval()
    return history


@contextmanager
def _rates(optimisers: list[torch.optim.Optimizer]) -> Generator[list[float]]:
    """The learning rates that schedules scale; afterwards they are as they were, for a cell that is run again."""
    rates = [group["lr"] for group in _groups(optimisers)]
    try:
        yield rates
    finally:
        for group, rate in zip(_groups(optimisers), rates, strict=True):
            group["lr"] = rate


def _told(track: Track, start: int, steps: int, first: bool) -> Iterator[tuple[int, Callable[[dict], None]]]:
    """The steps to be taken, each with a function that takes its numbers to the log, the caller and the bar."""
    write = _logger(track.log if first else None, start)
    silent = track.progress is None or not first
    bar = tqdm(range(start, steps), desc=track.progress, disable=silent, initial=start, total=steps)

    def tell(values: dict) -> None:
        """Hand on the numbers of the step that was taken."""
        write(values)
        if track.on_step is not None:
            track.on_step(values["step"], values)
        if not silent and values["step"] % 10 == 0:
            bar.set_postfix({k: f"{v:.3f}" for k, v in values.items() if k != "step"}, refresh=False)

    yield from ((step, tell) for step in bar)


def _origin(objective: nn.Module, optimisers: Optimisers | dict, batch_at: BatchAt, settings: dict) -> dict:
    """What a run is made from, as far as it can be seen here: three batches stand for the data."""
    shapes = {name: list(value.shape) for name, value in objective.state_dict().items()}
    numbers = {k: v for k, v in vars(objective).items() if isinstance(v, origins.PLAIN) and k[0] != "_"}
    model = [repr(objective), shapes, {k: v for k, v in numbers.items() if k != "training"}]
    taken = optimisers if isinstance(optimisers, dict) else {ONLY: optimisers}
    rules = {turn: [_rule(optimiser) for optimiser in _several(those)] for turn, those in taken.items()}
    drawn = [_drawn(batch_at, step) for step in range(PROBES)]
    data = [[[name, origins.mark(batch[name])] for name in sorted(batch)] for batch in drawn]
    settings = settings | {"schedule": getattr(settings["schedule"], "__name__", "")}
    return settings | {"model": origins.mark(model), "optimiser": rules, "data": data}


def _rule(optimiser: torch.optim.Optimizer) -> list:
    groups = [{k: v for k, v in group.items() if k != "params"} for group in optimiser.param_groups]
    return [type(optimiser).__name__, [origins.mark(group) for group in groups]]


def _drawn(batch_at: BatchAt, step: int) -> dict:
    """A step's batch with the seed 0, looked at without a trace."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(step)
        return batch_at(step, torch.Generator().manual_seed(step))


def accelerate() -> "Accelerator":
    """The accelerator that ``accelerate launch`` (or ``notebook_launcher``) asks for; bf16 on a GPU.

    Heads take turns, so some parameters have no gradient in a step: DDP is told so.
    Raises ValueError for FSDP's first version, whose weights cannot be collected into one checkpoint here.
    """
    spread = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if spread and os.environ.get("FSDP_VERSION", "1") != "2":
        raise ValueError("FSDP's first version is not supported: add --fsdp_version 2 to accelerate launch.")
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs

    precision = os.environ.get("ACCELERATE_MIXED_PRECISION") or ("bf16" if torch.cuda.is_available() else "no")
    kwargs = [DistributedDataParallelKwargs(find_unused_parameters=True)]
    return Accelerator(mixed_precision=precision, kwargs_handlers=kwargs)


def _prepare(accelerator, objective, optimisers, accumulate) -> tuple[nn.Module, dict[str, list]]:
    """All at once, so that FSDP finds each optimiser's parameters in the model that it spreads."""
    optimisers = optimisers if isinstance(optimisers, dict) else {ONLY: optimisers}
    if accumulate > 1 and len(optimisers) > 1:
        raise ValueError("Networks that take turns read one batch: accumulate=1 is all that they can do.")
    given = [o for several in optimisers.values() for o in _several(several)]
    prepared, *ready = accelerator.prepare(objective, *given)
    ready = iter(ready)
    return prepared, {turn: [next(ready) for _ in _several(several)] for turn, several in optimisers.items()}


def _batch(batch_at: BatchAt, step: int, seed: int, accelerator) -> dict:
    """This process's share of the step's batch; whatever the model draws follows from the step, too."""
    torch.manual_seed(step_seed(seed, step) + RANKS * accelerator.process_index)  # each its own dropout
    generator = torch.Generator().manual_seed(step_seed(seed, step))
    batch = share(batch_at(step, generator), accelerator.process_index, accelerator.num_processes)
    return to_device(batch, accelerator.device)


def to_device(batch: dict, device: torch.device) -> dict:
    """A batch with its tensors on ``device``."""
    return {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}


def _several(optimisers: Optimisers) -> list[torch.optim.Optimizer]:
    return [optimisers] if isinstance(optimisers, torch.optim.Optimizer) else list(optimisers)


def _groups(optimisers: list[torch.optim.Optimizer]) -> list[dict]:
    return [group for optimiser in optimisers for group in optimiser.param_groups]


def _logger(folder, start) -> Callable[[dict], None]:
    """Writes each step's numbers for TensorBoard; what a killed run wrote after its last checkpoint is overwritten."""
    if folder is None:
        return lambda values: None
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder), purge_step=start)

    def write(values: dict) -> None:
        for name, value in values.items():
            if name != "step":
                writer.add_scalar(name, value, values["step"])

    return write


def _turn(objective, optimisers, batch, turn, clip, accelerator, accumulate) -> tuple[dict, dict]:
    """-> (the turn's numbers, tensors for the batch of the next turn)."""
    named = () if turn == ONLY else (turn,)
    for optimiser in optimisers:
        optimiser.zero_grad(set_to_none=True)
    found: dict[str, list[float]] = {}
    for part in range(accumulate):
        last = part == accumulate - 1
        with nullcontext() if last else accelerator.no_sync(objective):
            loss, values, *handed = objective(share(batch, part, accumulate), *named)
            if not torch.isfinite(loss):
                raise FloatingPointError(
                    f"The loss of the {turn!r} turn became {loss.item()}; lower the learning rate or look at this "
                    "step's batch."
                )
            accelerator.backward(loss / accumulate)
        for name, value in accelerator.reduce(_tensors(values, accelerator.device), "mean").items():
            found.setdefault(name, []).append(float(value))
    if clip is not None:
        accelerator.clip_grad_norm_([p for g in _groups(optimisers) for p in g["params"]], clip)
    for optimiser in optimisers:
        optimiser.step()
    numbers = {name: sum(parts) / len(parts) for name, parts in found.items()}  # a part may lack a number
    return numbers, handed[0] if handed else {}


def _tensors(values: dict, device) -> dict:
    return {k: torch.as_tensor(v, dtype=torch.float32, device=device).detach().clone() for k, v in values.items()}


def _save(path, origin, step, objective, optimisers, history, first) -> None:
    """Every process helps to collect the state, the first one writes it."""
    state = {"origin": origin, "step": step, "history": history, "optimisers": {}}
    for turn, several in optimisers.items():
        if is_spread(objective):
            from torch.distributed.checkpoint.state_dict import get_state_dict

            state["objective"], state["optimisers"][turn] = get_state_dict(objective, _bare(several), options=whole())
        else:
            state["objective"], state["optimisers"][turn] = objective.state_dict(), [o.state_dict() for o in several]
    if first:
        save_atomically(state, path)


def _resume(path, origin, objective, optimisers) -> tuple[int, list[dict]]:
    if path is None or not path.exists():
        return 0, []
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # what a damaged pickle raises can be of any kind
        raise ValueError(f"The checkpoint {path} is damaged: remove it to start anew.") from error
    if not isinstance(state, dict) or not {"step", "history", "objective", "optimisers"} <= state.keys():
        raise ValueError(f"{path} is no checkpoint of a training: remove it to start anew.")
    origins.check(path, state.get("origin"), origin)
    try:
        for turn, several in optimisers.items():
            found = state["optimisers"][turn]
            if is_spread(objective):
                from torch.distributed.checkpoint.state_dict import set_state_dict

                set_state_dict(objective, _bare(several), model_state_dict=state["objective"], optim_state_dict=found,
                               options=whole())  # fmt: skip
                continue
            objective.load_state_dict(state["objective"])
            for optimiser, its_own in zip(several, found, strict=True):
                optimiser.load_state_dict(its_own)
    except (RuntimeError, KeyError, ValueError) as error:
        raise ValueError(f"{path} holds the progress of another model: remove it to start anew.") from error
    return state["step"], state["history"]


def _bare(optimisers) -> list[torch.optim.Optimizer]:
    return [getattr(o, "optimizer", o) for o in optimisers]
