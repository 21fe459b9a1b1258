"""Painting at the pace of the machine: the model's forms (graphs.py) run by ONNX Runtime, or compiled on a GPU.

The plain model is the reference, and what paints where there is no graph for its sizes, no ONNX Runtime, or a GPU.
Axes as in graphs.py.
"""

import copy
import json
from collections import abc
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlxmert_core.engine.graphs import SHIPPED, Picture, cache_folder, forms, graph_path, in_int8, plain, tensors
from xlxmert_core.files import why
from xlxmert_core.generator import Generator
from xlxmert_core.model import Output, XLxmert


class Engine:
    """What ``paint`` and ``polish`` ask of an XLxmert: give it to them in the model's place.

    Its weights are those of the moment when it was made.

    Args:
        forms: name -> callable of tensors, as the modules of graphs.py.
    """

    def __init__(self, model: XLxmert, forms: Mapping[str, Callable[..., Any]]):
        self.config, self.match_logits = model.config, model.match_logits
        self._model, self._forms = model, forms
        self._said: tuple[Tensor, ...] = ()  # by the head, of likely codes: cells, names, logits

    def encode_text(self, words: Tensor, word_mask: Tensor) -> Tensor:
        """As :meth:`XLxmert.encode_text`: ids [B, L], mask bool [B, L] -> [B, L, H]."""
        return self._forms["text"](words, word_mask)

    def embed_codes(self, codes: Tensor) -> Tensor:
        """What :meth:`__call__` reads as features: the codes int64 [B, N] themselves."""
        return codes

    def __call__(self, words: Tensor, word_mask: Tensor, features: Tensor, masked: Tensor | None = None,
                 text: Tensor | None = None) -> Output:  # fmt: skip
        """As :meth:`XLxmert.forward`, but the last layer's words are not handed out; features are codes."""
        text = self.encode_text(words, word_mask) if text is None else text
        masked = torch.zeros_like(features, dtype=torch.bool) if masked is None else masked
        return Output(None, *self._forms["cells"](text, word_mask, features, masked))

    def likely_codes(self, cells: Tensor) -> Tensor | None:
        """As :meth:`XLxmert.likely_codes`: [M, H] -> int64 [M, C]; the head says their logits with them."""
        if self._model.few_codes:
            return None
        logits, names = self._forms["head"](cells)
        self._said = cells, names, logits
        return names

    def code_logits(self, cells: Tensor, codes: Tensor | None = None) -> Tensor:
        """As :meth:`XLxmert.code_logits`: [M, H] -> [M, K], or of some codes alone."""
        if codes is None and self._model.few_codes:
            return self._forms["head"](cells)
        if self._said and cells is self._said[0] and codes is self._said[1]:
            return self._said[2]
        return self._model.code_logits(cells, codes)

    def code_losses(self, cells: Tensor, codes: Tensor) -> Tensor:
        """As :meth:`XLxmert.code_losses`: [M, H] and codes int64 [M] -> [M]."""
        if self._model.few_codes:
            return F.cross_entropy(self.code_logits(cells).float(), codes, reduction="none")
        return self._model.code_losses(cells, codes)

    def picture(self, codes: Tensor) -> Tensor:
        """Codes int64 [B, N] -> pictures in [-1, 1] [B, 3, S, S]."""
        return self._forms["picture"](codes)


Painter = Engine | XLxmert
Make = Callable[[XLxmert, Generator | None], Engine | None]


