"""The JSON beside a model's weights: an object with exactly the names that are wanted, and sizes that can be.

Everything raises ValueError in one sentence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, cast

from xlxmert_core.data.files import read_json
from xlxmert_core.files import some, why

LARGEST = 2**24  # of any size in a file
# Sizes that files written before there were any lack: the default is what they mean.
LATER = ("neighbours", "squash", "single_layers")
WIDEST = 1024  # of a grid, which no weight may show: its cells' boxes are made anew
Sized = TypeVar("Sized")


def read_settings(path: Path, *names: str, **later: object) -> dict:
    """The JSON object of a saved model, with exactly these names; raises ValueError in one sentence.

    ``later``: names that files written before there were any lack, with what they mean then.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise ValueError(f"{path} is no JSON object: save the model again.")
    found = later | found
    _same_names(path, "", found, (*names, *later))
    if not (isinstance(found["answers"], list) and all(isinstance(answer, str) for answer in found["answers"])):
        raise ValueError(f"{path} has answers that are no list of texts: save the model again.")
    return found


def described(path: Path, name: str, settings: object, kind: type[Sized]) -> Sized:
    """A dataclass of sizes from the JSON object ``name`` of a file; raises ValueError in one sentence."""
    if not isinstance(settings, dict):
        raise ValueError(f"{path} has no object {name!r}: save the model again.")
    wanted = {field.name: field.default for field in fields(cast("Any", kind))}
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
