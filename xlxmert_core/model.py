"""XLxmert: embeddings, encoders and heads; PairClassifier: two pictures and one sentence.

X-LXMERT (Cho et al. 2020) around LXMERT's encoders. A picture is N cells, each a code of the visual
vocabulary, whose centroids are both the cells' input vectors and the classifier's weights and never
train. Axes: B batch, L words, N cells, H hidden, K codes, F feature width, V word vocabulary,
A answers.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlxmert_core.config import ModelConfig
from xlxmert_core.onednn import Linear
from xlxmert_core.transformer import Encoder

AT_ONCE = 64  # rows that go through a model together: more of them take more memory, and no less time
FEW, LIKELY = 4096, 96  # codes that painting spells out; of more than that, those of a cell's likeliest shapes


def batches(rows: int, each: int = 1) -> list[slice]:
    """Slices of so many rows that :data:`AT_ONCE` go through a model together, when every row becomes ``each``."""
    few = max(1, AT_ONCE // each)
    return [slice(start, start + few) for start in range(0, rows, few)]


class Output(NamedTuple):
    """What the transformer says: words [B, L, H], cells [B, N, H], pooled [B, H]."""

    words: Tensor | None  # which an engine does not hand out
    cells: Tensor
    pooled: Tensor


class WordEmbedding(nn.Module):
    """Word + position + token type, normalised. Every token has type 0 (one sentence)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.words = nn.Embedding(config.vocab_size, config.hidden)
        self.positions = nn.Embedding(config.positions, config.hidden)
        self.types = nn.Embedding(config.token_types, config.hidden)
        self.norm = nn.LayerNorm(config.hidden, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, words: Tensor) -> Tensor:
        """Word ids int64 [B, L] -> [B, L, H]. Raises ValueError for more words than positions."""
        length, limit = words.shape[1], self.positions.num_embeddings
        if length > limit:
            raise ValueError(f"The sentence has {length} words, the model {limit} positions; cut the sentence.")
        places = self.positions.weight[:length] + self.types.weight[0]  # [L, H]
        return self.dropout(self.norm(self.words(words) + places))


class CellEmbedding(nn.Module):
    """Mean of the normalised feature and the normalised box position of a cell.

    With ``config.neighbours`` the feature is joined by a learned mixture, one weight for each number and neighbour, of
    what the eight cells around it show (conditional position encoding, Chu et al. 2021): that a roof's right half
    follows its left half need not be found out by attention, which a short training has no time for.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.feature = nn.Linear(config.feature_dim, config.hidden)
        self.feature_norm = nn.LayerNorm(config.hidden, eps=config.layer_norm_eps)
        self.box = nn.Linear(4, config.hidden)
        self.box_norm = nn.LayerNorm(config.hidden, eps=config.layer_norm_eps)
        self.grid = nn.Parameter(waves(config.grid, config.hidden)) if config.learned_positions else None
        self.near = None
        if config.neighbours:
            self.near = nn.Conv2d(config.hidden, config.hidden, 3, padding=1, groups=config.hidden, bias=False)
            nn.init.zeros_(self.near.weight)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, features: Tensor, boxes: Tensor, whole: bool = True) -> Tensor:
        """features [B, N, F], boxes [N, 4] or [B, N, 4] -> [B, N, H]; ``whole``: of the grid's cells."""
        seen = self.feature_norm(self.feature(features))
        return self.dropout(((self.around(seen) if whole else seen) + self.place(boxes)) / 2)

    def around(self, seen: Tensor) -> Tensor:
        """What each cell of the grid shows, and of its neighbours what is learned: [B, N, H] -> [B, N, H]."""
        if self.near is None:
            return seen
        side = self.config.grid
        return seen + self.near(seen.mT.unflatten(2, (side, side))).flatten(2).mT

    def place(self, boxes: Tensor) -> Tensor:
        """Where a cell is: boxes [N, 4] or [B, N, 4] -> [N, H] (once, not once a picture) or [B, N, H]."""
        place = self.box(boxes)
        if self.grid is not None:
            place = place + self.grid  # neighbours differ little in four coordinates, much in these
        return self.box_norm(place)


