"""A pipeline of what the chapters left: the parts of 02, 03, 05 and 06, put together."""

from xlxmert_core import checkpoints
from xlxmert_core.chapters.artifacts import Artifacts
from xlxmert_core.config import ModelConfig
from xlxmert_core.data.files import read_json
from xlxmert_core.datasets.profiles import Profile
from xlxmert_core.features import GridEncoder
from xlxmert_core.generator import Generator, conv
from xlxmert_core.model import XLxmert
from xlxmert_core.pipeline import Pipeline
from xlxmert_core.text import Tokenizer


def assemble(files: Artifacts, run: Profile) -> Pipeline:
    """Put the parts that chapters 02, 03, 05 and 06 left in ``files`` together.

    Raises MissingArtifactError naming the chapter to run.
    """
    return Pipeline(*from_chapters(files, run))


def from_chapters(files: Artifacts, run: Profile) -> tuple:
    """The parts that chapters 02, 03, 05 and 06 left, in the order of Pipeline's arguments.

    Raises MissingArtifactError naming the chapter to run.
    """
    manifest = read_json(files.manifest("transformer.safetensors"))
    config = checkpoints.read_config(files.require("transformer.safetensors"))
    model, generator = XLxmert(ModelConfig(**config)), Generator(run.generator, conv)
    settings = read_json(files.manifest("encoder.safetensors"))["inputs"]
    colour_dim = settings.get("colour_dim", 0)
    encoder = GridEncoder(run.model.feature_dim, settings["labels"], colour_dim, imagenet=False, small=run.small_eye)
    modules = {"transformer": model, "generator": generator, "encoder": encoder}
    paths = {name: files.require(f"{name}.safetensors") for name in modules}
    for name, module in modules.items():
        checkpoints.load(module, paths[name])
    return model, Tokenizer.load(files.path("tokenizer.json")), generator, encoder, manifest["inputs"]["answers"]
