"""What a checkpoint was made from: nothing goes on that has become something else.

An origin names parts (data, answers, configuration, seed) and has a short mark of each. It is kept with the progress
and compared before anything goes on. Marks are cheap, and see no more than they look at: text and whole numbers are
digested, of floating-point numbers some are kept, which may differ by rounding as another number of threads has it;
of a data set a few batches stand for all, of stored features a few rows.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xlxmert_core.data.files import read_json
from xlxmert_core.data.store import FeatureStore
from xlxmert_core.files import NO_ARRAYS, fingerprint, replacing, why, write_json
from xlxmert_core.text import outside

ADOPT = "XLXMERT_ADOPT"  # the setting with which progress of unknown origin is taken over
SOME = 64  # numbers of an array that are kept
CLOSE = 1e-3  # of the largest of them: so far apart may two of them be
PLAIN = (str, int, float, bool, type(None))


class OriginError(ValueError):
    """Progress that was made from something else; the message says what differs, where and what to do."""


@cache
def code() -> str:
    """The version of this package, with a fingerprint of its sources."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(fingerprint(path).encode())
    return f"{digest.hexdigest()[:8]} with torch {torch.__version__}"


def origin(**parts: Any) -> dict:
    """The marks of all parts, and the version of the code; plain values that JSON holds."""
    return {"code": code()} | {name: mark(value) for name, value in parts.items()}


def mark(value: Any) -> Any:
    """A short, plain stand-in for a value: of arrays a sample, of weights a sample's digest, a short text itself."""
    if isinstance(value, nn.Module):
        return _digest([(name, list(part.shape), _some(part)) for name, part in value.state_dict().items()])
    if isinstance(value, Tensor):
        value = value.detach().cpu().float().numpy() if value.is_floating_point() else value.cpu().numpy()
    if isinstance(value, np.ndarray | np.generic):
        return _array(np.asarray(value))
    if isinstance(value, Mapping):
        return {str(name): mark(part) for name, part in value.items()}
    if isinstance(value, PLAIN) and len(str(value)) <= 40:
        return value
    return _digest(asdict(value) if is_dataclass(value) and not isinstance(value, type) else value)


def _array(array: np.ndarray) -> list:
    """[type and shape, digest or some numbers]."""
    kind = f"{array.dtype.kind} {list(array.shape)}"
    if array.dtype.kind != "f":
        return [kind, hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]]
    return [kind, _some(torch.from_numpy(np.ascontiguousarray(array)))]


def _some(tensor: Tensor) -> list[float]:
    """Some numbers of a tensor, evenly apart."""
    flat = tensor.detach().reshape(-1)
    return flat[:: max(1, -(-len(flat) // SOME))].double().tolist()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def agree(one: Any, other: Any) -> bool:
    """Whether two marks stand for the same: mappings where both have a name, numbers up to rounding."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return all(agree(one[name], other[name]) for name in one.keys() & other.keys())
    if isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            return False
        if one and all(isinstance(x, float) for x in (*one, *other)):
            a, b = np.array(one), np.array(other)
            finite = np.abs(np.concatenate([a, b])[np.isfinite(np.concatenate([a, b]))])
            return bool(np.allclose(a, b, rtol=0, atol=CLOSE * finite.max(initial=0), equal_nan=True))
        return all(map(agree, one, other))
    return one == other


def check(place: str | os.PathLike, found: Mapping | None, wanted: Mapping) -> None:
    """Let progress at ``place`` go on only if it was made from what is wanted now; another version of the code is said.

    Args:
        found: its origin; None when it has none, as an older version of this package left it.

    Raises :class:`OriginError` in one sentence.
    """
    if not found:
        if os.environ.get(ADOPT, "0") in ("", "0"):
            raise OriginError(
                f"{place} does not say what it was made from, as older versions left it: remove it to begin anew, "
                f"or set {ADOPT}=1 to go on with it all the same."
            )
        return
    parts = sorted((found.keys() | wanted.keys()) - {"code"})
    differing = [_said(name, found, wanted) for name in parts if not _same(name, found, wanted)]
    if differing:
        raise OriginError(
            f"{place} holds the progress of something else ({', '.join(differing)}): name another place, "
            "or remove it to begin anew."
        )
    if found.get("code") != wanted.get("code"):
        message = f"{place} was begun by another version of the code ({found.get('code')}, now {wanted.get('code')})."
        warnings.warn(message, stacklevel=outside())


def write_arrays(path: str | os.PathLike, made_from: Mapping, **arrays: Any) -> None:
    """Keep arrays as an .npz file that knows its origin, all or nothing."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays, origin=json.dumps(made_from))


def read_arrays(path: str | os.PathLike, what: str = "file of arrays") -> tuple[dict[str, np.ndarray], Mapping | None]:
    """What :func:`write_arrays` kept, and its origin, still to be checked; None where there is none.

    Raises ValueError in one sentence, which says that it is no ``what``, for a damaged file.
    """
    try:
        with np.load(path) as saved:
            arrays = dict(saved)
        found = arrays.pop("origin", None)
        return arrays, None if found is None else json.loads(str(found))
    except NO_ARRAYS as error:
        raise ValueError(f"{path} is no {what} ({why(error)}): remove it.") from error


def sign(store: FeatureStore, **parts: Any) -> None:
    """Write into the folder of an empty store what its features are made from; check one that holds some."""
    path, wanted = store.folder / "origin.json", origin(**parts)
    if len(store):
        check(store.folder, read_json(path) if path.exists() else None, wanted)
    else:
        write_json(path, wanted)


def _same(name: str, found: Mapping, wanted: Mapping) -> bool:
    return name in found and name in wanted and agree(found[name], wanted[name])


def _said(name: str, found: Mapping, wanted: Mapping) -> str:
    """A part that differs, with both values where they are numbers."""
    values = [side.get(name) for side in (found, wanted)]
    if all(isinstance(value, int | float) for value in values):
        return f"{name} {values[0]} there, {values[1]} here"
    return f"other {name}"