class Graph:
    """One graph, opened with a module's weights when it is first called."""

    def __init__(self, path: Path, module: nn.Module):
        self._path, self._module, self._threads = path, module, torch.get_num_threads()

    @cached_property
    def _run(self) -> Callable:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.add_session_config_entry("session.force_spinning_stop", "1")  # between runs the cores are torch's
        options.log_severity_level = 3  # errors
        own = tensors(self._module)
        try:
            names, graph = self._path.read_bytes().split(b"\n", 1)
            names = json.loads(names)
            arrays = [np.ascontiguousarray(own[name].detach().numpy()) for name in names]
            values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in arrays]
            options.add_external_initializers(names, values)
            session = onnxruntime.InferenceSession(graph, options)
        except Exception as error:  # the library has classes of its own
            raise ValueError(f"{self._path} is no graph of this model ({why(error)}): remove it.") from error
        inputs = [node.name for node in session.get_inputs()]
        return lambda arrays: session.run(None, dict(zip(inputs, arrays, strict=True)))

    def __call__(self, *given: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Tensors in the order of the graph's inputs -> its outputs."""
        found = [torch.from_numpy(array) for array in self._run([tensor.numpy() for tensor in given])]
        return tuple(found) if len(found) > 1 else found[0]


def onnx(model: XLxmert, generator: Generator | None = None, folder: Path | None = None,
         int8: bool = False) -> Engine | None:  # fmt: skip
    """The engine of a model on the processor; None where it cannot be: no ONNX Runtime, no graph, another type.

    Args:
        folder: where graphs lie; None looks beside the shipped weights, then in the user's cache.
        int8: trades some equal codes for speed in large models.
    """
    weight = model.centroids
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        return None
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return None
    found = {}
    for name, module in forms(in_int8(model) if int8 else model, generator).items():
        places = (SHIPPED, cache_folder()) if folder is None else (folder,)
        paths = [graph_path(name, model, generator, int8, place) for place in places]
        path = next((path for path in paths if path.is_file()), None)
        if path is None and name != "picture":
            return None
        found[name] = module if path is None else Graph(path, module)
    return Engine(model, found)


def for_gpu(model: XLxmert, generator: Generator | None = None, **options: Any) -> Engine:
    """The engine on a GPU: in bfloat16, its layers compiled and replayed as CUDA graphs.

    The first paintings compile, for about a minute, and again for another number of texts. ``options`` are those of
    ``torch.compile``, in place of ``mode="reduce-overhead"``. Codes differ where two are about equally likely.
    """
    half = copy.deepcopy(model).to(torch.bfloat16).eval()
    options = options or {"mode": "reduce-overhead"}
    found = forms(half, attend=plain) | ({} if generator is None else {"picture": Picture(generator, model)})
    text, cells = torch.compile(found["text"], **options), torch.compile(found["cells"], **options)
    return Engine(half, found | {"text": lambda *given: text(*given).clone(), "cells": cells})  # graphs reuse memory


@contextmanager
def alone(painter: Painter) -> abc.Generator[None]:
    """Lets torch rest on one thread while an engine paints: its threads and ONNX Runtime's, in turns, would wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if isinstance(painter, Engine) else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class EngineCache:
    """A model's engine, of the weights as they were when it was frozen. A copy or a pickle of it has none yet.

    A change that torch counts, or that puts other weights in the place of these, freezes anew. While a weight has a
    gradient the model is in training, and paints itself: the steps of fused optimisers are not counted. What nothing
    counts (``weight.data.mul_``, or numpy on the same memory) is unseen until :meth:`freeze`.
    """

    def __init__(self):
        self._make: Make = onnx
        self.seen: list[tuple] | None = None  # what was counted of the frozen weights
        self._engine: Painter | None = None

    def of(self, model: XLxmert, generator: Generator | None) -> Painter:
        """The engine, or the model itself where there is none."""
        weights = weights_of(model, generator)
        if any(weight.grad is not None for weight in weights):
            return model
        if self._engine is None or self.seen != counted(weights):
            return self.freeze(model, generator)
        return self._engine

    def freeze(self, model: XLxmert, generator: Generator | None, make: Make | None = None) -> Painter:
        """Make the engine of the weights as they are now, and return it; their gradients go.

        Args:
            make: makes it, from now on; :func:`onnx` at first.
        """
        self._make = make or self._make
        weights = weights_of(model, generator)
        for weight in (w for w in weights if w.grad is not None):
            weight.grad = None
        self.seen, self._engine = counted(weights), self._make(model, generator) or model
        return self._engine

    def __reduce__(self):
        return EngineCache, ()


def weights_of(*modules: nn.Module | None) -> list[Tensor]:
    """All parameters and buffers of some modules."""
    return [w for module in modules if module is not None for w in (*module.parameters(), *module.buffers())]


def counted(weights: Sequence[Tensor]) -> list[tuple]:
    """What changes with the weights: which they are, where they lie, and torch's count of their changes."""
    return [(id(w), w.data_ptr(), None if w.is_inference() else w._version) for w in weights]
