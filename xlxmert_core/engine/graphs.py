"""What painting asks of a model, as four modules: text, cells, head and picture; and how they become ONNX graphs.

They say what the plain model says, with what stands still computed ahead: a code's embedding is looked up, the two
matrices of a flat head are one. Of many codes only the parts are looked up, and the likely ones spelt out. On a
processor ONNX Runtime runs them (__init__.py), on a GPU torch.compile, in the book's page the browser. An exported
graph holds sizes and operations but no weights: those are handed over when it is opened, so one graph serves all
models of its sizes.
Axes: B batch, L words, N cells, H hidden, K codes, F feature width, M cells that are asked for, S pixels along a side.
"""

import copy
import hashlib
import json
import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlxmert_core.config import ModelConfig
from xlxmert_core.files import replacing
from xlxmert_core.generator import Generator
from xlxmert_core.model import LIKELY, XLxmert
from xlxmert_core.transformer import Attention, Layer, for_attention, in_one

if TYPE_CHECKING:
    from onnx import ModelProto  # what only an export needs

OPSET = 20
SHIPPED = Path(__file__).parent.parent / "graphs"
OURS = "com.microsoft"  # ONNX Runtime's own operations
Attend = Callable[[Attention, Tensor, Tensor, Tensor | None], Tensor]


