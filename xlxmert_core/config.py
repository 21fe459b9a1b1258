"""Sizes of the networks: two frozen dataclasses and two presets each, paper and Storybook; the check of a number."""

import math
from dataclasses import dataclass, replace
from numbers import Integral, Real


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the transformer and its heads; the defaults are the paper's."""

    vocab_size: int = 30522  # word pieces of bert-base-uncased
    hidden: int = 768  # H, width of every token and cell inside the transformer
    heads: int = 12  # attention heads; each is hidden // heads wide
    feed_forward: int = 3072  # width inside a feed-forward block
    language_layers: int = 9  # layers that read words only
    visual_layers: int = 5  # layers that read cells only
    cross_layers: int = 5  # layers in which words and cells read each other
    positions: int = 512  # longest sentence the position embedding can hold
    token_types: int = 2  # BERT's sentence A / B; only 0 is used here
    max_words: int = 20  # L, words of a training sentence with [CLS] and [SEP]
    dropout: float = 0.1  # probability, on embeddings, attention weights and block outputs
    layer_norm_eps: float = 1e-12  # added to the variance in every LayerNorm
    codes: int = 10000  # K, entries of the visual vocabulary
    feature_dim: int = 2048  # F, width of one cell's feature vector
    grid: int = 8  # cells along one side of a picture
    answers: int = 9500  # A, entries of the answer table
    learned_positions: bool = False  # add a learned vector for each cell of the grid to its box's
    colour_codes: int = 0  # above 0 a code is shape x colour_codes + colour (VisualVocabulary.fit_product)
    colour_dim: int = 0  # how many of the F feature numbers, the last ones, hold the colour
    mixture: int = 1  # guesses (shape, colour) that a cell's prediction mixes; more needs colour_codes
    neighbours: bool = False  # a cell also sees its eight neighbours before the first layer
    single_layers: int = 0  # layers that read words and cells as one sequence (UNITER's; the paper has none)

    def __post_init__(self):
        product = self.colour_codes > 0 and self.codes % self.colour_codes == 0 and 0 < self.colour_dim
        if (self.colour_codes or self.mixture > 1) and not (product and self.colour_dim < self.feature_dim):
            raise ValueError(
                f"ModelConfig has colour_codes={self.colour_codes}, colour_dim={self.colour_dim} and "
                f"mixture={self.mixture}, but codes={self.codes}, feature_dim={self.feature_dim}: "
                "colour_codes must divide codes, and colour_dim leave features to the shapes."
            )
        if self.hidden % self.heads:
            raise ValueError(
                f"ModelConfig has hidden={self.hidden}, which heads={self.heads} does not divide; choose a multiple."
            )

    @property
    def cells(self) -> int:
        """N, the number of cells of one picture."""
        return self.grid**2


@dataclass(frozen=True)
class GeneratorConfig:
    """Sizes of the image generator; the defaults are the paper's."""

    feature_dim: int = 2048  # F, width of one cell's feature vector
    bottleneck: int = 256  # channels after the first 1x1 convolution
    channels: tuple[int, ...] = (32,) * 6  # start map, then one entry per up-sampling block
    spade_hidden: int = 128  # channels inside each SPADE normalisation
    groups: int = 4  # groups of the two convolutions that make the start and style maps
    grid: int = 8  # cells along one side of the input
    sub_pixel: bool = False  # up-sample by sub-pixel convolution (Shi et al. 2016) instead of bilinearly
    rgb_gain: float = 1.0  # scale of the first to-RGB weights; small ones keep the tanh out of saturation
    squash: bool = True  # end in a tanh; without, colours are cut off at black and white (photographs are mostly white)

    @property
    def image_size(self) -> int:
        """Side of the painted picture in pixels: every block doubles the grid."""
        return self.grid * 2 ** (len(self.channels) - 1)


def paper() -> ModelConfig:
    """The authors' transformer: 9/5/5 layers, 768 wide, 10 000 codes."""
    return ModelConfig()


def storybook() -> ModelConfig:
    """The book's transformer: small enough to train on two CPU cores."""
    return ModelConfig(
        vocab_size=160,
        hidden=128,
        heads=4,
        feed_forward=512,
        language_layers=2,
        visual_layers=1,
        cross_layers=3,
        positions=64,
        max_words=32,
        dropout=0.0,
        codes=2304,
        feature_dim=64,
        answers=64,
        learned_positions=True,
        colour_codes=9,
        colour_dim=16,
        mixture=6,
    )


def single_stream(config: ModelConfig) -> ModelConfig:
    """X-UNITER: these sizes with one stack of layers (UNITER, Chen et al. 2020) in place of all others.

    It has as many layers as bring the encoder's parameters nearest to the given one's.
    """
    width, inner = config.hidden, config.feed_forward
    attention = 4 * width * (width + 1) + 2 * width
    layer = attention + 2 * width * inner + inner + 3 * width
    whole = config.language_layers + config.visual_layers + 2 * config.cross_layers + config.single_layers
    count = whole + round(config.cross_layers * attention / layer)
    return replace(config, language_layers=0, visual_layers=0, cross_layers=0, single_layers=count)


def paper_generator() -> GeneratorConfig:
    """The authors' generator: 8x8 cells to 256x256 pixels, about 1.77 M parameters."""
    return GeneratorConfig()


def check_number(name: str, value: object, least: float, most: float = math.inf, whole: bool = True) -> None:
    """Refuse a setting that is no (whole) number from ``least`` to ``most``, with a ValueError that says so."""
    right = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
    if not (right and _is_finite(value) and least <= float(value) <= most):
        kind = "a whole number" if whole else "a number"
        wanted = f"from {least} to {most}" if most < math.inf else f"from {least} on"
        raise ValueError(f"The {name} must be {kind} {wanted}, not {value!r}.")


def _is_finite(value: Real) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of four hundred digits, say
        return False
