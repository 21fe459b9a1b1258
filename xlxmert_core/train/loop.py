"""One fit loop for every model of the book, on Hugging Face Accelerate: one process or many.

A model is trained by an *objective*: an ``nn.Module`` whose ``forward(batch)`` returns a loss and a dict of numbers
worth plotting. Networks that are trained against each other take turns in each step: their objective is called as
``forward(batch, turn)`` and may return a third value, tensors that the batch of the step's next turn also holds.
Everything random in step ``i`` (the batch, the masks, dropout) is
derived from ``(seed, i)`` alone, so a run that was killed and resumed repeats the very same steps.
"""

import os
import pickle
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from tqdm.auto import tqdm

from xlxmert_core.files import replacing
from xlxmert_core.train.distributed import is_spread, share, whole
from xlxmert_core.train.optimisers import warmup_linear

if TYPE_CHECKING:
    from accelerate import Accelerator

RANKS = 2**52  # above every step_seed: the processes' seeds lie this far apart
BatchAt = Callable[[int, torch.Generator], dict]
Optimisers = torch.optim.Optimizer | Sequence[torch.optim.Optimizer]


@dataclass(frozen=True)
class Track:
    """Where a training keeps its progress and shows it.

    checkpoint: file to resume from if it exists, written every ``seconds`` and at the end; log: folder of a TensorBoard
    log; progress: title of the progress bar; on_step: called after each step with its number and its values. None for
    none of it.
    """

    checkpoint: str | os.PathLike | None = None
    log: str | os.PathLike | None = None
    progress: str | None = None
    seconds: float = 60.0
    on_step: Callable[[int, dict], None] | None = None


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
    """
    accelerator = accelerator or accelerate()
    prepared, turns = _prepare(accelerator, objective, optimisers, accumulate)
    first, every = accelerator.is_main_process, [o for several in turns.values() for o in several]
    rates = [group["lr"] for group in _groups(every)]
    path = Path(track.checkpoint) if track.checkpoint is not None else None
    start, history = _resume(path, objective, turns)
    prepared.train()
    write = _logger(track.log if first else None, start)
    saved = time.monotonic()
    silent = track.progress is None or not first
    for step in (bar := tqdm(range(start, steps), desc=track.progress, disable=silent, initial=start, total=steps)):
        batch = _batch(batch_at, step, seed, accelerator)
        values = {"step": step}
        for group, rate in zip(_groups(every), rates, strict=True):
            group["lr"] = rate * schedule(step, steps)
        for turn, its_own in turns.items():
            found, handed = _turn(prepared, its_own, batch, turn, clip, accelerator, accumulate)
            values, batch = values | found, batch | handed
        history.append(values)
        write(values)
        if track.on_step is not None:
            track.on_step(step, values)
        if not silent and step % 10 == 0:
            bar.set_postfix({k: f"{v:.3f}" for k, v in values.items() if k != "step"}, refresh=False)
        due = torch.tensor(float(time.monotonic() - saved > track.seconds), device=accelerator.device)
        if path is not None and (accelerator.reduce(due) > 0 or step == steps - 1):
            _save(path, step + 1, objective, turns, history, first)
            saved = time.monotonic()
    objective.eval()
    return history


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


def _save(path, step, objective, optimisers, history, first) -> None:
    """Every process helps to collect the state, the first one writes it."""
    state = {"step": step, "history": history, "optimisers": {}}
    for turn, several in optimisers.items():
        if is_spread(objective):
            from torch.distributed.checkpoint.state_dict import get_state_dict

            state["objective"], state["optimisers"][turn] = get_state_dict(objective, _bare(several), options=whole())
        else:
            state["objective"], state["optimisers"][turn] = objective.state_dict(), [o.state_dict() for o in several]
    if first:
        save_atomically(state, path)


def _resume(path, objective, optimisers) -> tuple[int, list[dict]]:
    if path is None or not path.exists():
        return 0, []
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"The checkpoint {path} is damaged ({error}): remove it to start anew.") from error
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