def waves(grid: int, width: int) -> Tensor:
    """Sines and cosines of each cell's row and column (Vaswani et al. 2017, in two dimensions): [N, width].

    A step to a neighbour turns all waves by the same angles wherever it begins, so that one attention head can learn
    "the cell on my left" for all cells at once. The shortest wave is two cells long.
    """
    count = width // 4
    rates = torch.pi * torch.arange(1, count + 1) / count  # [count], radians a cell
    places = torch.cartesian_prod(torch.arange(grid), torch.arange(grid))  # [N, 2], row-major
    angles = (places[:, :, None] * rates).flatten(1)  # [N, 2 * count]
    found = torch.cat([angles.sin(), angles.cos()], 1) / 2**0.5
    return F.pad(found, (0, width - found.shape[1]))


class Transform(nn.Module):
    """What stands before a vocabulary-sized head: linear, GELU, LayerNorm."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.dense = Linear(config.hidden, config.hidden)
        self.norm = nn.LayerNorm(config.hidden, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """[..., H] -> [..., H]."""
        return self.norm(F.gelu(self.dense(x)))


def answer_head(inputs: int, hidden: int, outputs: int, eps: float) -> nn.Sequential:
    """LXMERT's head for answers and for picture pairs: linear, GELU, LayerNorm, linear."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.GELU(),
        nn.LayerNorm(hidden, eps=eps),
        nn.Linear(hidden, outputs),
    )


def grid_boxes(grid: int) -> Tensor:
    """Boxes of a grid's cells, row by row: float [N, 4] as (x0, y0, x1, y1) between 0 and 1."""
    row, column = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    corner = torch.stack([column, row], -1).flatten(0, 1)  # [N, 2] as (x0, y0)
    return torch.cat([corner, corner + 1], 1) / grid


