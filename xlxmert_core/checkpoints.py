"""Weights in and out: our own safetensors files, and the tensors of anybody's file (foreign/ gives those our names).

Nothing is loaded in silence: a key that is missing, unexpected or of another shape is named. Files
are read, never executed: safetensors, or ``torch.load`` with ``weights_only=True``.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from xlxmert_core.files import replacing


def save(module: nn.Module, path: str | os.PathLike, half: bool = False) -> None:
    """Write a module's weights to a safetensors file, all or nothing.

    The module's ``config``, when it is a dataclass, goes into the file (:func:`read_config`). Raises OSError in one
    sentence, on a full disk for instance; what was at ``path`` stays.

    Args:
        half: store floating-point weights as float16, in half the space.
    """
    path, config = Path(path), getattr(module, "config", None)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: _stored(value, half) for name, value in module.state_dict().items()}
    metadata = {"config": json.dumps(asdict(config) if is_dataclass(config) else {})}
    with replacing(path, (OSError, SafetensorError)) as temporary:
        save_file(state, temporary, metadata)


def _stored(value: Tensor, half: bool) -> Tensor:
    value = value.detach().cpu()
    return (value.half() if half and value.is_floating_point() else value).contiguous()


def read(path: str | os.PathLike) -> dict[str, Tensor]:
    """All tensors of a weight file, on the CPU, by their names in the file.

    ``*.safetensors``, or a file of ``torch.save`` that holds tensors by name. Raises
    FileNotFoundError, or ValueError when the file is damaged or holds more than tensors.
    """
    path = _existing(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
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
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file; give one that save() wrote.") from error


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
    own = module.state_dict()
    shapes = [(k, list(state[k].shape), list(own[k].shape)) for k in own if k in state]
    problems = {
        "missing": [k for k in own if k not in state and not k.startswith(tuple(optional))],
        "unexpected": [k for k in state if k not in own],
        "wrong shape": [f"{k} {got} instead of {want}" for k, got, want in shapes if got != want],
        "NaN or infinite": [k for k in own if k in state and not bool(state[k].isfinite().all())],
    }
    found = "; ".join(f"{kind}: {some(names)}" for kind, names in problems.items() if names)
    if found:
        raise ValueError(
            f"The weights of {source} do not fit {type(module).__name__} ({found}); "
            "build it with the configuration that they were made with."
        )
    module.load_state_dict(own | dict(state))


def some(names: Sequence[str], most: int = 8) -> str:
    """Names as a sentence tells them: the first few, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
