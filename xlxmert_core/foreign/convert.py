"""Other people's weights under our names: the authors' .pth files, Hugging Face's LXMERT and BERT.

Every key is renamed by a table of ``names``, named as left out, or refused.
"""

import os
import re
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from xlxmert_core.checkpoints import load_state, read
from xlxmert_core.config import GeneratorConfig, ModelConfig
from xlxmert_core.files import some
from xlxmert_core.foreign.names import BERT_PARTS, GENERATOR, LEFT_OUT, LXMERT, NOISE, SINGLE
from xlxmert_core.model import XLxmert
from xlxmert_core.text import outside


def from_lxmert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of LXMERT or X-LXMERT (the authors' files or Hugging Face's) to ours.

    ``module.`` (many GPUs) and ``bert.`` or ``lxmert.`` may stand before the names, and LayerNorms
    may say gamma and beta. Tied copies must be equal and are kept once. LXMERT's heads for detector
    labels have no place here: they are left out with a warning. Raises ValueError naming unknown
    keys. What a file does not hold (answers, codes) is missing from the result: see ``optional`` of
    :func:`load_state`.
    """
    return _rename(state, _parameters(LXMERT) | SINGLE, "LXMERT")


def from_bert(state: Mapping[str, Tensor], layers: int = 9) -> dict[str, Tensor]:
    """Rename the weights of Hugging Face's BERT to ours, the language side: as :func:`from_lxmert`.

    BERT's next-sentence head becomes the matching head, whose name and shape it has in LXMERT too.

    Args:
        layers: the model's language layers; BERT's further ones are left out with a warning.
    """
    table = {name: to for name, to in (_parameters(LXMERT) | SINGLE).items() if name.startswith(BERT_PARTS)}
    numbers = {key: int(found[1]) for key in state if (found := re.search(r"encoder\.layer\.(\d+)\.", key))}
    beyond = {key: number for key, number in numbers.items() if number >= layers}
    if beyond:
        names = ", ".join(f"encoder.layer.{number}" for number in sorted(set(beyond.values())))
        warnings.warn(f"Left out {names} ({len(beyond)} tensors): the model has {layers} layers.", stacklevel=outside())
    return _rename({key: state[key] for key in state if key not in beyond}, table, "BERT")


def initialise_from_bert(model: XLxmert, path: str | os.PathLike) -> list[str]:
    """Start the language side from BERT, as the paper does: words, language layers, pooler and word head.

    A single stream starts its layers from BERT's, as UNITER does; those beyond BERT's last stay as they were.

    Args:
        path: bert-base-uncased as Hugging Face keeps it, ``model.safetensors`` or ``pytorch_model.bin``.

    Returns the names of the parameters that stay as they were. Raises ValueError when a size differs or a
    layer is missing; the model is then unchanged.
    """
    single = model.config.single_layers
    ours = from_bert(read(path), single or model.config.language_layers)
    if single:
        ours = {name.replace("encoder.language.", "encoder.single."): value for name, value in ours.items()}
    needed = ("word_embedding.", "encoder.single.0." if single else "encoder.language.")
    load_state(model, ours, [name for name in model.state_dict() if not name.startswith(needed)], str(path))
    return [name for name, _ in model.named_parameters() if name not in ours]


def _rename(state: Mapping[str, Tensor], table: Mapping[str, str], what: str) -> dict[str, Tensor]:
    ours: dict[str, Tensor] = {}
    unknown, left_out = [], {}  # keys; reason: keys
    for key, value in state.items():
        bare = re.sub(r"^(module\.)?((bert|lxmert)\.)?", "", key)
        name, number = _generic(bare)
        reason = next((why for pattern, why in LEFT_OUT.items() if re.fullmatch(pattern, bare)), None)
        if reason:
            left_out.setdefault(reason, []).append(key)
        elif name in table:
            _put(ours, table[name].replace("#", number), value, key)
        else:
            unknown.append(key)
    _refuse(unknown, what)
    if left_out:
        named = "; ".join(f"{some(keys)}: {why}" for why, keys in left_out.items())
        warnings.warn(f"Left out {named}.", stacklevel=outside())
    return ours


def _parameters(modules: Mapping[str, str]) -> dict[str, str]:
    return {f"{a}.{end}": f"{b}.{end}" for a, b in modules.items() for end in ("weight", "bias")}


def _generic(key: str) -> tuple[str, str]:
    """A key with its layer's number taken out: ("encoder.layer.#.output.dense.weight", "3")."""
    key = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", key)
    key = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", key)
    found = re.search(r"(?:layer|layers|resblocks|to_RGB_blocks)\.(\d+)\.", key)
    if not found:
        return key, ""
    return f"{key[: found.start(1)]}#{key[found.end(1) :]}", found[1]


def _put(ours: dict[str, Tensor], name: str, value: Tensor, key: str) -> None:
    if name in ours and not torch.equal(ours[name], value):
        raise ValueError(f"{key} differs from its tied copy ({name} here); the file is damaged.")
    ours[name] = value