def plain(attention: Attention, x: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
    """x [B, Q, H] looks at context [B, C, H], mask bool [B, C]: the layer as it is."""
    return attention(x, context, for_attention(mask))


def fused(attention: Attention, x: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
    """The same in one operation of ONNX Runtime, in place of a dozen; can be exported, not run."""
    query, key, value = attention.query(x), attention.key(context), attention.value(context)
    given = (query, key, value) if mask is None else (query, key, value, None, mask.to(torch.int32))
    mixed = _theirs("MultiHeadAttention", given, query, query.shape, num_heads=attention.heads)
    return attention.norm(x + attention.output(mixed))


def _theirs(name: str, given: tuple, like: Tensor, shape: Sequence[int], **attributes) -> Tensor:
    return torch.onnx.ops.symbolic(f"{OURS}::{name}", given, attributes, dtype=like.dtype, shape=shape, version=1)


class Text(nn.Module):
    """The language layers; of a single stream, which has none, the embedding."""

    def __init__(self, model: XLxmert, attend: Attend = plain):
        super().__init__()
        self.model, self.attend = model, attend

    def forward(self, words: Tensor, word_mask: Tensor | None = None) -> Tensor:
        """Words int64 [B, L], mask bool [B, L] -> text [B, L, H]."""
        x = self.model.word_embedding(words)
        for layer in self.model.encoder.language:
            x = _layer(layer, x, word_mask, self.attend)
        return x


class Parts(nn.Module):
    """Features of many codes, from what they are made of: code = shape * colours + colour."""

    shapes: Tensor
    colours: Tensor

    def __init__(self, model: XLxmert):
        super().__init__()
        count, split = model.config.colour_codes, model.config.feature_dim - model.config.colour_dim
        self.register_buffer("shapes", model.centroids[::count, :split].contiguous())  # [shapes, F - colour_dim]
        self.register_buffer("colours", model.centroids[:count, split:].contiguous())  # [colours, colour_dim]

    def forward(self, codes: Tensor) -> Tensor:
        """Codes int64 [B, N] -> their centroids [B, N, F]."""
        count = len(self.colours)
        parts = F.embedding(codes // count, self.shapes), F.embedding(codes % count, self.colours)
        return torch.cat(parts, -1)


class Cells(nn.Module):
    """One step: the visual and the cross layers, or a single stream's, from codes on."""

    table: Tensor
    place: Tensor

    @torch.no_grad()
    def __init__(self, model: XLxmert, attend: Attend = plain):
        super().__init__()
        self.model, self.attend, embed = model, attend, model.cell_embedding
        self.parts = None if model.few_codes else Parts(model)
        if self.parts is None:
            seen = torch.cat([model.centroids, model.mask_feature[None]])  # what a cell may show; the last is hidden
            self.register_buffer("table", embed.feature_norm(embed.feature(seen)) / 2)  # [K + 1, H]
        self.register_buffer("place", embed.place(model.boxes()) / 2)  # [N, H]

    def forward(self, text: Tensor, word_mask: Tensor | None, codes: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
        """text [B, L, H], mask [B, L], codes int64 [B, N], masked bool [B, N] -> cells [B, N, H], pooled [B, H]."""
        cells = self.model.cell_embedding.around(self._seen(codes, masked)) + self.place
        for layer in self.model.encoder.visual:
            cells = _layer(layer, cells, None, self.attend)
        for layer in self.model.encoder.cross:
            seen, read = self.attend(layer.cross, text, cells, None), self.attend(layer.cross, cells, text, word_mask)
            text = _layer(layer.words, seen, word_mask, self.attend)
            cells = _layer(layer.cells, read, None, self.attend)
        if not self.model.encoder.single:
            return cells, torch.tanh(self.model.pooler(text[:, 0]))
        both, mask = in_one(text, cells, word_mask)
        for layer in self.model.encoder.single:
            both = _layer(layer, both, mask, self.attend)
        return both[:, text.shape[1] :], torch.tanh(self.model.pooler(both[:, 0]))

    def _seen(self, codes, masked):
        if self.parts is None:
            return F.embedding(torch.where(masked, len(self.table) - 1, codes), self.table)  # [B, N, H]
        features = torch.where(masked[..., None], self.model.mask_feature, self.parts(codes))  # [B, N, F]
        return self.model.cell_embedding.feature_norm(self.model.cell_embedding.feature(features)) / 2


class Head(nn.Module):
    """What the model thinks of some cells; a flat vocabulary's two matrices W and C are one, C W.

    Of many codes it names the likely ones, C for each cell, and thinks of these alone.
    """

    weight: Tensor
    bias: Tensor

    @torch.no_grad()
    def __init__(self, model: XLxmert):
        super().__init__()
        self.model, self.flat = model, not model.config.colour_codes
        if self.flat:
            feature = model.code_feature
            self.register_buffer("weight", model.centroids @ feature.weight)  # [K, H]
            self.register_buffer("bias", model.centroids @ feature.bias + model.code_bias)  # ty: ignore[unsupported-operator]

    def forward(self, cells: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """[M, H] -> logits [M, K]; of many codes logits [M, C] and which they are of, int64 [M, C]."""
        if self.flat:
            return F.linear(self.model.code_transform(cells), self.weight, self.bias)
        names = self.model.likely_codes(cells)
        logits = self.model.code_logits(cells, names)
        return logits if names is None else (logits, names)


class Picture(nn.Module):
    """The image generator, from codes on."""

    centroids: Tensor

    def __init__(self, generator: Generator, model: XLxmert):
        super().__init__()
        self.generator, self.parts = generator, None if model.few_codes else Parts(model)
        if self.parts is None:
            self.register_buffer("centroids", model.centroids)

    def forward(self, codes: Tensor) -> Tensor:
        """Codes int64 [B, N] -> pictures in [-1, 1] [B, 3, S, S]; ValueError where they do not make the grid."""
        grid = self.generator.config.grid
        features = F.embedding(codes, self.centroids) if self.parts is None else self.parts(codes)  # [B, N, F]
        return self.generator(features.transpose(1, 2).unflatten(2, (grid, grid)))


def _layer(layer: Layer, x: Tensor, mask: Tensor | None, attend: Attend) -> Tensor:
    return layer.feed_forward(attend(layer.attention, x, x, mask))


class Int8(nn.Module):
    """A frozen ``nn.Linear`` in 8-bit integers, for export: a scale for each output, and for what it reads (measured).

    The weights take 7 bits, since processors without VNNI add pairs of products in 16.
    """

    weight: Tensor
    scale: Tensor
    zero: Tensor
    bias: Tensor

    def __init__(self, linear: nn.Linear):
        super().__init__()
        weight = linear.weight.detach()  # [out, in]
        scale = weight.abs().amax(1).clamp_min(1e-12) / 63
        self.register_buffer("weight", (weight / scale[:, None]).round().to(torch.int8).T.contiguous())
        self.register_buffer("scale", scale)
        self.register_buffer("zero", torch.zeros(len(scale), dtype=torch.int8))
        self.register_buffer("bias", linear.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """float32 [..., in] -> [..., out]; can be exported, not run."""
        given, shape = (x, self.weight, self.scale, self.zero, self.bias), (*x.shape[:-1], len(self.scale))
        return _theirs("DynamicQuantizeMatMul", given, x, shape)


def in_int8(model: XLxmert) -> XLxmert:
    """A copy whose layers multiply in 8-bit integers; embeddings and the heads' last maps stay as they are."""
    memo: dict[int, object] = {id(weight): weight for weight in (*model.parameters(), *model.buffers())}
    inside = (*model.encoder.modules(), model.code_transform.dense)
    memo |= {id(part): Int8(part) for part in inside if isinstance(part, nn.Linear)}
    return copy.deepcopy(model, memo).eval()


def forms(model: XLxmert, generator: Generator | None = None, attend: Attend = fused) -> dict[str, nn.Module]:
    """The modules by name: text, cells and head, and picture where there is a generator."""
    found = {"text": Text(model, attend), "cells": Cells(model, attend), "head": Head(model)}
    return found if generator is None else found | {"picture": Picture(generator, model)}


# --- Export ------------------------------------------------------------------------------------------


def graph_path(name: str, model: XLxmert, generator: Generator | None, int8: bool, folder: Path = SHIPPED) -> Path:
    """Where a graph lies: its name tells the sizes it is made for, so no model is given another's graph."""
    sizes = asdict(model.config)
    for training in ("dropout", "answers"):
        sizes.pop(training)
    for later in ("neighbours", "single_layers"):
        if not sizes[later]:
            sizes.pop(later)  # graphs that were exported before there were any keep their names
    if name == "head" and not model.few_codes:
        sizes["likely"] = LIKELY
    if name == "picture":
        sizes = asdict(generator.config) | {"codes": model.config.codes}
        if sizes["squash"]:
            sizes.pop("squash")  # likewise
    said = json.dumps([name, sizes, int8 and name != "picture"], sort_keys=True)
    return folder / f"{name}-{hashlib.sha256(said.encode()).hexdigest()[:12]}.graph"


def cache_folder() -> Path:
    """Where graphs of this user's own models lie."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xlxmert_core" / "graphs"


def export(model: XLxmert, generator: Generator | None = None, folder: Path | None = None,
           int8: bool = False) -> list[Path]:  # fmt: skip
    """Write the graphs of a model's sizes, a few dozen KB each, into ``folder`` (the user's cache when None).

    Afterwards a :class:`~xlxmert_core.pipeline.Pipeline` of these sizes paints with ONNX Runtime. Takes some
    seconds; needs the packages onnx and onnxscript (ImportError).
    """
    given, written = example_inputs(model.config), []
    if generator is not None:
        generator(torch.zeros(1, generator.config.feature_dim, *2 * (generator.config.grid,)))  # fills resize_taps
    for name, module in forms(in_int8(model) if int8 else model, generator).items():
        inputs, outputs = given[name], OUTPUTS[name]
        if name == "head" and not model.few_codes:
            outputs = [*outputs, "names"]
        bare = without_weights(to_onnx(module, inputs, axes(inputs), outputs, optimize=False), module)
        path = graph_path(name, model, generator, int8, folder or cache_folder())
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(bare)
        written.append(path)
    return written


OUTPUTS = {"text": ["text"], "cells": ["cells", "pooled"], "head": ["logits"], "picture": ["picture"]}


def example_inputs(config: ModelConfig, batch: int = 3, length: int = 5) -> dict[str, dict[str, Tensor]]:
    """Some inputs of each form, by graph and name."""
    words = torch.zeros(batch, length, dtype=torch.long)
    codes = torch.zeros(batch, config.cells, dtype=torch.long)
    text, word_mask = torch.zeros(batch, length, config.hidden), torch.ones(batch, length, dtype=torch.bool)
    return {
        "text": {"words": words, "word_mask": word_mask},
        "cells": {"text": text, "word_mask": word_mask, "codes": codes, "masked": codes == 0},
        "head": {"cells": torch.zeros(batch, config.hidden)},
        "picture": {"codes": codes},
    }


def axes(inputs: Mapping[str, Tensor]) -> dict[str, dict]:
    """Which axes of a form's inputs may have any size: all first ones, and the words."""
    batch, length = torch.export.Dim("batch", min=2), torch.export.Dim("length", min=2)
    worded = ("words", "word_mask", "text")
    return {name: {0: batch} | ({1: length} if name in worded else {}) for name in inputs}


def to_onnx(module: nn.Module, inputs: Mapping[str, Tensor], axes: dict | None, outputs: Sequence[str],
            optimize: bool = True) -> "ModelProto":  # fmt: skip
    """Trace one module into an ``onnx.ModelProto``, without the exporter's notes: they name folders of this machine."""
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # constants that it did not fold
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(), (), kwargs=dict(inputs), dynamic_shapes=axes, input_names=list(inputs),
            output_names=list(outputs), opset_version=OPSET, dynamo=True, verbose=False, optimize=optimize,
        )  # fmt: skip
    proto = program.model_proto
    graph = proto.graph
    for part in (proto, graph, *graph.node, *graph.value_info, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return proto


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """All weights of a form by their names in its graph."""
    return dict(module.named_parameters()) | dict(module.named_buffers())


def without_weights(proto: "ModelProto", module: nn.Module) -> bytes:
    """A line with the names of the weights that are to be handed over, as JSON, then the graph without them."""
    from onnx import TensorProto

    own, names = tensors(module), []
    for initializer in proto.graph.initializer:
        if initializer.name in own:
            names.append(initializer.name)
            size = own[initializer.name].nbytes
            initializer.ClearField("raw_data")
            initializer.data_location = TensorProto.EXTERNAL
            for key, value in {"location": "weights", "offset": "0", "length": str(size)}.items():
                initializer.external_data.add(key=key, value=value)
    proto.graph.ClearField("value_info")
    return json.dumps(names).encode() + b"\n" + proto.SerializeToString()
