"""Where the model looks while it reads."""

import torch
from torch import Tensor

from xlxmert_core.model import XLxmert


@torch.no_grad()
def cross_attention(model: XLxmert, words: Tensor, word_mask: Tensor | None, features: Tensor) -> Tensor:
    """Where words look: the weights of every cross layer and head, [layers, heads, B, L, N]; each row sums to 1.

    In a single stream words look at words, too: what they give to cells counts here, as shares of all cells.
    words int64 [B, L], mask bool [B, L], features float [B, N, F].
    """
    seen = []

    def look(layer, given):
        """Before a layer: keep what its words will take of the cells."""
        text, cells, _, cell_mask = given
        seen.append(layer.cross(text, cells, cell_mask, return_weights=True)[1])  # [B, h, L, N]

    def look_at_both(layer, given):
        """As ``look``, of a layer that reads words and cells as one."""
        both, mask = given
        weights = layer.attention(both, both, mask, return_weights=True)[1]  # [B, h, L + N, L + N]
        cells = weights[:, :, : words.shape[1], words.shape[1] :]
        seen.append(cells / cells.sum(-1, keepdim=True).clamp_min(1e-12))

    keep = [layer.register_forward_pre_hook(look) for layer in model.encoder.cross]
    keep += [layer.register_forward_pre_hook(look_at_both) for layer in model.encoder.single]
    try:
        model(words, word_mask, features)
    finally:
        for handle in keep:
            handle.remove()
    return torch.stack(seen).transpose(1, 2)
