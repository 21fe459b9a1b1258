"""A frozen painter: what painting asks of an XLxmert, computed once ahead.

Training moves the weights, so nothing can be kept between two steps. A painter's weights stand still: its matrices
lie in memory as the processor likes them, the head's two matrices are multiplied into one, a code's embedding is
looked up in a table, and the empty canvas, the same for every text, is read once. The plain model says the same, up
to rounding. Axes: B batch, L words, N cells, H hidden, K codes.
"""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlxmert_core.linear import intel, on_onednn
from xlxmert_core.model import Output, XLxmert
from xlxmert_core.transformer import for_attention

SMALL = 2**18  # numbers of a matrix: 512 x 512


class Packed(nn.Module):
    """A frozen ``nn.Linear`` whose weight lies in oneDNN's own order.

    torch multiplies float32 matrices with MKL, which leaves half of an AMD processor's vector units idle.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.weight, self.bias = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach()), linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """float32 [..., in] -> [..., out], without a gradient."""
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


def packed(linear: nn.Linear) -> nn.Module:
    """The linear map in the form that multiplies fastest here: MKL's own on Intel, where the matrix is small."""
    return linear if intel() and linear.weight.numel() < SMALL else Packed(linear)


class Int8(nn.Module):
    """A frozen ``nn.Linear`` in 8-bit integers: a scale for each row of the weight, and for each row of what it reads.

    Dynamic quantisation: the scales of ``x`` are measured on the spot, so there is nothing to calibrate.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.weight, self.scale = _rounded(linear.weight.detach())  # int8 [out, in], [out, 1]
        self.bias = linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """float32 [..., in] -> [..., out], without a gradient."""
        rows, scale = _rounded(x.flatten(0, -2))  # int8 [M, in], [M, 1]
        product = torch._int_mm(rows, self.weight.T)  # int32 [M, out]
        return (product * (scale * self.scale.T) + self.bias).view(*x.shape[:-1], -1)


def _rounded(x: Tensor) -> tuple[Tensor, Tensor]:
    scale = x.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 127  # [M, 1]
    return (x / scale).round().to(torch.int8), scale


def frozen(module: nn.Module, linear: Callable[[nn.Linear], nn.Module]) -> nn.Module:
    """A copy in eval mode with its linear maps exchanged; all other weights are shared with the module."""
    memo = {id(weight): weight for weight in (*module.parameters(), *module.buffers())}
    memo |= {id(part): linear(part) for part in module.modules() if isinstance(part, nn.Linear)}
    return copy.deepcopy(module, memo).eval()


class Swift:
    """What ``paint`` and ``polish`` ask of an XLxmert on the processor, faster: give it to them in the model's place.

    It holds the weights as they are now, a second time (a quarter of that as :class:`Int8`).

    Args:
        linear: makes of an ``nn.Linear`` its frozen form; ``Int8`` trades some equal codes for speed.
    """

    @torch.no_grad()
    def __init__(self, model: XLxmert, linear: Callable[[nn.Linear], nn.Module] = packed):
        self.config, embed = model.config, model.cell_embedding
        self.words, self.encoder = frozen(model.word_embedding, linear), frozen(model.encoder, linear)
        self.table = embed.feature_norm(embed.feature(model.centroids))  # [K, H]
        self.hidden_cell = embed.feature_norm(embed.feature(model.mask_feature))  # [H]
        self.place = embed.place(model.boxes())  # [N, H]
        self.code_logits = _head(model, linear)
        self.blank = self._look((self.hidden_cell + self.place)[None] / 2)  # [1, N, H]

    def encode_text(self, words: Tensor, word_mask: Tensor | None = None) -> Tensor:
        """The language layers alone, as :meth:`XLxmert.encode_text`: ids [B, L], mask bool [B, L] -> [B, L, H]."""
        return self.encoder.read_words(self.words(words), word_mask)

    def embed_codes(self, codes: Tensor) -> Tensor:
        """Codes int64 [B, N] -> what :meth:`__call__` reads as their features, [B, N, H]."""
        return F.embedding(codes, self.table)

    def __call__(
        self, words: Tensor, word_mask: Tensor | None, features: Tensor, masked: Tensor, text: Tensor
    ) -> Output:
        """As :meth:`XLxmert.forward`, for the cells alone: the last layer never updates its words.

        words are not read; features [B, N, H] from :meth:`embed_codes`; masked bool [B, N]; text [B, L, H].
        """
        if masked.all():
            return Output(None, self._read(self.blank.expand(len(features), -1, -1), text, word_mask, True), None)
        cells = (torch.where(masked[..., None], self.hidden_cell, features) + self.place) / 2
        return Output(None, self._read(cells, text, word_mask, False), None)

    def _read(self, cells: Tensor, text: Tensor, word_mask: Tensor | None, looked: bool) -> Tensor:
        cells = cells if looked else self._look(cells)
        mask, (*layers, last) = for_attention(word_mask), self.encoder.cross
        for layer in layers:
            text, cells = layer(text, cells, mask, None)
        return last.cells(last.cross(cells, text, mask))

    def _look(self, cells: Tensor) -> Tensor:
        for layer in self.encoder.visual:
            cells = layer(cells)
        return cells


def for_gpu(model: XLxmert, **options) -> Swift:
    """The frozen form of a model on a GPU: in bfloat16, its layers compiled and replayed as CUDA graphs.

    The first paintings compile, for about a minute, and again for another number of texts. ``options`` are those of
    ``torch.compile``, in place of ``mode="reduce-overhead"``. Codes differ where two are about equally likely.
    """
    painter = Swift(copy.deepcopy(model).to(torch.bfloat16), linear=lambda part: part)
    options = options or {"mode": "reduce-overhead"}
    painter._read, encode_text = (torch.compile(part, **options) for part in (painter._read, painter.encode_text))
    painter.encode_text = lambda words, word_mask=None: encode_text(words, word_mask).clone()  # graphs reuse memory
    return painter


def swift(model: XLxmert) -> "Swift | XLxmert":
    """The model's frozen form, where there is one: on the processor, in float32. Elsewhere the model itself."""
    return Swift(model) if on_onednn(model.centroids) else model


class Kept:
    """Keeps a model's frozen form until its weights change. A copy or a pickle of it starts with nothing kept."""

    def __init__(self):
        self._state = self._form = None

    def form(self, model: XLxmert) -> "Swift | XLxmert":
        """:func:`swift` of the model as it is now."""
        if (state := _state(model)) != self._state:
            self._state, self._form = state, swift(model)
        return self._form

    def __reduce__(self):
        return Kept, ()  # oneDNN's order of a weight can be neither copied nor written


@torch.no_grad()
def _state(model: XLxmert) -> list[tuple]:
    """What tells whether weights have changed: torch's count of changes, which fused optimisers and ``.data`` evade,
    and their sum, which a permutation does.
    """
    weights = (*model.parameters(), *model.buffers())
    return [(id(w), None if w.is_inference() else w._version, w.sum().item()) for w in weights]


def _head(model: XLxmert, linear: Callable[[nn.Linear], nn.Module]) -> Callable[[Tensor], Tensor]:
    """[..., H] -> [..., K]: one matrix C W instead of W, then C; not where a code is a pair (shape, colour)."""
    if model.config.colour_codes:
        return frozen(model, linear).code_logits
    head = nn.Linear(model.config.hidden, model.config.codes, device="meta")
    weight, bias = model.centroids @ model.code_feature.weight, model.centroids @ model.code_feature.bias
    head.load_state_dict({"weight": weight, "bias": bias + model.code_bias}, assign=True)
    return nn.Sequential(frozen(model.code_transform, linear), linear(head))
