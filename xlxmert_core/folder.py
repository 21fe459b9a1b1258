"""The parts of a pipeline in a folder: written, and read again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from torch import nn

from xlxmert_core import checkpoints
from xlxmert_core.config import GeneratorConfig, ModelConfig
from xlxmert_core.features import GridEncoder
from xlxmert_core.files import write_json
from xlxmert_core.generator import Generator, fold_spectral_norm
from xlxmert_core.model import XLxmert
from xlxmert_core.skills import NAMES, Skill
from xlxmert_core.text import Tokenizer

SHIPPED = Path(__file__).parent / "weights"
PARTS = ("transformer.safetensors", "generator.safetensors", "encoder.safetensors", "tokenizer.json", "config.json")
EYE = ("feature_dim", "labels", "colour_dim", "small")  # what a GridEncoder is built with


def write_folder(folder: Path, half: bool, model: XLxmert, tokenizer: Tokenizer, generator: Generator | None,
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
            checkpoints.save(module, folder / f"{name}.safetensors", half=half)
    for name in NAMES:
        if name in skills:
            skills[name].save(folder / name, half)
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
    """What :func:`write_folder` wrote, in the order of Pipeline's arguments; raises FileNotFoundError."""
    config = json.loads((folder / "config.json").read_text()) if (folder / "config.json").is_file() else {}
    absent = [f"{name}.safetensors" for name in ("generator", "encoder") if config.get(name, "there") is None]
    if missing := [part for part in PARTS if part not in absent and not (folder / part).is_file()]:
        raise FileNotFoundError(f"{folder} is not a saved pipeline: it has no {', '.join(missing)}.")
    model, generator, encoder = XLxmert(ModelConfig(**config["model"])), None, None
    if settings := config["generator"]:
        settings |= {"channels": tuple(settings["channels"])}
        generator = fold_spectral_norm(Generator(GeneratorConfig(**settings)))
    if config["encoder"]:
        encoder = GridEncoder(**config["encoder"], imagenet=False)
    paths = {name: folder / f"{name}.safetensors" for name in ("transformer", "generator", "encoder")}
    _fill({"transformer": model, "generator": generator, "encoder": encoder}, paths)
    skills = {name: Skill.load(folder / name) for name in NAMES if Skill.is_in(folder / name)}
    return model, Tokenizer.load(folder / "tokenizer.json"), generator, encoder, config["answers"], skills


def _fill(modules: Mapping[str, nn.Module | None], paths: Mapping[str, Path]) -> None:
    for name, module in modules.items():
        if module is not None:
            checkpoints.load(module, paths[name])
