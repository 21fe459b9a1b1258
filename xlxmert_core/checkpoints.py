"""Weights in and out: our own safetensors files, and the tensors of anybody's file.

foreign/ gives others' tensors our names. Nothing is loaded in silence: a key that is missing, unexpected, of another
shape or type, or not finite is named. Files are read, never executed: safetensors, or ``torch.load`` with
``weights_only=True``.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from xlxmert_core.data.arrays import in_parts, whole
from xlxmert_core.data.packing import filled_in, left_out, narrowed, widened
from xlxmert_core.files import replacing, some, why

Built = TypeVar("Built", bound=nn.Module)


def save(module: nn.Module, path: str | os.PathLike, bits: int = 32,
         others: Mapping[str, Tensor] | None = None) -> None:  # fmt: skip
    """Write a module's weights to a safetensors file, all or nothing.

    The module's ``config``, when it is a dataclass, goes into the file (:func:`read_config`). Raises OSError in one
    sentence, on a full disk for instance; what was at ``path`` stays.

    Args:
        bits: 32 as they are, 16 for float16, or 8 (:mod:`~xlxmert_core.data.packing` says how).
        others: weights by name that another file keeps; of those that are equal here none is kept.
    """
    path, config = Path(path), getattr(module, "config", None)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = narrowed(in_parts(left_out(module.state_dict(), others or {}), config), bits)
    metadata = {"config": json.dumps(asdict(config) if is_dataclass(config) else {})}
    with replacing(path, (OSError, SafetensorError)) as temporary:
        save_file(state, temporary, metadata)


def read(path: str | os.PathLike) -> dict[str, Tensor]:
    """All tensors of a weight file, on the CPU, by their names in the file.

    ``*.safetensors`` or ``torch.save``'s. Raises FileNotFoundError, or ValueError where it is damaged or holds more.
    """
    path = _existing(path)
    try:
        if path.suffix == ".safetensors":
            return whole(widened(load_file(path)))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # what a damaged pickle raises can be of any kind
        raise ValueError(
            f"{path} is not a file of plain weights (it is damaged, or asks to run code); "
            "fetch it again or have it saved as safetensors."
        ) from error
    named = isinstance(state, Mapping) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())
    if not named:
        raise ValueError(f"{path} does not hold tensors by name; save its bare state_dict.")
    return dict(state)


def read_config(path: str | os.PathLike) -> dict:
    """The ``config`` of the module that :func:`save` wrote to this file; empty if it had none."""
    path = _existing(path)
    try:
        with safe_open(path, "pt") as file:
            return json.loads((file.metadata() or {}).get("config", "{}"))
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is no safetensors file; give one that save() wrote.") from error


def build(path: Path, make: Callable[[], Built], weights: Path, others: Mapping[str, Tensor] | None = None) -> Built:
    """The module that the file ``path`` describes, filled with weights; raises ValueError in one sentence.

    ``others`` are those that :func:`save` was given.

    It is first made without memory, so that sizes that are not those of the weights are refused before they are taken.
    """
    state = filled_in(read(weights), others or {})
    try:
        with torch.device("meta"):
            sketch = make()
    except Exception as error:  # torch says what it likes of sizes that cannot be
        raise ValueError(f"{path} describes nothing that can be made ({why(error)}): save the model again.") from error
    _refuse(sketch, state, (), str(weights))
    module = make()
    load_state(module, state, source=str(weights))
    return module


def _existing(path: str | os.PathLike) -> Path:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is not there; give the file that holds the weights.")
    return Path(path)


def load(module: nn.Module, path: str | os.PathLike) -> None:
    """Fill a module from a file that :func:`save` wrote; every key and shape must agree."""
    load_state(module, read(path), source=str(path))


def load_state(
    module: nn.Module, state: Mapping[str, Tensor], optional: Sequence[str] = (), source: str = "it"
) -> None:
    """Fill a module from tensors by name.

    Args:
        state: one tensor for each of the module's own names; converted to the module's dtype.
        optional: beginnings of names that may be missing and then keep their present values.
        source: where the state comes from, for the error message.

    Raises ValueError naming every kind of disagreement; the module is then unchanged.
    """
    _refuse(module, state, optional, source)
    module.load_state_dict(module.state_dict() | dict(state))


def _refuse(module: nn.Module, state: Mapping[str, Tensor], optional: Sequence[str], source: str) -> None:
    own = module.state_dict()
    both = [(k, (state[k], own[k])) for k in own if k in state]
    problems = {
        "missing": [k for k in own if k not in state and not k.startswith(tuple(optional))],
        "unexpected": [k for k in state if k not in own],
        "wrong shape": [f"{k} {list(a.shape)} instead of {list(b.shape)}" for k, (a, b) in both if a.shape != b.shape],
        "wrong type": [f"{k} {a.dtype} instead of {b.dtype}" for k, (a, b) in both if _kind(a) != _kind(b)],
        "NaN or infinite": [k for k in own if k in state and not bool(state[k].isfinite().all())],
    }
    if found := "; ".join(f"{kind}: {some(names)}" for kind, names in problems.items() if names):
        raise ValueError(
            f"The weights of {source} do not fit {type(module).__name__} ({found}); "
            "build it with the configuration that they were made with."
        )


def _kind(tensor: Tensor) -> tuple[bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex()
