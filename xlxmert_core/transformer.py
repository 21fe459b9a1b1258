"""Attention, layers and the three encoders of LXMERT (Tan and Bansal 2019), X-LXMERT's backbone; and UNITER's one.

Every sub-layer is ``LayerNorm(x + sub-layer(x))``: post-norm, as in BERT. Axes: B batch, L words,
N cells, H hidden, Q queries, C context (what is looked at), h heads, d = H / h.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlxmert_core.config import ModelConfig
from xlxmert_core.onednn import Linear


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """The attention formula written out: softmax(Q K^T / sqrt(d)) V, without dropout.

    Args:
        query: [B, h, Q, d]; key and value: [B, h, C, d].
        mask: bool, broadcast to [B, h, Q, C]; True where looking is allowed. A row that may look
            nowhere gets zeros.

    Returns:
        The mixed values [B, h, Q, d] and the weights [B, h, Q, C].
    """
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5  # [B, h, Q, C]
    if mask is None:
        weights = scores.softmax(-1)
    else:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = scores.softmax(-1).masked_fill(~mask, 0.0)
    return weights @ value, weights


class Attention(nn.Module):
    """Multi-head attention of ``x`` over ``context``, then dropout, residual and LayerNorm."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        width = config.hidden
        self.heads, self.dropout = config.heads, config.dropout
        self.query, self.key = Linear(width, width), Linear(width, width)
        self.value, self.output = Linear(width, width), Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(
        self, x: Tensor, context: Tensor, mask: Tensor | None = None, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """x [B, Q, H] looks at context [B, C, H] -> [B, Q, H].

        Args:
            mask: bool, broadcast to [B, h, Q, C] (as [B, 1, 1, C]), True where looking is allowed;
                None allows everything.
            return_weights: also return the weights [B, h, Q, C], by the plain formula.
        """
        query = self._split(self.query(x))  # [B, h, Q, d]
        key = self._split(self.key(context))  # [B, h, C, d]
        value = self._split(self.value(context))  # [B, h, C, d]
        if return_weights:
            mixed, weights = attend(query, key, value, mask)
        else:
            rate = self.dropout if self.training else 0.0
            mixed = F.scaled_dot_product_attention(query, key, value, mask, dropout_p=rate)
        mixed = self.output(mixed.transpose(1, 2).flatten(2))  # [B, Q, H]
        mixed = self.norm(x + F.dropout(mixed, self.dropout, self.training))
        return (mixed, weights) if return_weights else mixed

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, h, Q or C, d]


class FeedForward(nn.Module):
    """Two linear maps around an exact (erf) GELU, then dropout, residual and LayerNorm."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.dropout = config.dropout
        self.expand = Linear(config.hidden, config.feed_forward)
        self.contract = Linear(config.feed_forward, config.hidden)
        self.norm = nn.LayerNorm(config.hidden, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """[..., H] -> [..., H]."""
        y = self.contract(F.gelu(self.expand(x)))
        return self.norm(x + F.dropout(y, self.dropout, self.training))


class Layer(nn.Module):
    """A layer of one modality: self-attention, then feed-forward."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x [B, L or N, H], mask bool [B, 1, 1, L or N] -> the same shape as x."""
        return self.feed_forward(self.attention(x, x, mask))


class CrossLayer(nn.Module):
    """Words and cells read each other, then each modality has a layer of its own.

    ONE cross-attention serves both directions, and both read the layer's *inputs*: the cells do not
    see words that have already looked at them.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.cross = Attention(config)
        self.words, self.cells = Layer(config), Layer(config)

    def forward(
        self, words: Tensor, cells: Tensor, word_mask: Tensor | None, cell_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """words [B, L, H], cells [B, N, H] -> the same shapes; masks as in :class:`Attention`."""
        seen = self.cross(words, cells, cell_mask)  # [B, L, H]
        read = self.cross(cells, words, word_mask)  # [B, N, H]
        return self.words(seen, word_mask), self.cells(read, cell_mask)


class Encoder(nn.Module):
    """The three encoders: language (words only), visual (cells only), cross-modality (both).

    And that of UNITER (Chen et al. 2020), a single stream: words and cells are one sequence, each reads all others.
    ``config.single_stream`` has it alone. A type for each modality it needs not learn: a cell's embedding has biases.
    """

    language: Any  # nn.ModuleLists, of whose items a type checker knows nothing
    visual: Any
    cross: Any
    single: Any

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.language = nn.ModuleList(Layer(config) for _ in range(config.language_layers))
        self.visual = nn.ModuleList(Layer(config) for _ in range(config.visual_layers))
        self.cross = nn.ModuleList(CrossLayer(config) for _ in range(config.cross_layers))
        self.single = nn.ModuleList(Layer(config) for _ in range(config.single_layers))

    def read_words(self, words: Tensor, word_mask: Tensor | None = None) -> Tensor:
        """The language layers, blind to the picture: [B, L, H], mask bool [B, L] -> [B, L, H]."""
        mask = for_attention(word_mask)
        for layer in self.language:
            words = layer(words, mask)
        return words

    def forward(
        self,
        words: Tensor,
        cells: Tensor,
        word_mask: Tensor | None = None,
        cell_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The visual, then the cross-modality layers, then those of a single stream.

        Args:
            words: [B, L, H], after :meth:`read_words`; cells: [B, N, H], embedded.
            word_mask: bool [B, L], False on padding; None when there is none.
            cell_mask: bool [B, N], False on cells that do not exist; None when all do.

        Returns:
            words [B, L, H] and cells [B, N, H].
        """
        masks = for_attention(word_mask), for_attention(cell_mask)
        for layer in self.visual:
            cells = layer(cells, masks[1])
        for layer in self.cross:
            words, cells = layer(words, cells, *masks)
        if not self.single:
            return words, cells
        both, mask = in_one(words, cells, word_mask, cell_mask)
        mask = for_attention(mask)
        for layer in self.single:
            both = layer(both, mask)
        return both[:, : words.shape[1]], both[:, words.shape[1] :]


def in_one(words: Tensor, cells: Tensor, word_mask: Tensor | None,
           cell_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Words [B, L, H], then cells [B, N, H], as one sequence [B, L + N, H]; and its mask, bool [B, L + N]."""
    pairs = (words, word_mask), (cells, cell_mask)
    masks = [x.new_ones(x.shape[:2], dtype=torch.bool) if mask is None else mask.bool() for x, mask in pairs]
    return torch.cat([words, cells], 1), torch.cat(masks, 1)


def for_attention(mask: Tensor | None) -> Tensor | None:
    """bool [B, C] -> [B, 1, 1, C], which broadcasts over heads and queries; None stays None."""
    return None if mask is None else mask.bool()[:, None, None, :]
