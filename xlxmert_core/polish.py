"""Second thoughts: which cells of a finished painting does the model itself doubt, and painting those anew.

Cells that are drawn one after another may end in a corner: a house with no room for its last quarter. Seen from
all its neighbours such a cell is very unlikely, and that is easily asked: hide every fourth cell, read off how
likely its code is given the other three quarters, and do so four times (pseudo-likelihood, Besag 1975; as a
check on drawn cells close to Token-Critic, Lezama et al. 2022). Axes: B batch, N cells, L words, H hidden.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from xlxmert_core import sampling

DOUBT = -3.0  # log-probability under which a cell counts as doubtful: one in twenty


@torch.no_grad()
def cell_log_likelihood(model, words: Tensor, word_mask: Tensor, codes: Tensor) -> Tensor:
    """Log-probability of each code given the text and the cells around it: codes int64 [B, N] -> float [B, N].

    Four passes; pass (r, c) hides the cells whose row and column leave the remainders r and c when halved.
    """
    text = model.encode_text(words, word_mask)  # [B, L, H]
    features = model.embed_codes(codes)  # [B, N, F]
    place = torch.arange(codes.shape[1], device=codes.device)
    group = place // model.config.grid % 2 * 2 + place % model.config.grid % 2  # [N], 0 to 3
    found = torch.zeros(codes.shape, device=codes.device)
    for number in range(4):
        hidden = (group == number).expand(codes.shape)  # [B, N]
        cells = model(words, word_mask, features, hidden, text=text).cells[hidden]  # [hidden, H]
        logs = model.code_logits(cells).float().log_softmax(-1)
        found[hidden] = logs.gather(-1, codes[hidden][:, None])[:, 0]
    return found


def polish(model, words: Tensor, word_mask: Tensor, codes: Tensor, editable: Tensor | None = None, rounds: int = 1,
           steps: int = 4, callback: Callable[[dict], None] | None = None) -> Tensor:  # fmt: skip
    """Paint doubtful cells and the eight around each anew, greedily and the easy ones first; codes [B, N] -> [B, N].

    Args:
        editable: bool [B, N], the only cells that may change; all of them when None.
        callback: as in :func:`xlxmert_core.sampling.fill`.
    """
    grid = model.config.grid
    for _ in range(rounds):
        doubtful = cell_log_likelihood(model, words, word_mask, codes) < DOUBT  # [B, N]
        around = F.max_pool2d(doubtful.float().unflatten(1, (1, grid, grid)), 3, 1, 1).flatten(1) > 0
        again = around if editable is None else around & editable
        options = {"steps": steps, "order": sampling.easy_first, "codes": codes, "editable": again}
        codes = sampling.paint(model, words, word_mask, callback=callback, **options)
    return codes
