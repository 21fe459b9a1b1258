"""The parts of a pipeline in a folder: found by its name, written, and read again."""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from torch import nn

from xlxmert_core import checkpoints
from xlxmert_core.config import GeneratorConfig
from xlxmert_core.data.settings import described, read_settings
from xlxmert_core.features import GridEncoder
from xlxmert_core.files import write_json
from xlxmert_core.generator import Generator, conv
from xlxmert_core.model import XLxmert
from xlxmert_core.skills import NAMES, Skill, open_model, open_words
from xlxmert_core.text import Tokenizer, outside

SHIPPED = Path(__file__).parent / "weights"
PARTS = ("transformer.safetensors", "generator.safetensors", "encoder.safetensors", "tokenizer.json", "config.json")
AUTHORS = "the authors' Epoch20_LXRT.pth and G_60.pth open, too, and chapter 12 says where they come from"
EYE = ("feature_dim", "labels", "colour_dim", "small")  # what a GridEncoder is built with


def find_folder(name_or_path: str | os.PathLike) -> Path:
    """The folder of a saved pipeline: one that is there and holds a model, or else shipped weights of that bare name.

    A folder holds a model when its config.json is there. A Path, or a text with a slash, never stands for shipped
    weights. Where a name means a folder and shipped weights, a warning says which was taken.
    """
    text = os.fspath(name_or_path)
    folder, shipped = Path(text).expanduser(), SHIPPED / text
    bare = isinstance(name_or_path, str) and text not in ("", ".", "..") and Path(text).name == text
    if not (bare and _holds_model(shipped)):
        return folder
    if _holds_model(folder):
        message = (
            f"{text!r} is a folder here and shipped weights: the folder was opened; remove it to open the weights."
        )
        warnings.warn(message, stacklevel=outside())
        return folder
    if any((folder / part).is_file() for part in PARTS):
        message = f"The folder {text!r} has no config.json: the shipped weights of that name were opened."
        warnings.warn(message, stacklevel=outside())
    return shipped


def _holds_model(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def shipped_names() -> list[str]:
    """The names that stand for shipped weights."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/config.json"))


def write_folder(folder: Path, bits: int, model: XLxmert, tokenizer: Tokenizer, generator: Generator | None,
                 encoder: nn.Module | None, answers: Sequence[str], skills: Mapping[str, Skill]) -> None:  # fmt: skip
    """Write all parts that a pipeline has, and remove those of an earlier save that it has not.

    Raises ValueError for an eye that is not the book's, OSError in one sentence when the disk is full, for instance.
    """
    if not isinstance(encoder, GridEncoder | None):
        raise ValueError(f"Only the book's GridEncoder can be saved, not {type(encoder).__name__}: set encoder=None.")
    folder.mkdir(parents=True, exist_ok=True)
    for name, module in {"transformer": model, "generator": generator, "encoder": encoder}.items():
        if module is None:
            (folder / f"{name}.safetensors").unlink(missing_ok=True)
        else:
            checkpoints.save(module, folder / f"{name}.safetensors", bits)
    for name in NAMES:
        if name in skills:
            skills[name].save(folder / name, bits, model)
        else:
            Skill.remove(folder / name)
    tokenizer.save(folder / "tokenizer.json")
    config = {
        "model": asdict(model.config),
        "generator": None if generator is None else asdict(generator.config),
        "encoder": None if encoder is None else {name: getattr(encoder, name) for name in EYE},
        "answers": list(answers),
    }
    write_json(folder / "config.json", config)


def open_folder(folder: Path) -> tuple:
    """What :func:`write_folder` wrote, in the order of Pipeline's arguments.

    Raises FileNotFoundError for missing files, ValueError naming the file that is damaged.
    """
    path = folder / "config.json"
    if not path.is_file():
        missing = ", ".join(part for part in PARTS if not (folder / part).is_file())
        known = f"shipped weights are {', '.join(map(repr, shipped_names()))}; {AUTHORS}"
        raise FileNotFoundError(f"{folder} is not a saved pipeline: it has no {missing}; {known}.")
    config = read_settings(path, "model", "generator", "encoder", "answers")
    absent = [f"{name}.safetensors" for name in ("generator", "encoder") if config[name] is None]
    if missing := [part for part in PARTS if part not in absent and not (folder / part).is_file()]:
        raise FileNotFoundError(f"{folder} is not a saved pipeline: it has no {', '.join(missing)}.")
    model = open_model(path, config["model"], folder / "transformer.safetensors")
    words = open_words(folder / "tokenizer.json", model, config["answers"])
    generator, encoder = _generator(path, config), _encoder(path, config)
    width, grid = model.config.feature_dim, model.config.grid
    if generator and (generator.config.feature_dim, generator.config.grid) != (width, grid):
        raise ValueError(f"{path} describes a generator that does not fit its model: save the model again.")
    if encoder and encoder.feature_dim != width:
        raise ValueError(f"{path} describes an eye that does not fit its model: save the model again.")
    skills = {name: Skill.load(folder / name) for name in NAMES if Skill.is_in(folder / name)}
    return model, words, generator, encoder, config["answers"], skills


def _generator(path: Path, config: Mapping) -> Generator | None:
    if config["generator"] is None:
        return None
    sizes = described(path, "generator", config["generator"], GeneratorConfig)
    weights = path.with_name("generator.safetensors")
    return checkpoints.build(path, lambda: Generator(sizes, conv), weights)


def _encoder(path: Path, config: Mapping) -> GridEncoder | None:
    settings = config["encoder"]
    if settings is None:
        return None
    weights = path.with_name("encoder.safetensors")
    return checkpoints.build(path, lambda: GridEncoder(**settings, imagenet=False), weights)