def initialise(module: nn.Module) -> None:
    """BERT's initialisation: normal with deviation 0.02, biases zero (for ``Module.apply``)."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


class XLxmert(nn.Module):
    """The transformer that paints, captions and answers.

    Args:
        config: the sizes.
        centroids: float [K, F], the visual vocabulary; zeros when None (to be loaded).

    Raises ValueError when the centroids do not have the configuration's shape.
    """

    centroids: Tensor
    _boxes: Tensor

    def __init__(self, config: ModelConfig, centroids: Tensor | None = None):
        super().__init__()
        self.config = config
        width, eps = config.hidden, config.layer_norm_eps
        self.word_embedding = WordEmbedding(config)
        self.cell_embedding = CellEmbedding(config)
        self.encoder = Encoder(config)
        self.pooler = nn.Linear(width, width)
        self.word_transform = Transform(config)
        self.match_head = nn.Linear(width, 2)
        self.code_transform = Transform(config)
        self.code_feature = Linear(width, config.feature_dim * config.mixture)
        self.code_mix = nn.Linear(width, config.mixture) if config.mixture > 1 else None
        self.answer_head = answer_head(width, 2 * width, config.answers, eps)
        self.apply(initialise)
        self.mask_feature = nn.Parameter(torch.zeros(config.feature_dim))  # [F], a masked cell
        self.word_bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.code_bias = None if config.colour_codes else nn.Parameter(torch.zeros(config.codes))
        self.register_buffer("centroids", _checked(centroids, config))  # [K, F], frozen
        self.register_buffer("_boxes", grid_boxes(config.grid), persistent=False)  # [N, 4]

    def encode_text(self, words: Tensor, word_mask: Tensor | None = None) -> Tensor:
        """The language layers alone: ids [B, L], mask bool [B, L] (False on padding) -> [B, L, H].

        They never see the picture, so a painter encodes its text once for all steps. A single stream has none.
        """
        return self.encoder.read_words(self.word_embedding(words), word_mask)

    def forward(
        self,
        words: Tensor,
        word_mask: Tensor | None,
        features: Tensor,
        masked: Tensor | None = None,
        text: Tensor | None = None,
        boxes: Tensor | None = None,
        cell_mask: Tensor | None = None,
    ) -> Output:
        """Read a sentence and a picture together.

        Args:
            words: ids int64 [B, L]; not read when ``text`` is given.
            word_mask: bool [B, L], False on padding; None when there is none.
            features: float [B, N, F], centroids of the codes or continuous grid features.
            masked: bool [B, N]; those cells show the learned ``mask_feature`` instead.
            text: [B, L, H], the result of :meth:`encode_text` for these words, to save its layers.
            boxes: [N, 4] or [B, N, 4] of other regions than the grid's cells.
            cell_mask: bool [B, N], False on cells that do not exist (padded regions).

        Raises ValueError when the features do not fit the configuration.
        """
        cells = self._embed_cells(features, masked, boxes)  # [B, N, H]
        text = self.encode_text(words, word_mask) if text is None else text  # [B, L, H]
        text, cells = self.encoder(text, cells, word_mask, cell_mask)
        return Output(text, cells, torch.tanh(self.pooler(text[:, 0])))

    def _embed_cells(self, features, masked, boxes):
        cells = self.config.cells if boxes is None else boxes.shape[-2]
        if features.shape[-2:] != (cells, self.config.feature_dim):
            raise ValueError(
                f"XLxmert reads features [B, {cells}, {self.config.feature_dim}], got "
                f"{list(features.shape)}; flatten the grid to cells and put the feature axis last."
            )
        if masked is not None:
            features = torch.where(masked[..., None], self.mask_feature, features)  # [B, N, F]
        return self.cell_embedding(features, self._boxes if boxes is None else boxes, whole=boxes is None)

    def embed_codes(self, codes: Tensor) -> Tensor:
        """Codes int64 [B, N] -> their centroids [B, N, F]."""
        return F.embedding(codes, self.centroids)

    def boxes(self, grid: int | None = None) -> Tensor:
        """Boxes of the cells, row by row: [N, 4] as (x0, y0, x1, y1) between 0 and 1."""
        return self._boxes if grid is None else grid_boxes(grid).to(self._boxes)

    def code_logits(self, cells: Tensor, codes: Tensor | None = None) -> Tensor:
        """[..., H] -> [..., K]; the K-wide head is dear: gather the masked cells first.

        With ``codes`` as :meth:`likely_codes` gives them, int64 [..., C]: of those alone, [..., C].
        """
        if self.config.colour_codes:
            weights, shapes, colours = self._guesses(cells)
            if codes is not None:
                named = codes[..., None, :: self.config.colour_codes] // self.config.colour_codes  # [..., 1, LIKELY]
                shapes = shapes.gather(-1, named.expand(*shapes.shape[:-1], -1))
            both = torch.einsum("...ms,...mc->...sc", (weights + shapes).exp(), colours.exp())
            return both.clamp_min(1e-30).log().flatten(-2)
        feature = self.code_feature(self.code_transform(cells))  # [..., F]
        return F.linear(feature, self.centroids, self.code_bias)

    @property
    def few_codes(self) -> bool:
        """Whether painting spells out all codes."""
        return not self.config.colour_codes or self.config.codes <= FEW

    def likely_codes(self, cells: Tensor) -> Tensor | None:
        """What a cell may well show, so that many codes are not all spelt out; None when they are few.

        [..., H] -> the likeliest shapes in every colour, int64 [..., LIKELY * colours], in the order of all codes.
        """
        if self.few_codes:
            return None
        weights, shapes, _ = self._guesses(cells)
        likely = (weights + shapes).logsumexp(-2).topk(LIKELY).indices.sort().values[..., None]  # [..., LIKELY, 1]
        return (likely * self.config.colour_codes + torch.arange(self.config.colour_codes).to(likely)).flatten(-2)

    def code_losses(self, cells: Tensor, codes: Tensor) -> Tensor:
        """Cross-entropies: cells [M, H], codes int64 [M] -> [M]; a product vocabulary's K stay unspelt."""
        if not self.config.colour_codes:
            return F.cross_entropy(self.code_logits(cells), codes, reduction="none")
        weights, shapes, colours = self._guesses(cells)
        parts = (codes // self.config.colour_codes, codes % self.config.colour_codes)
        right = [
            log.gather(-1, part[:, None, None].expand(-1, log.shape[1], 1))[..., 0]  # [M, mixture]
            for log, part in zip((shapes, colours), parts, strict=True)
        ]
        return -(weights[..., 0] + sum(right)).logsumexp(-1)

    def _guesses(self, cells):
        """[..., H] -> log-probabilities of m guesses [..., m, 1], of their shapes [..., m, S] and colours [..., m, C].

        p(shape, colour) = sum over m of p(m) p(shape | m) p(colour | m): where the text leaves a cell to a red
        cube or a blue ball, two guesses say so; one alone, or two heads, would also allow the red ball.
        """
        config, x = self.config, self.code_transform(cells)  # [..., H]
        feature = self.code_feature(x).unflatten(-1, (config.mixture, config.feature_dim))
        split = config.feature_dim - config.colour_dim
        shapes = feature[..., :split] @ self.centroids[:: config.colour_codes, :split].T
        colours = feature[..., split:] @ self.centroids[: config.colour_codes, split:].T
        weights = torch.zeros_like(shapes[..., :1]) if self.code_mix is None else self.code_mix(x)[..., None]
        return weights.log_softmax(-2), shapes.log_softmax(-1), colours.log_softmax(-1)

    def word_logits(self, words: Tensor) -> Tensor:
        """[..., H] -> [..., V]; the decoder's weights are the word embeddings."""
        decoder = self.word_embedding.words.weight  # [V, H]
        return F.linear(self.word_transform(words), decoder, self.word_bias)

    def match_logits(self, pooled: Tensor) -> Tensor:
        """pooled [B, H] -> [B, 2]; class 1 says that sentence and picture belong together."""
        return self.match_head(pooled)

    def answer_logits(self, pooled: Tensor) -> Tensor:
        """pooled [B, H] -> [B, A]."""
        return self.answer_head(pooled)


class PairClassifier(nn.Module):
    """NLVR2: is a sentence true of two pictures? Their pooled vectors side by side, two classes."""

    def __init__(self, model: XLxmert):
        super().__init__()
        self.model, self.config, width = model, model.config, model.config.hidden
        self.head = answer_head(2 * width, 2 * width, 2, model.config.layer_norm_eps)
        self.head.apply(initialise)

    def forward(
        self,
        words: Tensor,
        word_mask: Tensor | None,
        left_features: Tensor,
        right_features: Tensor,
    ) -> Tensor:
        """words [B, L], mask bool [B, L], features of each picture [B, N, F] -> logits [B, 2]."""
        text = self.model.encode_text(words, word_mask)  # [B, L, H], once for both pictures
        pooled = [
            self.model(words, word_mask, features, text=text).pooled  # [B, H]
            for features in (left_features, right_features)
        ]
        return self.head(torch.cat(pooled, 1))


def _checked(centroids, config):
    if centroids is None:
        return torch.zeros(config.codes, config.feature_dim)
    if centroids.shape != (config.codes, config.feature_dim):
        raise ValueError(
            f"The centroids are {list(centroids.shape)} but the configuration says "
            f"codes={config.codes}, feature_dim={config.feature_dim}; make it from the vocabulary."
        )
    return centroids.detach().to(torch.float32).clone()
