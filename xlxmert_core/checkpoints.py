"""Weights in and out: our own safetensors files, the JSON beside them, and the tensors of anybody's file.

foreign/ gives others' tensors our names. Nothing is loaded in silence: a key that is missing, unexpected, of another
shape or type, or not finite is named. Files are read, never executed: safetensors, or ``torch.load`` with
``weights_only=True``.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from xlxmert_core.config import GeneratorConfig, ModelConfig
from xlxmert_core.data.arrays import in_parts, whole
from xlxmert_core.data.files import read_json
from xlxmert_core.files import replacing, why

LARGEST = 2**24  # of any size in a file
LATER = ("neighbours", "squash")  # sizes that files written before there were any lack: the default is what they mean
WIDEST = 1024  # of a grid, which no weight may show: its cells' boxes are made anew
Sized = TypeVar("Sized", ModelConfig, GeneratorConfig)
Built = TypeVar("Built", bound=nn.Module)


def save(module: nn.Module, path: str | os.PathLike, half: bool = False) -> None:
    """Write a module's weights to a safetensors file, all or nothing.

    The module's ``config``, when it is a dataclass, goes into the file (:func:`read_config`). Raises OSError in one
    sentence, on a full disk for instance; what was at ``path`` stays.

    Args:
        half: store floating-point weights as float16, in half the space.
    """
    path, config = Path(path), getattr(module, "config", None)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: _stored(value, half) for name, value in in_parts(module.state_dict(), config).items()}
    metadata = {"config": json.dumps(asdict(config) if is_dataclass(config) else {})}
    with replacing(path, (OSError, SafetensorError)) as temporary:
        save_file(state, temporary, metadata)


def _stored(value: Tensor, half: bool) -> Tensor:
    value = value.detach().cpu()
    return (value.half() if half and value.is_floating_point() else value).contiguous()


def read(path: str | os.PathLike) -> dict[str, Tensor]:
    """All tensors of a weight file, on the CPU, by their names in the file.

    ``*.safetensors`` or ``torch.save``'s. Raises FileNotFoundError, or ValueError where it is damaged or holds more.
    """
    path = _existing(path)
    try:
        if path.suffix == ".safetensors":
            return whole(load_file(path))
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


def read_settings(path: Path, *names: str) -> dict:
    """The JSON object of a saved model, with exactly these names; raises ValueError in one sentence."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise ValueError(f"{path} is no JSON object: save the model again.")
    _same_names(path, "", found, names)
    if not (isinstance(found["answers"], list) and all(isinstance(answer, str) for answer in found["answers"])):
        raise ValueError(f"{path} has answers that are no list of texts: save the model again.")
    return found


def described(path: Path, name: str, settings: object, kind: type[Sized]) -> Sized:
    """A dataclass of sizes from the JSON object ``name`` of a file; raises ValueError in one sentence."""
    if not isinstance(settings, dict):
        raise ValueError(f"{path} has no object {name!r}: save the model again.")
    wanted = {field.name: field.default for field in fields(kind)}
    settings = {key: wanted[key] for key in LATER if key in wanted} | settings
    _same_names(path, f"{name}.", settings, tuple(wanted))
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    wrong = [k for k, v in given.items() if not _is_like(v, wanted[k]) or (k == "grid" and v > WIDEST)]
    if wrong:
        raise ValueError(f"{path} has {name}.{wrong[0]} = {settings[wrong[0]]!r}, which is no size: save it again.")
    try:
        return kind(**given)
    except (ValueError, ArithmeticError) as error:
        raise ValueError(f"{path} describes no model: {why(error)}") from error


def _same_names(path: Path, place: str, found: Mapping, names: Sequence[str]) -> None:
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"{path} lacks {place}{some(missing)}: save the model again.")
    if unknown := [name for name in found if name not in names]:
        raise ValueError(
            f"{path} has {place}{some(unknown)}, which this version of xlxmert_core does not know: "
            "open it with the newer one that saved it."
        )


def _is_like(value: object, default: object) -> bool:
    """Whether a value is of a setting's type and can be a size."""
    if isinstance(default, tuple):
        return isinstance(value, tuple) and 2 <= len(value) <= 16 and all(_is_like(x, 0) and x for x in value)
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= LARGEST and (isinstance(default, float) or isinstance(value, int))


def build(path: Path, make: Callable[[], Built], weights: Path) -> Built:
    """The module that the file ``path`` describes, filled with weights; raises ValueError in one sentence.

    It is first made without memory, so that sizes that are not those of the weights are refused before they are taken.
    """
    state = read(weights)
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


def some(names: Sequence[str], most: int = 8) -> str:
    """Names as a sentence tells them: the first few, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