def _refuse(unknown: Sequence[str], what: str) -> None:
    if unknown:
        raise ValueError(
            f"These weights are no {what} that this book knows: unexpected {some(unknown)}; "
            "give the bare state_dict of that model."
        )


def lxmert_config(ours: Mapping[str, Tensor], heads: int | None = None) -> ModelConfig:
    """The sizes that renamed weights imply (the authors' where they are silent: dropout, grid).

    Without centroids in the file, ``codes`` is 0. Raises ValueError when a weight that tells a size is missing.

    Args:
        ours: the result of :func:`from_lxmert`.
        heads: attention heads, which no shape tells; BERT's H / 64 when None.
    """
    paper = ModelConfig()
    tables = ("words", "positions", "types")
    _check_sizes(ours, *(f"word_embedding.{table}.weight" for table in tables), "cell_embedding.feature.weight")
    ends = ("centroids", "answer_head.3.weight", "feed_forward.expand.weight")
    _check_sizes(ours, *(name for name in ours if name.endswith(ends)))
    vocab_size, hidden = ours["word_embedding.words.weight"].shape
    return ModelConfig(
        vocab_size=vocab_size,
        hidden=hidden,
        heads=heads or max(1, hidden // 64),
        feed_forward=_feed_forward(ours),
        language_layers=_layers(ours, "encoder.language."),
        visual_layers=_layers(ours, "encoder.visual."),
        cross_layers=_layers(ours, "encoder.cross."),
        positions=len(ours["word_embedding.positions.weight"]),
        token_types=len(ours["word_embedding.types.weight"]),
        codes=len(ours["centroids"]) if "centroids" in ours else 0,
        feature_dim=ours["cell_embedding.feature.weight"].shape[1],
        answers=len(ours["answer_head.3.weight"]) if "answer_head.3.weight" in ours else paper.answers,
    )


def _check_sizes(ours: Mapping[str, Tensor], *names: str) -> None:
    missing = [name for name in names if name not in ours or ours[name].ndim < 2]
    if missing:
        raise ValueError(f"These weights are not complete: they lack {some(missing)}; fetch the file again.")


def _feed_forward(ours: Mapping[str, Tensor]) -> int:
    return next((len(v) for k, v in ours.items() if k.endswith("feed_forward.expand.weight")), 0)


def _layers(ours: Mapping[str, Tensor], start: str) -> int:
    return len({k[len(start) :].split(".")[0] for k in ours if k.startswith(start)})


def from_authors_generator(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the authors' generator to ours and fold its spectral norms into plain weights.

    The result fits ``fold_spectral_norm(Generator(config))``. Raises ValueError on unknown keys.
    """
    plain = _fold({re.sub(r"^module\.", "", key): value for key, value in state.items()})
    table = _parameters(GENERATOR) | NOISE
    named = {key: _generic(key) for key in plain}
    _refuse([key for key, (name, _) in named.items() if name not in table], "generator")
    return {table[name].replace("#", i): plain[key] for key, (name, i) in named.items()}


def _fold(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """weight = weight_orig / (u . W v), with the stored u and v and no further power iteration."""
    folded = dict(state)
    for key in [key for key in state if key.endswith(".weight_orig")]:
        start = key.removesuffix("weight_orig")
        if not {start + "weight_u", start + "weight_v"} <= folded.keys():
            raise ValueError(f"{key} has no weight_u, weight_v beside it; the file is incomplete.")
        weight = folded.pop(key)  # [out, in, k, k]
        u, v = folded.pop(start + "weight_u"), folded.pop(start + "weight_v")  # [out], [in * k * k]
        norm = torch.dot(u, weight.flatten(1) @ v) if _fits(weight, u, v) else torch.tensor(0.0)
        if norm == 0 or not norm.isfinite():
            raise ValueError(f"{key} does not go with its weight_u and weight_v; the file is damaged.")
        folded[start + "weight"] = weight / norm
    return folded


def _fits(weight: Tensor, u: Tensor, v: Tensor) -> bool:
    return weight.ndim > 1 and u.shape == weight.shape[:1] and v.shape == weight[0].flatten().shape


def generator_config(ours: Mapping[str, Tensor], grid: int = 8) -> GeneratorConfig:
    """The sizes that renamed generator weights imply; ``grid`` is the cells along one side."""
    blocks = range(_layers(ours, "blocks."))
    inner = [f"blocks.{i}.conv2.weight" for i in blocks]
    _check_sizes(ours, "bottleneck.weight", "start.weight", *inner, "blocks.0.norm1.shared.weight")
    bottleneck, feature_dim = ours["bottleneck.weight"].shape[:2]
    first, inputs = ours["start.weight"].shape[:2]
    return GeneratorConfig(
        feature_dim=feature_dim,
        bottleneck=bottleneck,
        channels=(first, *(len(ours[name]) for name in inner)),
        spade_hidden=len(ours["blocks.0.norm1.shared.weight"]),
        groups=bottleneck // inputs,
        grid=grid,
    )
